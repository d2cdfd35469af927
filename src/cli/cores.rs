//! Which cores the workers get, and their companions.

pub use crate::tune::cores::{parse, show};

use crate::tune::discover;
use crate::tune::placement::{companions, place};
use crate::tune::root::Root;
use crate::tune::topology::Topology;
use std::collections::BTreeSet;

/// What `serve` runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Of each worker.
    pub workers: Vec<usize>,
    /// Of the companion of each worker.
    pub companions: Vec<usize>,
    /// The NUMA node of each worker's core, where the kernel tells it.
    pub nodes: Vec<Option<u32>>,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
}

/// The cores for workers: those asked for, if this process may use them, else those of `penstock tune map`.
pub fn choose(asked: Option<Vec<usize>>) -> Result<Chosen, String> {
    let ours: BTreeSet<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    if ours.is_empty() {
        return Err("the kernel does not say which cores this process may use (sched_getaffinity)".to_string());
    }
    if let Some(core) = asked.iter().flatten().find(|core| !ours.contains(core)) {
        return Err(format!("--cores: core {core} is not among those that this process may use: {}", show(&ours)));
    }
    // Where /proc is hidden the kernel has still said this.
    let topology = Topology { allowed: ours.into_iter().collect(), ..discover::topology(&Root::host()) };
    let (workers, reasons) = match asked {
        Some(workers) => (workers, vec!["as --cores says".to_string()]),
        None => {
            let placement = place(&topology);
            let workers: Vec<usize> = placement.workers.iter().map(|worker| worker.core).collect();
            (workers, [vec!["one for each physical core".to_string()], placement.reasons].concat())
        }
    };
    let node = |core: &usize| topology.thread(*core)?.node?.try_into().ok();
    let nodes = workers.iter().map(node).collect();
    Ok(Chosen { companions: companions(&topology, &workers), nodes, workers, reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_ours_is_refused() {
        let error = choose(Some(vec![4000])).expect_err("nobody has as many");
        assert!(error.contains("core 4000"), "{error}");
    }

    #[test]
    fn the_default_is_cores_of_ours_each_with_a_companion() {
        let chosen = choose(None).expect("this process runs somewhere");
        assert!(!chosen.workers.is_empty() && chosen.companions.len() == chosen.workers.len());
        assert!(chosen.reasons[0].contains("physical core"), "{:?}", chosen.reasons);
        let asked = choose(Some(chosen.workers.clone())).expect("they are ours");
        assert_eq!(asked.reasons, ["as --cores says"]);
        assert_eq!(Chosen { reasons: chosen.reasons.clone(), ..asked }, chosen);
    }
}
