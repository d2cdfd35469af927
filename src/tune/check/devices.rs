//! NUMA nodes, and the buses between devices and memory.

use super::super::root::{Root, Unknown};
use super::super::topology::Topology;
use super::judge::{Seen, absent, each, files, met, number, unknown, unmet, words};
use super::network::without_nic;
use super::{Check, FAIL, Finding, Host, INFO, Persist, TAIL, WARN};

pub const CHECKS: &[Check] = &[
    Check {
        id: "nic-node",
        severity: TAIL,
        judge: nic_node,
        why: "packets for workers of another node cross the link between the sockets",
        mend: "serve with --cores of the NIC's node only, or put the NIC into a slot of the other node",
        persist: Persist::Systemd,
        risk: "fewer workers",
    },
    Check {
        id: "drive-node",
        severity: WARN,
        judge: drive_node,
        why: "what comes in at one node and is written at another crosses the link between the sockets twice",
        mend: "use the drives at the NIC's node for data, or move one of the two",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "numa-balancing",
        severity: TAIL,
        judge: |host| match host.topology.nodes.len() {
            1 => absent("one node", "0"),
            _ => number(host, "/proc/sys/kernel/numa_balancing", "0", |on| on == 0),
        },
        why: "it takes pages away to see who misses them; penstock's memory is where it belongs from the start",
        mend: "sysctl -w kernel.numa_balancing=0",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "far-memory",
        severity: INFO,
        judge: far_memory,
        why: "memory that was wanted at one node and came from another is far from who uses it, since the start of the host",
        mend: "see with numastat -p penstock whether it is penstock's; give each node room, and restart it",
        persist: Persist::Nothing,
        risk: "none",
    },
    Check {
        id: "zone-reclaim",
        severity: WARN,
        judge: |host| number(host, "/proc/sys/vm/zone_reclaim_mode", "0", |mode| mode == 0),
        why: "a node that is full throws away pages, and waits for that, while another has room",
        mend: "sysctl -w vm.zone_reclaim_mode=0",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "pcie-link",
        severity: WARN,
        judge: pcie_link,
        why: "a slot that has fallen back to a slower speed or fewer lanes loses half of its bandwidth or more",
        mend: "reseat the card, and look at the slot's width and the firmware's settings",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "pcie-power-saving",
        severity: TAIL,
        judge: |host| match host.root.exists("/sys/module/pcie_aspm") || !host.root.exists("/sys/module") {
            true => words(host, "/sys/module/pcie_aspm/parameters/policy", &["performance"]),
            false => absent("the kernel has no pcie_aspm", "performance"),
        },
        why: "a link that sleeps needs microseconds to wake for each burst",
        mend: "boot with pcie_aspm.policy=performance",
        persist: Persist::Systemd,
        risk: "more power",
    },
    Check {
        id: "iommu",
        severity: TAIL,
        judge: iommu,
        why: "every buffer of a device is mapped and unmapped where addresses are translated",
        mend: "boot with iommu=pt, where devices of this host are trusted with its memory",
        persist: Persist::KernelCommandLine,
        risk: "a device can reach all of the memory",
    },
    Check {
        id: "memory-errors",
        severity: FAIL,
        judge: memory_errors,
        why: "what memory has changed before it was hashed is stored as if it were right",
        mend: "replace the memory module that the system log names; without the counters load the EDAC driver, or ask for ECC",
        persist: Persist::Hardware,
        risk: "none",
    },
];

fn nic_node(host: &Host) -> Finding {
    let wanted = "the node of every worker";
    if host.topology.nodes.len() == 1 {
        return absent("one node", wanted);
    }
    let Some(nic) = host.topology.main_nic() else { return without_nic(host, wanted) };
    let Some(node) = nic.node else { return unknown(format!("the node of {}", nic.name), wanted) };
    let far = host.placement.workers.iter().filter(|worker| worker.node != Some(node)).count();
    match far {
        0 => met(format!("{} at node {node}, with all workers", nic.name), wanted),
        _ => {
            let all = host.placement.workers.len();
            unmet(format!("{} at node {node}, {far} of {all} workers elsewhere", nic.name), wanted)
        }
    }
}

fn drive_node(host: &Host) -> Finding {
    let nic = host.topology.main_nic().and_then(|nic| nic.node);
    let wanted = nic.map_or("the node of the NIC".to_string(), |node| format!("node {node}, of the NIC"));
    if host.topology.nodes.len() == 1 {
        return absent("one node", wanted);
    }
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let drives = host.topology.drives.iter().map(|drive| {
        let node = drive.node.map(|node| format!("node {node}"));
        (drive.name.clone(), node.ok_or_else(|| Unknown::because(format!("the node of {}", drive.name))))
    });
    let drives: Vec<Seen> = drives.collect();
    match nic {
        Some(nic) => each(drives, "no drives", &wanted, |node| node == format!("node {nic}")),
        None if drives.is_empty() => absent("no drives", wanted),
        None => unknown("the node of the NIC", wanted),
    }
}

fn far_memory(host: &Host) -> Finding {
    let wanted = "below 1 % of all pages";
    if host.topology.nodes.len() == 1 {
        return absent("one node", wanted);
    }
    let share = |number: usize| {
        let path = format!("/sys/devices/system/node/node{number}/numastat");
        let text = host.root.text(&path)?;
        let count = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            value.ok_or_else(|| Unknown::because(format!("{path} has no {}", name.trim_end())))
        };
        let (hit, miss) = (count("numa_hit ")?, count("numa_miss ")?);
        Ok(format!("{:.2} %", miss as f64 * 100.0 / (hit as f64 + miss as f64).max(1.0)))
    };
    let seen = host.topology.nodes.iter().map(|node| (format!("node {}", node.number), share(node.number)));
    let seen: Vec<Seen> = seen.collect();
    match seen.is_empty() {
        true => unknown("no node is known", wanted),
        false => each(seen, "", wanted, |text| text.trim_end_matches(" %").parse::<f64>().is_ok_and(|part| part < 1.0)),
    }
}

/// (name, directory of the PCI device) of NICs and drives.
fn pci_devices(root: &Root, topology: &Topology) -> Vec<(String, String)> {
    let addresses = topology.nics.iter().map(|nic| (&nic.name, &nic.address));
    let addresses = addresses.chain(topology.drives.iter().map(|drive| (&drive.name, &drive.address)));
    let devices = addresses.filter_map(|(name, address)| Some((name.clone(), address.as_ref()?)));
    let devices = devices.map(|(name, address)| (name, format!("/sys/bus/pci/devices/{address}")));
    devices.filter(|(_, path)| root.exists(path)).collect()
}

fn pcie_link(host: &Host) -> Finding {
    if !host.root.exists("/sys/bus") {
        return unknown("/sys/bus is not there", "full");
    }
    let read = |path: &str| {
        let one = |file: &str| host.root.text(&format!("{path}/{file}"));
        let current = format!("{} x{}", one("current_link_speed")?, one("current_link_width")?);
        let most = format!("{} x{}", one("max_link_speed")?, one("max_link_width")?);
        Ok(if current == most { "full".to_string() } else { format!("{current} instead of {most}") })
    };
    let linked = |path: &str| host.root.exists(&format!("{path}/max_link_speed"));
    let devices = pci_devices(host.root, host.topology).into_iter().filter(|(_, path)| linked(path));
    let links: Vec<Seen> = devices.map(|(name, path)| (name, read(&path))).collect();
    each(links, "no NIC or drive has a PCIe link of its own", "full", |link| link == "full")
}

fn iommu(host: &Host) -> Finding {
    let wanted = "identity";
    let devices = pci_devices(host.root, host.topology).into_iter();
    let groups = devices.map(|(name, path)| (name, format!("{path}/iommu_group/type")));
    let groups: Vec<(String, String)> = groups.filter(|(_, path)| host.root.exists(path)).collect();
    match host.root.exists("/sys/bus") {
        true => {
            each(files(host.root, groups), "no address of a NIC or drive is translated", wanted, |kind| kind == wanted)
        }
        false => unknown("/sys/bus is not there", wanted),
    }
}

fn memory_errors(host: &Host) -> Finding {
    let (path, wanted) = ("/sys/devices/system/edac/mc", "counted, and 0 beyond repair");
    let controllers = match host.root.numbered(path, "mc") {
        Ok(controllers) => controllers,
        Err(why) => return unknown(why, wanted),
    };
    let counts = controllers.iter().map(|number| (format!("mc{number}"), format!("{path}/mc{number}/ue_count")));
    let counts = files(host.root, counts);
    match counts.is_empty() {
        true => unknown("no memory controller counts errors: no ECC, or no driver for it", wanted),
        false => each(counts, "", wanted, |count| count == "0"),
    }
}
