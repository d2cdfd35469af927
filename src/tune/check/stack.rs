//! The kernel's network stack: backlogs, buffers, polling, tracking, ports.

use super::super::map::gib;
use super::super::root::Unknown;
use super::judge::{each, files, met, number, unknown, unmet, verdict};
use super::memory::memory_bytes;
use super::network::{NO_NIC, nics};
use super::{Check, Finding, Host, INFO, Persist, Status, TAIL, WARN};

/// Connections that wait to be accepted.
const BACKLOG_MIN: i64 = 4096;
/// What one connection may have under way: 25 Gbit/s for more than a millisecond.
pub const SOCKET_BYTES_MIN: u64 = 4 << 20;
/// The kernel counts the memory of sockets in these; where its pages are larger, it may be more.
const PAGE_BYTES: u64 = 4096;

pub const CHECKS: &[Check] = &[
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
        id: "packet-backlog",
        severity: INFO,
        judge: |host| {
            number(host, "/proc/sys/net/core/netdev_max_backlog", "4096 or more", |number| number >= BACKLOG_MIN)
        },
        why: "packets that are passed on to another core, or come over the loopback device, are dropped beyond it",
        mend: "sysctl -w net.core.netdev_max_backlog=4096",
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
        id: "socket-buffer-bounds",
        severity: INFO,
        judge: |host| {
            let of = |name: &str| (name.to_string(), format!("/proc/sys/net/core/{name}"));
            let seen = files(host.root, [of("rmem_max"), of("wmem_max")]);
            let enough = |text: &str| text.parse::<u64>().is_ok_and(|bytes| bytes >= SOCKET_BYTES_MIN);
            each(seen, "", &format!("{SOCKET_BYTES_MIN} or more"), enough)
        },
        why: "who sets the size of a socket's buffer itself gets no more, and nothing by the kernel's own growth; penstock leaves it to the kernel",
        mend: "sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304",
        persist: Persist::Sysctl,
        risk: "programs that ask for it hold more memory",
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
    Check {
        id: "port-reuse",
        severity: INFO,
        judge: |host| number(host, "/proc/sys/net/ipv4/tcp_tw_reuse", "1", |mode| mode == 1),
        why: "a load generator or proxy on this host that makes many connections waits a minute for each port that it has used",
        mend: "sysctl -w net.ipv4.tcp_tw_reuse=1; 2, the kernel's own choice, does so over the loopback device only",
        persist: Persist::Sysctl,
        risk: "a late packet of the old connection may meet the new one; timestamps keep them apart",
    },
];

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
