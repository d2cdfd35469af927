//! Space of the logs: expiry, reclaim, what happens when one is full; and the clean stop, which closes them.

use super::WhenFull;
use super::Worker;
use super::boot::SEGMENTS_MIN;
use super::mailbox::Message;
use super::notice::Notice;
use crate::catalog::change::Change;
use crate::catalog::state::{Resume, State, StreamStatus};
use crate::io::clock::{Mono, Now, Wall};
use crate::io::op::{Errno, Ops};
use crate::log::format::ShardKey;
use crate::log::{Event, Fate, Reclaim};
use crate::observe::counter::Counter;

/// From this share of its space on, the log's end is announced.
const FILLING_PERCENT: u64 = 80;
/// With `--when-full trim`, the oldest segment goes when fewer are free.
const FREE_SEGMENTS_TRIM: u32 = 3;
const HOUR_US: u64 = 3_600_000_000;
/// Extents that a survey looks at in one turn.
const EXTENTS_A_TURN: usize = 4096;
/// Between two surveys lies this many times what the last one took.
const LOOK_REST: u64 = 20;
/// After this time, in ms, a log in which nothing could be trimmed is looked at again.
const TRIM_AGAIN_MS: u64 = 10;
/// How often retention time is made durable; what it can fall behind by with each restart, beside the downtime.
const KEPT_EVERY_US: u64 = 600_000_000;

/// The clock that records expire by: the wall clock, but never faster than the boot clock while running.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionClock {
    wall: Wall,
    at: Mono,
    /// Both clocks when this run began: what lies between them from then on is a step, what lay there before is downtime.
    began: Now,
    /// The last value that the catalog was asked to keep.
    kept: Wall,
    /// Seconds that the wall clock has gone away from the boot clock in this run, once that was more than an hour.
    pub stepped: i64,
}

impl RetentionClock {
    pub fn now(&self) -> Wall {
        self.wall
    }

    /// The time that what expires is stamped with: the wall clock's, but not before retention time. A wall clock that has stepped back would
    /// stamp records so that they expire early, or at once.
    pub fn stamp(&self, now: Now) -> Wall {
        now.wall.max(self.wall)
    }

    /// Called once a turn.
    pub fn advance(&mut self, now: Now) {
        if self.wall.0 == 0 {
            return;
        }
        self.wall = Wall(self.wall.0 + (now.mono - self.at) / 1_000);
        self.at = Mono(self.at.0 + (now.mono - self.at) / 1_000 * 1_000);
        let (wall, boot) = (now.wall.0 as i64 - self.began.wall.0 as i64, (now.mono - self.began.mono) as i64 / 1_000);
        let apart = wall - boot;
        if apart.unsigned_abs() > HOUR_US {
            self.stepped = apart / 1_000_000;
        }
    }

    /// At start: the wall clock is believed if it is not before the persisted time and the kernel calls it synchronised, or if the operator
    /// accepts it; else retention time goes on from the persisted one. µs since 1970.
    pub fn settle(&mut self, now: Now, persisted: Wall, synchronised: bool, accepted: bool) -> u64 {
        let believed = accepted || now.wall >= persisted && synchronised;
        self.begin(now, if believed { now.wall } else { persisted });
        self.wall.0
    }

    /// Goes on from `wall`.
    pub fn begin(&mut self, now: Now, wall: Wall) {
        (self.wall, self.at, self.began, self.kept) = (wall, now.mono, now, wall);
    }

    /// A value to be kept over a restart, now and then: where the wall clock is not believed, time goes on from the last one.
    pub fn to_keep(&mut self) -> Option<Wall> {
        let due = self.wall.0 >= self.kept.0 + KEPT_EVERY_US;
        due.then(|| {
            self.kept = self.wall;
            self.wall
        })
    }
}

/// What is under way with a log's space.
#[derive(Default)]
pub struct Space {
    /// Something may have expired, or a stream was deleted: all extents are looked at, some in each turn.
    pub look: bool,
    /// Not before this time again, unless space is wanted at once.
    look_after: Mono,
    look_began: Option<Mono>,
    /// Nothing could be trimmed: not tried again before this time.
    trim_after: Mono,
    /// A frame waits for the oldest segment to go.
    pub wants_trim: bool,
    /// The catalog has failed: nothing is reclaimed until a restart.
    pub stuck: bool,
    /// The catalog is being told.
    reclaiming: Option<Reclaim>,
    filling: bool,
    /// Bytes written at the last tick, and the rate seen since, in bytes a second.
    written: u64,
    rate: u64,
}

/// What the records of each shard are still good for, at retention time `now`.
fn fates(state: &State, Wall(now): Wall, hour: u32) -> impl FnMut(ShardKey) -> Fate {
    move |key| match state.stream_by_number(key.stream()) {
        Some(stream) if stream.status != StreamStatus::Deleting && stream.shards.contains_key(&key.shard()) => {
            Fate::ExpiresBefore(now.saturating_sub(stream.retention_hours as u64 * hour as u64 * 1_000_000))
        }
        // A number that the catalog never gave out is damage of the catalog, not a deleted stream: kept.
        None if key.stream() >= state.next_stream => Fate::ExpiresBefore(0),
        _ => Fate::Deleted,
    }
}

impl Worker {
    /// Once a second: expiry is looked for, fullness is measured.
    pub(super) fn look_for_space(&mut self) {
        let (mut used, mut capacity, mut index) = (0, 0, 0);
        let now = self.retention.stamp(self.now);
        for at in 0..self.logs.len() {
            self.logs[at].expire_producers(now);
            let usage = self.logs[at].usage();
            (used, capacity) = (used + usage.live, capacity + usage.capacity);
            index += self.logs[at].index_memory();
            let space = &mut self.space[at];
            space.look |= self.now.mono >= space.look_after;
            let written = self.counters.get(Counter::CommitBytes);
            space.rate = (space.rate * 7 + written.saturating_sub(space.written)) / 8;
            space.written = written;
            let percent = usage.live * 100 / usage.capacity.max(1);
            if space.filling != (percent >= FILLING_PERCENT) && self.options.when_full == WhenFull::Reject {
                space.filling = !space.filling;
                let left = usage.capacity - usage.live.min(usage.capacity);
                let seconds_left = (space.rate > 0).then(|| left / space.rate);
                let notice =
                    Notice::Filling { log: self.logs[at].settings().number, percent: percent as u32, seconds_left };
                self.tell_operator(notice);
            }
        }
        self.counters.set(Counter::LogBytesUsedNow, used);
        self.counters.set(Counter::LogBytesNow, capacity);
        self.counters.set(Counter::LogIndexBytesNow, index);
        self.counters.set(Counter::SecondsLeftNow, self.seconds_left().map_or(0, |seconds| seconds.max(1)));
    }

    /// Seconds until the fullest of this worker's logs is full at its present rate; `None` below 80 %, or when nothing is written.
    fn seconds_left(&self) -> Option<u64> {
        let left = |(log, space): (&crate::log::Log, &Space)| {
            let usage = log.usage();
            let near = usage.live * 100 >= usage.capacity * FILLING_PERCENT && space.rate > 0;
            near.then(|| (usage.capacity - usage.live.min(usage.capacity)) / space.rate)
        };
        self.logs.iter().zip(&self.space).filter_map(left).min()
    }

    /// Frees segments whose records have all expired, or the oldest where the operator wants that.
    pub(super) fn reclaim(&mut self, ops: &mut Ops) {
        for at in 0..self.logs.len() {
            let trim = self.options.when_full == WhenFull::Trim
                && (self.space[at].wants_trim
                    || self.logs[at].usage().free_segments < FREE_SEGMENTS_TRIM.min(SEGMENTS_MIN as u32));
            let trim = trim && self.now.mono >= self.space[at].trim_after;
            let due = (self.space[at].look || trim) && self.space[at].reclaiming.is_none();
            if !due || !self.serving || self.stopping || self.retention.stepped != 0 && !trim {
                continue;
            }
            let ask = self.id != 0;
            if ask && !self.mail.may_ask(0, 1) {
                continue;
            }
            if !self.survey(at) {
                continue;
            }
            let Some(reclaim) = self.logs[at].reclaim(trim) else {
                self.space[at].trim_after = self.now.mono.plus_ms(TRIM_AGAIN_MS);
                continue;
            };
            let resume =
                reclaim.resume.iter().map(|n| (n.shard, Resume { next: n.next, arrival: n.arrival })).collect();
            let log = self.logs[at].settings().number;
            let change = Change::LiveSegments { log, live: reclaim.live.clone(), resume };
            self.space[at].reclaiming = Some(reclaim);
            match ask {
                true => self.mail.ask(0, Message::Journal { log, change: Box::new(change) }),
                false => self.journal(0, log, change, ops),
            }
        }
    }

    /// Goes on with the survey of a log; whether it has come to its end.
    fn survey(&mut self, at: usize) -> bool {
        let began = *self.space[at].look_began.get_or_insert(self.now.mono);
        let state = match &self.control {
            Some(control) => control.catalog.state(),
            None => &self.view,
        };
        let mut fate = fates(state, self.retention.now(), self.retention_hour);
        let done = self.logs[at].survey(&mut fate, EXTENTS_A_TURN);
        if done {
            let space = &mut self.space[at];
            (space.look, space.look_began) = (false, None);
            space.look_after = Mono(self.now.mono.0 + (self.now.mono - began) * LOOK_REST);
        }
        done
    }

    /// Goes on with emptying segments that hold little.
    pub(super) fn relocate(&mut self, ops: &mut Ops) {
        if !self.serving {
            return;
        }
        let state = match &self.control {
            Some(control) => control.catalog.state(),
            None => &self.view,
        };
        let mut fate = fates(state, self.retention.now(), self.retention_hour);
        let trims = self.options.when_full == WhenFull::Trim;
        for log in &mut self.logs {
            log.relocate(self.now, trims, &mut fate, &mut self.buffers, ops);
        }
    }

    /// When the next turn goes on with a survey, or tries again to trim.
    pub(super) fn space_deadline(&self) -> Option<Mono> {
        let soon = self.now.mono.plus_ms(1);
        let surveys = self.retention.stepped == 0 && self.space.iter().any(|space| space.look_began.is_some());
        let trims = self.space.iter().filter(|space| space.wants_trim && space.reclaiming.is_none());
        let next = trims.map(|space| space.trim_after.max(soon)).chain(surveys.then_some(soon)).min();
        next.filter(|_| self.serving && !self.stopping)
    }

    /// The catalog holds what log `log` goes on from: its segments are free.
    pub(super) fn journaled(&mut self, log: u32, done: bool) {
        let Some(at) = self.log_index(log) else { return };
        if !done {
            // The reclaim stays under way for ever: its segments are neither free nor looked at again.
            self.space[at].stuck = true;
            return;
        }
        let Some(reclaim) = self.space[at].reclaiming.take() else { return };
        if reclaim.trimmed_until > 0 {
            self.counters.add(Counter::SegmentsTrimmed, reclaim.freed.len() as u64);
            self.tell_operator(Notice::Trimmed { log, records_until: reclaim.trimmed_until });
        }
        self.logs[at].reclaimed(reclaim);
        self.space[at].wants_trim = false;
        self.space[at].look = true;
    }

    /// Newest arrival (µs since 1970) of records that go although they have not expired, in trims that the catalog is being told of: after a
    /// crash they may have gone. `None`: there are none.
    pub fn trims_until(&self) -> Option<u64> {
        let trims = self.space.iter().filter_map(|space| Some(space.reclaiming.as_ref()?.trimmed_until));
        trims.filter(|until| *until > 0).max()
    }

    /// What the logs have to tell.
    pub(super) fn log_events(&mut self, ops: &mut Ops) {
        for at in 0..self.logs.len() {
            while let Some(event) = self.logs[at].event() {
                let log = self.logs[at].settings().number;
                match event {
                    Event::Recovered { records, .. } => {
                        self.log_recovered(at, records, ops);
                        self.boot_go_on(ops);
                    }
                    Event::TornTail { position, bytes } => {
                        self.tell_operator(Notice::TornTail { log, position: position.0, bytes });
                    }
                    Event::Doubted { file } => {
                        if !self.level_at_start(file) {
                            self.logs[at].settled(file, ops);
                        }
                    }
                    // The other half of a mirror may have it: then it is moved from there.
                    Event::Damaged { file, .. } if self.serving && self.repair_for_move(file) => {}
                    Event::Damaged { file, position, why } => {
                        self.counters.add(Counter::Damaged, 1);
                        self.tell_operator(Notice::Damage { file, position: position.0, why });
                    }
                    Event::Unread { file, position, errno } => {
                        self.tell_operator(Notice::Unread { file, position: position.0, errno });
                    }
                    Event::Missing { position } => {
                        self.counters.add(Counter::Damaged, 1);
                        self.tell_operator(Notice::Missing { log, position: position.0 });
                    }
                    Event::Unreadable { file, why } => {
                        let file = file.map_or(format!("log {log}"), |file| file.to_string());
                        self.refuse_log(format!("{file}: {why}"));
                    }
                    Event::Failed { what, errno } => {
                        self.counters.add(Counter::LogsFailedNow, 1);
                        let path = self.path_of(log);
                        self.tell_operator(Notice::LogFailed { log, path, what: what.to_string(), errno });
                    }
                    Event::Recycled { .. } => self.counters.add(Counter::SegmentsRecycled, 1),
                    Event::Room { back } => {
                        self.counters.add(if back { Counter::RoomReturned } else { Counter::RoomMissed }, 1);
                        self.tell_operator(Notice::Room { log, back });
                    }
                }
            }
        }
        if self.retention.stepped != 0 && !self.step_told {
            self.step_told = true;
            self.counters.set(Counter::ClockSteppedSecondsNow, self.retention.stepped.unsigned_abs());
            self.tell_operator(Notice::ClockStep { seconds: self.retention.stepped });
        }
    }

    /// The catalog cannot be written any more: control requests fail, records go on.
    pub(super) fn catalog_failed(&mut self, what: String, errno: Errno) {
        self.tell_operator(Notice::CatalogFailed { what, errno });
    }

    /// Begins a clean stop: no new connection or request, replies due are sent, the log is closed.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether the stop is complete: the thread may end.
    pub fn stopped(&self) -> bool {
        self.stopping && self.stop_told && self.stopped_workers.iter().all(|stopped| *stopped)
    }

    pub(super) fn stop_go_on(&mut self, ops: &mut Ops) {
        if !self.stopping || self.stop_told {
            return;
        }
        self.sweep_subscriptions(ops);
        self.sweep_connections(ops);
        self.sweep_natives(ops);
        let busy = self.puts.under_way() + self.gets.under_way() + self.connections.open + self.natives.in_use();
        if self.serving && busy > 0 {
            return;
        }
        if self.serving && !self.stopped_workers[self.id as usize] && self.scrub_holds_stop(ops) {
            return;
        }
        // Other workers' puts and reads may still come: the logs close when every worker has said that none will.
        if !self.stopped_workers[self.id as usize] {
            self.stopped_workers[self.id as usize] = true;
            for worker in (0..self.workers).filter(|worker| *worker != self.id) {
                self.mail.answer(worker, Message::Stopping);
            }
        }
        if !self.stopped_workers.iter().all(|stopped| *stopped) {
            return;
        }
        if !std::mem::replace(&mut self.stop_begun, true) && self.serving {
            self.logs.iter_mut().for_each(|log| log.close());
            for log in &mut self.logs {
                log.end_turn(self.now, &mut self.buffers, ops);
            }
        }
        if !self.serving || self.logs.iter().all(|log| log.closed()) {
            self.stop_told = true;
            if self.id == 0 {
                self.tell_operator(Notice::Stopped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Seconds after the start, as the boot clock and as the wall clock say.
    fn at(boot: u64, wall: u64) -> Now {
        Now { mono: Mono((1_000 + boot) * SECOND * 1_000), wall: Wall((1_800_000_000 + wall) * SECOND) }
    }

    #[test]
    fn downtime_is_no_step_also_where_the_clock_is_not_believed() {
        let persisted = Wall(at(0, 0).wall.0 - 5 * HOUR_US);
        let mut clock = RetentionClock::default();
        clock.settle(at(0, 0), persisted, false, false);
        clock.advance(at(7_200, 7_200));
        assert_eq!((clock.now(), clock.stepped), (Wall(persisted.0 + 7_200 * SECOND), 0));
        let mut believed = RetentionClock::default();
        believed.settle(at(0, 0), persisted, true, false);
        assert_eq!(believed.now(), at(0, 0).wall);
        // The operator knows better than the kernel and than the last run.
        for (persisted, synchronised) in [(persisted, false), (Wall(at(0, 7_200).wall.0), true)] {
            let mut accepted = RetentionClock::default();
            accepted.settle(at(0, 0), persisted, synchronised, true);
            assert_eq!(accepted.now(), at(0, 0).wall);
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_nothing_and_is_told() {
        for (wall, stepped) in [(10 + 3_700, 3_700), (10 - 3_700, -3_700), (10 + 3_500, 0)] {
            let mut clock = RetentionClock::default();
            clock.settle(at(0, 4_000), Wall(1), true, false);
            let begun = clock.now();
            clock.advance(at(10, (4_000 + wall as i64) as u64));
            assert_eq!((clock.now().0 - begun.0, clock.stepped), (10 * SECOND, stepped));
            let now = at(10, (4_000 + wall as i64) as u64);
            assert_eq!(clock.stamp(now), now.wall.max(clock.now()), "nothing is stamped as older than it is");
        }
    }

    #[test]
    fn retention_time_is_kept_now_and_then() {
        let mut clock = RetentionClock::default();
        clock.settle(at(0, 0), Wall(1), true, false);
        clock.advance(at(599, 599));
        assert_eq!(clock.to_keep(), None);
        clock.advance(at(600, 600));
        assert_eq!((clock.to_keep(), clock.to_keep()), (Some(at(600, 600).wall), None));
    }
}
