//! What a seed draws: how the node is set up, what its clients do, and what goes wrong.

use super::clock::{MILLISECOND, SECOND};
use super::disk::Faults;
use super::net::Manners;
use super::random::Random;
use penstock::limits::Limits;
use penstock::worker::WhenFull;

/// A rule that is broken on purpose, to show that the oracle notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    AckBeforeDurable,
    ReadUndurable,
    ForgetNextSequence,
    NoEpochBump,
    ForgetLeftBehind,
    EventsSkip,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub canary: Option<Canary>,
    pub workers: u16,
    pub limits: Limits,
    /// What the device writes without touching a neighbour, in bytes.
    pub block: u32,
    /// Of a segment file, in bytes.
    pub segment: u64,
    /// Segment files of each log at the start, and whether later lives get another number.
    pub files: u64,
    pub resizes: bool,
    pub flush: bool,
    pub when_full: WhenFull,
    /// In s.
    pub retention_hour: u32,
    pub writers: usize,
    pub readers: usize,
    /// The first and the third have one consumer, and take over from each other.
    pub subscribers: usize,
    /// Streams alive at once.
    pub streams: usize,
    /// Typical pause of a client between two calls, in ns.
    pub think: u64,
    /// How long the clients are busy, in ns.
    pub duration: u64,
    /// Typical time of a disk request, in ns.
    pub disk_typical: u64,
    pub manners: Manners,
    /// In force in some lives of the node.
    pub faults: Faults,
    /// What is stored changes behind the node's back: bits flip, in records or in one copy of the superblock, blocks are overwritten by
    /// others. Between two lives, and of records while the node runs.
    pub harm: bool,
    /// The harm is taken back before the audit.
    pub heals: bool,
    /// Lives of the node before the last one.
    pub lives: u32,
    /// Nanoseconds within which every stored byte is verified.
    pub scrub: Option<u64>,
    /// The companion takes so many times longer for it than it is asked to: segments are recycled under it.
    pub scrub_slow: u64,
    /// No companion can start: nothing is scrubbed, and that is said. (It prepares nevertheless, in place of the ring.)
    pub no_companion: bool,
    /// The operator has the wall clock believed at every start.
    pub accepts_clock: bool,
    /// In parts of 1,000: a life ends by a clean stop.
    pub clean_stops: u32,
    /// The wall clock steps by up to an hour.
    pub clock_steps: bool,
    /// It only steps back, so that records that expire during the run show whether one does early.
    pub steps_back: bool,
    /// A worker stands still for a while now and then.
    pub pauses: bool,
    /// The number of workers may differ from life to life.
    pub changing_workers: bool,
    /// Data directories at first, and the most that there will be.
    pub drives: u8,
    pub drives_max: u8,
    /// The only drive that faults strike; `None`: all.
    pub faulty_drive: Option<u8>,
    /// Resharding, in parts of 1,000 of the administrator's calls.
    pub reshard: u32,
    /// Requests to move shards between logs in a run, about.
    pub moves: u64,
    /// Snapshots asked for in a run, about; and whether the file system has reflinks.
    pub snapshots: u64,
    pub reflinks: bool,
    /// The file system has no room for more segments at times.
    pub room_varies: bool,
    /// Every data directory has two halves; faults strike one of them at a time.
    pub mirrored: bool,
    /// Clients that race for a lease.
    pub lessees: usize,
    /// Clients that store over the native protocol, and that read over it.
    pub natives: (usize, usize),
}

fn subscribers(seed: u64) -> usize {
    Random::stream(seed, "subscribers").between(0, 3) as usize
}

impl Settings {
    pub fn draw(seed: u64, canary: Option<Canary>) -> Settings {
        let r = &mut Random::stream(seed, "scenario");
        let faulty = r.chance(300) && canary.is_none();
        let clock_steps = r.chance(200);
        // Where the clock steps by an hour, retention is real; else it is so short that records expire during the run.
        let retention_hour = if clock_steps || r.chance(200) { 3600 } else { *r.pick(&[1, 1, 2]) };
        let mut settings = Settings {
            seed,
            canary,
            workers: *r.pick(&[1, 1, 2, 3]),
            limits: limits(r),
            block: 4096,
            segment: *r.pick(&[64 << 10, 64 << 10, 128 << 10]),
            files: *r.pick(&[8, 8, 12, 24]),
            resizes: false,
            flush: r.chance(400),
            when_full: if r.chance(700) { WhenFull::Reject } else { WhenFull::Trim },
            retention_hour,
            writers: r.between(1, 4) as usize,
            readers: r.between(1, 3) as usize,
            subscribers: subscribers(seed),
            streams: r.between(1, 3) as usize,
            think: r.between(1, 60) * MILLISECOND,
            duration: r.between(10, 100) * SECOND,
            disk_typical: *r.pick(&[5_000, 20_000, 100_000, 2_000_000]),
            manners: Manners {
                crumbs: *r.pick(&[0, 20, 200]),
                stalls: *r.pick(&[0, 0, 10, 50]),
                resets: *r.pick(&[0, 0, 5, 30]),
            },
            faults: if faulty { faults(r) } else { Faults::default() },
            harm: canary.is_none() && !faulty && r.chance(200),
            heals: true,
            scrub: None,
            scrub_slow: 1,
            no_companion: false,
            accepts_clock: false,
            lives: r.between(0, 4) as u32,
            clean_stops: *r.pick(&[0, 300, 1000]),
            clock_steps,
            steps_back: false,
            pauses: r.chance(200),
            changing_workers: r.chance(250),
            drives: 1,
            drives_max: 1,
            faulty_drive: None,
            reshard: *r.pick(&[0, 150, 400]),
            moves: 0,
            snapshots: 0,
            reflinks: false,
            room_varies: false,
            mirrored: false,
            lessees: 0,
            natives: (0, 0),
        };
        if settings.changing_workers {
            // One worker at first, whose logs are three later: each part of its log memory must hold two of the largest commits.
            settings.limits.log_bytes = 256 << 10;
            (settings.workers, settings.files) = (1, 32);
        }
        settings.think = settings.think.max(settings.duration / 1500);
        if canary.is_none() {
            settings.shape(&mut Random::stream(seed, "shape"));
            settings.care(&mut Random::stream(seed, "care"));
            settings.several_drives(&mut Random::stream(seed, "drives"));
            settings.mirror(&mut Random::stream(seed, "mirror"));
        }
        settings.for_canary();
        settings
    }

    /// What the operator asks for, what there is to do it, and who else comes.
    fn care(&mut self, r: &mut Random) {
        self.scrub = *r.pick(&[None, Some(2 * SECOND), Some(10 * SECOND), Some(60 * SECOND)]);
        self.scrub_slow = *r.pick(&[1, 1, 20, 400]);
        self.accepts_clock = r.chance(300);
        self.no_companion = r.chance(50);
        self.lessees = *Random::stream(self.seed, "lessees").pick(&[0, 1, 3]);
        self.natives.0 = *Random::stream(self.seed, "natives").pick(&[0, 1, 2, 3]);
        self.natives.1 = *Random::stream(self.seed, "native readers").pick(&[0, 1, 2, 2]);
    }

    /// Some devices have larger blocks. Then, and on some others, commits and segments are so large that a read brings more than a run.
    fn shape(&mut self, r: &mut Random) {
        self.heals = r.chance(500);
        if self.clock_steps && r.chance(500) {
            (self.steps_back, self.retention_hour) = (true, *r.pick(&[1, 2]));
        }
        self.block = *r.pick(&[4096, 4096, 4096, 16 << 10, 64 << 10]);
        if self.block > 4096 || r.chance(200) {
            let limits = &mut self.limits;
            limits.block.1 = limits.block.1.max(self.block);
            limits.commit_bytes = (4 * self.block).max(256 << 10);
            limits.large.1 = limits.large.1.max(limits.commit_bytes);
            limits.log_bytes = 2 * limits.commit_bytes;
            *limits = limits.with_logs(if self.changing_workers { 3 } else { 1 });
            self.segment = (16 * self.block as u64).max(512 << 10);
            self.files = 8;
        }
        self.resizes = !self.changing_workers && r.chance(200);
        self.snapshots = *r.pick(&[0, 5, 50]);
        self.reflinks = r.chance(300);
        self.moves = *Random::stream(self.seed, "moves").pick(&[0, 20, 200]);
        self.room_varies = r.chance(150);
    }

    /// Several data directories; some come in later lives, and sometimes only one of them has faults.
    fn several_drives(&mut self, r: &mut Random) {
        if !r.chance(300) {
            return;
        }
        self.drives_max = r.between(2, 3) as u8;
        self.drives = r.between(1, self.drives_max as u64) as u8;
        if self.drives < self.drives_max || r.chance(500) {
            self.lives = self.lives.max(2);
        }
        if self.faults == Faults::default() && !self.harm && r.chance(400) {
            self.faults = faults(r);
        }
        self.faulty_drive = r.chance(700).then(|| r.below(self.drives as u64) as u8);
        self.resizes = false;
        // A worker may come to have every log.
        self.limits = self.limits.with_logs(6);
    }

    /// Two halves. What is wrong with one of them must not be seen from outside.
    fn mirror(&mut self, r: &mut Random) {
        if !(super::variable("PENSTOCK_SIM_MIRROR").is_some() || r.chance(200)) {
            return;
        }
        self.mirrored = true;
        self.lives = self.lives.max(r.between(1, 4) as u32);
        self.faulty_drive = None;
        self.faults = if r.chance(300) { faults(r) } else { Faults::default() };
        self.harm = self.faults == Faults::default() && r.chance(300);
        if self.harm {
            // A snapshot is of one half, with what has rotted there.
            self.snapshots = 0;
        }
        self.faults.no_space = 0;
        // Two buffers to compare commits in, and two to copy by.
        self.limits.large.0 = self.limits.large.0.max(4);
        self.limits.block.0 = self.limits.block.0.max(20);
    }

    /// A canary is looked for where its rule matters.
    fn for_canary(&mut self) {
        let Some(canary) = self.canary else { return };
        self.lives = self.lives.max(2);
        self.clean_stops = 0;
        self.manners = Manners { crumbs: 0, stalls: 0, resets: 0 };
        self.subscribers = 0;
        match canary {
            Canary::AckBeforeDurable | Canary::ReadUndurable => self.disk_typical = 2_000_000,
            Canary::ForgetNextSequence => {
                (self.retention_hour, self.clock_steps) = (1, false);
                (self.segment, self.files) = (64 << 10, 8);
                self.duration = 60 * SECOND;
            }
            Canary::NoEpochBump => self.lives = 4,
            Canary::EventsSkip => self.subscribers = 3,
            Canary::ForgetLeftBehind => {
                let r = &mut Random::stream(self.seed, "mirror");
                self.mirror(r);
                (self.mirrored, self.lives) = (true, 4);
                self.limits.large.0 = self.limits.large.0.max(4);
                self.limits.block.0 = self.limits.block.0.max(20);
            }
        }
    }

    pub fn disk(&self) -> u64 {
        self.segment * self.files * self.workers as u64 * self.drives_max as u64
    }
}

fn limits(r: &mut Random) -> Limits {
    let mut limits = Limits::tiny();
    if r.chance(300) {
        limits.connections = *r.pick(&[8, 16, 64]);
        limits.small.0 = r.between(4, 16) as u16;
        limits.medium.0 = r.between(3, 8) as u16;
        limits.commits_in_flight = r.between(1, 4) as usize;
        limits.puts = r.between(4, 16) as usize;
        limits.gets = r.between(2, 8) as usize;
        limits.log_bytes = *r.pick(&[64 << 10, 128 << 10, 256 << 10]);
        limits.mailbox = *r.pick(&[64, 128, 256]);
    } else if r.chance(300) {
        limits.connections = 64;
        (limits.small.0, limits.medium.0, limits.large.0) = (128, 64, 16);
        (limits.puts, limits.gets, limits.mailbox) = (64, 64, 1024);
    }
    limits
}

/// One or two kinds of faults, seldom more.
fn faults(r: &mut Random) -> Faults {
    let mut faults = Faults::default();
    for _ in 0..r.between(1, 3) {
        let part = *r.pick(&[1, 5, 30]);
        match r.below(5) {
            0 => faults.write_fails = part,
            1 => faults.write_short = part,
            2 => faults.flush_fails = part * 3,
            3 => faults.read_fails = part * 5,
            _ => faults.no_space = part * 20,
        }
    }
    faults
}

#[test]
fn a_seed_draws_the_same_each_time_and_others_differ() {
    let text = |seed| format!("{:?}", Settings::draw(seed, None));
    assert_eq!(text(5), text(5));
    assert_ne!(text(5), text(6));
}
