//! The control groups that this process is in, of version 1 and 2.

use super::root::{Root, Unknown};

const TOP: &str = "/sys/fs/cgroup";
/// Groups around a group: no host nests deeper.
const DEPTH_MAX: usize = 32;

/// What a controller knows this process by.
pub struct Group {
    /// The group's directory first, then those around it, up to the controller's root.
    pub directories: Vec<String>,
    pub version: u32,
}

/// The group of this process that `controller` counts it in.
pub fn group(root: &Root, controller: &str) -> Group {
    let text = root.text("/proc/self/cgroup").unwrap_or_default();
    let old = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let named = parts.next()?.split(',').any(|name| name == controller);
        parts.next().filter(|_| named).map(String::from)
    };
    let own = text.lines().find_map(old);
    let top = [format!("{TOP}/{controller}"), format!("{TOP}/cpu,cpuacct")].into_iter().find(|top| root.exists(top));
    match (own, top) {
        // Version 1 has a tree for each controller, and this one may be in version 2 all the same.
        (Some(own), Some(top)) if !root.exists(&format!("{TOP}/cgroup.controllers")) => {
            Group { directories: directories(root, &top, &own), version: 1 }
        }
        _ => {
            let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
            Group { directories: directories(root, TOP, own), version: 2 }
        }
    }
}

/// Inside a container its own group may be mounted as the root of all.
fn directories(root: &Root, top: &str, own: &str) -> Vec<String> {
    let own = own.trim_end_matches('/');
    let mut directories = Vec::new();
    let mut path = if root.exists(&format!("{top}{own}")) { own } else { "" };
    while !path.is_empty() && directories.len() < DEPTH_MAX {
        directories.push(format!("{top}{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    directories.push(top.to_string());
    directories
}

impl Group {
    /// A file of the group itself; its name in version 1, and in version 2.
    pub fn text(&self, root: &Root, one: &str, two: &str) -> Result<String, Unknown> {
        root.text(&format!("{}/{}", self.directories[0], if self.version == 1 { one } else { two }))
    }

    /// The least share of the CPUs that it or a group around it is held to: microseconds, and of how many; `max` where there is none.
    pub fn quota(&self, root: &Root) -> Result<String, Unknown> {
        let read = |directory: &String| match self.version {
            1 => {
                let quota = root.number(&format!("{directory}/cpu.cfs_quota_us"))?;
                let period = root.number(&format!("{directory}/cpu.cfs_period_us"))?;
                Ok(if quota < 0 { format!("max {period}") } else { format!("{quota} {period}") })
            }
            _ => root.text(&format!("{directory}/cpu.max")),
        };
        let share = |text: &str| {
            let mut numbers = text.split_whitespace().map(str::parse::<f64>);
            match (numbers.next(), numbers.next()) {
                (Some(Ok(quota)), Some(Ok(period))) => quota / period,
                _ => f64::INFINITY,
            }
        };
        let own = read(&self.directories[0])?;
        // The root of all has no such file, and a container sees no group around its own.
        let around = self.directories[1..].iter().filter_map(|directory| read(directory).ok());
        let least = around.fold(own.clone(), |least, text| if share(&text) < share(&least) { text } else { least });
        Ok(match share(&least) < share(&own) {
            true => format!("{least}, of a group around this one"),
            false => own,
        })
    }
}
