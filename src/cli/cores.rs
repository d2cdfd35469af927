//! Which cores the workers get, and their companions.

pub use crate::tune::cores::{parse, show};

use crate::tune::check::Profile;
use crate::tune::discover;
use crate::tune::placement::{companions, interrupts, place};
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

/// The cores for workers: those asked for, if this process may use them, else those of `penstock tune map`; `count`: how many workers, where not
/// one for each of these cores.
pub fn choose(asked: Option<Vec<usize>>, count: Option<usize>, profile: Profile) -> Result<Chosen, String> {
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
    let (cores, mut reasons) = match asked {
        Some(workers) => {
            let mut reasons = vec!["as --cores says".to_string()];
            reasons.extend(asked_interrupts(&topology, profile, &workers));
            (workers, reasons)
        }
        None => {
            let placement = place(&topology, profile);
            let workers: Vec<usize> = placement.workers.iter().map(|worker| worker.core).collect();
            (workers, [vec!["one for each physical core".to_string()], placement.reasons].concat())
        }
    };
    let workers = spread(&cores, count.unwrap_or(cores.len()), &mut reasons);
    let node = |core: &usize| topology.thread(*core)?.node?.try_into().ok();
    let nodes = workers.iter().map(node).collect();
    Ok(Chosen { companions: companions(&topology, &workers), nodes, workers, reasons })
}

/// Where interrupts belong for workers that were asked for, where the profile keeps them off. `tune` knows of no `--cores`, so what it would do may
/// be something else.
fn asked_interrupts(topology: &Topology, profile: Profile, workers: &[usize]) -> Option<String> {
    if profile != Profile::Latency {
        return None;
    }
    let (wanted, why) = interrupts(topology, profile, workers);
    match wanted == place(topology, profile).interrupts {
        true => why,
        false => why.map(|why| format!("{why}; `penstock tune` places them as without --cores, so do it by hand")),
    }
}

/// The core of each of `count` workers: the first ones, or, where there are more workers than cores, each core in turn.
fn spread(cores: &[usize], count: usize, reasons: &mut Vec<String>) -> Vec<usize> {
    if count < cores.len() {
        reasons.push(format!("the first {count} of {}, as --workers says", cores.len()));
    } else if count > cores.len() {
        reasons.push(format!(
            "{count} workers share them in turn, as --workers says: more than one on a core is slower, and takes memory for each"
        ));
    }
    cores.iter().copied().cycle().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_ours_is_refused() {
        let error = choose(Some(vec![4000]), None, Profile::Latency).expect_err("nobody has as many");
        assert!(error.contains("core 4000"), "{error}");
    }

    #[test]
    fn the_default_is_cores_of_ours_each_with_a_companion() {
        let chosen = choose(None, None, Profile::Throughput).expect("this process runs somewhere");
        assert!(!chosen.workers.is_empty() && chosen.companions.len() == chosen.workers.len());
        assert!(chosen.reasons[0].contains("physical core"), "{:?}", chosen.reasons);
        let asked = choose(Some(chosen.workers.clone()), None, Profile::Throughput).expect("they are ours");
        assert_eq!(asked.reasons, ["as --cores says"]);
        assert_eq!(Chosen { reasons: chosen.reasons.clone(), ..asked }, chosen);
    }

    #[test]
    fn latency_says_where_interrupts_go_and_that_tune_does_not_know_of_cores() {
        let topology = Topology { allowed: (0..8).collect(), ..Topology::default() };
        let said = |profile, cores: &[usize]| asked_interrupts(&topology, profile, cores).unwrap_or_default();
        let usual = said(Profile::Latency, &[0, 1, 2, 3, 4, 5, 6]);
        assert!(usual.contains("interrupts of NICs go to 7,") && !usual.contains("by hand"), "{usual}");
        let other = said(Profile::Latency, &[2, 3, 4, 5, 6, 7]);
        assert!(other.contains("interrupts of NICs go to 0-1,") && other.contains("by hand"), "{other}");
        let all = said(Profile::Latency, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(all.contains("no core without a worker is left") && all.contains("by hand"), "{all}");
        assert_eq!(said(Profile::Throughput, &[2, 3]), "");
    }

    #[test]
    fn workers_take_the_first_cores_or_share_them_in_turn() {
        let told = |cores: &[usize], count| {
            let mut reasons = Vec::new();
            (spread(cores, count, &mut reasons), reasons.join("; "))
        };
        assert_eq!(told(&[3, 5], 2), (vec![3, 5], String::new()));
        let (workers, why) = told(&[3, 5, 7], 2);
        assert_eq!(workers, [3, 5]);
        assert!(why.contains("first 2 of 3"), "{why}");
        let (workers, why) = told(&[3, 5], 5);
        assert_eq!(workers, [3, 5, 3, 5, 3]);
        assert!(why.contains("5 workers share them"), "{why}");
    }

    #[test]
    fn a_number_of_workers_goes_with_the_cores_asked_for() {
        let core = choose(None, None, Profile::Throughput).expect("this process runs somewhere").workers[0];
        let chosen = choose(Some(vec![core]), Some(3), Profile::Throughput).expect("it is ours");
        assert_eq!((chosen.workers, chosen.companions.len(), chosen.nodes.len()), (vec![core; 3], 3, 3));
    }
}
