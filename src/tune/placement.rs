//! Which thread runs where: workers on the NIC's node first, one for each physical core; companions on siblings of their workers, or on what
//! is left for housekeeping.

use super::topology::Topology;
use std::collections::BTreeSet;

/// From this many physical cores on, one is left for everything else.
const HOUSEKEEPING_FROM: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub workers: Vec<Worker>,
    /// Threads that this process may use, without worker and companion.
    pub housekeeping: Vec<usize>,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub core: usize,
    pub companion: usize,
    pub node: Option<usize>,
}

/// What penstock would use of this host.
pub fn place(topology: &Topology) -> Placement {
    let mut reasons = Vec::new();
    let mut cores = one_of_each(topology);
    let nic = topology.main_nic();
    match nic.and_then(|nic| Some((nic, nic.node?))) {
        Some((nic, node)) => {
            let far = |core: &usize| match topology.thread(*core).and_then(|thread| thread.node) {
                Some(other) => topology.distance(node, other),
                None => u32::MAX,
            };
            cores.sort_by_key(|core| (far(core), *core));
            reasons.push(format!("{} is at node {node}, so its cores come first", nic.name));
        }
        None if topology.nodes.len() > 1 => reasons.push(match nic {
            Some(nic) => format!("the node of {} is not known, so cores come in their order", nic.name),
            None => "no NIC is up that has hardware behind it, so cores come in their order".to_string(),
        }),
        None => {}
    }
    if cores.len() >= HOUSEKEEPING_FROM {
        let left = cores.pop().expect("there are five or more");
        reasons.push(format!("core {left}, the last, is left for housekeeping: there are {} others", cores.len()));
    }
    let workers = workers(topology, &cores);
    let taken = |core: &&usize| workers.iter().all(|worker| worker.core != **core && worker.companion != **core);
    let housekeeping = topology.allowed.iter().filter(taken).copied().collect();
    if !topology.threads.is_empty() && topology.allowed.len() < topology.threads.len() {
        let (some, all) = (topology.allowed.len(), topology.threads.len());
        reasons.push(format!("this process may use {some} of {all} threads"));
    }
    Placement { workers, housekeeping, reasons }
}

/// The first thread of each physical core that this process may use.
fn one_of_each(topology: &Topology) -> Vec<usize> {
    let mut taken = BTreeSet::new();
    let mut cores = Vec::new();
    for core in &topology.allowed {
        if !taken.contains(core) {
            cores.push(*core);
            taken.extend(topology.thread(*core).map_or(vec![*core], |thread| thread.siblings.clone()));
        }
    }
    cores
}

fn workers(topology: &Topology, cores: &[usize]) -> Vec<Worker> {
    let companions = companions(topology, cores);
    let place = |(core, companion): (&usize, usize)| Worker {
        core: *core,
        companion,
        node: topology.thread(*core).and_then(|thread| thread.node),
    };
    cores.iter().zip(companions).map(place).collect()
}

/// Where the companion of the worker on each of `workers` runs: on a core without a worker, its sibling if possible, else beside its worker.
pub fn companions(topology: &Topology, workers: &[usize]) -> Vec<usize> {
    let mut idle: BTreeSet<usize> = topology.allowed.iter().copied().collect();
    workers.iter().for_each(|core| _ = idle.remove(core));
    let place = |core: &usize| {
        let siblings = topology.thread(*core).map_or(&[][..], |thread| &thread.siblings);
        let sibling = siblings.iter().find(|other| idle.contains(other)).copied();
        sibling.or_else(|| idle.last().copied()).unwrap_or(*core)
    };
    workers.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::topology::{Nic, Node, Thread};
    use super::*;

    /// `nodes` of `cores` physical cores each, with two threads a core, and a NIC at node 1.
    fn host(nodes: usize, cores: usize) -> Topology {
        let all = nodes * cores;
        let node = |number: usize| Node {
            number,
            cores: (0..2 * all).filter(|core| core % all / cores == number).collect(),
            memory_bytes: None,
            distances: (0..nodes).map(|other| if other == number { 10 } else { 21 }).collect(),
        };
        let thread = |number: usize| Thread {
            number,
            node: Some(number % all / cores),
            siblings: vec![number % all, number % all + all],
        };
        let nic = Nic {
            name: "eth0".into(),
            driver: Some("mlx5_core".into()),
            address: None,
            node: Some(1),
            megabits: Some(25_000),
            up: true,
            receive_queues: 1,
            transmit_queues: 1,
            interrupts: Vec::new(),
            lower: Vec::new(),
        };
        Topology {
            nodes: (0..nodes).map(node).collect(),
            threads: (0..2 * all).map(thread).collect(),
            allowed: (0..2 * all).collect(),
            nics: vec![nic],
            ..Topology::default()
        }
    }

    fn cores(placement: &Placement) -> Vec<usize> {
        placement.workers.iter().map(|worker| worker.core).collect()
    }

    #[test]
    fn the_node_of_the_nic_comes_first_and_the_last_core_of_the_others_keeps_house() {
        let placement = place(&host(2, 4));
        assert_eq!(cores(&placement), [4, 5, 6, 7, 0, 1, 2]);
        assert_eq!(placement.workers[0].companion, 12);
        assert_eq!(placement.housekeeping, [3, 11]);
    }

    #[test]
    fn one_thread_of_each_core_works_where_there_are_few() {
        let mut few = host(1, 4);
        few.allowed = vec![1, 2, 5, 6];
        let placement = place(&few);
        assert_eq!(cores(&placement), [1, 2]);
        assert_eq!(placement.workers[1].companion, 6);
        few.allowed = vec![7];
        let placement = place(&few);
        assert_eq!((cores(&placement), placement.workers[0].companion), (vec![7], 7));
    }

    #[test]
    fn nothing_known_places_nothing() {
        assert_eq!(place(&Topology::default()).workers, []);
    }
}
