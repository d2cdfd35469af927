//! Which cores the workers get.

use std::collections::BTreeSet;
use std::path::Path;

/// From this many physical cores on, one is left for everything else.
const HOUSEKEEPING_FROM: usize = 5;

/// Cores of `0,2-5`, rising, each once.
pub fn parse(text: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| {
        text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no core; cores are written as in 0,2-5"))
    };
    let mut cores = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last > 4096 {
            return Err(format!("{part:?} is no range of cores"));
        }
        cores.extend(first..=last);
    }
    Ok(cores.into_iter().collect())
}

/// The cores for workers: those asked for, if this process may use them, else one of each physical core, less one for housekeeping.
pub fn choose(asked: Option<Vec<usize>>) -> Result<Vec<usize>, String> {
    let ours: BTreeSet<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    if ours.is_empty() {
        return Err("the kernel does not say which cores this process may use (sched_getaffinity)".to_string());
    }
    match asked {
        Some(cores) => match cores.iter().find(|core| !ours.contains(core)) {
            Some(core) => {
                Err(format!("--cores: core {core} is not among those that this process may use: {}", show(&ours)))
            }
            None => Ok(cores),
        },
        None => Ok(default(&ours, &|core| siblings(core))),
    }
}

fn default(ours: &BTreeSet<usize>, siblings: &dyn Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let mut taken = BTreeSet::new();
    let mut cores = Vec::new();
    for core in ours {
        if !taken.contains(core) {
            cores.push(*core);
            taken.extend(siblings(*core));
        }
    }
    if cores.len() >= HOUSEKEEPING_FROM {
        cores.pop();
    }
    cores
}

/// The hyperthreads of the physical core of `core`, itself among them.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let listed = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
    parse(listed.trim()).unwrap_or_else(|_| vec![core])
}

/// Where the companion of the worker on `core` runs: on a core without a worker, its sibling if possible, else beside its worker.
pub fn for_companion(core: usize, workers: &[usize]) -> usize {
    let ours = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id);
    let idle: Vec<usize> = ours.filter(|other| !workers.contains(other)).collect();
    let sibling = siblings(core).into_iter().find(|other| idle.contains(other));
    sibling.or_else(|| idle.last().copied()).unwrap_or(core)
}

/// `0-3,6`.
pub fn show<'a>(cores: impl IntoIterator<Item = &'a usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => ranges.push((*core, *core)),
        }
    }
    let range =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_and_shown() {
        assert_eq!(parse("0,2-5"), Ok(vec![0, 2, 3, 4, 5]));
        assert_eq!(parse("3,1,1-2"), Ok(vec![1, 2, 3]));
        for text in ["", "a", "5-2", "1,,2", "0-99999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(show(&[0, 1, 2, 6, 8, 9]), "0-2,6,8-9");
    }

    #[test]
    fn one_thread_of_each_physical_core_works_and_one_core_is_left_when_there_are_many() {
        let twins = |core: usize| vec![core % 8, core % 8 + 8];
        let all: BTreeSet<usize> = (0..16).collect();
        assert_eq!(default(&all, &twins), (0..7).collect::<Vec<_>>());
        let few: BTreeSet<usize> = [0, 1, 8, 9].into();
        assert_eq!(default(&few, &twins), [0, 1]);
        assert_eq!(default(&[9].into(), &twins), [9]);
    }

    #[test]
    fn a_core_that_is_not_ours_is_refused() {
        let error = choose(Some(vec![4000])).expect_err("nobody has as many");
        assert!(error.contains("core 4000"), "{error}");
    }
}
