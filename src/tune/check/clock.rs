//! The clock: what it is read from, who keeps it right, and how right it is.

use super::super::facts::{MOST_ERROR_US, SYNCHRONISED};
use super::judge::{met, process, unknown, unmet, verdict, words};
use super::{Check, FAIL, Finding, Host, INFO, Persist, WARN};

/// Programs that keep the clock right, as the kernel shortens their names.
const KEEPERS: &[&str] = &["chronyd", "ntpd", "systemd-timesyn", "phc2sys"];
/// Arrivals are told in milliseconds.
const ERROR_US_MAX: u64 = 1000;

pub const CHECKS: &[Check] = &[
    Check {
        id: "clock-source",
        severity: FAIL,
        judge: |host| {
            let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
            words(host, path, &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"])
        },
        why: "any other clock is read by a system call, or over a slow bus, every turn",
        mend: "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if available_clocksource has it",
        persist: Persist::Systemd,
        risk: "wrong time where the TSC is not stable",
    },
    Check {
        id: "time-sync",
        severity: WARN,
        judge: kept_right,
        why: "records carry the time of their arrival, and retention and leases of readers go by it",
        mend: "install chrony, or switch systemd-timesyncd on, and see with timedatectl that it has a server",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "clock-error",
        severity: INFO,
        judge: error,
        why: "the times of arrival of two hosts can be compared no further than their clocks agree",
        mend: "name servers that are near (chronyc sources shows their delays), or the NIC's own clock where it has one (/dev/ptp0, phc2sys)",
        persist: Persist::Systemd,
        risk: "none",
    },
];

/// The kernel's word counts where it can be had: a program that has reached no server keeps nothing right.
fn kept_right(host: &Host) -> Finding {
    let wanted = "a program that keeps the clock right";
    let keeper = process(host, KEEPERS);
    let told = host.root.clock().ok().and_then(|mut said| said.remove(SYNCHRONISED));
    match (told.as_deref(), keeper) {
        (Some("no"), Ok(Some((_, name)))) => unmet(format!("{name}, and the clock is not synchronised"), wanted),
        (Some("no"), _) => unmet("the clock is not synchronised", wanted),
        (_, Ok(Some((_, name)))) => met(name, wanted),
        // Of a container the program is outside.
        (Some("yes"), _) => met("the clock is synchronised", wanted),
        (_, Ok(None)) => unmet(format!("none of {}", KEEPERS.join(", ")), wanted),
        (_, Err(why)) => unknown(why, wanted),
    }
}

fn error(host: &Host) -> Finding {
    let wanted = "1 ms at most, as the kernel sums it up";
    let said = match host.root.clock() {
        Ok(said) => said,
        Err(why) => return unknown(why, wanted),
    };
    let us = said.get(MOST_ERROR_US).and_then(|text| text.parse::<u64>().ok());
    match (said.get(SYNCHRONISED).map(String::as_str), us) {
        (Some("no"), _) => unmet("not synchronised", wanted),
        (Some("yes"), Some(us)) => verdict(us <= ERROR_US_MAX, format!("up to {:.1} ms", us as f64 / 1e3), wanted),
        _ => unknown("what the kernel holds of its clock is no answer", wanted),
    }
}
