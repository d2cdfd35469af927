//! NICs, their queues and interrupts.

use super::super::cores::{parse_mask, show};
use super::super::map::some;
use super::super::placement::Interrupts;
use super::super::root::Unknown;
use super::super::topology::{Interrupt, Nic};
use super::judge::{Seen, absent, each, listed, met, number, processes, unknown, unmet, verdict};
use super::{Check, Finding, Host, INFO, JITTER, Persist, TAIL, WARN};
use std::collections::{BTreeMap, BTreeSet};

/// What Ethernet carries where it is set to carry large packets.
const MTU_LARGE: u64 = 9000;
/// Programs that place interrupts anew, as the kernel shortens their names.
const MOVERS: &[&str] = &["irqbalance", "google_guest_ag"];
/// Where distributions keep its arguments.
const MOVER_ARGUMENTS: [&str; 2] = ["/etc/default/irqbalance", "/etc/sysconfig/irqbalance"];

pub const CHECKS: &[Check] = &[
    Check {
        id: "link",
        severity: WARN,
        judge: |host| {
            let seen = nics(host, |host, nic| {
                let duplex = host.root.text(&format!("/sys/class/net/{}/duplex", nic.name))?;
                let speed = nic.megabits.ok_or_else(|| Unknown::because(format!("the speed of {}", nic.name)))?;
                Ok(format!("{duplex} duplex, {speed} Mb/s"))
            });
            let fast = |text: &str| text.starts_with("full") && megabits(text) >= 10_000;
            each(seen, NO_NIC, "full duplex, 10000 Mb/s or more", fast)
        },
        why: "a cable or a port that has fallen back caps everything behind it",
        mend: "look at cable, transceiver and the switch's port; ethtool NIC shows what both sides offer",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "link-changes",
        severity: WARN,
        judge: |host| {
            let seen = nics(host, |host, nic| host.root.text(&format!("/sys/class/net/{}/carrier_changes", nic.name)));
            each(seen, NO_NIC, "10 or fewer since the start", |text| text.parse::<u64>().is_ok_and(|times| times <= 10))
        },
        why: "a link that comes and goes breaks connections, and puts wait for it",
        mend: "look at cable, transceiver and the switch's port",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "mtu",
        severity: INFO,
        judge: |host| {
            let seen = nics(host, |host, nic| host.root.text(&format!("/sys/class/net/{}/mtu", nic.name)));
            let large = |text: &str| text.parse::<u64>().is_ok_and(|bytes| bytes >= MTU_LARGE);
            each(seen, NO_NIC, "9000, where every switch and peer on the way has it", large)
        },
        why: "the same bytes in six times as many packets, each with its own way through the kernel",
        mend: "ip link set NIC mtu 9000, once the switches and the peers have it; ping -M do -s 8972 PEER tells",
        persist: Persist::Systemd,
        risk: "packets that are too large for one on the way are lost silently",
    },
    Check {
        id: "nic-losses",
        severity: WARN,
        judge: |host| {
            let seen = nics(host, lost);
            each(seen, NO_NIC, "0 since the start", |text| text == "0")
        },
        why: "packets had arrived and found no buffer of the NIC: its ring is short, or the core of a queue too slow",
        mend: "see with ethtool -S NIC which queue; larger rings (nic-rings), more queues, or an interrupt on another core",
        persist: Persist::Nothing,
        risk: "none",
    },
    Check {
        id: "nic-queues",
        severity: WARN,
        judge: nic_queues,
        why: "workers without a queue of their own get their packets from another core",
        mend: "ethtool -L NIC combined N, N the number of workers",
        persist: Persist::Udev,
        risk: "the link goes down for a moment",
    },
    Check {
        id: "nic-interrupts",
        severity: WARN,
        judge: |host| {
            let seen = nics(host, interrupts_are_placed);
            let wanted = match host.placement.interrupts {
                Interrupts::Beside => "at the node of the NIC",
                Interrupts::Away(_) => "where no core has a worker, nearest to the NIC",
            };
            each(seen, NO_NIC, wanted, |text| text.starts_with("all "))
        },
        why: "an interrupt at another node takes the packet's memory across the link between the sockets; on the core of a worker it makes it wait",
        mend: "echo CORES > /proc/irq/N/smp_affinity_list, and keep irqbalance from undoing it",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "nic-interrupts-spread",
        severity: WARN,
        judge: |host| {
            let seen = nics(host, spread);
            let wanted = match host.placement.interrupts {
                Interrupts::Beside => ONE_EACH,
                Interrupts::Away(_) => "one core each, or even shares of those that are kept for them",
            };
            each(seen, NO_NIC, wanted, is_spread)
        },
        why: "queues whose interrupts share a core wait for each other",
        mend: "echo CORE > /proc/irq/N/smp_affinity_list, a core for each queue",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "irqbalance",
        severity: JITTER,
        judge: irqbalance,
        why: "it moves interrupts away from where they were put",
        mend: "systemctl disable --now irqbalance, or --banirq=N for each in IRQBALANCE_ARGS of /etc/default/irqbalance; for google-guest-agent \
               set_multiqueue = false in /etc/default/instance_configs.cfg",
        persist: Persist::Systemd,
        risk: "nothing spreads the interrupts of other devices",
    },
    Check {
        id: "receive-steering",
        severity: TAIL,
        judge: receive_steering,
        why: "packets are passed on to another core, though each worker can have a queue",
        mend: "echo 0 > /sys/class/net/NIC/queues/rx-N/rps_cpus",
        persist: Persist::Systemd,
        risk: "one core carries a NIC that has few queues",
    },
    Check {
        id: "transmit-steering",
        severity: TAIL,
        judge: transmit_steering,
        why: "a core without a queue of its own to send on takes any, and waits for the lock of whoever has it",
        mend: "write a mask of cores to /sys/class/net/NIC/queues/tx-N/xps_cpus, such that each core is in one",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "flow-steering",
        severity: INFO,
        judge: |host| number(host, "/proc/sys/net/core/rps_sock_flow_entries", "0", |entries| entries == 0),
        why: "it works against listeners that each worker has of its own",
        mend: "sysctl -w net.core.rps_sock_flow_entries=0",
        persist: Persist::Sysctl,
        risk: "other servers on this host may profit from it",
    },
];

pub const NO_NIC: &str = "no NIC is up that has hardware behind it";

/// Where no NIC can be looked at: whether there is one.
pub fn without_nic(host: &Host, wanted: impl Into<String>) -> Finding {
    match hidden_nic(host) {
        Some(why) => unknown(why, wanted),
        None => absent(NO_NIC, wanted),
    }
}

/// Why there may be a NIC that cannot be seen.
fn hidden_nic(host: &Host) -> Option<Unknown> {
    if !host.root.exists("/sys/class/net") {
        return Some(Unknown::because("/sys/class/net is not there"));
    }
    // The interface of a container leads to a NIC that only the host sees.
    let mut up = host.topology.nics.iter().filter(|nic| nic.up);
    let first = up.next()?;
    let none = first.driver.is_none() && up.all(|nic| nic.driver.is_none());
    none.then(|| Unknown::because(format!("{} is up, and what carries it cannot be seen from here", first.name)))
}

/// Something of every NIC that is up.
pub fn nics(host: &Host, read: impl Fn(&Host, &Nic) -> Result<String, Unknown>) -> Vec<Seen> {
    if let Some(why) = hidden_nic(host) {
        return vec![("NICs".to_string(), Err(why))];
    }
    let nics = host.topology.nics.iter().filter(|nic| nic.driver.is_some() && nic.up);
    nics.map(|nic| (nic.name.clone(), read(host, nic))).collect()
}

fn megabits(text: &str) -> u64 {
    text.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Interrupts that carry packets: those with a number in their name that counts queues, as in mlx5_comp3, ens1f0np0-TxRx-3 or virtio0-input.3.
pub fn packet_interrupts(nic: &Nic) -> Vec<&Interrupt> {
    let carries = |label: &str| {
        let label = label.split('@').next().unwrap_or(label).to_ascii_lowercase();
        let kinds = ["comp", "txrx", "input", "rx", "tx-rx"];
        label.ends_with(|last: char| last.is_ascii_digit()) && kinds.iter().any(|kind| label.contains(kind))
    };
    nic.interrupts.iter().filter(|interrupt| carries(&interrupt.label)).collect()
}

fn nic_queues(host: &Host) -> Finding {
    let workers = host.placement.workers.len();
    let wanted = format!("{workers} or more, one for each worker");
    let Some(nic) = host.topology.main_nic() else {
        return without_nic(host, wanted);
    };
    match nic.receive_queues {
        _ if workers == 0 => unknown("no core for a worker is known", wanted),
        0 => unknown(format!("the queues of {}", nic.name), wanted),
        queues => verdict(queues >= workers, format!("{queues} of {}", nic.name), wanted),
    }
}

fn interrupts_are_placed(host: &Host, nic: &Nic) -> Result<String, Unknown> {
    let interrupts = packet_interrupts(nic);
    if interrupts.is_empty() || interrupts.iter().any(|interrupt| interrupt.cores.is_empty()) {
        return Err(Unknown::because(format!("where interrupts of {} go", nic.name)));
    }
    let (wanted, place): (BTreeSet<usize>, String) = match &host.placement.interrupts {
        Interrupts::Away(_) => {
            let wanted = host.placement.interrupts_at(host.topology, nic.node).into_iter().collect();
            let place = format!("on cores {}", show(&wanted));
            (wanted, place)
        }
        Interrupts::Beside if host.topology.nodes.len() == 1 => return Ok("all at the one node".to_string()),
        Interrupts::Beside => {
            let known = nic.node.and_then(|node| host.topology.node(node));
            let node = known.ok_or_else(|| Unknown::because(format!("the node of {}", nic.name)))?;
            (node.cores.iter().copied().collect(), format!("at node {}", node.number))
        }
    };
    let elsewhere = |interrupt: &&&Interrupt| !interrupt.cores.iter().all(|core| wanted.contains(core));
    Ok(match (interrupts.iter().filter(elsewhere).count(), &host.placement.interrupts) {
        (0, _) => format!("all {place}"),
        (elsewhere, Interrupts::Beside) => format!("{elsewhere} of {} elsewhere", interrupts.len()),
        (elsewhere, Interrupts::Away(_)) => format!("{elsewhere} of {} not {place}", interrupts.len()),
    })
}

/// Whether nothing needs to be said of where the interrupts of a NIC go; `None`: it is not known.
pub fn interrupts_as_wanted(host: &Host, nic: &Nic) -> Option<bool> {
    let placed = interrupts_are_placed(host, nic).ok()?.starts_with("all ");
    Some(placed && is_spread(&spread(host, nic).ok()?))
}

const ONE_EACH: &str = "one core each";
const EVEN_SHARES: &str = "even shares";

fn is_spread(text: &str) -> bool {
    text == ONE_EACH || text.starts_with(EVEN_SHARES)
}

/// How many share a core. Where few cores are kept for interrupts they may, as little as that many can.
fn spread(host: &Host, nic: &Nic) -> Result<String, Unknown> {
    let interrupts = packet_interrupts(nic);
    if interrupts.is_empty() || interrupts.iter().any(|interrupt| interrupt.cores.is_empty()) {
        return Err(Unknown::because(format!("where interrupts of {} go", nic.name)));
    }
    let single = interrupts.iter().all(|interrupt| interrupt.cores.len() == 1);
    let mut shares: BTreeMap<usize, usize> = BTreeMap::new();
    for core in interrupts.iter().flat_map(|interrupt| &interrupt.cores) {
        *shares.entry(*core).or_default() += 1;
    }
    let kept = match host.placement.interrupts {
        Interrupts::Beside => interrupts.len(),
        Interrupts::Away(_) => host.placement.interrupts_at(host.topology, nic.node).len().max(1),
    };
    let largest = shares.values().copied().max().unwrap_or(0);
    let cores: Vec<usize> = shares.into_keys().collect();
    Ok(match single && largest <= interrupts.len().div_ceil(kept) {
        true if largest == 1 => ONE_EACH.to_string(),
        true => format!("{EVEN_SHARES} of cores {}", some(&cores)),
        false => format!("{} interrupts on cores {}", interrupts.len(), some(&cores)),
    })
}

/// One that was told to keep off the interrupts that carry packets does no harm.
fn irqbalance(host: &Host) -> Finding {
    let wanted = "not running, or kept off the NIC's interrupts";
    let movers = match processes(host, MOVERS) {
        Ok(movers) => movers,
        Err(why) => return unknown(why, wanted),
    };
    let left_alone = |name: &str| match name {
        "irqbalance" => banned(host),
        _ => host.root.text("/etc/default/instance_configs.cfg").is_ok_and(|text| {
            text.lines().any(|line| line.split_whitespace().collect::<String>() == "set_multiqueue=false")
        }),
    };
    let told = |(number, name): &(String, String)| format!("{name}, process {number}");
    let (off, at_work): (Vec<_>, Vec<_>) = movers.iter().partition(|(_, name)| left_alone(name));
    match (off.is_empty(), at_work.is_empty()) {
        (true, true) => met("not running", wanted),
        (false, true) => met("kept off the NIC's interrupts", wanted),
        _ => unmet(listed(&at_work.into_iter().map(told).collect::<Vec<_>>()), wanted),
    }
}

/// Whether every interrupt that carries packets is among those that irqbalance leaves alone.
fn banned(host: &Host) -> bool {
    let text: String =
        MOVER_ARGUMENTS.iter().filter_map(|path| host.root.text(path).ok()).collect::<Vec<_>>().join("\n");
    let arguments = text.lines().filter_map(|line| line.trim().strip_prefix("IRQBALANCE_ARGS="));
    let arguments = arguments.flat_map(|value| value.split(|c: char| c.is_whitespace() || "\"'".contains(c)));
    let banned: BTreeSet<usize> = arguments.filter_map(|word| word.strip_prefix("--banirq=")?.parse().ok()).collect();
    let nics = host.topology.nics.iter().filter(|nic| nic.driver.is_some() && nic.up);
    let carrying: Vec<usize> = nics.flat_map(packet_interrupts).map(|interrupt| interrupt.number).collect();
    !carrying.is_empty() && carrying.iter().all(|number| banned.contains(number))
}

/// What the NIC had no buffer for: drivers count it as the one or the other.
fn lost(host: &Host, nic: &Nic) -> Result<String, Unknown> {
    let count = |name: &str| {
        let path = format!("/sys/class/net/{}/statistics/{name}", nic.name);
        let text = host.root.text(&path)?;
        text.parse::<u64>().map_err(|_| Unknown::because(format!("{path} holds no count")))
    };
    Ok(count("rx_missed_errors")?.max(count("rx_fifo_errors")?).to_string())
}

fn receive_steering(host: &Host) -> Finding {
    let seen = nics(host, |host, nic| {
        let directory = format!("/sys/class/net/{}/queues", nic.name);
        let mut on = 0;
        for queue in host.root.numbered(&directory, "rx-")? {
            let mask = host.root.text(&format!("{directory}/rx-{queue}/rps_cpus"))?;
            on += mask.chars().any(|digit| !"0,".contains(digit)) as usize;
        }
        Ok(if on == 0 { "off".to_string() } else { format!("on for {on} queues") })
    });
    each(seen, NO_NIC, "off", |text| text == "off")
}

fn transmit_steering(host: &Host) -> Finding {
    let mut seen = nics(host, |host, nic| {
        let directory = format!("/sys/class/net/{}/queues", nic.name);
        let mut without = 0;
        for queue in host.root.numbered(&directory, "tx-")? {
            let path = format!("{directory}/tx-{queue}/xps_cpus");
            let cores = parse_mask(&host.root.text(&path)?);
            let cores = cores.map_err(|why| Unknown::because(format!("{path}: {why}")))?;
            without += cores.is_empty() as usize;
        }
        Ok(if without == 0 { "all".to_string() } else { format!("{without} of {} without", nic.transmit_queues) })
    });
    // One queue is everybody's, and the kernel shows no mask for it.
    let single = |name: &String| host.topology.nics.iter().any(|nic| nic.name == *name && nic.transmit_queues == 1);
    seen.retain(|(name, _)| !single(name));
    each(seen, "no NIC with several queues to send on is up", "cores for each queue", |text| text == "all")
}
