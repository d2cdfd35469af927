//! Clock speed, sleep, and who else runs on the cores.

use super::super::cores::{parse, parse_mask};
use super::super::group::group;
use super::super::map::some;
use super::super::root::Unknown;
use super::judge::{absent, each, files, listed, met, number, plain, processes, unknown, unmet, verdict};
use super::{Check, FAIL, Finding, Host, INFO, JITTER, Persist, Profile, Status, TAIL, WARN};
use std::collections::BTreeMap;

const CPU: &str = "/sys/devices/system/cpu";
/// A core may sleep this deep.
const WAKE_US_MAX: i64 = 3;

pub const CHECKS: &[Check] = &[
    Check {
        id: "governor",
        severity: WARN,
        judge: |host| policies(host, "scaling_governor", "performance"),
        why: "other governors raise the clock only after load has come",
        mend: "cpupower frequency-set -g performance",
        persist: Persist::Systemd,
        risk: "more power",
    },
    Check {
        id: "energy-preference",
        severity: JITTER,
        judge: |host| policies(host, "energy_performance_preference", "performance"),
        why: "a CPU that chooses its own clock saves power at the cost of the first requests",
        mend: "cpupower set --epp performance",
        persist: Persist::Systemd,
        risk: "more power",
    },
    Check {
        id: "clock-floor",
        severity: TAIL,
        judge: |host| match host.root.exists(&format!("{CPU}/intel_pstate")) {
            true => number(host, &format!("{CPU}/intel_pstate/min_perf_pct"), "100", |percent| percent == 100),
            false => without_cpufreq(host, "no intel_pstate", "100"),
        },
        why: "an idle core that has slowed down takes its time to be fast again",
        mend: "echo 100 > /sys/devices/system/cpu/intel_pstate/min_perf_pct",
        persist: Persist::Systemd,
        risk: "more power",
    },
    Check {
        id: "turbo",
        severity: [Status::Info, Status::Info, Status::Warn],
        judge: turbo,
        why: "turbo adds capacity, and makes two runs differ",
        mend: "echo 0 (off) or 1 (on) > /sys/devices/system/cpu/cpufreq/boost; with intel_pstate 1 or 0 > intel_pstate/no_turbo",
        persist: Persist::Systemd,
        risk: "off: less throughput",
    },
    Check {
        id: "sleep-states",
        severity: TAIL,
        judge: sleep_states,
        why: "a core in a deep sleep needs up to hundreds of microseconds to wake",
        mend: "hold /dev/cpu_dma_latency open with 3, or write 1 to cpuidle/stateN/disable of the deeper states",
        persist: Persist::Systemd,
        risk: "heat, and less turbo for other cores",
    },
    Check {
        id: "sleep-limit",
        severity: INFO,
        judge: |host| match host.root.exists("/sys/module/intel_idle") || !host.root.exists("/sys/module") {
            true => {
                let path = "/sys/module/intel_idle/parameters/max_cstate";
                number(host, path, "0 or 1", |state| (0..=1).contains(&state))
            }
            false => absent("the kernel has no intel_idle", "0 or 1"),
        },
        why: "what sleep-states wants holds from when its unit has run, and this from the start of the kernel, for every core",
        mend: "boot with intel_idle.max_cstate=1",
        persist: Persist::KernelCommandLine,
        risk: "heat, and hardly any turbo",
    },
    Check {
        id: "isolation",
        severity: TAIL,
        judge: isolated,
        why: "the scheduler, its tick and interrupts that the kernel places take turns on the cores of workers",
        mend: "boot with isolcpus=managed_irq,domain,CORES nohz_full=CORES rcu_nocbs=CORES",
        persist: Persist::KernelCommandLine,
        risk: "nothing else may use these cores",
    },
    Check {
        id: "workqueues",
        severity: TAIL,
        judge: workqueues,
        why: "kernel workers interrupt the workers of penstock",
        mend: "write a mask without the cores of workers to /sys/devices/virtual/workqueue/cpumask",
        persist: Persist::Systemd,
        risk: "low",
    },
    Check {
        id: "worker-cores",
        severity: WARN,
        judge: worker_cores,
        why: "workers that share a core, or wander over several, wait for each other and find their data in no cache",
        mend: "look what has moved them (taskset, cpuset of a container); serve with --cores, one thread of each core",
        persist: Persist::Systemd,
        risk: "none",
    },
    Check {
        id: "hard-lockup-watchdog",
        severity: TAIL,
        judge: |host| number(host, "/proc/sys/kernel/nmi_watchdog", "0", |on| on == 0),
        why: "it interrupts every core, and takes a performance counter",
        mend: "sysctl -w kernel.nmi_watchdog=0",
        persist: Persist::Sysctl,
        risk: "a hard lock-up leaves no trace",
    },
    Check {
        id: "timer-migration",
        severity: TAIL,
        judge: |host| number(host, "/proc/sys/kernel/timer_migration", "0", |on| on == 0),
        why: "timers of idle cores move to the busy ones, which are the workers'",
        mend: "sysctl -w kernel.timer_migration=0",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "statistics-interval",
        severity: TAIL,
        judge: |host| number(host, "/proc/sys/vm/stat_interval", "10 or more", |seconds| seconds >= 10),
        why: "counters of the memory are gathered on every core that often",
        mend: "sysctl -w vm.stat_interval=10",
        persist: Persist::Sysctl,
        risk: "low",
    },
    Check {
        id: "cpu-quota",
        severity: FAIL,
        judge: |host| match group(host.root, "cpu").quota(host.root) {
            Ok(text) => verdict(text.starts_with("max"), text, "max"),
            Err(why) => root_group(host, why, "max"),
        },
        why: "whoever has used up a quota stands still for the rest of a tenth of a second",
        mend: "remove CPUQuota= of the unit, or the CPU limit of the container",
        persist: Persist::Systemd,
        risk: "penstock may use whole cores",
    },
    Check {
        id: "cpu-throttled",
        severity: WARN,
        judge: throttled,
        why: "this group has been stopped for its quota",
        mend: "as for cpu-quota",
        persist: Persist::Systemd,
        risk: "penstock may use whole cores",
    },
    Check {
        id: "stolen-time",
        severity: WARN,
        judge: stolen,
        why: "the hypervisor gives the cores to others, so no figure of this host holds",
        mend: "ask for dedicated cores, or take a host of one's own",
        persist: Persist::Nothing,
        risk: "none",
    },
    Check {
        id: "machine",
        severity: INFO,
        judge: machine,
        why: "a figure holds for one machine with one firmware, and under a hypervisor for what else runs on it as well",
        mend: "note both beside each figure, and the firmware's settings: power profile, threads of a core, nodes of a socket",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "other-load",
        severity: [Status::Info, Status::Info, Status::Warn],
        judge: other_load,
        why: "what else runs takes its turn on cores and drives, and no two runs are the same",
        mend: "stop what else runs (top, systemctl list-timers), or wait for it",
        persist: Persist::Nothing,
        risk: "none",
    },
    Check {
        id: "sha-instructions",
        severity: WARN,
        judge: |host| instructions(host, &["sha_ni", "aes"]),
        why: "every body that is signed is hashed, and TLS encrypts every byte",
        mend: "take a CPU that has them (Intel since Ice Lake, AMD since Zen), or show them to the guest",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "overheated",
        severity: WARN,
        judge: overheated,
        why: "a CPU that gets too hot slows down without a word",
        mend: "look after fans, air and the power profile of the firmware; the count is since the start of the host",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "mitigations",
        severity: INFO,
        judge: mitigations,
        why: "what guards against faults of the CPU makes system calls dearer; figures are compared only with it stated",
        mend: "a newer microcode or kernel; penstock never advises to turn a mitigation off",
        persist: Persist::Nothing,
        risk: "none",
    },
];

fn without_cpufreq(host: &Host, none: &str, wanted: &str) -> Finding {
    match host.root.numbered(CPU, "cpu") {
        Ok(cores) if cores.is_empty() => unknown(format!("{CPU} shows no core"), wanted),
        Ok(_) => absent(none, wanted),
        Err(why) => unknown(why, wanted),
    }
}

/// A file of every frequency policy.
fn policies(host: &Host, file: &str, wanted: &str) -> Finding {
    let root = host.root;
    let policies = root.numbered(&format!("{CPU}/cpufreq"), "policy").unwrap_or_default();
    let path = |number: &usize| format!("{CPU}/cpufreq/policy{number}/{file}");
    if !policies.iter().any(|number| root.exists(&path(number))) {
        return without_cpufreq(host, "the kernel does not set it here", wanted);
    }
    let policies = policies.iter().map(|number| (format!("policy{number}"), path(number)));
    each(files(root, policies), "no policies", wanted, |value| value == wanted)
}

fn turbo(host: &Host) -> Finding {
    let boost = host.root.number(&format!("{CPU}/cpufreq/boost")).map(|on| on == 1);
    let on = boost.or_else(|_| host.root.number(&format!("{CPU}/intel_pstate/no_turbo")).map(|off| off == 0));
    let name = |on: bool| if on { "on" } else { "off" };
    let wanted = host.profile != Profile::Ci;
    match on {
        Ok(on) => verdict(on == wanted, name(on), name(wanted)),
        Err(why) if !why.missing => unknown(why, name(wanted)),
        Err(_) => without_cpufreq(host, "the kernel does not set it here", name(wanted)),
    }
}

fn sleep_states(host: &Host) -> Finding {
    let wanted = format!("no state that takes more than {WAKE_US_MAX} us to leave");
    let mut deep = Vec::new();
    let mut seen = false;
    for core in host.waited_for() {
        let directory = format!("{CPU}/cpu{core}/cpuidle");
        for state in host.root.numbered(&directory, "state").unwrap_or_default() {
            let latency = host.root.number(&format!("{directory}/state{state}/latency"));
            let disabled = host.root.number(&format!("{directory}/state{state}/disable"));
            match (latency, disabled) {
                (Ok(latency), Ok(0)) if latency > WAKE_US_MAX => deep.push((core, latency)),
                (Ok(_), Ok(_)) => {}
                (Err(why), _) | (_, Err(why)) => return unknown(why, wanted),
            }
            seen = true;
        }
    }
    match deep.iter().map(|(_, latency)| latency).max() {
        Some(worst) => {
            let mut cores: Vec<usize> = deep.iter().map(|(core, _)| *core).collect();
            cores.dedup();
            verdict(false, format!("up to {worst} us on cores {}", some(&cores)), wanted)
        }
        None if seen => met("none", wanted),
        None => without_cpufreq(host, "the kernel puts no core to sleep here", &wanted),
    }
}

/// Of the scheduler, of its tick, and of interrupts that the kernel places itself. With `nohz_full` the kernel moves its callbacks away as well,
/// so `rcu_nocbs` need not be there.
fn isolated(host: &Host) -> Finding {
    let workers = sorted(&host.worker_cores());
    if workers.is_empty() {
        return unknown("no core for a worker is known", "all cores of workers");
    }
    let wanted = format!("cores {} of workers, without their tick and managed interrupts", some(&workers));
    let read = |file: &str| match host.root.text(&format!("{CPU}/{file}")) {
        // The kernel writes an empty line, or that there is no such set.
        Err(why) if why.empty => Ok(Vec::new()),
        Ok(text) if text == "(null)" => Ok(Vec::new()),
        // A kernel that cannot stop the tick has no such file.
        Err(why) if why.missing && file == "nohz_full" => Ok(Vec::new()),
        _ => host.root.cores(&format!("{CPU}/{file}")),
    };
    let arguments = host.root.text("/proc/cmdline");
    match read("isolated").and_then(|isolated| Ok((isolated, read("nohz_full")?))) {
        Ok((isolated, _)) if isolated.is_empty() => unmet("none", wanted),
        Ok((isolated, quiet)) => {
            let arguments = match arguments {
                Ok(arguments) => arguments,
                Err(why) => return unknown(why, wanted),
            };
            let mut managed = arguments.split_whitespace().filter_map(|word| word.strip_prefix("isolcpus="));
            let managed = managed.next_back().is_some_and(|value| value.split(',').any(|word| word == "managed_irq"));
            let all = |cores: &[usize]| workers.iter().all(|core| cores.contains(core));
            let tick = if all(&quiet) { "" } else { ", with their tick" };
            let interrupts = if managed { "" } else { ", with managed interrupts" };
            let good = all(&isolated) && all(&quiet) && managed;
            verdict(good, format!("{}{tick}{interrupts}", some(&isolated)), wanted)
        }
        Err(why) => unknown(why, wanted),
    }
}

/// Threads of servers that run here: that each has one core, and no two the same, or threads of the same.
fn worker_cores(host: &Host) -> Finding {
    let wanted = "a core of its own for each worker";
    let servers = match processes(host, &["penstock"]) {
        Ok(servers) => servers,
        Err(why) => return unknown(why, wanted),
    };
    let (mut taken, mut count, mut bad): (BTreeMap<usize, String>, _, _) = (BTreeMap::new(), 0, Vec::new());
    for (server, _) in servers {
        let tasks = format!("/proc/{server}/task");
        for task in host.root.names(&tasks).unwrap_or_default() {
            // A thread that ends meanwhile is none that matters.
            let Ok(name) = host.root.text(&format!("{tasks}/{task}/comm")) else { continue };
            if !name.starts_with("worker-") {
                continue;
            }
            let cores = match allowed(host, &format!("{tasks}/{task}/status")) {
                Ok(cores) => cores,
                Err(why) => return unknown(why, wanted),
            };
            let name = format!("{} of process {server}", plain(&name));
            count += 1;
            let [core] = cores[..] else {
                bad.push(format!("{name} on {}", some(&cores)));
                continue;
            };
            let first = host.topology.thread(core).and_then(|thread| thread.siblings.first().copied());
            if let Some(other) = taken.insert(first.unwrap_or(core), name.clone()) {
                bad.push(format!("{other} and {name} on one core"));
            }
        }
    }
    match (count, bad.is_empty()) {
        (0, _) => absent("no server runs here", wanted),
        (_, true) => met(format!("{count} workers on {count} cores"), wanted),
        (_, false) => unmet(listed(&bad), wanted),
    }
}

fn allowed(host: &Host, path: &str) -> Result<Vec<usize>, Unknown> {
    let text = host.root.text(path)?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cores = list.map(|list| parse(list.trim()));
    cores.and_then(Result::ok).ok_or_else(|| Unknown::because(format!("{path} has no list of cores")))
}

fn sorted(cores: &[usize]) -> Vec<usize> {
    let mut cores = cores.to_vec();
    cores.sort_unstable();
    cores
}

fn workqueues(host: &Host) -> Finding {
    let path = "/sys/devices/virtual/workqueue/cpumask";
    let workers = sorted(&host.worker_cores());
    if workers.is_empty() {
        return unknown("no core for a worker is known", "none of the workers' cores");
    }
    let wanted = format!("none of cores {}", some(&workers));
    let cores = host.root.text(path).map_err(|why| why.why);
    match cores.and_then(|mask| parse_mask(&mask).map_err(|why| format!("{path}: {why}"))) {
        Ok(cores) => verdict(!workers.iter().any(|core| cores.contains(core)), some(&cores), wanted),
        Err(why) => unknown(why, wanted),
    }
}

/// The root of all groups has no limits and no files for them.
fn root_group(host: &Host, why: Unknown, wanted: &str) -> Finding {
    let root =
        why.missing && host.root.text("/proc/self/cgroup").is_ok_and(|text| text.lines().any(|line| line == "0::/"));
    match root && host.root.exists("/sys/fs/cgroup/cgroup.controllers") {
        true => met("no limits: the root of all groups", wanted),
        false => unknown(why, wanted),
    }
}

fn throttled(host: &Host) -> Finding {
    let text = match group(host.root, "cpu").text(host.root, "cpu.stat", "cpu.stat") {
        Ok(text) => text,
        Err(why) => return unknown(why, "0"),
    };
    let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).map(str::trim);
    match count.map(str::parse::<u64>) {
        Some(Ok(count)) => verdict(count == 0, format!("{count} times"), "0"),
        Some(Err(_)) => unknown("nr_throttled of cpu.stat is no number", "0"),
        None => absent("this group has no quota to exceed", "0"),
    }
}

fn stolen(host: &Host) -> Finding {
    let wanted = "below 0.1 % since the start";
    let text = match host.root.text("/proc/stat") {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let ticks = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks =
        ticks.map(|line| line.split_whitespace().map_while(|word| word.parse::<u64>().ok()).collect::<Vec<_>>());
    match ticks.filter(|ticks| ticks.len() >= 8) {
        Some(ticks) => {
            // User, nice, system, idle, waiting, interrupts, soft interrupts, stolen; what follows is counted in these.
            let all = ticks[..8].iter().fold(0u64, |sum, ticks| sum.saturating_add(*ticks)).max(1);
            let percent = ticks[7] as f64 * 100.0 / all as f64;
            verdict(percent < 0.1, format!("{percent:.2} %"), wanted)
        }
        None => unknown("/proc/stat has no line of all CPUs", wanted),
    }
}

fn machine(host: &Host) -> Finding {
    let wanted = "a machine of one's own, whose name and firmware are told";
    let text = match host.root.text("/proc/cpuinfo") {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let flags = text.lines().find(|line| line.starts_with("flags")).and_then(|line| line.split_once(':'));
    let Some((_, flags)) = flags else { return unknown("/proc/cpuinfo has no flags", wanted) };
    let told = |file: &str| host.root.text(&format!("/sys/class/dmi/id/{file}")).map(|text| plain(&text));
    let (name, firmware) = (told("product_name"), told("bios_version"));
    if flags.split_whitespace().any(|flag| flag == "hypervisor") {
        return unmet(format!("virtual: {}", name.unwrap_or("without a name".to_string())), wanted);
    }
    match (name, firmware) {
        (Ok(name), Ok(firmware)) => met(format!("{name}, firmware {firmware}"), wanted),
        (Err(why), _) | (_, Err(why)) => unknown(why, wanted),
    }
}

/// Threads that ran or waited in the last minute, against those that could run: a run of penstock counts as well.
fn other_load(host: &Host) -> Finding {
    let (path, threads) = ("/proc/loadavg", host.topology.threads.len());
    let wanted = "below a twentieth of the threads in the last minute";
    let text = match host.root.text(path) {
        Ok(text) if threads > 0 => text,
        Ok(_) => return unknown("no thread of this host is known", wanted),
        Err(why) => return unknown(why, wanted),
    };
    let load = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    match load.filter(|load| load.is_finite() && *load >= 0.0) {
        Some(load) => verdict(load * 20.0 < threads as f64, format!("{load:.2} of {threads}"), wanted),
        None => unknown(format!("{path} holds no number"), wanted),
    }
}

fn instructions(host: &Host, needed: &[&str]) -> Finding {
    let wanted = needed.join(" and ");
    let text = match host.root.text("/proc/cpuinfo") {
        Ok(text) => text,
        Err(why) => return unknown(why, wanted),
    };
    let flags = text.lines().find(|line| line.starts_with("flags")).and_then(|line| line.split_once(':'));
    let Some((_, flags)) = flags else { return unknown("/proc/cpuinfo has no flags", wanted) };
    let lacks = |name: &&&str| !flags.split_whitespace().any(|flag| flag == **name);
    let lacking: Vec<String> = needed.iter().filter(lacks).map(|name| name.to_string()).collect();
    match lacking.is_empty() {
        true => met("there", wanted),
        false => verdict(false, format!("without {}", lacking.join(" and ")), wanted),
    }
}

fn overheated(host: &Host) -> Finding {
    let path = |core: &usize| format!("{CPU}/cpu{core}/thermal_throttle/core_throttle_count");
    let cores: Vec<usize> = host.topology.threads.iter().map(|thread| thread.number).collect();
    if !cores.iter().any(|core| host.root.exists(&path(core))) {
        return without_cpufreq(host, "this CPU does not count it", "0");
    }
    let cores = cores.iter().map(|core| (format!("cpu{core}"), path(core)));
    each(files(host.root, cores), "no cores", "0", |count| count == "0")
}

fn mitigations(host: &Host) -> Finding {
    let (path, wanted) = (format!("{CPU}/vulnerabilities"), "nothing vulnerable");
    let names = match host.root.names(&path) {
        Ok(names) => names,
        Err(why) => return unknown(why, wanted),
    };
    if names.is_empty() {
        return absent("this kernel lists none", wanted);
    }
    let mut open = Vec::new();
    for name in &names {
        match host.root.text(&format!("{path}/{name}")) {
            Ok(text) if text.starts_with("Vulnerable") => open.push(name.clone()),
            Ok(_) => {}
            Err(why) => return unknown(why, wanted),
        }
    }
    match open.is_empty() {
        true => met(format!("{} faults, none open", names.len()), wanted),
        false => verdict(false, format!("vulnerable: {}", listed(&open)), wanted),
    }
}
