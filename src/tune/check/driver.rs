//! What drivers of NICs are set to: rings, coalescing, offloads, pause frames, how flows are spread and steered.

use super::super::root::Unknown;
use super::super::topology::Nic;
use super::judge::{Seen, each};
use super::network::nics;
use super::{Check, Finding, Host, INFO, JITTER, Persist, Profile, Status, WARN};
use std::collections::BTreeMap;

/// Descriptors of a receive ring for the least latency: fewer lose a burst, more do not fit into the CPU's cache.
pub const RING_LEAST: u64 = 512;
pub const RING_MOST: u64 = 2048;
/// How long a packet may wait for its interrupt, microseconds.
pub const COALESCING_US_MAX: u64 = 8;
/// What the kernel or the NIC should do with packets in whole, and what it should not.
pub const OFFLOADS: [(&str, &str); 4] = [
    ("rx-gro", "on"),
    ("tx-generic-segmentation", "on"),
    ("tx-tcp-segmentation", "on"),
    // It cannot be undone, so packets that are passed on are wrong.
    ("rx-lro", "off"),
];

pub const CHECKS: &[Check] = &[
    Check {
        id: "nic-rings",
        severity: [Status::Info, Status::Warn, Status::Info],
        judge: rings,
        why: "a ring that is too short loses a burst, one that is too long takes packets out of the CPU's cache",
        mend: "ethtool -G NIC rx 1024 for latency, and as many as it has for throughput",
        persist: Persist::Systemd,
        risk: "the queues are made anew, and packets may be lost meanwhile",
    },
    Check {
        id: "nic-coalescing",
        severity: JITTER,
        judge: coalescing,
        why: "a packet waits that long for its interrupt; adapting to the load is right where bytes count, and makes runs differ",
        mend: "ethtool -C NIC adaptive-rx off rx-usecs 8 for latency, adaptive-rx on for throughput",
        persist: Persist::Systemd,
        risk: "more interrupts",
    },
    Check {
        id: "nic-offloads",
        severity: WARN,
        judge: offloads,
        why: "without them each packet goes through the kernel by itself",
        mend: "ethtool -K NIC gro on gso on tso on lro off",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "nic-spreading",
        severity: WARN,
        judge: spreading,
        why: "a queue that more flows are spread to than to others is the first that is too slow",
        mend: "ethtool -X NIC equal N, N the number of queues",
        persist: Persist::Systemd,
        risk: "a queue that was left out on purpose gets flows",
    },
    Check {
        id: "nic-filters",
        severity: INFO,
        judge: |host| {
            let seen = told(host, |host, nic| one(host, nic, "features", "rx-ntuple-filter"));
            each(seen, SILENT, "on", |state| state == "on" || state == "fixed on")
        },
        why: "without them no flow can be steered to a queue of its own, which receiving without copies takes",
        mend: "ethtool -K NIC ntuple on",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "nic-pause",
        severity: INFO,
        judge: |host| {
            let seen = told(host, |host, nic| {
                let said = group(host, nic, "pause")?;
                Ok(format!("rx {}, tx {}", need(nic, &said, "rx")?, need(nic, &said, "tx")?))
            });
            each(seen, SILENT, "off, unless the network must lose nothing", |text| text == "rx off, tx off")
        },
        why: "a receiver that pauses its switch stops everybody's packets behind it",
        mend: "ethtool -A NIC autoneg off rx off tx off, and the same at the switch's port",
        persist: Persist::Systemd,
        risk: "the link may go down for a moment; a network that counts on pauses loses packets",
    },
];

const SILENT: &str = "no NIC is up whose driver tells it";

/// Something of every NIC that is up and whose driver tells it.
fn told(host: &Host, read: impl Fn(&Host, &Nic) -> Result<String, Unknown>) -> Vec<Seen> {
    let mut seen = nics(host, read);
    seen.retain(|(_, said)| said.as_ref().err().is_none_or(|why| !why.missing));
    seen
}

fn group(host: &Host, nic: &Nic, group: &str) -> Result<BTreeMap<String, String>, Unknown> {
    let said = host.root.driver_group(&nic.name, group)?;
    match said.is_empty() {
        true => Err(silent(nic, group)),
        false => Ok(said),
    }
}

fn one(host: &Host, nic: &Nic, of: &str, name: &str) -> Result<String, Unknown> {
    let state = need(nic, &group(host, nic, of)?, name)?;
    switch(nic, name, &state)?;
    Ok(state)
}

fn need(nic: &Nic, said: &BTreeMap<String, String>, name: &str) -> Result<String, Unknown> {
    said.get(name).cloned().ok_or_else(|| silent(nic, name))
}

fn silent(nic: &Nic, what: &str) -> Unknown {
    Unknown { why: format!("the driver of {} does not tell {what}", nic.name), missing: true, empty: false }
}

fn count(nic: &Nic, said: &BTreeMap<String, String>, name: &str) -> Result<u64, Unknown> {
    let text = need(nic, said, name)?;
    text.parse().map_err(|_| Unknown::because(format!("{name} of {} is no number", nic.name)))
}

/// Whether it is on, and whether that can be changed.
fn switch(nic: &Nic, name: &str, state: &str) -> Result<(bool, bool), Unknown> {
    match state {
        "on" => Ok((true, true)),
        "off" => Ok((false, true)),
        "fixed on" => Ok((true, false)),
        "fixed off" => Ok((false, false)),
        _ => Err(Unknown::because(format!("{name} of {} is neither on nor off", nic.name))),
    }
}

fn rings(host: &Host) -> Finding {
    let seen = told(host, |host, nic| {
        let said = group(host, nic, "rings")?;
        Ok(format!("{} of {}", count(nic, &said, "rx")?, count(nic, &said, "rx-max")?))
    });
    let numbers = |text: &str| {
        let (now, most) = text.split_once(" of ")?;
        Some((now.parse::<u64>().ok()?, most.parse::<u64>().ok()?))
    };
    match host.profile {
        Profile::Throughput => {
            each(seen, SILENT, "as many as it has", |text| numbers(text).is_some_and(|(now, most)| now >= most))
        }
        Profile::Latency | Profile::Ci => {
            let wanted = format!("{RING_LEAST} to {RING_MOST}, or all where it has fewer");
            let good = |(now, most): (u64, u64)| now <= RING_MOST && (now >= RING_LEAST || now >= most);
            each(seen, SILENT, &wanted, |text| numbers(text).is_some_and(good))
        }
    }
}

fn coalescing(host: &Host) -> Finding {
    let seen = told(host, |host, nic| {
        let said = group(host, nic, "coalesce")?;
        let adapts =
            said.get("adaptive-rx").map_or(Ok(false), |state| switch(nic, "adaptive-rx", state).map(|is| is.0))?;
        match (adapts, count(nic, &said, "rx-usecs")) {
            (true, _) => Ok("adaptive".to_string()),
            (false, us) => Ok(format!("{} us", us?)),
        }
    });
    match host.profile {
        // A driver that cannot adapt is as good as it can be.
        Profile::Throughput => each(seen, SILENT, "adaptive, or 8 us or more", |text| {
            text == "adaptive" || microseconds(text).is_some_and(|us| us >= COALESCING_US_MAX)
        }),
        Profile::Latency | Profile::Ci => {
            let wanted = format!("{COALESCING_US_MAX} us or less, not adaptive");
            each(seen, SILENT, &wanted, |text| microseconds(text).is_some_and(|us| us <= COALESCING_US_MAX))
        }
    }
}

fn microseconds(text: &str) -> Option<u64> {
    text.strip_suffix(" us")?.parse().ok()
}

fn offloads(host: &Host) -> Finding {
    let seen = told(host, |host, nic| {
        let said = group(host, nic, "features")?;
        let mut wrong = Vec::new();
        for (name, wanted) in OFFLOADS {
            let Some(state) = said.get(name) else { continue };
            let (on, free) = switch(nic, name, state)?;
            // What the NIC cannot do is not asked of it.
            if free && on != (wanted == "on") {
                wrong.push(format!("{name} {state}"));
            }
        }
        Ok(if wrong.is_empty() { "as wanted".to_string() } else { wrong.join(", ") })
    });
    each(seen, SILENT, "gro, gso and tso on, lro off, where it has them", |text| text == "as wanted")
}

/// The table has a queue for each remainder of a packet's hash.
fn spreading(host: &Host) -> Finding {
    let seen = told(host, |host, nic| {
        let said = group(host, nic, "spreading")?;
        let table = need(nic, &said, "table")?;
        let mut shares: BTreeMap<u64, u64> = BTreeMap::new();
        for word in table.split_whitespace() {
            let queue = word.parse().map_err(|_| Unknown::because(format!("the table of {} is none", nic.name)))?;
            *shares.entry(queue).or_default() += 1;
        }
        let (most, least) = (shares.values().max(), shares.values().min());
        let even = most.zip(least).is_some_and(|(most, least)| most - least <= 1);
        Ok(match even {
            true => format!("evenly to {} queues", shares.len()),
            false => {
                let (queue, share) = shares.iter().max_by_key(|(_, share)| **share).map_or((0, 0), |(q, s)| (*q, *s));
                format!("{share} of {} entries to queue {queue}", shares.values().sum::<u64>())
            }
        })
    });
    each(seen, SILENT, "evenly", |text| text.starts_with("evenly"))
}
