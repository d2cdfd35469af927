//! Memory, and the limits of a process.

use super::super::root::Unknown;
use super::judge::{each, met, number, unknown, unmet, verdict, words};
use super::{Check, FAIL, Finding, Host, INFO, Persist, TAIL, WARN};

/// Connections and files at once.
const FILES_MIN: u64 = 1 << 16;

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
        why: "every connection is a file, and one too many is not accepted",
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
