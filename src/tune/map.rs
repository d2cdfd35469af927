//! The host and the placement as text.

use super::cores::show;
use super::placement::{Interrupts, Placement};
use super::topology::{Interrupt, Node, Topology};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The whole map.
pub fn text(topology: &Topology, placement: &Placement) -> String {
    let mut out = String::new();
    let (nodes, cores, threads) = (topology.nodes.len(), topology.physical_cores().len(), topology.threads.len());
    line(
        &mut out,
        &format!("host: {}, {}, {}", counted(nodes, "node"), counted(cores, "core"), counted(threads, "thread")),
    );
    if !topology.offline.is_empty() {
        line(&mut out, &format!("offline: {}", show(&topology.offline)));
    }
    if topology.allowed.len() < threads {
        line(&mut out, &format!("this process may use: {}", some(&topology.allowed)));
    }
    for node in &topology.nodes {
        show_node(&mut out, topology, placement, node);
    }
    let homeless = topology.threads.iter().filter(|thread| thread.node.is_none());
    let homeless: Vec<usize> = homeless.map(|thread| thread.number).collect();
    if !homeless.is_empty() {
        line(&mut out, &format!("at no known node: {}", show(&homeless)));
    }
    show_nics(&mut out, topology);
    show_drives(&mut out, topology);
    show_placement(&mut out, placement);
    if !topology.unknown.is_empty() {
        line(&mut out, "not known");
        topology.unknown.iter().for_each(|why| line(&mut out, &format!("  {why}")));
    }
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("a string takes what is written");
}

fn show_node(out: &mut String, topology: &Topology, placement: &Placement, node: &Node) {
    let memory = node.memory_bytes.map_or(String::new(), |bytes| format!(", {}", gib(bytes)));
    let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
    let distances = if distances.is_empty() { String::new() } else { format!(", distances {}", distances.join(" ")) };
    line(out, &format!("node {}: threads {}{memory}{distances}", node.number, some(&node.cores)));
    // Caches of one core stand in no list: they are the core's own.
    for cache in &topology.caches {
        let cores = topology.thread(cache.shared.first().copied().unwrap_or(0)).map_or(1, |first| first.siblings.len());
        if cache.shared.len() > cores && cache.shared.first().is_some_and(|core| node.cores.contains(core)) {
            line(out, &format!("  L{} {}: {}", cache.level, kib(cache.kib), show(&cache.shared)));
        }
    }
    for siblings in topology.physical_cores().iter().filter(|core| node.cores.contains(&core[0])) {
        let threads: Vec<String> = siblings.iter().map(|core| format!("{core} {}", role(*core, placement))).collect();
        line(out, &format!("  core {}", threads.join(", ")));
    }
}

/// What runs on a thread.
pub fn role(core: usize, placement: &Placement) -> String {
    let worker = placement.workers.iter().position(|worker| worker.core == core);
    let companions = placement.workers.iter().enumerate().filter(|(_, worker)| worker.companion == core);
    let companions: Vec<usize> = companions.map(|(index, _)| index).collect();
    let kept = matches!(&placement.interrupts, Interrupts::Away(kept) if kept.contains(&core));
    match (worker, companions.is_empty()) {
        (Some(index), true) => format!("worker {index}"),
        (Some(index), false) => format!("worker {index} and its companion"),
        (None, false) if kept => format!("companion of {}, interrupts", show(&companions)),
        (None, false) => format!("companion of {}", show(&companions)),
        (None, true) if kept => "interrupts".to_string(),
        (None, true) if placement.housekeeping.contains(&core) => "housekeeping".to_string(),
        (None, true) => "not ours".to_string(),
    }
}

fn show_nics(out: &mut String, topology: &Topology) {
    // What has no hardware, neither its own nor below it, leads nowhere.
    for nic in topology.nics.iter().filter(|nic| nic.driver.is_some() || !nic.lower.is_empty()) {
        let driver = nic.driver.as_deref().unwrap_or("no hardware");
        let address = nic.address.as_deref().map_or(String::new(), |address| format!(" {address}"));
        let speed = nic.megabits.map_or("speed unknown".to_string(), |megabits| match megabits % 1000 {
            0 => format!("{} Gb/s", megabits / 1000),
            _ => format!("{megabits} Mb/s"),
        });
        let state = if nic.up { "up" } else { "not up" };
        let (receive, transmit) = (nic.receive_queues, nic.transmit_queues);
        let node = at_node(nic.node);
        line(out, &format!("nic {}: {driver}{address}, {node}, {speed}, {state}", nic.name));
        line(out, &format!("  queues: {receive} receive, {transmit} transmit"));
        if !nic.lower.is_empty() {
            line(out, &format!("  over: {}", nic.lower.join(" ")));
        }
        show_interrupts(out, &nic.interrupts);
    }
}

fn show_drives(out: &mut String, topology: &Topology) {
    for drive in &topology.drives {
        let model = drive.model.as_deref().unwrap_or("model unknown");
        let address = drive.address.as_deref().map_or(String::new(), |address| format!(" at {address}"));
        line(out, &format!("drive {}: {model}{address}, {}", drive.name, at_node(drive.node)));
        let cores: Vec<String> = drive.queues.iter().map(|cores| some(cores)).collect();
        if !cores.is_empty() {
            line(out, &format!("  {}, of cores: {}", counted(cores.len(), "queue"), cores.join(" | ")));
        }
        show_interrupts(out, &drive.interrupts);
    }
}

fn show_interrupts(out: &mut String, interrupts: &[Interrupt]) {
    for interrupt in interrupts {
        let Interrupt { number, label, cores } = interrupt;
        line(out, &format!("  irq {number} {label}: {}", if cores.is_empty() { "?".to_string() } else { show(cores) }));
    }
}

fn show_placement(out: &mut String, placement: &Placement) {
    line(out, "placement");
    for (index, worker) in placement.workers.iter().enumerate() {
        let (core, companion, node) = (worker.core, worker.companion, at_node(worker.node));
        line(out, &format!("  worker {index}: core {core}, {node}; companion on {companion}"));
    }
    line(out, &format!("  housekeeping: {}", some(&placement.housekeeping)));
    let kept = match &placement.interrupts {
        Interrupts::Beside => "beside workers".to_string(),
        Interrupts::Away(kept) => show(&kept.iter().copied().collect::<BTreeSet<usize>>()),
    };
    if !placement.workers.is_empty() {
        line(out, &format!("  interrupts: {kept}"));
    }
    placement.reasons.iter().for_each(|reason| line(out, &format!("  {reason}")));
}

pub fn at_node(node: Option<usize>) -> String {
    node.map_or("node unknown".to_string(), |node| format!("node {node}"))
}

pub fn some(cores: &[usize]) -> String {
    if cores.is_empty() { "none".to_string() } else { show(cores) }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

fn kib(kib: u64) -> String {
    if kib.is_multiple_of(1024) { format!("{} MiB", kib / 1024) } else { format!("{kib} KiB") }
}
