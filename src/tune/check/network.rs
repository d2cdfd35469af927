//! NICs, their queues and interrupts, and the kernel's network stack.

use super::super::cores::parse_mask;
use super::super::map::{gib, some};
use super::super::root::Unknown;
use super::super::topology::{Interrupt, Nic};
use super::judge::{Seen, absent, each, files, met, number, process, unknown, unmet, verdict};
use super::memory::memory_bytes;
use super::{Check, Finding, Host, INFO, JITTER, Persist, Status, TAIL, WARN};
use std::collections::BTreeSet;

/// Connections that wait to be accepted.
const BACKLOG_MIN: i64 = 4096;
/// What one connection may have under way: 25 Gbit/s for more than a millisecond.
pub const SOCKET_BYTES_MIN: u64 = 4 << 20;
/// The kernel counts the memory of sockets in these; where its pages are larger, it may be more.
const PAGE_BYTES: u64 = 4096;

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
            let seen = nics(host, interrupts_are_near);
            each(seen, NO_NIC, "at the node of the NIC", |text| text.starts_with("all "))
        },
        why: "an interrupt at another node takes the packet's memory across the link between the sockets",
        mend: "echo CORES > /proc/irq/N/smp_affinity_list, and keep irqbalance from undoing it",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "nic-interrupts-spread",
        severity: WARN,
        judge: |host| {
            let seen = nics(host, |_, nic| spread(nic));
            each(seen, NO_NIC, "one core each", |text| text == "one core each")
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
        mend: "systemctl disable --now irqbalance, or ban the interrupts (IRQBALANCE_ARGS in /etc/default/irqbalance)",
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
    Check {
        id: "packets-dropped",
        severity: WARN,
        judge: dropped,
        why: "the kernel had no room for packets that the NIC had received, since the start of the host",
        mend: "raise net.core.netdev_max_backlog and net.core.netdev_budget, or spread the queues over more cores",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "accept-backlog",
        severity: WARN,
        judge: |host| number(host, "/proc/sys/net/core/somaxconn", "4096 or more", |number| number >= BACKLOG_MIN),
        why: "clients that all come back at once are refused",
        mend: "sysctl -w net.core.somaxconn=4096",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "handshake-backlog",
        severity: WARN,
        judge: |host| {
            let path = "/proc/sys/net/ipv4/tcp_max_syn_backlog";
            number(host, path, "4096 or more", |number| number >= BACKLOG_MIN)
        },
        why: "handshakes beyond it are dropped, and tried again a second later",
        mend: "sysctl -w net.ipv4.tcp_max_syn_backlog=4096",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "syn-cookies",
        severity: WARN,
        judge: |host| number(host, "/proc/sys/net/ipv4/tcp_syncookies", "1", |on| on == 1),
        why: "a flood of half-open connections keeps the real ones out",
        mend: "sysctl -w net.ipv4.tcp_syncookies=1",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "slow-start",
        severity: TAIL,
        judge: |host| number(host, "/proc/sys/net/ipv4/tcp_slow_start_after_idle", "0", |on| on == 0),
        why: "a connection that has been quiet for a moment begins slowly again, and a large answer waits",
        mend: "sysctl -w net.ipv4.tcp_slow_start_after_idle=0",
        persist: Persist::Sysctl,
        risk: "bursts into a network that is full",
    },
    Check {
        id: "socket-memory",
        severity: WARN,
        judge: socket_memory,
        why: "what sockets may hold is memory that penstock's buffers need; too little, and connections stand still",
        mend: "take net.ipv4.tcp_mem out of /etc/sysctl.d and restart: the kernel takes an eleventh of the memory. It counts in pages, not in bytes",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "socket-buffers",
        severity: [Status::Info, Status::Warn, Status::Info],
        judge: socket_buffers,
        why: "a connection carries no more than its buffer holds in a round trip, and large answers wait for it",
        mend: "sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456' net.ipv4.tcp_wmem='4096 16384 4194304'",
        persist: Persist::Sysctl,
        risk: "connections that are slow hold more memory",
    },
    Check {
        id: "unsent-bytes",
        severity: INFO,
        judge: |host| {
            let path = "/proc/sys/net/ipv4/tcp_notsent_lowat";
            number(host, path, "131072 or less", |bytes| (1..=131_072).contains(&bytes))
        },
        why: "what the kernel has taken and the network has not holds memory, and nothing can overtake it on its connection",
        mend: "sysctl -w net.ipv4.tcp_notsent_lowat=131072",
        persist: Persist::Sysctl,
        risk: "a large answer takes more turns",
    },
    Check {
        id: "busy-polling",
        severity: INFO,
        judge: |host| {
            let of = |name: &str| (name.to_string(), format!("/proc/sys/net/core/{name}"));
            each(files(host.root, [of("busy_poll"), of("busy_read")]), "", "0", |us| us == "0")
        },
        why: "workers do not ask the kernel to look for packets in a loop, so each receive that finds none pays for a look in vain",
        mend: "sysctl -w net.core.busy_poll=0 net.core.busy_read=0",
        persist: Persist::Sysctl,
        risk: "other programs on this host may count on it",
    },
    Check {
        id: "deferred-interrupts",
        severity: TAIL,
        judge: deferred,
        why: "packets wait for a timer instead of raising an interrupt, or for a thread of the kernel to get a core",
        mend: "echo 0 > /sys/class/net/NIC/napi_defer_hard_irqs, gro_flush_timeout and threaded",
        persist: Persist::Systemd,
        risk: "more interrupts; what was set of single queues is lost",
    },
    Check {
        id: "connection-tracking",
        severity: WARN,
        judge: tracking,
        why: "every packet is looked up, and connections are refused when the table is full",
        mend: "remove the rules that need it, or exempt the port (notrack)",
        persist: Persist::Systemd,
        risk: "firewall rules that know connections no longer see these",
    },
    Check {
        id: "local-ports",
        severity: INFO,
        judge: local_ports,
        why: "a load generator or proxy on this host runs out of ports first",
        mend: "sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
        persist: Persist::Sysctl,
        risk: "servers that listen above 1024 may find their port taken",
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

fn interrupts_are_near(host: &Host, nic: &Nic) -> Result<String, Unknown> {
    let interrupts = packet_interrupts(nic);
    if interrupts.is_empty() || interrupts.iter().any(|interrupt| interrupt.cores.is_empty()) {
        return Err(Unknown::because(format!("where interrupts of {} go", nic.name)));
    }
    if host.topology.nodes.len() == 1 {
        return Ok("all at the one node".to_string());
    }
    let known = nic.node.and_then(|node| host.topology.node(node));
    let node = known.ok_or_else(|| Unknown::because(format!("the node of {}", nic.name)))?;
    let near: BTreeSet<usize> = node.cores.iter().copied().collect();
    let far = |interrupt: &&&Interrupt| !interrupt.cores.iter().all(|core| near.contains(core));
    Ok(match interrupts.iter().filter(far).count() {
        0 => format!("all at node {}", node.number),
        far => format!("{far} of {} elsewhere", interrupts.len()),
    })
}

/// Whether nothing needs to be said of where the interrupts of a NIC go; `None`: it is not known.
pub fn interrupts_as_wanted(host: &Host, nic: &Nic) -> Option<bool> {
    let near = interrupts_are_near(host, nic).ok()?.starts_with("all ");
    Some(near && spread(nic).ok()? == "one core each")
}

fn spread(nic: &Nic) -> Result<String, Unknown> {
    let interrupts = packet_interrupts(nic);
    if interrupts.is_empty() || interrupts.iter().any(|interrupt| interrupt.cores.is_empty()) {
        return Err(Unknown::because(format!("where interrupts of {} go", nic.name)));
    }
    let mut cores: Vec<usize> = interrupts.iter().flat_map(|interrupt| interrupt.cores.iter().copied()).collect();
    let single = interrupts.iter().all(|interrupt| interrupt.cores.len() == 1);
    cores.sort_unstable();
    cores.dedup();
    Ok(match single && cores.len() == interrupts.len() {
        true => "one core each".to_string(),
        false => format!("{} interrupts on cores {}", interrupts.len(), some(&cores)),
    })
}

fn irqbalance(host: &Host) -> Finding {
    let wanted = "not running";
    match process(host, &["irqbalance"]) {
        Ok(Some((number, _))) => unmet(format!("process {number}"), wanted),
        Ok(None) => met("not running", wanted),
        Err(why) => unknown(why, wanted),
    }
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

fn dropped(host: &Host) -> Finding {
    let (path, wanted) = ("/proc/net/softnet_stat", "0");
    let text = match host.root.text(path) {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let second = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let counts: Option<Vec<u64>> = text.lines().map(second).collect();
    match counts.map(|counts| counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count))) {
        Some(0) => met("0", wanted),
        Some(count) => unmet(count.to_string(), wanted),
        None => unknown(format!("{path} has a line without a count"), wanted),
    }
}

/// The numbers of a file that holds three.
fn three(host: &Host, path: &str) -> Result<[u64; 3], Unknown> {
    let text = host.root.text(path)?;
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| Unknown::because(format!("{path} does not hold three numbers")))
}

fn socket_memory(host: &Host) -> Finding {
    let wanted = "a sixty-fourth to an eighth of the memory";
    let pages = three(host, "/proc/sys/net/ipv4/tcp_mem");
    match pages.and_then(|[_, _, most]| Ok((most, memory_bytes(host)?))) {
        Ok((pages, all)) => {
            let bytes = pages.saturating_mul(PAGE_BYTES);
            verdict((all / 64..=all / 8).contains(&bytes), format!("{} of {}", gib(bytes), gib(all)), wanted)
        }
        Err(why) => unknown(why, wanted),
    }
}

fn socket_buffers(host: &Host) -> Finding {
    let seen = ["tcp_rmem", "tcp_wmem"].map(|name| {
        let most = three(host, &format!("/proc/sys/net/ipv4/{name}")).map(|[_, _, most]| most.to_string());
        (name.to_string(), most)
    });
    let wanted = format!("up to {SOCKET_BYTES_MIN} or more");
    each(seen.into(), "", &wanted, |most| most.parse::<u64>().is_ok_and(|bytes| bytes >= SOCKET_BYTES_MIN))
}

fn deferred(host: &Host) -> Finding {
    let seen = nics(host, |host, nic| {
        let read = |file: &str| {
            let path = format!("/sys/class/net/{}/{file}", nic.name);
            match host.root.number(&path) {
                // Kernels before 5.12 have no threads for it.
                Err(why) if why.missing && file == "threaded" => Ok(0),
                number => number,
            }
        };
        let (times, timeout) = (read("napi_defer_hard_irqs")?, read("gro_flush_timeout")?);
        let late =
            if times == 0 && timeout == 0 { "at once".to_string() } else { format!("{times} times, {timeout} ns") };
        Ok(if read("threaded")? == 0 { late } else { format!("{late}, by a thread") })
    });
    each(seen, NO_NIC, "at once", |text| text == "at once")
}

fn tracking(host: &Host) -> Finding {
    let wanted = "absent, or 0 connections";
    match host.root.number("/proc/sys/net/netfilter/nf_conntrack_count") {
        Ok(count) => verdict(count == 0, format!("{count} connections"), wanted),
        Err(why) if why.missing && host.root.exists("/proc/sys/net/core") => met("absent", wanted),
        Err(why) => unknown(why, wanted),
    }
}

fn local_ports(host: &Host) -> Finding {
    let (path, wanted) = ("/proc/sys/net/ipv4/ip_local_port_range", "50000 or more");
    let text = match host.root.text(path) {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let ports: Vec<u32> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    match ports[..] {
        [first, last] if first <= last => verdict(last - first >= 50_000, format!("{}", last - first + 1), wanted),
        _ => unknown(format!("{path} holds no range"), wanted),
    }
}
