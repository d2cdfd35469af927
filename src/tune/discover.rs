//! The model of a host from its `/sys` and `/proc`. What is missing leaves its place empty, and a line in `unknown` where it matters.

use super::cores::CORES_MAX;
use super::group::group;
use super::root::{Root, Unknown};
use super::topology::{Cache, Drive, Interrupt, Nic, Node, Thread, Topology};
use std::collections::{BTreeMap, BTreeSet};

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";
const NET: &str = "/sys/class/net";
/// Interfaces, drives, caches of a core, queues of a device: no host has more.
const DEVICES_MAX: usize = 256;
const QUEUES_MAX: usize = 1024;
/// How deep devices made of devices are followed.
const PARTS_DEPTH_MAX: u32 = 4;

/// The host whose files are under `root`.
pub fn topology(root: &Root) -> Topology {
    let mut unknown = Vec::new();
    let online = online(root, &mut unknown);
    let nodes = nodes(root, &online, &mut unknown);
    let threads: Vec<Thread> = online.iter().map(|number| thread(root, *number, &nodes, &online)).collect();
    if let Some(first) = online.first()
        && let Err(why) = root.text(&format!("{CPU}/cpu{first}/topology/thread_siblings_list"))
    {
        unknown.push(format!("which threads share a core, so each counts as one: {why}"));
    }
    let labels = labels(root, &mut unknown);
    let nics = nics(root, &labels, &mut unknown);
    let drives = drives(root, &labels, &mut unknown);
    Topology {
        offline: offline(root, &online),
        allowed: allowed(root, &online, &mut unknown),
        caches: caches(root, &online),
        nodes,
        threads,
        nics,
        drives,
        unknown,
    }
}

fn online(root: &Root, unknown: &mut Vec<String>) -> Vec<usize> {
    let listed = root.cores(&format!("{CPU}/online")).or_else(|why| {
        // A container may hide /sys, and still say which cores it may use.
        unknown.push(format!("which cores are online: {why}"));
        status_cores(root)
    });
    listed.unwrap_or_default().into_iter().filter(|core| *core < CORES_MAX).collect()
}

fn offline(root: &Root, online: &[usize]) -> Vec<usize> {
    let present = root.cores(&format!("{CPU}/present")).unwrap_or_default();
    present.into_iter().filter(|core| !online.contains(core)).collect()
}

fn status_cores(root: &Root) -> Result<Vec<usize>, Unknown> {
    let path = "/proc/self/status";
    let text = root.text(path)?;
    let listed = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let listed = listed.ok_or_else(|| Unknown::because(format!("{path} has no Cpus_allowed_list")))?;
    super::cores::parse(listed.trim()).map_err(|why| Unknown::because(format!("{path}: {why}")))
}

/// What the affinity and the control group leave of the cores that are online.
fn allowed(root: &Root, online: &[usize], unknown: &mut Vec<String>) -> Vec<usize> {
    let mut allowed = online.to_vec();
    match status_cores(root) {
        Ok(cores) => allowed.retain(|core| cores.contains(core)),
        Err(why) => unknown.push(format!("which cores this process may use: {why}")),
    }
    let listed = group(root, "cpuset").text(root, "cpuset.effective_cpus", "cpuset.cpus.effective");
    if let Some(Ok(cores)) = listed.ok().map(|text| super::cores::parse(&text)) {
        allowed.retain(|core| cores.contains(core));
    }
    allowed
}

fn nodes(root: &Root, online: &[usize], unknown: &mut Vec<String>) -> Vec<Node> {
    let numbers = root.numbered(NODE, "node").unwrap_or_else(|why| {
        unknown.push(format!("NUMA nodes, so all counts as one: {why}"));
        Vec::new()
    });
    let node = |number: usize| {
        let cores = root.cores(&format!("{NODE}/node{number}/cpulist")).unwrap_or_default();
        let memory = root.text(&format!("{NODE}/node{number}/meminfo")).ok();
        let kib = memory.and_then(|text| {
            let line = text.lines().find(|line| line.contains("MemTotal:"))?.to_string();
            line.split_whitespace().rev().nth(1)?.parse::<u64>().ok()
        });
        let distances = root.text(&format!("{NODE}/node{number}/distance")).unwrap_or_default();
        Node {
            number,
            cores: cores.into_iter().filter(|core| online.contains(core)).collect(),
            memory_bytes: kib.and_then(|kib| kib.checked_mul(1024)),
            distances: distances.split_whitespace().map_while(|text| text.parse().ok()).collect(),
        }
    };
    numbers.into_iter().take(DEVICES_MAX).map(node).collect()
}

fn thread(root: &Root, number: usize, nodes: &[Node], online: &[usize]) -> Thread {
    let listed = root.cores(&format!("{CPU}/cpu{number}/topology/thread_siblings_list")).unwrap_or_default();
    let siblings: Vec<usize> = listed.into_iter().filter(|core| online.contains(core)).collect();
    Thread {
        number,
        node: nodes.iter().find(|node| node.cores.contains(&number)).map(|node| node.number),
        // A list without the core itself is of no use.
        siblings: if siblings.contains(&number) { siblings } else { vec![number] },
    }
}

fn caches(root: &Root, online: &[usize]) -> Vec<Cache> {
    let mut caches = BTreeSet::new();
    for core in online {
        let directory = format!("{CPU}/cpu{core}/cache");
        for index in root.numbered(&directory, "index").unwrap_or_default().into_iter().take(DEVICES_MAX) {
            caches.extend(cache(root, &format!("{directory}/index{index}"), online));
        }
    }
    caches.into_iter().collect()
}

fn cache(root: &Root, path: &str, online: &[usize]) -> Option<Cache> {
    let shared = root.cores(&format!("{path}/shared_cpu_list")).ok()?;
    Some(Cache {
        level: root.number(&format!("{path}/level")).ok()?.try_into().ok()?,
        kind: root.text(&format!("{path}/type")).ok()?,
        kib: root.text(&format!("{path}/size")).ok()?.strip_suffix('K')?.parse().ok()?,
        shared: shared.into_iter().filter(|core| online.contains(core)).collect(),
    })
}

/// Number and name of each interrupt.
fn labels(root: &Root, unknown: &mut Vec<String>) -> BTreeMap<usize, String> {
    let text = root.text("/proc/interrupts").unwrap_or_else(|why| {
        unknown.push(format!("interrupts of devices: {why}"));
        String::new()
    });
    let label = |line: &str| {
        let (number, rest) = line.trim_start().split_once(':')?;
        Some((number.parse().ok()?, rest.split_whitespace().last()?.to_string()))
    };
    text.lines().filter_map(label).collect()
}

fn interrupt(root: &Root, number: usize, labels: &BTreeMap<usize, String>) -> Interrupt {
    let effective = root.cores(&format!("/proc/irq/{number}/effective_affinity_list"));
    let cores = effective.or_else(|_| root.cores(&format!("/proc/irq/{number}/smp_affinity_list")));
    Interrupt { number, label: labels.get(&number).cloned().unwrap_or_default(), cores: cores.unwrap_or_default() }
}

/// Interrupts of the device at `path`; virtio devices have theirs at the bus device above, and share no name with it.
fn interrupts(root: &Root, path: &str, labels: &BTreeMap<usize, String>) -> Vec<Interrupt> {
    let own = root.names(&format!("{path}/msi_irqs"));
    let names = own.or_else(|_| root.names(&format!("{path}/../msi_irqs"))).unwrap_or_default();
    let mut numbers: Vec<usize> = names.iter().filter_map(|name| name.parse().ok()).take(QUEUES_MAX).collect();
    if numbers.is_empty()
        && let Ok(device) = root.link(path)
    {
        let prefix = format!("{device}-");
        numbers.extend(labels.iter().filter(|(_, label)| label.starts_with(&prefix)).map(|(number, _)| *number));
    }
    let listed = numbers.into_iter().filter(|number| labels.is_empty() || labels.contains_key(number));
    listed.map(|number| interrupt(root, number, labels)).collect()
}

/// The node of the block device with the number `major:minor`; of one made of several, that which all of them are at. Whoever is not told works as
/// well, only farther away.
pub fn node_of_device(root: &Root, number: &str) -> Option<usize> {
    node_of_parts(root, &root.place(&format!("/sys/dev/block/{number}")).ok()?, PARTS_DEPTH_MAX)
}

/// Devices made of devices (device mapper, md) list them; a partition lies below its disk, and a disk below its controller.
fn node_of_parts(root: &Root, device: &str, depth: u32) -> Option<usize> {
    let slaves = format!("{device}/slaves");
    let parts = root.names(&slaves).unwrap_or_default();
    if parts.is_empty() {
        return device_node(root, device);
    }
    let below = depth.checked_sub(1)?;
    let node = |part: &String| node_of_parts(root, &root.place(&format!("{slaves}/{part}")).ok()?, below);
    let nodes: Vec<Option<usize>> = parts.iter().take(DEVICES_MAX).map(node).collect();
    nodes[0].filter(|_| nodes.iter().all(|node| *node == nodes[0]))
}

/// The node that a device is at, or the nearest one above it that says so; -1 is the kernel's word for none.
fn device_node(root: &Root, path: &str) -> Option<usize> {
    let mut place = root.place(path).ok()?;
    while place.starts_with("/sys/") {
        match root.number(&format!("{place}/numa_node")).map(usize::try_from) {
            Ok(Ok(node)) => return Some(node),
            _ => place.truncate(place.rfind('/')?),
        }
    }
    None
}

fn nics(root: &Root, labels: &BTreeMap<usize, String>, unknown: &mut Vec<String>) -> Vec<Nic> {
    let names = root.names(NET).unwrap_or_else(|why| {
        unknown.push(format!("network interfaces: {why}"));
        Vec::new()
    });
    let nic = |name: String| {
        let path = format!("{NET}/{name}");
        let device = format!("{path}/device");
        let queues = root.names(&format!("{path}/queues")).unwrap_or_default();
        let count = |kind: &str| queues.iter().filter(|queue| queue.starts_with(kind)).count();
        let entries = root.names(&path).unwrap_or_default();
        Nic {
            driver: root.link(&format!("{device}/driver")).ok(),
            address: root.link(&device).ok(),
            node: device_node(root, &device),
            megabits: root.number(&format!("{path}/speed")).ok().and_then(|speed| speed.try_into().ok()),
            up: root.text(&format!("{path}/operstate")).is_ok_and(|state| state == "up"),
            receive_queues: count("rx-"),
            transmit_queues: count("tx-"),
            interrupts: if root.exists(&device) { interrupts(root, &device, labels) } else { Vec::new() },
            lower: entries.iter().filter_map(|entry| entry.strip_prefix("lower_")).map(String::from).collect(),
            name,
        }
    };
    let names = names.into_iter().filter(|name| name != "lo" && root.exists(&format!("{NET}/{name}/operstate")));
    names.take(DEVICES_MAX).map(nic).collect()
}

/// Block devices with hardware behind them.
fn drives(root: &Root, labels: &BTreeMap<usize, String>, unknown: &mut Vec<String>) -> Vec<Drive> {
    let names = root.names("/sys/block").unwrap_or_else(|why| {
        unknown.push(format!("drives: {why}"));
        Vec::new()
    });
    let drive = |name: String| {
        let block = format!("/sys/block/{name}");
        // The controller of a namespace has the PCI device; other drives are devices themselves.
        let device = match name.rsplit_once('n').filter(|_| name.starts_with("nvme")) {
            Some((controller, _)) => format!("/sys/class/nvme/{controller}/device"),
            None => format!("{block}/device"),
        };
        let queues = root.names(&format!("{block}/mq")).unwrap_or_default();
        let cores = |queue: &String| root.text(&format!("{block}/mq/{queue}/cpu_list")).unwrap_or_default();
        // This file alone writes a blank behind its commas.
        let queues = queues.iter().take(QUEUES_MAX).map(cores).map(|text| text.replace(' ', ""));
        Drive {
            model: root.text(&format!("{block}/device/model")).ok(),
            address: root.link(&device).ok(),
            node: device_node(root, &device),
            queues: queues.map(|text| super::cores::parse(&text).unwrap_or_default()).collect(),
            interrupts: interrupts(root, &device, labels),
            name,
        }
    };
    let names = names.into_iter().filter(|name| root.exists(&format!("/sys/block/{name}/device")));
    names.take(DEVICES_MAX).map(drive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn nodes_of_devices_are_read_and_what_is_not_told_is_none() {
        let tree = std::env::temp_dir().join(format!("penstock-nodes-{}", std::process::id()));
        let sys = tree.join("sys");
        let made = |path: &str| {
            let path = sys.join(path);
            std::fs::create_dir_all(&path).expect("made");
            path
        };
        made("dev/block");
        let link = |number: &str, to: &Path| symlink(to, sys.join("dev/block").join(number)).expect("linked");
        let disk = |name: &str, node: &str| {
            let disk = made(&format!("devices/pci0000:00/{name}/nvme/{name}/{name}n1"));
            let controller = sys.join(format!("devices/pci0000:00/{name}/numa_node"));
            std::fs::write(controller, format!("{node}\n")).expect("written");
            disk
        };
        let (first, second, silent) = (disk("nvme0", "0"), disk("nvme1", "1"), disk("nvme2", "-1"));
        link("259:0", &first);
        link("259:1", &made("devices/pci0000:00/nvme1/nvme/nvme1/nvme1n1/nvme1n1p1"));
        link("259:2", &silent);
        for (number, parts) in [("253:0", vec![&second]), ("253:1", vec![&first, &second]), ("253:2", vec![])] {
            let slaves = made(&format!("devices/virtual/block/dm-{number}/slaves"));
            parts.iter().for_each(|part| symlink(part, slaves.join(part.file_name().expect("named"))).expect("linked"));
            link(number, slaves.parent().expect("it has one"));
        }
        // One that is made of itself ends as well.
        let own = made("devices/virtual/block/dm-9/slaves");
        symlink("..", own.join("dm-9")).expect("linked");
        link("253:9", own.parent().expect("it has one"));
        let root = Root::recorded(&tree).expect("it was made");
        let nodes =
            ["259:0", "259:1", "259:2", "253:0", "253:1", "253:2", "253:9", "7:7"].map(|n| node_of_device(&root, n));
        assert_eq!(nodes, [Some(0), Some(1), None, Some(1), None, None, None, None]);
        std::fs::remove_dir_all(&tree).expect("removed");
    }
}
