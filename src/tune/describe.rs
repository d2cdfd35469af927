//! A host as a text of facts and chosen values, in TOML: what is told to others of it, and what differs between two of them.

use super::check::Host;
use super::drivers;
use super::placement::Interrupts;
use super::plan::Plan;
use super::topology::{Drive, Nic};
use std::collections::BTreeSet;

/// The version of the text. A table or key that goes or changes its meaning makes it the next.
pub const SCHEMA: u32 = 1;

/// Facts of the host, where penstock runs on it, and what `plan` would set.
pub fn text(host: &Host, plan: &Plan) -> String {
    let topology = host.topology;
    let mut out = format!("schema = {SCHEMA}\nprofile = {}\n\n[host]\n", quoted(host.profile.name()));
    out += &known("cpu", cpu(host).as_deref());
    let numbers = |numbers: &[usize]| {
        let all: Vec<String> = numbers.iter().map(usize::to_string).collect();
        format!("[{}]", all.join(", "))
    };
    let (cores, threads) = (topology.physical_cores().len(), topology.threads.len());
    out += &format!("cores = {cores}\nthreads = {threads}\noffline = {}\n", numbers(&topology.offline));
    for node in &topology.nodes {
        out += &format!("\n[[node]]\nnumber = {}\nthreads = {}\n", node.number, numbers(&node.cores));
        let distances: Vec<usize> = node.distances.iter().map(|distance| *distance as usize).collect();
        out += &format!("distances = {}\n", numbers(&distances));
        out += &node.memory_bytes.map_or(String::new(), |bytes| format!("memory_bytes = {bytes}\n"));
    }
    topology.nics.iter().for_each(|each| out += &(nic(each) + &driver(host, each)));
    topology.drives.iter().for_each(|each| out += &drive(host, each));
    let workers: Vec<usize> = host.placement.workers.iter().map(|worker| worker.core).collect();
    let companions: Vec<usize> = host.placement.workers.iter().map(|worker| worker.companion).collect();
    out += &format!("\n[placement]\nworkers = {}\ncompanions = {}\n", numbers(&workers), numbers(&companions));
    // Empty: beside workers.
    let kept = match &host.placement.interrupts {
        Interrupts::Beside => &[][..],
        Interrupts::Away(kept) => kept,
    };
    out += &format!("housekeeping = {}\ninterrupts = {}\n", numbers(&host.placement.housekeeping), numbers(kept));
    out += "\n[values]\n";
    let mut told = BTreeSet::new();
    for value in &plan.values {
        // Numbers of interrupts are given anew at each start of a host.
        let path = value.knob.interrupt.as_ref().map_or(value.knob.path.clone(), |name| format!("interrupt {name}"));
        // A key may be there once, and two devices may call their interrupts the same.
        if told.insert(path.clone()) {
            out += &format!("{} = {}\n", quoted(&path), quoted(&value.knob.value));
        }
    }
    out
}

fn cpu(host: &Host) -> Option<String> {
    let text = host.root.text("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_string())
}

fn nic(nic: &Nic) -> String {
    let mut out = format!("\n[[nic]]\nname = {}\nup = {}\n", quoted(&nic.name), nic.up);
    out += &known("driver", nic.driver.as_deref());
    out += &nic.node.map_or(String::new(), |node| format!("node = {node}\n"));
    out += &nic.megabits.map_or(String::new(), |megabits| format!("megabits = {megabits}\n"));
    out += &format!("receive_queues = {}\ntransmit_queues = {}\n", nic.receive_queues, nic.transmit_queues);
    let lower: Vec<String> = nic.lower.iter().map(|name| quoted(name)).collect();
    if lower.is_empty() { out } else { out + &format!("over = [{}]\n", lower.join(", ")) }
}

/// What the driver says, a table for each group.
fn driver(host: &Host, nic: &Nic) -> String {
    let mut out = String::new();
    for group in drivers::GROUPS.iter().filter(|_| nic.driver.is_some()) {
        let mut said = host.root.driver_group(&nic.name, group).unwrap_or_default();
        said.retain(|name, _| *group != "features" || drivers::FEATURES.contains(&name.as_str()));
        if !said.is_empty() {
            out += &format!("[nic.{group}]\n");
        }
        said.iter().for_each(|(name, value)| out += &format!("{} = {}\n", quoted(name), quoted(value)));
    }
    out
}

fn drive(host: &Host, drive: &Drive) -> String {
    let mut out = format!("\n[[drive]]\nname = {}\n", quoted(&drive.name));
    out += &known("model", drive.model.as_deref());
    out += &drive.node.map_or(String::new(), |node| format!("node = {node}\n"));
    out += &format!("queues = {}\n", drive.queues.len());
    let queue = format!("/sys/block/{}/queue", drive.name);
    out += &known("write_cache", host.root.text(&format!("{queue}/write_cache")).ok().as_deref());
    if let Ok(bytes) = host.root.number(&format!("{queue}/physical_block_size")) {
        out += &format!("physical_block_bytes = {bytes}\n");
    }
    out
}

/// A line for what is known; none for what is not.
fn known(name: &str, value: Option<&str>) -> String {
    value.map_or(String::new(), |value| format!("{name} = {}\n", quoted(value)))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "\\\"".to_string(),
        '\\' => "\\\\".to_string(),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a \"b\" \\ \n é"), "\"a \\\"b\\\" \\\\ \\u000A é\"");
    }
}
