//! What the kernel, or a driver, changes by itself when one of its values is changed, and does not put back by itself: whoever changes the one
//! has to keep the others as well. Each rule names its cause in the kernel. Values that go back with their cause are harmless here: nothing is
//! written where nothing differs.

use super::check::{Host, chosen};
use super::drivers::{Place, TOP};
use super::mend::Form;

const CPUFREQ: &str = "/sys/devices/system/cpu/cpufreq";
/// What of a drive's queue another scheduler begins anew.
const OF_SCHEDULER: [&str; 3] = ["wbt_lat_usec", "async_depth", "nr_requests"];
/// What of a link's power saving the policy decides.
const OF_LINK: [&str; 7] = ["clkpm", "l0s_aspm", "l1_aspm", "l1_1_aspm", "l1_2_aspm", "l1_1_pcipm", "l1_2_pcipm"];
/// Groups of a driver of which one value may move others.
const OF_DRIVER: [&str; 4] = ["channels", "rings", "coalesce", "features"];
/// Of a queue that receives, and of one that sends; `limit` itself is none of them, as it moves all the time.
const OF_RECEIVING: [(&str, Form); 2] = [("rps_cpus", Form::Mask), ("rps_flow_cnt", Form::Words)];
const OF_SENDING: [(&str, Form); 6] = [
    ("xps_cpus", Form::Mask),
    ("xps_rxqs", Form::Mask),
    ("tx_maxrate", Form::Words),
    ("byte_queue_limits/limit_max", Form::Words),
    ("byte_queue_limits/limit_min", Form::Words),
    ("byte_queue_limits/hold_time", Form::Words),
];

/// A file that may change with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    pub path: String,
    pub form: Form,
    /// The name of the interrupt whose value it is, as for a knob.
    pub interrupt: Option<String>,
}

impl Beside {
    fn new(path: String, form: Form) -> Beside {
        Beside { path, form, interrupt: None }
    }
}

/// What may change when `path` is written, among the files that are there.
pub fn of(host: &Host, path: &str) -> Vec<Beside> {
    let words = |paths: Vec<String>| paths.into_iter().map(|path| Beside::new(path, Form::Words)).collect::<Vec<_>>();
    let mut found = if let Some(Place { nic, group, .. }) = Place::of(path) {
        if OF_DRIVER.contains(&group) { of_driver(host, nic) } else { Vec::new() }
    } else if path == "/sys/kernel/mm/transparent_hugepage/enabled" {
        // Large pages want a reserve; where they are switched, to and fro, the kernel raises it.
        words(vec!["/proc/sys/vm/min_free_kbytes".to_string()])
    } else if let Some(queue) = path.strip_suffix("/scheduler").filter(|queue| queue.starts_with("/sys/block/")) {
        words(of_scheduler(host, queue))
    } else if let Some(queue) = path.strip_suffix("/nr_requests").filter(|queue| queue.starts_with("/sys/block/")) {
        words(of_requests(queue).into())
    } else if let Some(queue) = path.strip_suffix("/max_sectors_kb").filter(|queue| queue.starts_with("/sys/block/")) {
        // The limits of a queue are set together, and how much is read ahead follows from them (Linux 6.9 and later).
        words(vec![format!("{queue}/read_ahead_kb")])
    } else if let Some(policy) = path.strip_suffix("/scaling_governor") {
        words(of_governor(host, policy))
    } else if ["intel_pstate/min_perf_pct", "intel_pstate/no_turbo", "cpufreq/boost"]
        .iter()
        .any(|end| path.ends_with(end))
    {
        words(of_clock(host))
    } else if path == "/sys/module/pcie_aspm/parameters/policy" {
        words(of_links(host))
    } else {
        Vec::new()
    };
    found.retain(|beside| beside.path != path);
    found
}

/// Another scheduler has as many requests as it thinks right, and its own settings, which go with it. In the order in which they are noted; they go
/// back the other way round, as the number of requests moves a setting.
fn of_scheduler(host: &Host, queue: &str) -> Vec<String> {
    let directory = format!("{queue}/iosched");
    let own = host.root.names(&directory).unwrap_or_default().into_iter().map(|name| format!("{directory}/{name}"));
    own.chain(OF_SCHEDULER.iter().map(|name| format!("{queue}/{name}"))).collect()
}

/// Schedulers keep a part of the requests for those that somebody waits for, and count that part anew (`depth_updated`).
fn of_requests(queue: &str) -> [String; 2] {
    [format!("{queue}/iosched/async_depth"), format!("{queue}/async_depth")]
}

/// What has been put back, and would move once more when `path` is put back alone, after somebody's own value had stayed there for a while.
pub fn moved_again(path: &str) -> Vec<String> {
    path.strip_suffix("/nr_requests").map_or(Vec::new(), |queue| of_requests(queue).into())
}

/// A governor's own settings go with it; that for performance sets the CPU's preference as well, and some drivers leave that there.
fn of_governor(host: &Host, policy: &str) -> Vec<String> {
    let mut paths = vec![format!("{policy}/energy_performance_preference")];
    paths.extend(limits(policy));
    let Ok(governor) = host.root.text(&format!("{policy}/scaling_governor")) else { return paths };
    if governor == "userspace" {
        paths.push(format!("{policy}/scaling_setspeed"));
    }
    for top in [CPUFREQ, policy] {
        let directory = format!("{top}/{governor}");
        // What is called so elsewhere is no governor.
        if governor.contains('/') || !host.root.exists(&directory) {
            continue;
        }
        paths.extend(
            host.root.names(&directory).unwrap_or_default().into_iter().map(|name| format!("{directory}/{name}")),
        );
    }
    paths
}

/// The clock's ends follow turbo and each other: without turbo the floor is squeezed below the nominal clock, with it the ceiling is lifted.
fn of_clock(host: &Host) -> Vec<String> {
    let mut paths: Vec<String> = ["min_perf_pct", "max_perf_pct"]
        .iter()
        .map(|name| format!("/sys/devices/system/cpu/intel_pstate/{name}"))
        .collect();
    for number in host.root.numbered(CPUFREQ, "policy").unwrap_or_default() {
        let policy = format!("{CPUFREQ}/policy{number}");
        paths.extend(limits(&policy));
        paths.push(format!("{policy}/boost"));
    }
    paths
}

/// In the order in which they are noted; they go back the other way round, the ceiling first.
fn limits(policy: &str) -> [String; 2] {
    ["min", "max"].map(|end| format!("{policy}/scaling_{end}_freq"))
}

/// A policy is the state of every link.
fn of_links(host: &Host) -> Vec<String> {
    let devices = "/sys/bus/pci/devices";
    let names = host.root.names(devices).unwrap_or_default().into_iter();
    let links = names.map(|name| format!("{devices}/{name}/link")).filter(|link| host.root.exists(link));
    links.flat_map(|link| OF_LINK.map(|name| format!("{link}/{name}"))).collect()
}

/// A driver that makes its queues anew begins with its own idea of who serves them, and one value of it may move others.
fn of_driver(host: &Host, name: &str) -> Vec<Beside> {
    let mut found = Vec::new();
    let queues = format!("/sys/class/net/{name}/queues");
    for (kind, files) in [("rx-", &OF_RECEIVING[..]), ("tx-", &OF_SENDING[..])] {
        for queue in host.root.numbered(&queues, kind).unwrap_or_default() {
            found.extend(files.iter().map(|(file, form)| Beside::new(format!("{queues}/{kind}{queue}/{file}"), *form)));
        }
    }
    let nic = host.topology.nics.iter().find(|nic| nic.name == name);
    for interrupt in nic.iter().flat_map(|nic| &nic.interrupts) {
        let path = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
        found.push(Beside { interrupt: Some(interrupt.label.clone()), ..Beside::new(path, Form::Words) });
    }
    for group in OF_DRIVER {
        let said = host.root.driver_group(name, group).unwrap_or_default();
        // A bound is none of the driver's settings, and what is fixed has another word.
        let settings = said.into_iter().filter(|(name, value)| {
            !name.ends_with("-max") && (group != "features" || ["on", "off"].contains(&chosen(value)))
        });
        found.extend(settings.map(|(value, _)| Beside::new(format!("{TOP}/{name}/{group}/{value}"), Form::Words)));
    }
    found
}
