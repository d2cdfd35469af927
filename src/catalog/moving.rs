//! Shards that move between logs: where their records are, and the two changes of a move.
//!
//! Records stay on the log that they were written to; only what comes goes to the new one. So a shard is a row of parts, each a stretch of
//! numbers on one log, and a reader passes from one to the next. Between `MoveShard` and `MovedShard` puts wait at the old owner, as at a
//! shard that closes, until all that it has assigned is durable: from then on no number below `next` can appear anywhere.

use super::change::{Change, LOGS_MAX};
use super::decide::Decide;
use super::place::LogPlace;
use super::state::{Resume, Shard, ShardState, State, Stream, StreamStatus};
use crate::io::clock::Wall;
use crate::kinesis::error::{Error, Kind};
use crate::log::format::ShardKey;
use rkyv::{Archive, Deserialize, Serialize};

/// Logs that a shard has records on beside the present one, at most.
pub const FORMERS_MAX: usize = 8;

/// A log that a shard was on before.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    pub log: u32,
    /// Number of the last record there.
    pub last: u64,
    /// All there had arrived by then (µs since 1970).
    pub arrival: u64,
}

/// A move between its two changes.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    pub shard: u32,
    pub to: u32,
}

/// How a move ended.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub shard: u32,
    /// Where it is now: where it was to go, or where it has been, when that log has failed meanwhile.
    pub to: u32,
    /// First number that is not assigned, and arrival of the newest record (µs). 0: not known, because the log that the shard is on has
    /// failed in the middle of the move; it stays there, and the log's recovery says where it goes on.
    pub next: u64,
    pub arrival: u64,
    /// Records that arrived before have expired (µs): former logs with nothing newer are forgotten.
    pub horizon: u64,
}

/// A stretch of a shard's numbers that is on one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub log: u32,
    pub first: u64,
    /// `u64::MAX`: the shard is on this log now.
    pub last: u64,
    /// Arrival of the last record (µs); `u64::MAX` for the log that it is on now.
    pub arrival: u64,
}

impl Part {
    pub fn is_former(self) -> bool {
        self.last != u64::MAX
    }
}

impl Shard {
    /// Where its records are, oldest first; the last part is the log that takes new ones. Together they hold every number.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let first = |index: usize| index.checked_sub(1).map_or(0, |before| self.former[before].last + 1);
        let formers = self.former.iter().enumerate().map(move |(index, former)| Part {
            log: former.log,
            first: first(index),
            last: former.last,
            arrival: former.arrival,
        });
        let now = Part { log: self.log, first: first(self.former.len()), last: u64::MAX, arrival: u64::MAX };
        formers.chain(std::iter::once(now))
    }

    /// The part that number `number` belongs to, whether there is such a record or not.
    pub fn part_of(&self, number: u64) -> Part {
        self.part_from(number, 0)
    }

    /// The oldest part that may hold a record numbered `number` or higher which arrived at `floor` (µs) or later.
    pub fn part_from(&self, number: u64, floor: u64) -> Part {
        let may = |part: &Part| part.last >= number && part.arrival >= floor;
        self.parts().find(may).expect("the last part takes every number and every time")
    }

    /// Former logs that still hold something that arrived at `horizon` (µs) or later.
    pub fn formers_since(&self, horizon: u64) -> usize {
        self.former.iter().filter(|former| former.arrival >= horizon).count()
    }
}

impl State {
    pub(super) fn moved_shard(&mut self, stream: u32, moved: &Moved) {
        let mut moves = false;
        self.alter(stream, |stream| moves = end(stream, moved));
        if moves && moved.next > 0 {
            let resume = Resume { next: moved.next, arrival: moved.arrival };
            self.raise_resume(ShardKey::new(stream, moved.shard), resume);
        }
    }
}

/// Puts to `shard` wait from now on.
pub(super) fn begin(stream: &mut Stream, shard: u32, to: u32) {
    let is_active = stream.status == StreamStatus::Active && to < LOGS_MAX;
    let Some(found) = stream.shards.get_mut(&shard).filter(|s| is_active && s.is_open() && s.log != to) else { return };
    found.state = ShardState::Closing;
    stream.moving = Some(Moving { shard, to });
    stream.status = StreamStatus::Updating;
}

/// Former logs with nothing that arrived at `horizon` (µs) or later are forgotten.
pub(super) fn forget(stream: &mut Stream, horizon: u64) {
    for shard in stream.shards.values_mut() {
        shard.former.retain(|former| former.arrival >= horizon);
    }
}

/// The shard takes records again; whether that is so now.
fn end(stream: &mut Stream, moved: &Moved) -> bool {
    if stream.moving.take_if(|moving| moving.shard == moved.shard).is_none() {
        return false;
    }
    stream.status = StreamStatus::Active;
    let Some(shard) = stream.shards.get_mut(&moved.shard) else { return false };
    shard.state = ShardState::Open;
    shard.former.retain(|former| former.arrival >= moved.horizon);
    let last = moved.next.saturating_sub(1);
    // Where nothing was written since the last move, or ever, there is nothing to remember.
    let holds = last > shard.former.last().map_or(0, |former| former.last);
    if moved.to != shard.log && holds && moved.arrival >= moved.horizon {
        shard.former.push(Former { log: shard.log, last, arrival: moved.arrival });
    }
    shard.log = moved.to;
    true
}

impl Decide<'_> {
    /// Moves an open shard to log `to`. `horizon`: records of the stream that arrived before have expired (µs).
    pub fn move_shard(&self, name: &str, shard: u32, to: u32, horizon: u64) -> Result<Change, Error> {
        let refused = |text: String| Error::new(Kind::InvalidArgument, text);
        let stream = self.active(name)?;
        let found = stream.shards.get(&shard).filter(|shard| shard.is_open()).ok_or_else(|| {
            refused(format!("stream {name} has no open shard shardId-{shard:012}; closed ones stay where they are"))
        })?;
        let failed = |log: u32| self.logs.get(log as usize).is_none_or(|place| place.failed);
        if to as usize >= self.logs.len() {
            let last = self.logs.len().saturating_sub(1);
            return Err(refused(format!("there is no log {to}: logs are 0 to {last}")));
        }
        if to == found.log {
            return Err(refused(format!("it is on log {to} already")));
        }
        if failed(to) {
            return Err(refused(format!("log {to} has failed: it takes nothing before a restart")));
        }
        if failed(found.log) {
            // What it has not made durable may be there after a restart: below numbers that readers would have passed.
            return Err(refused(format!("log {} has failed: its shards cannot leave it before a restart", found.log)));
        }
        if found.formers_since(horizon) >= FORMERS_MAX {
            return Err(refused(format!(
                "its records are on {} former logs, and no more are kept track of: it can move again when those on the oldest have expired",
                found.former.len()
            )));
        }
        Ok(Change::MoveShard { stream: stream.number, shard, to })
    }
}

impl Stream {
    /// The end of the move under way, when all that the old owner has assigned is durable: `last` is the number of the last record (0: there
    /// was none), `arrival` when it arrived. `stays`: the other log cannot take it.
    pub fn end_of_move(
        &self,
        (last, arrival): (u64, Wall),
        stays: bool,
        horizon: u64,
        logs: &[LogPlace],
    ) -> Option<Change> {
        let Moving { shard, to } = self.moving?;
        let failed = logs.get(to as usize).is_none_or(|place| place.failed);
        let to = if failed || stays { self.shards.get(&shard)?.log } else { to };
        let moved = Moved { shard, to, next: last + 1, arrival: arrival.0, horizon };
        Some(Change::MovedShard { stream: self.number, moved })
    }

    /// The end of the move under way, when the log that its shard is on has failed: what that log has assigned never becomes durable in
    /// this run, so the shard stays.
    pub fn end_of_stranded_move(&self, horizon: u64) -> Option<Change> {
        let Moving { shard, .. } = self.moving?;
        let to = self.shards.get(&shard)?.log;
        Some(Change::MovedShard { stream: self.number, moved: Moved { shard, to, next: 0, arrival: 0, horizon } })
    }

    /// The change that forgets former logs of which everything has expired; `None`: there are none.
    pub fn forget_formers(&self, horizon: u64) -> Option<Change> {
        let mut formers = self.shards.values().flat_map(|shard| &shard.former);
        let any = formers.any(|former| former.arrival < horizon);
        any.then_some(Change::FormersExpired { stream: self.number, horizon })
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide_tests::{identity, new_stream};
    use super::*;

    const LOGS: [LogPlace; 3] = [LogPlace { directory: 0, failed: false }; 3];

    /// A stream `s` of one shard on log 0.
    fn one() -> State {
        let mut state = State::default();
        let identity = identity();
        let decide = Decide { state: &state, identity: &identity, logs: &LOGS };
        let change = decide.create_stream(&new_stream("s", 1), Wall(10_000_000)).expect("created");
        state.apply(1, &change);
        state
    }

    fn decided(state: &State, to: u32, horizon: u64, logs: &[LogPlace]) -> Result<Change, Error> {
        Decide { state, identity: &identity(), logs }.move_shard("s", 0, to, horizon)
    }

    fn shard(state: &State) -> &Shard {
        &state.stream("s").expect("there").shards[&0]
    }

    /// Moves the shard, whose last record is number `last` and arrived at `arrival`.
    fn moved(state: &mut State, to: u32, last: u64, arrival: u64, horizon: u64) {
        let change = decided(state, to, horizon, &LOGS).expect("it may move");
        state.apply(state.applied + 1, &change);
        let end = state.stream("s").and_then(|stream| stream.end_of_move((last, Wall(arrival)), false, horizon, &LOGS));
        state.apply(state.applied + 1, &end.expect("it is moving"));
    }

    #[test]
    fn numbers_go_on_and_a_reader_passes_from_log_to_log_and_back() {
        let mut state = one();
        moved(&mut state, 1, 10, 100, 0);
        moved(&mut state, 0, 15, 200, 0);
        assert_eq!(state.resume[&ShardKey::new(0, 0)], Resume { next: 16, arrival: 200 });
        let parts: Vec<_> = shard(&state).parts().map(|part| (part.log, part.first, part.last)).collect();
        assert_eq!(parts, [(0, 0, 10), (1, 11, 15), (0, 16, u64::MAX)]);
        let of = |number| shard(&state).part_of(number).first;
        assert_eq!([0, 1, 10, 11, 15, 16, u64::MAX].map(of), [0, 0, 0, 11, 11, 16, 16]);
        let from = |number, floor| shard(&state).part_from(number, floor).first;
        assert_eq!([from(0, 100), from(0, 101), from(11, 0), from(0, 201)], [0, 11, 11, 16]);
    }

    #[test]
    fn where_nothing_was_written_nothing_is_remembered() {
        let mut state = one();
        moved(&mut state, 1, 0, 0, 0);
        assert_eq!((shard(&state).former.len(), shard(&state).log), (0, 1));
        moved(&mut state, 2, 5, 50, 0);
        moved(&mut state, 0, 5, 50, 0);
        let former: Vec<_> = shard(&state).former.iter().map(|former| former.log).collect();
        assert_eq!((former, shard(&state).log), (vec![1], 0));
    }

    #[test]
    fn former_logs_are_bounded_and_forgotten_when_their_records_expire() {
        let mut state = one();
        for number in 1..=FORMERS_MAX as u64 {
            moved(&mut state, (number % 2) as u32, number, number * 10, 0);
        }
        let error = decided(&state, 1, 10, &LOGS).expect_err("eight former logs hold something");
        assert!(error.message.contains("8 former logs"), "{}", error.message);
        moved(&mut state, 1, 9, 90, 31);
        let lasts: Vec<_> = shard(&state).former.iter().map(|former| former.last).collect();
        assert_eq!(lasts, [4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_cannot_move_is_refused_and_a_failure_meanwhile_leaves_it_where_it_was() {
        let mut state = one();
        let mut logs = LOGS;
        logs[2].failed = true;
        let refused = |state: &State, to| decided(state, to, 0, &logs).expect_err("refused").message;
        assert_eq!(refused(&state, 0), "it is on log 0 already");
        assert_eq!(refused(&state, 3), "there is no log 3: logs are 0 to 2");
        assert_eq!(refused(&state, 2), "log 2 has failed: it takes nothing before a restart");
        let change = decided(&state, 1, 0, &LOGS).expect("it may move");
        state.apply(2, &change);
        assert!(refused(&state, 1).contains("not ACTIVE"), "one move at a time");
        logs[1].failed = true;
        let end =
            state.stream("s").and_then(|stream| stream.end_of_move((7, Wall(70)), false, 0, &logs)).expect("it ends");
        state.apply(3, &end);
        let stream = state.stream("s").expect("there");
        assert_eq!((stream.status, shard(&state).is_open(), shard(&state).log), (StreamStatus::Active, true, 0));
        assert!(shard(&state).former.is_empty());
    }

    #[test]
    fn a_move_off_a_log_that_fails_meanwhile_leaves_the_shard_and_what_it_goes_on_from() {
        let mut state = one();
        moved(&mut state, 1, 10, 100, 0);
        let before = state.clone();
        let change = decided(&state, 2, 0, &LOGS).expect("it may move");
        state.apply(state.applied + 1, &change);
        let stranded = |state: &State| state.stream("s")?.end_of_stranded_move(0);
        let end = stranded(&state).expect("it ends");
        state.apply(state.applied + 1, &end);
        assert_eq!((&state.streams, &state.resume), (&before.streams, &before.resume), "as if it had not begun");
        assert_eq!(stranded(&state), None);
        let never_moved = one();
        let mut state = never_moved.clone();
        let change = decided(&state, 2, 0, &LOGS).expect("it may move");
        state.apply(state.applied + 1, &change);
        let end = stranded(&state).expect("it ends");
        state.apply(state.applied + 1, &end);
        assert_eq!((&state.streams, &state.resume), (&never_moved.streams, &never_moved.resume));
    }

    #[test]
    fn former_logs_are_forgotten_without_a_further_move() {
        let mut state = one();
        moved(&mut state, 1, 10, 100, 0);
        moved(&mut state, 2, 20, 200, 0);
        let forgets = |state: &State, horizon| state.stream("s").expect("there").forget_formers(horizon);
        assert_eq!(forgets(&state, 100), None);
        let change = forgets(&state, 101).expect("the first one's records have expired");
        state.apply(state.applied + 1, &change);
        let parts: Vec<_> = shard(&state).parts().map(|part| (part.log, part.first, part.last)).collect();
        assert_eq!(parts, [(1, 0, 20), (2, 21, u64::MAX)]);
        assert_eq!(forgets(&state, 200), None);
        let change = forgets(&state, 201).expect("the second one's too");
        state.apply(state.applied + 1, &change);
        assert!(shard(&state).former.is_empty());
        assert_eq!(state.resume[&ShardKey::new(0, 0)].next, 21, "numbers go on");
    }
}
