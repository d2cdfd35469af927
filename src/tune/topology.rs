//! What a host is made of, as far as it bears on where threads run.

/// A host. What could not be found out is in `unknown`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Topology {
    pub nodes: Vec<Node>,
    /// Threads that are online, by number.
    pub threads: Vec<Thread>,
    pub offline: Vec<usize>,
    /// Threads that this process may use.
    pub allowed: Vec<usize>,
    pub caches: Vec<Cache>,
    pub nics: Vec<Nic>,
    pub drives: Vec<Drive>,
    pub unknown: Vec<String>,
}

/// A NUMA node: memory, and the threads beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub number: usize,
    pub cores: Vec<usize>,
    pub memory_bytes: Option<u64>,
    /// To every node, in the order of their numbers.
    pub distances: Vec<u32>,
}

/// What the kernel calls a CPU. `--cores` counts in these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub number: usize,
    pub node: Option<usize>,
    /// Threads of the same physical core, itself among them.
    pub siblings: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    pub level: u32,
    pub kind: String,
    pub kib: u64,
    pub shared: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub driver: Option<String>,
    /// Of the bus that it is on, as in 0000:3b:00.0.
    pub address: Option<String>,
    pub node: Option<usize>,
    pub megabits: Option<u64>,
    pub up: bool,
    pub receive_queues: usize,
    pub transmit_queues: usize,
    pub interrupts: Vec<Interrupt>,
    /// Of a bond or a VLAN: the interfaces that carry it.
    pub lower: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    pub name: String,
    pub model: Option<String>,
    pub address: Option<String>,
    pub node: Option<usize>,
    /// The cores that submit to each of its queues.
    pub queues: Vec<Vec<usize>>,
    pub interrupts: Vec<Interrupt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupt {
    pub number: usize,
    pub label: String,
    /// Where it is delivered, or may be, where the kernel does not say more. Empty: unknown.
    pub cores: Vec<usize>,
}

impl Topology {
    pub fn thread(&self, number: usize) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.number == number)
    }

    pub fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.iter().find(|node| node.number == number)
    }

    /// One list of threads for each physical core.
    pub fn physical_cores(&self) -> Vec<&[usize]> {
        let first = |thread: &&Thread| thread.siblings.first() == Some(&thread.number);
        self.threads.iter().filter(first).map(|thread| thread.siblings.as_slice()).collect()
    }

    /// The interface that data comes in by: with hardware behind it, up, the fastest; of equal ones the first.
    pub fn main_nic(&self) -> Option<&Nic> {
        // The largest is the last of equal ones, so they are asked from the last to the first.
        let real = self.nics.iter().rev().filter(|nic| nic.driver.is_some() && nic.up);
        real.max_by_key(|nic| nic.megabits.unwrap_or(0))
    }

    /// From node `from` to node `to`: as the firmware says, or far.
    pub fn distance(&self, from: usize, to: usize) -> u32 {
        let place = self.nodes.iter().position(|node| node.number == to);
        let distance = self.node(from).zip(place).and_then(|(node, place)| node.distances.get(place));
        distance.copied().unwrap_or(if from == to { 0 } else { u32::MAX })
    }
}
