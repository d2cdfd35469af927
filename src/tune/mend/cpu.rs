//! Clock speed, sleep, and who else runs on the cores.

use super::super::check::{Host, Profile};
use super::super::cores::{mask, show};
use super::{Form, Knob, Lasts, Later, Mend, knobs, left};

const CPU: &str = "/sys/devices/system/cpu";
/// A core may sleep this deep, as for the check.
const WAKE_US_MAX: i64 = 3;

pub fn governor(host: &Host) -> Mend {
    policies(host, "scaling_governor", "scaling_available_governors")
}

pub fn energy_preference(host: &Host) -> Mend {
    policies(host, "energy_performance_preference", "energy_performance_available_preferences")
}

/// `performance` for every policy whose driver offers it.
fn policies(host: &Host, file: &str, offers: &str) -> Mend {
    let mut mend = Mend::default();
    for number in host.root.numbered(&format!("{CPU}/cpufreq"), "policy").unwrap_or_default() {
        let directory = format!("{CPU}/cpufreq/policy{number}");
        match host.root.text(&format!("{directory}/{offers}")) {
            Ok(offered) if !offered.split_whitespace().any(|name| name == "performance") => {
                mend.left.push(format!("policy{number} does not offer performance, only {offered}"));
            }
            // Where it is not said, the kernel refuses what it does not have.
            _ => mend.knobs.push(Knob::new(format!("{directory}/{file}"), "performance", Lasts::Boot)),
        }
    }
    mend
}

pub fn clock_floor(_: &Host) -> Mend {
    knobs([Knob::new(format!("{CPU}/intel_pstate/min_perf_pct"), "100", Lasts::Boot)])
}

pub fn turbo(host: &Host) -> Mend {
    let on = host.profile != Profile::Ci;
    let (boost, pstate) = (format!("{CPU}/cpufreq/boost"), format!("{CPU}/intel_pstate/no_turbo"));
    // One of the two is there, and they count the other way round.
    let (path, one) = if host.root.exists(&boost) { (boost, on) } else { (pstate, !on) };
    knobs([Knob::new(path, if one { "1" } else { "0" }, Lasts::Boot)])
}

pub fn sleep_states(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for core in host.waited_for() {
        let directory = format!("{CPU}/cpu{core}/cpuidle");
        for state in host.root.numbered(&directory, "state").unwrap_or_default() {
            let deep = host.root.number(&format!("{directory}/state{state}/latency")).is_ok_and(|us| us > WAKE_US_MAX);
            if deep {
                mend.knobs.push(Knob::new(format!("{directory}/state{state}/disable"), "1", Lasts::Boot));
            }
        }
    }
    mend
}

pub fn isolation(host: &Host) -> Mend {
    let mut workers = host.worker_cores();
    workers.sort_unstable();
    let physical = host.topology.physical_cores();
    if !physical.iter().any(|threads| !threads.iter().any(|thread| workers.contains(thread))) {
        return left(
            "every core has a worker, so none would be left for the rest of the host; serve with fewer --cores",
        );
    }
    let cores = show(&workers);
    let arguments = [
        Later::Argument("isolcpus", format!("managed_irq,domain,{cores}")),
        Later::Argument("nohz_full", cores.clone()),
        Later::Argument("rcu_nocbs", cores.clone()),
    ];
    at_boot(host, arguments)
}

pub fn sleep_limit(host: &Host) -> Mend {
    at_boot(host, [Later::Argument("intel_idle.max_cstate", "1".to_string())])
}

/// Arguments of the kernel, where its boot loader takes them from files of their own.
fn at_boot<const COUNT: usize>(host: &Host, arguments: [Later; COUNT]) -> Mend {
    if host.root.exists("/etc/default/grub.d") {
        return Mend { later: arguments.into(), ..Mend::default() };
    }
    let words = arguments.iter().filter_map(|argument| match argument {
        Later::Argument(name, value) => Some(format!("{name}={value}")),
        _ => None,
    });
    left(format!(
        "this host's boot loader does not take settings from /etc/default/grub.d; boot with {}",
        words.collect::<Vec<_>>().join(" ")
    ))
}

pub fn workqueues(host: &Host) -> Mend {
    let workers = host.worker_cores();
    let others = host.topology.threads.iter().map(|thread| thread.number).filter(|core| !workers.contains(core));
    let others: Vec<usize> = others.collect();
    match others.is_empty() {
        true => left("every core has a worker, so none would be left for kernel workers; serve with fewer --cores"),
        false => {
            let path = "/sys/devices/virtual/workqueue/cpumask";
            knobs([Knob { form: Form::Mask, ..Knob::new(path, mask(&others), Lasts::Boot) }])
        }
    }
}

pub fn clock_source(host: &Host) -> Mend {
    let directory = "/sys/devices/system/clocksource/clocksource0";
    match host.root.text(&format!("{directory}/available_clocksource")) {
        // The kernel lists it only as long as it holds it for stable.
        Ok(offered) if offered.split_whitespace().any(|name| name == "tsc") => {
            knobs([Knob::new(format!("{directory}/current_clocksource"), "tsc", Lasts::Boot)])
        }
        Ok(offered) => left(format!("the kernel does not offer tsc, only {offered}")),
        Err(why) => left(why.why),
    }
}
