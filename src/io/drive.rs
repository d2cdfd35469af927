//! What the drive under a directory does when it is asked for longer than a start may take: latencies, queue depths, kinds of space, what it keeps
//! up. All is written into a file without a name, which goes with the process.

use super::clock::Clock;
use super::device::{Aligned, nameless, queue_directory, read_number};
use super::uring::{build, complete, keep};
use hdrhistogram::Histogram;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What a commit of one record takes.
const SMALL: u32 = 4096;
/// What is written of one kind of space, in writes of a middle-sized commit.
const SPACE_BYTES: u64 = 32 << 20;
const SPACE_WRITE: u32 = 64 << 10;
const SPACE_DEPTH: u64 = 4;
/// What is written before, so that small writes meet space that was written.
const PREPARED_BYTES: u64 = 64 << 20;
/// A large commit, and how many are in flight.
const LARGE: u32 = 1 << 20;
const LARGE_DEPTH: u64 = 4;
/// Small writes in flight at once.
pub const DEPTHS: [u64; 6] = [1, 2, 4, 8, 16, 32];
/// What ends a part: so many writes, or so long.
const WRITES_MAX: u64 = 4000;
const PART_NS_MAX: u64 = 3_000_000_000;
/// Between looks at whether to stop.
const LOOK_EVERY_NS: u64 = 200_000_000;
/// Longer ones count as this long.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// RWF_ATOMIC: all of a write reaches the medium, or none.
const ATOMIC: i32 = 0x40;

/// Latencies of many, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Small durable writes with so many in flight.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    pub depth: u64,
    pub per_second: u64,
    pub latency: Spread,
}

/// Where something is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Beyond the end of the file.
    Fresh,
    /// Of the file, and never written.
    Allocated,
    /// Written before, as segments are.
    Written,
}

#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub bytes_per_second: u64,
    pub latency: Spread,
}

/// What the device says of writes that are never torn, bytes, and the largest that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Atomic {
    pub least: u32,
    pub most: u32,
    pub taken: u32,
}

/// A drive under trial.
pub struct Drive {
    file: File,
    ring: IoUring,
    memory: Vec<Aligned>,
    queue: Option<std::path::PathBuf>,
    /// Bytes that the trials have written.
    pub written: u64,
}

/// Writes of one size, one behind the other, and from the beginning again at the end.
struct Run {
    size: u32,
    depth: u64,
    /// Where they begin, and how many bytes they go over.
    from: u64,
    over: u64,
    writes_max: u64,
    ns_max: u64,
}

impl Drive {
    /// A file in `data`, on the device with this number.
    pub fn new(data: &Path, number: &str) -> io::Result<Drive> {
        // What cannot be compressed. Any numbers will do; these are the same each time.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        let count = LARGE as usize / size_of::<Aligned>();
        let memory = (0..count).map(|_| Aligned(std::array::from_fn(|_| random()))).collect();
        let most = DEPTHS[DEPTHS.len() - 1] as u32;
        let ring = build(most, 4 * most)?;
        Ok(Drive { file: nameless(data)?, ring, memory, queue: queue_directory(number), written: 0 })
    }

    /// Writes the space that small writes go to.
    pub fn prepare(&mut self) -> io::Result<()> {
        let over = PREPARED_BYTES;
        let writes_max = over / u64::from(LARGE);
        let run = Run { size: LARGE, depth: LARGE_DEPTH, from: 0, over, writes_max, ns_max: u64::MAX };
        self.run(&run, 0, &mut |_| {})?;
        self.file.sync_all()
    }

    /// One small durable write after the other.
    pub fn durable(&mut self) -> io::Result<Spread> {
        Ok(self.small(1)?.latency)
    }

    /// The same for so long; `stop` ends it early.
    pub fn durable_for(&mut self, ns: u64, stop: &dyn Fn() -> bool) -> io::Result<Spread> {
        let mut seen = histogram();
        let begin = Clock.now().mono;
        loop {
            let left = ns.saturating_sub(Clock.now().mono - begin);
            if left == 0 || stop() {
                return Ok(spread(&seen));
            }
            let ns_max = left.min(LOOK_EVERY_NS);
            let run = Run { size: SMALL, depth: 1, from: 0, over: PREPARED_BYTES, writes_max: u64::MAX, ns_max };
            self.run(&run, libc::RWF_DSYNC, &mut |ns| seen.saturating_record(ns))?;
        }
    }

    /// Flushes, each behind one small write: what they take by themselves.
    pub fn flush(&mut self) -> io::Result<Spread> {
        let mut seen = histogram();
        let begin = Clock.now().mono;
        while seen.len() < WRITES_MAX && Clock.now().mono - begin < PART_NS_MAX {
            let at = seen.len() * u64::from(SMALL) % PREPARED_BYTES;
            let write = self.entry(SMALL, at, 0);
            complete(&mut self.ring, &[write], SMALL as i32)?;
            let flush = opcode::Fsync::new(Fd(self.file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
            let from = Clock.now().mono;
            complete(&mut self.ring, &[flush], 0)?;
            seen.saturating_record(Clock.now().mono - from);
            self.written += u64::from(SMALL);
        }
        Ok(spread(&seen))
    }

    /// Small durable writes, `depth` at a time.
    pub fn small(&mut self, depth: u64) -> io::Result<Depth> {
        let (over, ns_max) = (PREPARED_BYTES, PART_NS_MAX);
        let run = Run { size: SMALL, depth, from: 0, over, writes_max: WRITES_MAX, ns_max };
        let (rate, count) = self.timed(&run, libc::RWF_DSYNC, &mut |_| {})?;
        Ok(Depth {
            depth,
            per_second: rate.bytes_per_second / u64::from(SMALL),
            latency: Spread { count, ..rate.latency },
        })
    }

    /// Durable writes of middle size into one kind of space.
    pub fn space(&mut self, space: Space) -> io::Result<Rate> {
        let from = match space {
            Space::Written => 0,
            // Each begins at an end of the file of its own.
            Space::Fresh | Space::Allocated => self.file.metadata()?.len().next_multiple_of(LARGE.into()),
        };
        if space == Space::Allocated {
            let allocate = opcode::Fallocate::new(Fd(self.file.as_raw_fd()), SPACE_BYTES).offset(from).build();
            complete(&mut self.ring, &[allocate], 0)?;
            self.file.sync_all()?;
        }
        let writes_max = SPACE_BYTES / u64::from(SPACE_WRITE);
        let run =
            Run { size: SPACE_WRITE, depth: SPACE_DEPTH, from, over: SPACE_BYTES, writes_max, ns_max: 5 * PART_NS_MAX };
        Ok(self.timed(&run, libc::RWF_DSYNC, &mut |_| {})?.0)
    }

    /// Which writes are never torn: what the device says, and what it takes.
    pub fn atomic(&mut self) -> Atomic {
        let number = |name: &str| self.queue.as_ref().and_then(|queue| read_number(&queue.join(name))).unwrap_or(0);
        let (least, most) = (number("atomic_write_unit_min_bytes"), number("atomic_write_unit_max_bytes"));
        let mut taken = 0;
        for size in (12..=20).map(|power| 1u32 << power) {
            let write = self.entry(size, 0, ATOMIC | libc::RWF_DSYNC);
            if complete(&mut self.ring, &[write], size as i32).is_err() {
                break;
            }
            self.written += u64::from(size);
            taken = size;
        }
        Atomic { least, most, taken }
    }

    /// Large durable writes for so many seconds over so many bytes, which are written for the first time at first. `told` hears of each second:
    /// the bytes that were written in it, and whether all of them had been written before.
    pub fn sustained(&mut self, seconds: u64, bytes: u64, told: &mut dyn FnMut(u64, bool)) -> io::Result<Spread> {
        let from = self.file.metadata()?.len().next_multiple_of(LARGE.into());
        let over = (bytes / u64::from(LARGE)).max(1) * u64::from(LARGE);
        let ns_max = seconds * 1_000_000_000;
        let run = Run { size: LARGE, depth: LARGE_DEPTH, from, over, writes_max: u64::MAX, ns_max };
        let begin = Clock.now().mono;
        let (mut second, mut in_it, mut all) = (0, 0, 0);
        let mut tick = |size: u64| {
            let now = (Clock.now().mono - begin) / 1_000_000_000;
            while second < now {
                told(in_it, all >= over + in_it);
                (second, in_it) = (second + 1, 0);
            }
            in_it += size;
            all += size;
        };
        Ok(self.timed(&run, libc::RWF_DSYNC, &mut tick)?.0.latency)
    }

    fn timed(&mut self, run: &Run, flags: i32, tick: &mut dyn FnMut(u64)) -> io::Result<(Rate, u64)> {
        let begin = Clock.now().mono;
        let before = self.written;
        let mut seen = histogram();
        self.run(run, flags, &mut |ns| {
            seen.saturating_record(ns);
            tick(run.size.into());
        })?;
        let took = (Clock.now().mono - begin).max(1);
        let bytes = u128::from(self.written - before) * 1_000_000_000 / u128::from(took);
        Ok((Rate { bytes_per_second: bytes as u64, latency: spread(&seen) }, seen.len()))
    }

    /// Makes the writes of a run; `landed` hears of the nanoseconds of each.
    fn run(&mut self, run: &Run, flags: i32, landed: &mut dyn FnMut(u64)) -> io::Result<()> {
        let Run { size, depth, from, over, writes_max, ns_max } = *run;
        let (fd, memory) = (Fd(self.file.as_raw_fd()), self.memory.as_ptr().cast::<u8>());
        let begin = Clock.now().mono;
        let mut begun = vec![begin; depth as usize];
        let started = std::cell::RefCell::new(&mut begun);
        let mut count = 0;
        let mut next = |slot: u64| {
            let now = Clock.now().mono;
            if count == writes_max || now - begin >= ns_max {
                return None;
            }
            started.borrow_mut()[slot as usize] = now;
            let at = from + count * u64::from(size) % over;
            count += 1;
            Some(opcode::Write::new(fd, memory, size).offset(at).rw_flags(flags).build())
        };
        let mut done = |slot: u64| landed(Clock.now().mono - started.borrow()[slot as usize]);
        keep(&mut self.ring, depth, size as i32, &mut next, &mut done)?;
        self.written += count * u64::from(size);
        Ok(())
    }

    fn entry(&self, size: u32, at: u64, flags: i32) -> squeue::Entry {
        let memory = self.memory.as_ptr().cast::<u8>();
        opcode::Write::new(Fd(self.file.as_raw_fd()), memory, size).offset(at).rw_flags(flags).build()
    }
}

pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid")
}

pub(super) fn spread(seen: &Histogram<u64>) -> Spread {
    let at = |share: f64| seen.value_at_quantile(share);
    Spread { count: seen.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: seen.max() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_tried_and_nothing_is_left_there() {
        let dir = std::env::temp_dir().join(format!("penstock-drive-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut drive = Drive::new(&dir, "0:0").expect("direct I/O works here");
        drive.prepare().expect("there is room");
        assert_eq!(drive.written, PREPARED_BYTES);
        let depth = drive.small(4).expect("it can be written");
        assert!(depth.latency.count > 0 && depth.per_second > 0 && depth.latency.p50 <= depth.latency.max);
        let size = drive.file.metadata().expect("it is open").len();
        drive.space(Space::Fresh).expect("there is room");
        drive.space(Space::Allocated).expect("there is room");
        let grown = drive.file.metadata().expect("it is open").len() - size;
        assert!((SPACE_BYTES..=2 * SPACE_BYTES).contains(&grown), "{grown}");
        drive.space(Space::Written).expect("it can be written");
        let (mut seconds, mut bytes) = (0, 0);
        drive.sustained(1, 8 << 20, &mut |written, _| (seconds, bytes) = (seconds + 1, bytes + written)).expect("room");
        assert!(seconds <= 1 && bytes <= drive.written, "{seconds} {bytes}");
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 0);
        std::fs::remove_dir(&dir).expect("removed");
    }
}
