//! Memory, drives and NICs.

use super::super::check::{Host, REQUEST_KIB, SOCKET_BYTES_MIN, interrupts_as_wanted, packet_interrupts, requests};
use super::super::cores::mask;
use super::super::placement::Interrupts;
use super::{Form, Knob, Lasts, Mend, knobs};

pub fn pcie_power_saving(_: &Host) -> Mend {
    knobs([Knob::new("/sys/module/pcie_aspm/parameters/policy", "performance", Lasts::Boot)])
}

pub fn hugepages(_: &Host) -> Mend {
    knobs([Knob::new("/sys/kernel/mm/transparent_hugepage/enabled", "madvise", Lasts::Boot)])
}

pub fn defragmentation(_: &Host) -> Mend {
    knobs([Knob::new("/sys/kernel/mm/transparent_hugepage/defrag", "defer+madvise", Lasts::Boot)])
}

/// Names of drives of virtual machines, which call themselves turning whatever they are.
const VIRTUAL: &[&str] = &["vd", "xvd"];

fn turns(host: &Host, drive: &str) -> bool {
    let says = host.root.number(&format!("/sys/block/{drive}/queue/rotational")).is_ok_and(|turns| turns == 1);
    says && !VIRTUAL.iter().any(|name| drive.starts_with(name))
}

/// A file of the queue of every drive that has it. A drive that turns is left as it is: it profits from order.
pub fn queues(host: &Host, file: &str, value: &str) -> Mend {
    let mut mend = Mend::default();
    for drive in &host.topology.drives {
        let queue = format!("/sys/block/{}/queue", drive.name);
        let Ok(text) = host.root.text(&format!("{queue}/{file}")) else { continue };
        let offered = |text: &str| text.split_whitespace().any(|word| word.trim_matches(['[', ']']) == value);
        if turns(host, &drive.name) {
            mend.left.push(format!("{} turns, and profits from being asked in order", drive.name));
        } else if file == "scheduler" && !offered(&text) {
            mend.left.push(format!("{} does not offer {value}, only {text}", drive.name));
        } else {
            mend.knobs.push(Knob::new(format!("{queue}/{file}"), value, Lasts::Udev));
        }
    }
    mend
}

/// Larger requests, for drives that take them.
pub fn request_size(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for drive in &host.topology.drives {
        let queue = format!("/sys/block/{}/queue", drive.name);
        let read = |file: &str| host.root.number(&format!("{queue}/{file}"));
        let (Ok(now), Ok(most)) = (read("max_sectors_kb"), read("max_hw_sectors_kb")) else { continue };
        let wanted = most.min(REQUEST_KIB);
        if now < wanted {
            mend.knobs.push(Knob::new(format!("{queue}/max_sectors_kb"), wanted.to_string(), Lasts::Udev));
        }
    }
    mend
}

/// As many requests at once as the largest commit has, for drives that take them.
pub fn request_queue(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for drive in &host.topology.drives {
        match requests(host.root, &drive.name) {
            Ok((now, least)) if now < least && turns(host, &drive.name) => {
                mend.left
                    .push(format!("{} turns, and somebody has chosen how much is put in order at once", drive.name));
            }
            Ok((now, least)) if now < least => {
                let path = format!("/sys/block/{}/queue/nr_requests", drive.name);
                mend.knobs.push(Knob::new(path, least.to_string(), Lasts::Udev));
            }
            _ => {}
        }
    }
    mend
}

/// What programs may ask for at most; what is more already stays.
pub fn socket_bounds(host: &Host) -> Mend {
    let paths = ["rmem_max", "wmem_max"].map(|name| format!("/proc/sys/net/core/{name}"));
    let small = |path: &String| host.root.number(path).is_ok_and(|bytes| bytes < SOCKET_BYTES_MIN as i64);
    knobs(paths.into_iter().filter(small).map(|path| Knob::new(path, SOCKET_BYTES_MIN.to_string(), Lasts::Sysctl)))
}

/// The largest size of a connection's buffers; the least, and what it begins with, stay.
pub fn socket_buffers(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for (name, most) in [("tcp_rmem", SOCKET_BYTES_MIN / 2 * 3), ("tcp_wmem", SOCKET_BYTES_MIN)] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        let Ok(text) = host.root.text(&path) else { continue };
        match text.split_whitespace().map(str::parse::<u64>).collect::<Result<Vec<u64>, _>>().as_deref() {
            Ok([least, first, now]) if *now < SOCKET_BYTES_MIN => {
                mend.knobs.push(Knob::new(path, format!("{least} {first} {most}"), Lasts::Sysctl));
            }
            Ok([_, _, _]) => {}
            _ => mend.left.push(format!("{path} does not hold three numbers")),
        }
    }
    mend
}

/// Each interrupt that carries packets to one core, as the placement says: of its own, or an even share of those that are kept for them.
pub fn interrupts(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for nic in host.topology.nics.iter().filter(|nic| nic.driver.is_some() && nic.up) {
        if interrupts_as_wanted(host, nic) != Some(false) {
            continue;
        }
        let (interrupts, cores) = (packet_interrupts(nic), host.placement.interrupts_at(host.topology, nic.node));
        if cores.is_empty() {
            mend.left.push(format!("no core of the node of {} is known", nic.name));
            continue;
        }
        if interrupts.len() > cores.len() && host.placement.interrupts == Interrupts::Beside {
            let (name, few) = (&nic.name, cores.len());
            let many = interrupts.len();
            mend.left.push(format!(
                "{name} has {many} queues for {few} cores of its node: ethtool -L {name} combined {few}"
            ));
        }
        for (interrupt, core) in interrupts.iter().zip(cores.iter().cycle()) {
            let path = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
            let knob = Knob::new(path, core.to_string(), Lasts::Boot);
            mend.knobs.push(Knob { interrupt: Some(interrupt.label.clone()), ..knob });
        }
    }
    mend
}

/// No queue passes packets on to another core.
pub fn receive_steering(host: &Host) -> Mend {
    let mut mend = Mend::default();
    for nic in host.topology.nics.iter().filter(|nic| nic.driver.is_some() && nic.up) {
        let directory = format!("/sys/class/net/{}/queues", nic.name);
        for queue in host.root.numbered(&directory, "rx-").unwrap_or_default() {
            let knob = Knob::new(format!("{directory}/rx-{queue}/rps_cpus"), "0", Lasts::Boot);
            mend.knobs.push(Knob { form: Form::Mask, ..knob });
        }
    }
    mend
}

/// Each core in the mask of one queue, workers first, so that as many of them as there are queues have one each.
pub fn transmit_steering(host: &Host) -> Mend {
    let mut cores = host.worker_cores();
    let others: Vec<usize> = host.topology.threads.iter().map(|thread| thread.number).collect();
    cores.extend(others.into_iter().filter(|core| !host.worker_cores().contains(core)));
    let mut mend = Mend::default();
    if cores.is_empty() {
        mend.left.push("no core is known".to_string());
        return mend;
    }
    for nic in host.topology.nics.iter().filter(|nic| nic.driver.is_some() && nic.up && nic.transmit_queues > 1) {
        let directory = format!("/sys/class/net/{}/queues", nic.name);
        let queues = host.root.numbered(&directory, "tx-").unwrap_or_default();
        let read = |queue: &usize| host.root.text(&format!("{directory}/tx-{queue}/xps_cpus"));
        let empty = |queue: &usize| read(queue).is_ok_and(|text| Form::Mask.same(&text, "0"));
        if !queues.iter().any(empty) {
            continue;
        }
        for (index, queue) in queues.iter().enumerate() {
            let own: Vec<usize> = cores.iter().skip(index).step_by(queues.len()).copied().collect();
            // More queues than cores: some cores have several.
            let own = if own.is_empty() { vec![cores[index % cores.len()]] } else { own };
            let knob = Knob::new(format!("{directory}/tx-{queue}/xps_cpus"), mask(&own), Lasts::Boot);
            mend.knobs.push(Knob { form: Form::Mask, ..knob });
        }
    }
    mend
}
