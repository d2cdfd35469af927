//! Lives of the node: how each begins, what it reports, and how it ends.

use super::clock::{MICROSECOND, MILLISECOND, SECOND};
use super::disk::{Disk, Faults};
use super::net;
use super::node::Node;
use super::world::{Event, World};
use penstock::io::op::FileName;
use penstock::observe::counter::Counter;
use penstock::worker::WhenFull;
use penstock::worker::clock::ClockNews;
use penstock::worker::notice::Notice;
use penstock::worker::stream_news::{StreamNews, What};

/// A node that is not serving this long after its start is stuck.
const START_MAX: u64 = 60 * SECOND;
/// By then, an accepted clock is one that the next start goes on from.
const ACCEPTED_WITHIN: u64 = 10 * SECOND;

impl World<'_> {
    pub(super) fn start(&mut self) {
        self.life += 1;
        self.epoch_before = self.epoch.take().or(self.epoch_before);
        self.shared.moves_asked = 0;
        let now = self.clock.mono();
        let mut settings = self.shared.settings.clone();
        if settings.resizes && self.life > 1 {
            settings.files = *self.random.pick(&[8, 9, 16]);
        }
        self.auditing = self.life > settings.lives + 1;
        if settings.changing_workers && self.life > 1 {
            self.workers = self.random.between(1, 3) as u16;
        }
        let faulty = !self.auditing && self.life > 1 && self.random.chance(600);
        self.disk.faults = if faulty && self.twin.is_none() { settings.faults } else { Faults::default() };
        self.disk.faulty_drive = settings.faulty_drive;
        if self.auditing {
            self.disk.heal(settings.heals);
            self.twin.iter_mut().for_each(|twin| twin.heal(settings.heals));
            self.plan.begin_last_life();
            self.net.manners = net::Manners { crumbs: 20, stalls: 0, resets: 0 };
        }
        if self.shared.settings.harm && self.life > 1 && !self.auditing {
            self.harm();
        }
        self.accepting = settings.accepts_clock && self.random.chance(500);
        settings.accepts_clock = self.accepting;
        let (given, disk) = self.mount(&settings);
        let mirror = self.mirror(&given);
        let node = Node::start(&settings, self.workers, given, disk, mirror, &mut self.random);
        self.net.listen(self.workers, settings.limits.connections);
        self.note(format!(
            "life {} starts with {} workers{}",
            self.life,
            self.workers,
            if faulty { ", faults" } else { "" }
        ));
        self.node = Some(node);
        (self.shared.lenient, self.shared.stopping) = (self.shared.oracle.damaged, false);
        let life = self.life;
        self.heap.at(now + START_MAX, Event::Served { life });
        if !self.auditing {
            let end = self.plan.begin_life(now);
            if self.adds_drive() {
                self.plan.adds_drive();
            }
            self.heap.at(end, Event::End { life });
        }
        for worker in 0..self.workers {
            let delay = self.random.delay(10 * MICROSECOND);
            self.plan_turn(worker, now + delay);
        }
    }

    /// Bits flip while the node is down. One copy of the superblock is enough, when the other one is whole.
    pub(super) fn harm(&mut self) {
        if self.twin.is_some() {
            return self.harm_half();
        }
        if self.was_ready && self.random.chance(400) {
            let copy = self.random.below(2) as u8;
            let harmed = self.disk.harm(FileName::Superblock(copy), self.random.below(200), self.random.below(8) as u8);
            self.note(format!("copy {copy} of the superblock is harmed: {harmed}"));
            // If it was the newer one, and no commit of the life before has reached the disk, nothing is left that knows its epoch.
            self.epoch_before = self.epoch_before.map(|before| before.saturating_sub(1));
        } else {
            self.harm_records();
        }
    }

    /// Bits of a record flip, or a block of another one lies over it. After a power cut not the latter: where that was the last commit, nothing
    /// says that it has been there.
    pub(super) fn harm_records(&mut self) {
        if self.twin.is_some() {
            return self.harm_half();
        }
        let blocks = self.node.is_some() || self.stopped_cleanly;
        let (harmed, what) = match blocks && self.random.chance(300) {
            true => (self.disk.harm_block(), "a block is overwritten by another"),
            false => (self.disk.harm_record(), "a record is harmed"),
        };
        if harmed {
            self.shared.oracle.damaged = true;
            self.shared.lenient = true;
            self.harmed_at = Some(self.clock.mono());
            self.note(what.into());
        }
    }

    pub(super) fn noticed(&mut self, notice: Notice) {
        self.note(format!("notice: {notice}"));
        let now = self.clock.mono();
        let clean = !matches!(
            notice,
            Notice::Refused { .. }
                | Notice::SuperblockCopy { .. }
                | Notice::TornTail { .. }
                | Notice::TornJournal { .. }
                | Notice::Damage { .. }
                | Notice::Missing { .. }
        );
        assert!(clean || !self.restored, "restored from a snapshot: {notice}");
        match notice {
            Notice::Ready { directories, .. } => {
                self.mounted(&directories);
                self.halves_ready();
                let node = self.node.as_mut().expect("it is running");
                node.ready = true;
                self.scrubs.serves = Some(now);
                self.accepted = if self.accepting { Some(now) } else { self.accepted };
                self.taken = node.taken();
                if self.auditing {
                    self.begin_audit();
                }
            }
            Notice::Refused { why } if self.is_missed(&why) || self.is_half_missed(&why) => self.power_cut(),
            Notice::Mirror(news) => self.half_told(&news),
            Notice::Refused { why } => {
                let excused = self.shared.lenient || self.shared.oracle.damaged;
                self.damage_told |= excused;
                assert!(excused, "the node refuses to start: {why}");
                self.power_cut();
            }
            Notice::Damage { file, position, why } | Notice::DamageRead { file, position, why } => {
                self.damage_met(&format!("damage in {file} at {position}: {why}"));
            }
            Notice::FooterPassedOver { .. } => self.passed_over(&notice),
            // A commit that is damaged and that no later one vouches for looks like one that was never whole.
            Notice::TornTail { .. } => self.damage_told |= self.shared.oracle.damaged,
            Notice::LogFailed { .. } | Notice::CatalogFailed { .. } => {
                assert!(self.shared.lenient, "a failure without a fault of the disk: {notice}");
                self.check_drive_failed(&notice);
            }
            Notice::Trimmed { records_until, .. } => {
                self.trimmed(records_until);
            }
            Notice::Stream(news) => self.stream_told(&news),
            Notice::Room { back, .. } => self.report.room_returned += back as u64,
            Notice::CatalogRoom { back } => self.report.spares_returned += back as u64,
            Notice::MoreLogs { .. } => self.report.grown += 1,
            Notice::Clock(ClockNews::Accepted { .. }) => {
                assert!(self.accepting, "a clock is accepted that nobody has: {notice}");
                self.report.accepted += 1;
            }
            Notice::Clock(ClockNews::Behind { .. }) => {
                let kept = self.accepted.is_none() || self.shared.oracle.damaged;
                assert!(!self.accepting && kept, "a clock that was accepted is not believed any more: {notice}");
            }
            Notice::ClockStep { seconds } => {
                let counters = &self.node.as_ref().expect("it is running").counters;
                let shown = counters.iter().any(|c| c.get(Counter::ClockSteppedSecondsNow) == seconds.unsigned_abs());
                assert!(shown && seconds.abs() > 3600, "a step that nothing shows: {notice}");
            }
            Notice::Scrub(told) => self.scrub_told(&told),
            _ => {}
        }
    }

    /// Records that arrived until then (µs since 1970) may have gone before they expired, as their log was full.
    fn trimmed(&mut self, records_until: u64) {
        assert_eq!(self.shared.settings.when_full, WhenFull::Trim, "a log that refuses when it is full has trimmed");
        let now = self.clock.mono();
        let ago = self.clock.now().wall.0.saturating_sub(records_until) * 1_000;
        let until = if self.shared.settings.clock_steps { now } else { now.saturating_sub(ago) + MILLISECOND };
        self.shared.oracle.trimmed_until = self.shared.oracle.trimmed_until.max(until);
    }

    fn passed_over(&mut self, notice: &Notice) {
        assert!(self.shared.settings.harm || self.shared.lenient, "the disk is sound, but: {notice}");
        self.report.passed_over += 1;
    }

    fn stream_told(&mut self, news: &StreamNews) {
        match news.what {
            What::ShardMoved { .. } => self.report.resumed += (self.shared.moves_asked == 0) as u64,
            What::ShardStays { .. } | What::ParentsStay { .. } => {
                assert!(self.shared.lenient, "a failure without a fault of the disk: {news}");
                self.report.stayed += 1;
            }
            What::Created { .. } | What::Deleted | What::Resharded { .. } => {}
        }
    }

    /// Where there are two halves, only one is harmed: nothing is lost.
    fn damage_met(&mut self, told: &str) {
        self.damage_told = true;
        assert!(self.shared.settings.harm && self.twin.is_none(), "where the disk is sound: {told}");
    }

    /// The end of a life has come: by a clean stop or by a power cut.
    pub(super) fn end_life(&mut self) {
        let node = self.node.as_mut().expect("looked at by the caller");
        let stuck = node.stopping;
        assert!(!stuck, "a clean stop does not come to an end");
        if node.stopping || !self.plan.stops_cleanly() {
            return self.power_cut();
        }
        node.stopping = true;
        self.shared.stopping = true;
        node.seats.iter_mut().for_each(|seat| seat.worker.stop());
        self.note("a clean stop begins".into());
        let now = self.clock.mono();
        // Longer than any client may keep a connection busy.
        self.heap.at(now + 100 * SECOND, Event::End { life: self.life });
        for worker in 0..self.workers {
            self.plan_turn(worker, now + MICROSECOND);
        }
    }

    pub(super) fn stopped(&mut self) {
        self.report.stops += 1;
        self.note("stopped".into());
        self.stopped_cleanly = true;
        self.node_is_gone();
    }

    pub(super) fn power_cut(&mut self) {
        self.report.cuts += 1;
        self.note("power cut".into());
        // The last commit may have been harmed before anything vouched for it.
        let recent = |at: u64| self.node.is_some() && self.clock.mono() - at < 5 * SECOND;
        self.damage_told |= self.harmed_at.is_some_and(recent);
        self.stopped_cleanly = false;
        // A segment may have been given up whose notice nobody has seen.
        let seats = self.node.iter().flat_map(|node| &node.seats);
        if let Some(until) = seats.filter_map(|seat| seat.worker.trims_until()).max() {
            self.trimmed(until);
        }
        self.node_is_gone();
    }

    pub(super) fn node_is_gone(&mut self) {
        let now = self.clock.mono();
        let node = self.node.take().expect("it has been running");
        self.was_ready = node.ready;
        // What was accepted becomes durable a moment after the start.
        let brief = |at: &u64| self.accepting && (now - at < ACCEPTED_WITHIN || self.shared.lenient);
        self.accepted = self.accepted.filter(|at| !brief(at));
        self.report.recycled +=
            node.counters.iter().map(|counters| counters.get(Counter::SegmentsRecycled)).sum::<u64>();
        self.report.emptied += node.counters.iter().map(|counters| counters.get(Counter::SegmentsEmptied)).sum::<u64>();
        let count = |counter| node.counters.iter().map(|counters| counters.get(counter)).sum::<u64>();
        self.report.expired += count(Counter::SubscriptionsExpired);
        self.report.shed += count(Counter::SubscriptionsShed);
        self.report.readers_resumed +=
            node.counters.iter().map(|counters| counters.get(Counter::ReadersResumed)).sum::<u64>();
        self.report.read_ahead +=
            node.counters.iter().map(|counters| counters.get(Counter::ColdReadsAhead)).sum::<u64>();
        self.end_scrubs();
        self.disk.cut();
        self.twin.iter_mut().for_each(Disk::cut);
        self.snapshot_after_cut();
        let mut later = Vec::new();
        self.net.cut(&mut later);
        for (delay, event) in later {
            self.heap.at(now.max(delay), Event::Net(event));
        }
        self.heap.at(now + self.random.between(1, 2_000) * MILLISECOND, Event::Start);
    }
}
