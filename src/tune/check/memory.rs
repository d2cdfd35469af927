//! Memory, and the limits of a process.

use super::super::map::gib;
use super::super::root::Unknown;
use super::judge::{each, met, number, plain, unknown, unmet, verdict, words};
use super::network::without_nic;
use super::{Check, FAIL, Finding, Host, INFO, Persist, Status, TAIL, WARN};

/// A ring's table of sockets may have as many places as the process may have files, and no more; sockets in it are no open files, so this is far above
/// what a worker has of both.
const FILES_MIN: u64 = 1 << 16;
/// How long the kernel may take to free memory once it has begun to, milliseconds: what a NIC brings in meanwhile has to have its place.
const RECLAIM_MS: u64 = 10;
/// What may wait in the kernel's memory to be written by it.
const DIRTY_BYTES_MAX: u64 = 1 << 30;

pub const CHECKS: &[Check] = &[
    Check {
        id: "transparent-hugepages",
        severity: WARN,
        judge: |host| words(host, "/sys/kernel/mm/transparent_hugepage/enabled", &["madvise"]),
        why: "with `always` the kernel stops whoever touches memory to make large pages; with `never` the workers' memory has none, and large \
              writes and reads look up each 4 KiB of it",
        mend: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or boot with transparent_hugepage=madvise",
        persist: Persist::Systemd,
        risk: "programs that count on `always`, and do not ask, are slower",
    },
    Check {
        id: "hugepage-defragmentation",
        severity: TAIL,
        judge: |host| {
            let path = "/sys/kernel/mm/transparent_hugepage/defrag";
            words(host, path, &["madvise", "defer+madvise", "defer", "never"])
        },
        why: "with `always` an allocation waits until a large page has been put together",
        mend: "echo defer+madvise > /sys/kernel/mm/transparent_hugepage/defrag",
        persist: Persist::Systemd,
        risk: "low",
    },
    Check {
        id: "locked-memory",
        severity: WARN,
        judge: |host| limit(host, "Max locked memory", u64::MAX),
        why: "buffers that the kernel reads and writes without copying count as locked",
        mend: "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "open-files",
        severity: WARN,
        judge: |host| limit(host, "Max open files", FILES_MIN),
        why: "a worker's table of connections has no more places than a process may have files, and a server whose table is refused does not start",
        mend: "LimitNOFILE=1048576 in the unit",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "swappiness",
        severity: TAIL,
        judge: |host| number(host, "/proc/sys/vm/swappiness", "10 or less", |value| (0..=10).contains(&value)),
        why: "memory that is swapped out is read from a drive when it is needed",
        mend: "sysctl -w vm.swappiness=1",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "swap-used",
        severity: WARN,
        judge: swap_used,
        why: "something on this host has been short of memory",
        mend: "find what needs it; swapoff -a and swapon -a bring it back",
        persist: Persist::Nothing,
        risk: "memory may run out sooner without swap",
    },
    Check {
        id: "io-uring",
        severity: FAIL,
        judge: |host| number(host, "/proc/sys/kernel/io_uring_disabled", "0", |value| value == 0),
        why: "penstock does all of its input and output through io_uring",
        mend: "sysctl -w kernel.io_uring_disabled=0; with 1 the group of kernel.io_uring_group may use it still",
        persist: Persist::Sysctl,
        risk: "more of the kernel within reach of local users",
    },
    Check {
        id: "system-call-filter",
        severity: INFO,
        judge: |host| match status(host, "Seccomp:") {
            Ok(mode) => verdict(mode == "0", format!("mode {mode}"), "mode 0"),
            Err(why) => unknown(why, "mode 0"),
        },
        why: "a container's filter often refuses io_uring, and each system call passes it",
        mend: "give the container a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
        persist: Persist::Systemd,
        risk: "more of the kernel within reach of the container",
    },
    Check {
        id: "memory-reserve",
        severity: [Status::Warn, Status::Warn, Status::Info],
        judge: reserve,
        why: "packets that arrive while the kernel still looks for free memory have none, and are lost",
        mend: "sysctl -w vm.watermark_scale_factor=50, or more, so that the kernel begins earlier; the default is 10",
        persist: Persist::Sysctl,
        risk: "that much memory stays free",
    },
    Check {
        id: "dirty-pages",
        severity: TAIL,
        judge: dirty,
        why: "other programs' writes that have piled up go to the drive all at once, and commits wait behind them",
        mend: "sysctl -w vm.dirty_background_bytes=268435456 vm.dirty_bytes=1073741824, which sets the two ratios to 0",
        persist: Persist::Sysctl,
        risk: "programs that write much through the kernel's memory wait for the drive earlier",
    },
    Check {
        id: "memory-killer",
        severity: WARN,
        judge: |host| number(host, "/proc/self/oom_score_adj", "-900 or less", |score| score <= -900),
        why: "where memory runs out the kernel ends the process that has most of it, which is penstock",
        mend: "OOMScoreAdjust=-900 in the unit",
        persist: Persist::Systemd,
        risk: "another program is ended instead",
    },
    Check {
        id: "core-dumps",
        severity: INFO,
        judge: core_dumps,
        why: "whoever has crashed serves again only when all of its memory has been written to a file",
        mend: "LimitCORE=0 in the unit, or a program in kernel.core_pattern that has a bound",
        persist: Persist::Systemd,
        risk: "a crash leaves less to look at",
    },
    Check {
        id: "aio-requests",
        severity: INFO,
        judge: |host| number(host, "/proc/sys/fs/aio-max-nr", "1048576 or more", |number| number >= 1 << 20),
        why: "penstock does not use them; programs that measure drives, and other databases on this host, run out of them",
        mend: "sysctl -w fs.aio-max-nr=1048576",
        persist: Persist::Sysctl,
        risk: "none",
    },
    Check {
        id: "pressure",
        severity: WARN,
        judge: pressure,
        why: "something else on this host is waiting already, so a run says little",
        mend: "stop what else runs, or wait for it",
        persist: Persist::Nothing,
        risk: "none",
    },
];

/// The hard limit of a process that is started as this one was; penstock raises the soft one to it.
fn limit(host: &Host, name: &str, least: u64) -> Finding {
    let path = "/proc/self/limits";
    let wanted = match least {
        u64::MAX => "unlimited".to_string(),
        least => format!("{least} or more"),
    };
    let text = match host.root.text(path) {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    match line.and_then(|line| line.split_whitespace().nth(1)) {
        Some("unlimited") => met("unlimited", wanted),
        Some(value) => match value.parse::<u64>() {
            Ok(number) => verdict(number >= least, value, wanted),
            Err(_) => unknown(format!("{path}: {name} is no number"), wanted),
        },
        None => unknown(format!("{path} has no {name}"), wanted),
    }
}

fn status(host: &Host, name: &str) -> Result<String, Unknown> {
    let path = "/proc/self/status";
    let text = host.root.text(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string());
    value.ok_or_else(|| Unknown::because(format!("{path} has no {name}")))
}

/// What the NIC's node has free when the kernel begins to free memory, and what it keeps in any case: a burst has to fit there.
fn reserve(host: &Host) -> Finding {
    let wanted = format!("what the NIC brings in {RECLAIM_MS} ms");
    let Some(nic) = host.topology.main_nic() else { return without_nic(host, wanted) };
    let Some(megabits) = nic.megabits else { return unknown(format!("the speed of {}", nic.name), wanted) };
    let burst = megabits.saturating_mul(1_000_000 / 8 / 1000 * RECLAIM_MS);
    let wanted = format!("{} or more, {wanted}", mib(burst));
    let nodes = &host.topology.nodes;
    let own = nodes.iter().filter(|node| nic.node.is_none() || nodes.len() == 1 || nic.node == Some(node.number));
    let own = own.map(|node| node.memory_bytes).min().flatten();
    let (all, own) = match (memory_bytes(host), own) {
        (Ok(all), Some(own)) => (all, own),
        (Err(why), _) => return unknown(why, wanted),
        (_, None) => return unknown(format!("the memory beside {}", nic.name), wanted),
    };
    let read = |name: &str| {
        let path = format!("/proc/sys/vm/{name}");
        let value = host.root.number(&path)?;
        u64::try_from(value).map_err(|_| Unknown::because(format!("{path} holds {value}, which is no amount")))
    };
    match read("min_free_kbytes").and_then(|kib| Ok((kib, read("watermark_scale_factor")?))) {
        Ok((kib, scale)) => {
            // The kernel's own sum: it begins at the reserve and a quarter of it, or so many ten thousandths of the memory above it.
            let part = |bytes: u64| (u128::from(bytes) * u128::from(own) / u128::from(all.max(1))) as u64;
            let least = part(kib.saturating_mul(1024));
            let above = (least / 4).max((u128::from(own) * u128::from(scale) / 10_000) as u64);
            let sum = least.saturating_add(above);
            verdict(sum >= burst, format!("{} beside {}", mib(sum), nic.name), wanted)
        }
        Err(why) => unknown(why, wanted),
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Of all nodes.
pub fn memory_bytes(host: &Host) -> Result<u64, Unknown> {
    let nodes = host.topology.nodes.iter().map(|node| node.memory_bytes);
    let all = nodes.sum::<Option<u64>>().filter(|bytes| *bytes > 0);
    all.ok_or_else(|| Unknown::because("how much memory this host has"))
}

/// Of the two forms of the bound the one that is not 0 counts.
fn dirty(host: &Host) -> Finding {
    let wanted = format!("{} or less", gib(DIRTY_BYTES_MAX));
    let bytes = match host.root.number("/proc/sys/vm/dirty_bytes").map(u64::try_from) {
        Ok(Ok(0)) => {
            let path = "/proc/sys/vm/dirty_ratio";
            let percent = match host.root.number(path).map(u64::try_from) {
                Ok(Ok(percent)) if percent <= 100 => percent,
                Ok(_) => return unknown(format!("{path} holds no percentage"), wanted),
                Err(why) => return unknown(why, wanted),
            };
            match memory_bytes(host) {
                Ok(all) => all / 100 * percent,
                Err(why) => return unknown(why, wanted),
            }
        }
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return unknown("/proc/sys/vm/dirty_bytes holds no amount", wanted),
        Err(why) => return unknown(why, wanted),
    };
    verdict(bytes <= DIRTY_BYTES_MAX, gib(bytes), wanted)
}

fn core_dumps(host: &Host) -> Finding {
    let (path, wanted) = ("/proc/sys/kernel/core_pattern", "none, or to a program");
    let pattern = match host.root.text(path) {
        Ok(pattern) => pattern,
        Err(why) => return unknown(why, wanted),
    };
    // The kernel asks the limit of a process only where it writes the file itself.
    if let Some(program) = pattern.strip_prefix('|') {
        let name = program.split_whitespace().next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        return met(format!("to {}", plain(name)), wanted);
    }
    let limits = "/proc/self/limits";
    let text = match host.root.text(limits) {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Max core file size"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("0") => met("none", wanted),
        Some("unlimited") => unmet("to a file, whole", wanted),
        Some(bytes) if bytes.parse::<u64>().is_ok() => unmet(format!("to a file, up to {bytes} bytes"), wanted),
        _ => unknown(format!("{limits} has no Max core file size"), wanted),
    }
}

fn swap_used(host: &Host) -> Finding {
    let wanted = "0 KiB";
    let text = match host.root.text("/proc/swaps") {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let used =
        text.lines().skip(1).map(|line| line.split_whitespace().nth(3).and_then(|word| word.parse::<u64>().ok()));
    let used: Option<Vec<u64>> = used.collect();
    match used.map(|used| used.iter().fold(0u64, |sum, used| sum.saturating_add(*used))) {
        Some(0) => met("0 KiB", wanted),
        Some(kib) => unmet(format!("{kib} KiB"), wanted),
        None => unknown("/proc/swaps has a line without a number of what is used", wanted),
    }
}

fn pressure(host: &Host) -> Finding {
    let read = |kind: &&str| {
        let path = format!("/proc/pressure/{kind}");
        let value = host.root.text(&path).and_then(|text| {
            let some = text.lines().find_map(|line| line.strip_prefix("some avg10="));
            let value = some.and_then(|rest| rest.split_whitespace().next()).map(String::from);
            value.ok_or_else(|| Unknown::because(format!("{path} has no avg10")))
        });
        (kind.to_string(), value.map(|value| format!("{value} %")))
    };
    let seen = ["cpu", "io", "memory"].iter().map(read).collect();
    let low = |text: &str| text.trim_end_matches(" %").parse::<f64>().is_ok_and(|percent| percent < 1.0);
    each(seen, "", "below 1 % in the last ten seconds", low)
}
