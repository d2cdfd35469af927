//! What drivers of NICs can be told without harm, and what of it somebody has to ask for.

use super::super::check::{COALESCING_US_MAX, Host, OFFLOADS, Profile, RING_LEAST};
use super::super::drivers::Place;
use super::super::topology::Nic;
use super::{Knob, Lasts, Mend};
use std::collections::BTreeMap;

/// NICs that are up and have hardware behind them, with what their drivers say of a group.
fn told<'a>(host: &'a Host, group: &'a str) -> impl Iterator<Item = (&'a Nic, BTreeMap<String, String>)> {
    let real = host.topology.nics.iter().filter(|nic| nic.driver.is_some() && nic.up);
    real.filter_map(move |nic| Some((nic, host.root.driver_group(&nic.name, group).ok()?)))
}

fn knob(nic: &Nic, group: &str, name: &str, value: impl Into<String>) -> Knob {
    Knob::new(Place { nic: &nic.name, group, name }.path(), value, Lasts::Boot)
}

fn number(said: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    said.get(name)?.parse().ok()
}

/// A queue for each worker, at the NIC that data comes in by.
pub fn channels(host: &Host) -> Mend {
    let mut mend = Mend::default();
    let workers = host.placement.workers.len() as u64;
    let Some(nic) = host.topology.main_nic() else { return mend };
    let said = host.root.driver_group(&nic.name, "channels").unwrap_or_default();
    match number(&said, "combined-max") {
        None | Some(0) => mend.left.push(format!("the driver of {} does not tell how many queues it has", nic.name)),
        Some(most) => {
            if most < workers {
                mend.left.push(format!("{} has {most} queues at most, for {workers} workers", nic.name));
            }
            mend.knobs.push(knob(nic, "channels", "combined", workers.min(most).to_string()));
        }
    }
    mend
}

pub fn rings(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for (nic, said) in told(host, "rings") {
        let Some(most) = number(&said, "rx-max") else { continue };
        let wanted = match host.profile {
            Profile::Throughput => most,
            Profile::Latency | Profile::Ci => most.min(2 * RING_LEAST),
        };
        mend.knobs.push(knob(nic, "rings", "rx", wanted.to_string()));
    }
    mend
}

pub fn coalescing(host: &Host) -> Mend {
    let mut mend = Mend::default();
    let adaptive = if host.profile == Profile::Throughput { "on" } else { "off" };
    for (nic, said) in told(host, "coalesce") {
        if said.contains_key("adaptive-rx") {
            mend.knobs.push(knob(nic, "coalesce", "adaptive-rx", adaptive));
        }
        let now = number(&said, "rx-usecs");
        let wrong = match host.profile {
            Profile::Throughput => !said.contains_key("adaptive-rx") && now.is_some_and(|us| us < COALESCING_US_MAX),
            Profile::Latency | Profile::Ci => now.is_some_and(|us| us > COALESCING_US_MAX),
        };
        if wrong {
            mend.knobs.push(knob(nic, "coalesce", "rx-usecs", COALESCING_US_MAX.to_string()));
        }
    }
    mend
}

pub fn offloads(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for (nic, said) in told(host, "features") {
        for (name, wanted) in OFFLOADS {
            // What is fixed has another word, and stays.
            if said.get(name).is_some_and(|state| ["on", "off"].contains(&state.as_str())) {
                mend.knobs.push(knob(nic, "features", name, wanted));
            }
        }
    }
    mend
}

pub fn filters(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for (nic, said) in told(host, "features") {
        match said.get("rx-ntuple-filter").map(String::as_str) {
            Some("on" | "off") => mend.knobs.push(knob(nic, "features", "rx-ntuple-filter", "on")),
            Some("fixed off") => mend.left.push(format!("{} has none", nic.name)),
            _ => {}
        }
    }
    mend
}
