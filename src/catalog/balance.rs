//! Which shards to move so that drives, then the logs of each, have the same number of open shards.
//!
//! It goes by counts, as the placing of new shards does (`place.rs`): an open shard is what takes records, however many those are at the
//! moment. Each drive's share of all open shards is settled first, then each log's share of its drive's; what is left over stays where it is.
//! So a move goes from a log that has too many to one that has too few, and there are no more of them than that takes.

use super::moving::FORMERS_MAX;
use super::place::LogPlace;
use super::state::{Shard, State, Stream, StreamStatus};
use std::collections::BTreeMap;

/// A move that evens something out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub stream: String,
    pub shard: u32,
    pub from: u32,
    pub to: u32,
}

/// Open shards by log, and those of each stream there.
#[derive(Default)]
struct Census<'a> {
    counts: BTreeMap<u32, u32>,
    /// Shards that can move, by log and stream.
    movable: BTreeMap<u32, BTreeMap<&'a str, Vec<&'a Shard>>>,
    of_stream: BTreeMap<(u32, &'a str), u32>,
}

impl State {
    /// Moves that even out open shards over the drives, then over their logs. Failed logs neither take nor give any. With `away`, the logs of
    /// that directory get none, and give all that they have; the others are evened out with them. `horizon`: records of a stream that arrived
    /// before have expired (µs).
    pub fn moves(&self, logs: &[LogPlace], away: Option<u32>, horizon: impl Fn(&Stream) -> u64) -> Vec<Move> {
        let mut census = self.census(horizon);
        let sound: Vec<(u32, LogPlace)> = (0..).zip(logs.iter().copied()).filter(|(_, place)| !place.failed).collect();
        let takes = |place: &LogPlace| Some(place.directory) != away;
        if !sound.iter().any(|(_, place)| takes(place)) {
            return Vec::new();
        }
        let count = |log: &u32| census.counts.get(log).copied().unwrap_or(0);
        let mut drives: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (log, place) in sound.iter().filter(|(_, place)| takes(place)) {
            drives.entry(place.directory).or_default().push(*log);
        }
        let all = sound.iter().map(|(log, _)| count(log)).sum();
        let held: Vec<u32> = drives.values().map(|logs| logs.iter().map(count).sum()).collect();
        let mut wanted: BTreeMap<u32, u32> = sound.iter().map(|(log, _)| (*log, 0)).collect();
        for (share, logs) in shares(all, &held).into_iter().zip(drives.values()) {
            let held: Vec<u32> = logs.iter().map(count).collect();
            wanted.extend(logs.iter().copied().zip(shares(share, &held)));
        }
        let mut moves = Vec::new();
        for log in wanted.keys().copied() {
            while census.counts.get(&log).is_some_and(|count| *count > wanted[&log]) {
                let Some(next) = census.next(log, &wanted) else { break };
                moves.push(next);
            }
        }
        moves
    }

    fn census(&self, horizon: impl Fn(&Stream) -> u64) -> Census<'_> {
        let mut census = Census::default();
        for stream in self.streams.values().filter(|stream| stream.status != StreamStatus::Deleting) {
            let since = horizon(stream);
            let children = stream.resharding.iter().flat_map(|resharding| resharding.children.iter());
            for shard in stream.open().chain(children) {
                *census.counts.entry(shard.log).or_default() += 1;
                *census.of_stream.entry((shard.log, &stream.name)).or_default() += 1;
            }
            let free = |shard: &&Shard| shard.is_open() && shard.formers_since(since) < FORMERS_MAX;
            for shard in stream.open().filter(|_| stream.status == StreamStatus::Active).filter(free) {
                census.movable.entry(shard.log).or_default().entry(&stream.name).or_default().push(shard);
            }
        }
        census
    }
}

impl Census<'_> {
    /// The next move off `log`: of the stream that has most there, the shard that has moved least, to the log that lacks shards and has fewest
    /// of that stream.
    fn next(&mut self, log: u32, wanted: &BTreeMap<u32, u32>) -> Option<Move> {
        let streams = self.movable.get_mut(&log)?;
        let most = |(name, shards): &(&&str, &Vec<&Shard>)| (shards.len(), std::cmp::Reverse(name.to_string()));
        let (stream, shards) = streams.iter().filter(|(_, shards)| !shards.is_empty()).max_by_key(most)?;
        let stream: &str = stream;
        let at =
            (0..shards.len()).min_by_key(|at| (shards[*at].former.len(), std::cmp::Reverse(shards[*at].number)))?;
        let lack = |to: &u32| wanted[to].saturating_sub(self.counts.get(to).copied().unwrap_or(0));
        let here = |to: &u32| self.of_stream.get(&(*to, stream)).copied().unwrap_or(0);
        let lacking = wanted.keys().copied().filter(|to| lack(to) > 0);
        let to = lacking.min_by_key(|to| (here(to), std::cmp::Reverse(lack(to)), *to))?;
        let key = streams.keys().copied().find(|name| *name == stream)?;
        let shard = streams.get_mut(key)?.swap_remove(at);
        for (of, one) in [(log, -1), (to, 1)] {
            let (all, streams) = (self.counts.entry(of).or_default(), self.of_stream.entry((of, key)).or_default());
            (*all, *streams) = (all.saturating_add_signed(one), streams.saturating_add_signed(one));
        }
        Some(Move { stream: key.to_string(), shard: shard.number, from: log, to })
    }
}

/// `all` divided evenly over those that hold so many now; what is left over goes to those that hold most, the first of equals.
fn shares(all: u32, held: &[u32]) -> Vec<u32> {
    let count = held.len().max(1) as u32;
    let mut order: Vec<usize> = (0..held.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(held[*index]));
    let mut shares = vec![all / count; held.len()];
    order.into_iter().take((all % count) as usize).for_each(|index| shares[index] += 1);
    shares
}

#[cfg(test)]
mod tests {
    use super::super::change::Change;
    use super::super::decide::Decide;
    use super::super::decide_tests::{identity, new_stream};
    use super::*;
    use crate::io::clock::Wall;
    use crate::log::memory_disk::Random;

    fn places<const N: usize>(directories: [u32; N]) -> Vec<LogPlace> {
        directories.map(|directory| LogPlace { directory, failed: false }).to_vec()
    }

    /// Streams with so many shards, all made while there were only `logs` first logs.
    fn state(streams: &[u32], logs: usize, places: &[LogPlace]) -> State {
        let mut state = State::default();
        let identity = identity();
        for (number, shards) in streams.iter().enumerate() {
            let decide = Decide { state: &state, identity: &identity, logs: &places[..logs] };
            let change = decide.create_stream(&new_stream(&format!("s{number}"), *shards), Wall(0)).expect("created");
            state.apply(state.applied + 1, &change);
        }
        state
    }

    fn carry_out(state: &mut State, moves: &[Move]) {
        for planned in moves {
            let stream = state.streams.get(&planned.stream).expect("there").number;
            assert_eq!(state.streams[&planned.stream].shards[&planned.shard].log, planned.from);
            let change = Change::MoveShard { stream, shard: planned.shard, to: planned.to };
            state.apply(state.applied + 1, &change);
            let end =
                state.stream_by_number(stream).and_then(|s| s.end_of_move((0, Wall(0)), false, 0, &places([0; 16])));
            state.apply(state.applied + 1, &end.expect("it is moving"));
        }
    }

    fn counts(state: &State, logs: usize) -> Vec<u32> {
        (0..logs as u32).map(|log| state.placed.get(&log).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn an_added_drive_gets_its_share_of_every_stream_and_no_more_is_moved() {
        let places = places([0, 0, 1]);
        let mut state = state(&[8, 4], 2, &places);
        let moves = state.moves(&places, None, |_| 0);
        assert_eq!(moves.len(), 6);
        assert!(moves.iter().all(|planned| planned.to == 2));
        carry_out(&mut state, &moves);
        assert_eq!(counts(&state, 3), [3, 3, 6], "half on each drive, and evenly on the logs of the first");
        assert!(state.moves(&places, None, |_| 0).is_empty());
    }

    #[test]
    fn a_directory_can_be_emptied_and_failed_logs_are_left_alone() {
        let mut logs = places([0, 0, 1]);
        let mut state = state(&[8, 4, 1], 3, &logs);
        let moves = state.moves(&logs, Some(0), |_| 0);
        carry_out(&mut state, &moves);
        assert_eq!(counts(&state, 3), [0, 0, 13]);
        logs[1].failed = true;
        let moves = state.moves(&logs, None, |_| 0);
        assert!(moves.iter().all(|planned| planned.to == 0) && moves.len() == 6, "{moves:?}");
        logs.iter_mut().for_each(|place| place.failed = true);
        assert!(state.moves(&logs, None, |_| 0).is_empty());
    }

    #[test]
    fn any_spread_becomes_even_by_the_fewest_moves() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let directories: [u32; 6] = std::array::from_fn(|_| random.below(3) as u32);
            let (logs, made) = (places(directories), 1 + random.below(6) as usize);
            let streams: Vec<u32> = (0..1 + random.below(5)).map(|_| 1 + random.below(30) as u32).collect();
            let mut state = state(&streams, made, &logs);
            let before = counts(&state, 6);
            let moves = state.moves(&logs, None, |_| 0);
            carry_out(&mut state, &moves);
            let after = counts(&state, 6);
            let mut drives: BTreeMap<u32, (u32, Vec<u32>)> = BTreeMap::new();
            for (log, directory) in directories.iter().enumerate() {
                let drive = drives.entry(*directory).or_default();
                drive.0 += after[log];
                drive.1.push(after[log]);
            }
            let even = |counts: &[u32]| counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1;
            let totals: Vec<u32> = drives.values().map(|(all, _)| *all).collect();
            let all_even = even(&totals) && drives.values().all(|(_, logs)| even(logs));
            assert!(all_even, "seed {seed}: {directories:?} {before:?} -> {after:?}");
            let gained: u32 = before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before)).sum();
            assert_eq!(moves.len() as u32, gained, "seed {seed}: no shard is moved twice or for nothing");
        }
    }
}
