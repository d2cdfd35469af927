//! Which thread runs where: workers on the NIC's node first, one for each physical core; companions on siblings of their workers, or on what
//! is left for housekeeping. And where interrupts that carry packets belong, which the profile decides.

use super::check::Profile;
use super::cores::show;
use super::topology::{Thread, Topology};
use std::collections::BTreeSet;

/// From this many physical cores on, one is left for everything else.
const HOUSEKEEPING_FROM: usize = 5;
/// For latency one physical core of this many is left, as interrupts go there as well.
const CORES_FOR_ONE_LEFT: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub workers: Vec<Worker>,
    /// Threads that this process may use, without worker and companion.
    pub housekeeping: Vec<usize>,
    pub interrupts: Interrupts,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub core: usize,
    pub companion: usize,
    pub node: Option<usize>,
}

/// Where interrupts that carry packets belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupts {
    /// On the other thread of a worker's core, where there is one.
    Beside,
    /// On these threads, of physical cores without a worker: one of each core first, then their siblings. Never empty.
    Away(Vec<usize>),
}

/// What penstock would use of this host.
pub fn place(topology: &Topology, profile: Profile) -> Placement {
    let mut reasons = Vec::new();
    let mut cores = one_of_each(topology);
    near_first(topology, &mut cores, &mut reasons);
    if cores.len() >= HOUSEKEEPING_FROM {
        reasons.push(leave(topology, profile, &mut cores));
    }
    let (interrupts, why) = interrupts(topology, profile, &cores);
    reasons.extend(why);
    let workers = workers(topology, &cores);
    let taken = |core: &&usize| workers.iter().all(|worker| worker.core != **core && worker.companion != **core);
    let housekeeping = topology.allowed.iter().filter(taken).copied().collect();
    if !topology.threads.is_empty() && topology.allowed.len() < topology.threads.len() {
        let (some, all) = (topology.allowed.len(), topology.threads.len());
        reasons.push(format!("this process may use {some} of {all} threads"));
    }
    Placement { workers, housekeeping, interrupts, reasons }
}

/// Sorts cores by how far they are from the NIC's node, where that is known.
fn near_first(topology: &Topology, cores: &mut [usize], reasons: &mut Vec<String>) {
    let nic = topology.main_nic();
    match nic.and_then(|nic| Some((nic, nic.node?))) {
        Some((nic, node)) => {
            cores.sort_by_key(|core| (far(topology, node, *core), *core));
            reasons.push(format!("{} is at node {node}, so its cores come first", nic.name));
        }
        None if topology.nodes.len() > 1 => reasons.push(match nic {
            Some(nic) => format!("the node of {} is not known, so cores come in their order", nic.name),
            None => "no NIC is up that has hardware behind it, so cores come in their order".to_string(),
        }),
        None => {}
    }
}

/// From a node to a thread's.
fn far(topology: &Topology, node: usize, thread: usize) -> u32 {
    let other = topology.thread(thread).and_then(|thread| thread.node);
    other.map_or(u32::MAX, |other| topology.distance(node, other))
}

/// Takes what is left for housekeeping out of `cores`, which are five or more, the NIC's node first; says what that is.
fn leave(topology: &Topology, profile: Profile, cores: &mut Vec<usize>) -> String {
    if profile != Profile::Latency {
        let left = cores.pop().expect("there are five or more");
        return format!("core {left}, the last, is left for housekeeping: there are {} others", cores.len());
    }
    let count = (cores.len() / CORES_FOR_ONE_LEFT).max(1);
    // Where interrupts are near; but half of that node stays for workers, which want to be near as well.
    let near = near(topology, cores);
    let there = count.min((near / 2).max(1)).min(near);
    let mut left: Vec<usize> = cores.drain(near - there..near).collect();
    left.extend(cores.split_off(cores.len() - (count - there)));
    left.sort_unstable();
    let (them, others) = (show(&left), cores.len());
    let them = if count == 1 { format!("core {them} is") } else { format!("cores {them} are") };
    let each = if count == 1 { String::new() } else { format!(", one for each {CORES_FOR_ONE_LEFT}") };
    let place = match (topology.nodes.len(), there, count - there) {
        (0 | 1, _, _) => String::new(),
        (_, _, 0) => ", at the NIC's node".to_string(),
        (_, 0, _) => String::new(),
        (_, _, elsewhere) => format!(", {there} at the NIC's node and {elsewhere} of those that are farthest from it"),
    };
    format!("{them} left for housekeeping and interrupts{each}{place}: there are {others} others")
}

/// How many of `cores`, which are sorted, are at the NIC's node.
fn near(topology: &Topology, cores: &[usize]) -> usize {
    if topology.nodes.len() <= 1 {
        return cores.len();
    }
    let node = topology.main_nic().and_then(|nic| nic.node);
    let there = |core: &&usize| node.is_some() && topology.thread(**core).and_then(|thread| thread.node) == node;
    cores.iter().take_while(there).count()
}

/// Where interrupts belong if `workers` are on these cores, and why.
pub fn interrupts(topology: &Topology, profile: Profile, workers: &[usize]) -> (Interrupts, Option<String>) {
    if workers.is_empty() {
        return (Interrupts::Beside, None);
    }
    let beside = "interrupts of NICs go beside workers, on the other thread of a core where there is one";
    if profile != Profile::Latency {
        return (Interrupts::Beside, Some(format!("{beside}, for {}", profile.name())));
    }
    let free = |thread: &&usize| siblings(topology, thread).iter().all(|other| !workers.contains(other));
    let mut away: Vec<usize> = topology.allowed.iter().filter(free).copied().collect();
    away.sort_by_key(|thread| (siblings(topology, thread).iter().position(|other| other == thread), *thread));
    match away.is_empty() {
        true => (Interrupts::Beside, Some(format!("no core without a worker is left, so {beside}, as for throughput"))),
        false => {
            let rising: BTreeSet<usize> = away.iter().copied().collect();
            let why = format!("interrupts of NICs go to {}, on cores without a worker, for latency", show(&rising));
            (Interrupts::Away(away), Some(why))
        }
    }
}

/// Threads of the same physical core, itself among them.
fn siblings<'a>(topology: &'a Topology, thread: &'a usize) -> &'a [usize] {
    topology.thread(*thread).map_or(std::slice::from_ref(thread), |thread| &thread.siblings)
}

impl Placement {
    /// Threads for the interrupts of a NIC at `node`, in the order in which its queues take them. Beside workers: at that node the other thread of
    /// each worker's core, then what else is there, cores of workers last. Away from them: those of the nearest node that has any.
    pub fn interrupts_at(&self, topology: &Topology, node: Option<usize>) -> Vec<usize> {
        match (&self.interrupts, node) {
            (Interrupts::Beside, _) => self.beside(topology, node),
            (Interrupts::Away(away), Some(node)) if topology.nodes.len() > 1 => {
                let distance = |thread: &usize| far(topology, node, *thread);
                let nearest = away.iter().map(distance).min();
                away.iter().filter(|thread| Some(distance(thread)) == nearest).copied().collect()
            }
            (Interrupts::Away(away), _) => away.clone(),
        }
    }

    fn beside(&self, topology: &Topology, node: Option<usize>) -> Vec<usize> {
        let near = |thread: &&Thread| match topology.nodes.len() {
            0 | 1 => true,
            _ => node.is_some() && thread.node == node,
        };
        let near: Vec<&Thread> = topology.threads.iter().filter(near).collect();
        let works = |core: &usize| self.workers.iter().any(|worker| worker.core == *core);
        let beside = |core: usize| {
            let thread = near.iter().find(|thread| thread.number == core)?;
            Some(thread.siblings.iter().copied().find(|other| !works(other)).unwrap_or(core))
        };
        let mut threads: Vec<usize> = Vec::new();
        let free = near.iter().map(|thread| thread.number).filter(|core| !works(core));
        let last = near.iter().map(|thread| thread.number);
        for thread in self.workers.iter().filter_map(|worker| beside(worker.core)).chain(free).chain(last) {
            if !threads.contains(&thread) {
                threads.push(thread);
            }
        }
        threads
    }
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
        let sibling = siblings(topology, core).iter().find(|other| idle.contains(other)).copied();
        sibling.or_else(|| idle.last().copied()).unwrap_or(*core)
    };
    workers.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::topology::{Nic, Node};
    use super::*;

    /// `nodes` of `cores` physical cores each, with as many threads a core, and a NIC at the second node, if there is one.
    fn host(nodes: usize, cores: usize, threads: usize) -> Topology {
        let all = nodes * cores;
        let node = |number: usize| Node {
            number,
            cores: (0..threads * all).filter(|core| core % all / cores == number).collect(),
            memory_bytes: None,
            distances: (0..nodes).map(|other| if other == number { 10 } else { 21 }).collect(),
        };
        let thread = |number: usize| Thread {
            number,
            node: Some(number % all / cores),
            siblings: (0..threads).map(|sibling| number % all + sibling * all).collect(),
        };
        let nic = Nic {
            name: "eth0".into(),
            driver: Some("mlx5_core".into()),
            address: None,
            node: Some(1.min(nodes - 1)),
            megabits: Some(25_000),
            up: true,
            receive_queues: 1,
            transmit_queues: 1,
            interrupts: Vec::new(),
            lower: Vec::new(),
        };
        Topology {
            nodes: (0..nodes).map(node).collect(),
            threads: (0..threads * all).map(thread).collect(),
            allowed: (0..threads * all).collect(),
            nics: vec![nic],
            ..Topology::default()
        }
    }

    fn cores(placement: &Placement) -> Vec<usize> {
        placement.workers.iter().map(|worker| worker.core).collect()
    }

    fn said(placement: &Placement, words: &str) -> bool {
        placement.reasons.iter().any(|reason| reason.contains(words))
    }

    #[test]
    fn the_node_of_the_nic_comes_first_and_the_last_core_of_the_others_keeps_house() {
        for profile in [Profile::Throughput, Profile::Ci] {
            let topology = host(2, 4, 2);
            let placement = place(&topology, profile);
            assert_eq!(cores(&placement), [4, 5, 6, 7, 0, 1, 2]);
            assert_eq!(placement.workers[0].companion, 12);
            assert_eq!(placement.housekeeping, [3, 11]);
            assert_eq!(placement.interrupts, Interrupts::Beside);
            assert_eq!(placement.interrupts_at(&topology, Some(1))[..5], [12, 13, 14, 15, 4]);
            assert_eq!(placement.interrupts_at(&topology, Some(0)), [8, 9, 10, 3, 11, 0, 1, 2]);
            assert!(placement.interrupts_at(&topology, None).is_empty());
            assert!(said(
                &placement,
                &format!("beside workers, on the other thread of a core where there is one, for {}", profile.name())
            ));
        }
    }

    #[test]
    fn for_latency_a_core_at_the_nic_s_node_is_for_interrupts() {
        let topology = host(2, 4, 2);
        let placement = place(&topology, Profile::Latency);
        assert_eq!(cores(&placement), [4, 5, 6, 0, 1, 2, 3]);
        assert_eq!(
            (&placement.housekeeping[..], &placement.interrupts),
            (&[7, 15][..], &Interrupts::Away(vec![7, 15]))
        );
        for node in [Some(1), Some(0), None] {
            assert_eq!(placement.interrupts_at(&topology, node), [7, 15], "{node:?}: there are no others");
        }
        assert!(said(&placement, "core 7 is left for housekeeping and interrupts, at the NIC's node"));
        assert!(said(&placement, "interrupts of NICs go to 7,15, on cores without a worker, for latency"));
    }

    #[test]
    fn for_latency_one_core_of_eight_is_for_interrupts_but_half_of_a_node_is_for_workers() {
        let topology = host(2, 16, 2);
        let placement = place(&topology, Profile::Latency);
        assert_eq!(placement.workers.len(), 28);
        assert_eq!(placement.interrupts, Interrupts::Away(vec![28, 29, 30, 31, 60, 61, 62, 63]));
        let topology = host(8, 4, 2);
        let placement = place(&topology, Profile::Latency);
        assert_eq!(cores(&placement)[..3], [4, 5, 0], "half of the node is left to the workers");
        assert_eq!(placement.interrupts_at(&topology, Some(1)), [6, 7, 38, 39]);
        assert_eq!(placement.interrupts_at(&topology, Some(7)), [30, 31, 62, 63]);
        assert_eq!(placement.interrupts_at(&topology, Some(3)), [6, 7, 30, 31, 38, 39, 62, 63], "all are as far");
        assert!(said(&placement, "one for each 8, 2 at the NIC's node and 2 of those that are farthest"));
    }

    /// Neighbours in number may be threads of one core: the first queues get cores of their own all the same.
    #[test]
    fn interrupts_take_one_thread_of_each_core_first() {
        let mut topology = host(1, 16, 2);
        topology.threads.iter_mut().for_each(|thread| {
            thread.siblings = vec![thread.number & !1, thread.number | 1];
        });
        assert_eq!(place(&topology, Profile::Latency).interrupts, Interrupts::Away(vec![28, 30, 29, 31]));
    }

    #[test]
    fn where_a_core_has_one_thread_companions_share_what_is_left_with_interrupts() {
        let topology = host(1, 16, 1);
        let placement = place(&topology, Profile::Latency);
        assert_eq!(cores(&placement), (0..14).collect::<Vec<_>>());
        assert_eq!(placement.interrupts, Interrupts::Away(vec![14, 15]));
        assert_eq!((placement.workers[0].companion, &placement.housekeeping[..]), (15, &[14][..]));
        let placement = place(&topology, Profile::Throughput);
        assert_eq!(placement.interrupts_at(&topology, Some(0))[..2], [0, 1], "a worker's own, as it has no sibling");
    }

    #[test]
    fn where_no_core_is_left_latency_does_as_throughput_and_says_so() {
        for topology in [host(1, 4, 2), host(1, 4, 1), host(2, 2, 2)] {
            let (latency, throughput) = (place(&topology, Profile::Latency), place(&topology, Profile::Throughput));
            assert_eq!((&latency.workers, latency.workers.len()), (&throughput.workers, 4));
            assert_eq!(latency.interrupts, Interrupts::Beside);
            assert!(said(&latency, "no core without a worker is left") && said(&latency, "as for throughput"));
        }
        let topology = host(2, 4, 2);
        let all: Vec<usize> = (0..8).collect();
        assert_eq!(interrupts(&topology, Profile::Latency, &all).0, Interrupts::Beside);
        assert_eq!(interrupts(&topology, Profile::Latency, &all[1..]).0, Interrupts::Away(vec![0, 8]));
        assert_eq!(interrupts(&topology, Profile::Throughput, &all[1..]).0, Interrupts::Beside);
        assert_eq!(interrupts(&topology, Profile::Latency, &[]), (Interrupts::Beside, None));
    }

    #[test]
    fn what_is_not_ours_is_given_to_no_interrupt_for_latency() {
        let mut topology = host(2, 8, 2);
        topology.allowed = vec![0, 1, 2, 3, 4, 16, 17];
        let placement = place(&topology, Profile::Latency);
        assert_eq!(cores(&placement), [0, 1, 2, 3]);
        assert_eq!(placement.interrupts, Interrupts::Away(vec![4]), "20 is its sibling, and not ours");
        topology.allowed = vec![0, 1, 2, 14, 15, 30, 31];
        let placement = place(&topology, Profile::Latency);
        assert_eq!(cores(&placement), [14, 0, 1, 2]);
        assert_eq!(placement.interrupts, Interrupts::Away(vec![15, 31]));
        topology.allowed = vec![0, 1, 2, 3];
        assert_eq!(place(&topology, Profile::Latency).interrupts, Interrupts::Beside);
    }

    #[test]
    fn one_thread_of_each_core_works_where_there_are_few() {
        let mut few = host(1, 4, 2);
        few.allowed = vec![1, 2, 5, 6];
        let placement = place(&few, Profile::Throughput);
        assert_eq!(cores(&placement), [1, 2]);
        assert_eq!(placement.workers[1].companion, 6);
        few.allowed = vec![7];
        let placement = place(&few, Profile::Throughput);
        assert_eq!((cores(&placement), placement.workers[0].companion), (vec![7], 7));
    }

    #[test]
    fn nothing_known_places_nothing() {
        for profile in [Profile::Latency, Profile::Throughput, Profile::Ci] {
            let placement = place(&Topology::default(), profile);
            assert_eq!((placement.workers, placement.reasons), (Vec::new(), Vec::new()));
        }
    }
}
