//! The device below the data directory: its block, what makes a write durable on it, and what that costs.

use super::clock::Clock;
use super::process;
use super::uring::{build, complete};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Least block: what file systems and most NVMe devices write without touching a neighbour.
const BLOCK_MIN: u32 = 4096;
/// Rounds of one way that are timed in a stretch; stretches of each way, in turn, so that what else the machine does meets all ways alike;
/// and when timing ends although not all are done. A single stretch of each found one device better at one or the other from start to start.
const STRETCH: usize = 8;
const STRETCHES: usize = 8;
const TIMING_NS_MAX: u64 = 150_000_000;
/// Commits that a flush would cover, as many as are in flight.
const GROUP: usize = 4;

/// What a device needs so that a completed write survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It has no volatile cache: what is written is durable.
    NoCache,
    /// Its cache is volatile, and a write may pass it.
    WriteThrough,
    /// Its cache is volatile and must be flushed.
    Flush,
    /// Nothing is said about it: it is flushed.
    Unknown,
    /// Memory: a power cut loses everything.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::NoCache => "no volatile cache",
            Durability::WriteThrough => "volatile cache, passed by each commit (FUA)",
            Durability::Flush => "volatile cache, flushed for each commit",
            Durability::Unknown => "cache unknown, flushed for each commit",
            Durability::Memory => "MEMORY: not durable",
        })
    }
}

/// What is known of the place of the data.
#[derive(Clone, Debug)]
pub struct Device {
    /// What is written without touching a neighbour, bytes.
    pub block: u32,
    pub durability: Durability,
    pub file_system: &'static str,
    /// Whether the file system is one that the log has been tried on.
    pub tried: bool,
    /// `major:minor`.
    pub number: String,
    /// Free bytes of the file system.
    pub free: u64,
    /// Whether one flush for a group of commits beats a durable write for each.
    pub flush: bool,
    /// Nanoseconds of a durable write of one block, the shortest seen.
    pub write_ns: u64,
}

/// Looks at the device and times a few writes in a file of `data`, which is gone afterwards.
pub fn examine(data: &Path) -> io::Result<Device> {
    let dir = File::open(data)?;
    let (file_system, tried) = file_system(&dir)?;
    let device = dir.metadata()?.dev();
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let queue = queue_directory(&number);
    let durability = match file_system {
        "tmpfs" | "ramfs" => Durability::Memory,
        _ => durability(queue.as_deref()),
    };
    let physical = queue.as_ref().and_then(|queue| read_number(&queue.join("physical_block_size"))).unwrap_or(0);
    let trial = Trial::new(data)?;
    let block = BLOCK_MIN.max(physical).max(process::direct_alignment(&trial.file).unwrap_or(0)).next_power_of_two();
    let [write_ns, durable_ns, flushed_ns] = trial.time(block)?;
    // Durable writes are taken unless a flush is clearly better: they release each commit by itself.
    let flush = flushed_ns * 5 < durable_ns * 4;
    Ok(Device { block, durability, file_system, tried, number, free: process::free_bytes(&dir)?, flush, write_ns })
}

fn file_system(dir: &File) -> io::Result<(&'static str, bool)> {
    Ok(match process::file_system(dir)? {
        0xef53 => ("ext4", true),
        0x5846_5342 => ("xfs", true),
        0x9123_683e => ("btrfs", false),
        0x0102_1994 => ("tmpfs", false),
        0x8584_58f6 => ("ramfs", false),
        0x794c_7630 => ("overlayfs", false),
        0x2fc1_2fc1 => ("zfs", false),
        0x6969 => ("nfs", false),
        0xf2f5_2010 => ("f2fs", false),
        0x6573_5546 => ("fuse", false),
        0x0102_1997 => ("9p", false),
        _ => ("an unknown file system", false),
    })
}

/// `queue/` of the device, or of the disk that a partition lies on.
pub(super) fn queue_directory(number: &str) -> Option<PathBuf> {
    let device = PathBuf::from("/sys/dev/block").join(number);
    [device.join("queue"), device.join("../queue")].into_iter().find_map(|queue| queue.canonicalize().ok())
}

fn durability(queue: Option<&Path>) -> Durability {
    let read = |name: &str| queue.and_then(|queue| std::fs::read_to_string(queue.join(name)).ok());
    match (read("write_cache").as_deref().map(str::trim), read("fua").as_deref().map(str::trim)) {
        (Some("write through"), _) => Durability::NoCache,
        (Some("write back"), Some("1")) => Durability::WriteThrough,
        (Some("write back"), _) => Durability::Flush,
        _ => Durability::Unknown,
    }
}

pub(super) fn read_number(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What is timed.
#[derive(Clone, Copy)]
enum Way {
    /// One durable write.
    Single,
    /// A group of them, side by side.
    Durable,
    /// A group of plain writes, with one flush behind them.
    Flushed,
}

const WAYS: [Way; 3] = [Way::Single, Way::Durable, Way::Flushed];

/// A file for trying things out. It has no name, so it goes with whoever has it open.
struct Trial {
    file: File,
}

/// A file for direct writes in `data` that has no name.
pub(super) fn nameless(data: &Path) -> io::Result<File> {
    let path = data.join(format!("trial-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_DIRECT);
    let file = options.open(&path);
    // An open that is refused for its flag has made the file all the same.
    let removed = std::fs::remove_file(&path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => io::Error::other("its file system does not do direct I/O (O_DIRECT); ext4 and xfs do"),
        _ => error,
    })?;
    removed.map(|()| file)
}

/// Memory whose start is whole blocks of any device.
#[repr(C, align(65536))]
pub(super) struct Aligned(pub [u8; 65536]);

impl Trial {
    fn new(data: &Path) -> io::Result<Trial> {
        Ok(Trial { file: nameless(data)? })
    }

    /// Nanoseconds of one durable write; of a group of them in flight together; and of a group of plain writes with one flush behind them.
    /// The first is the shortest of its rounds, the others what nine rounds of ten exceed: on a busy machine most of them measure the
    /// scheduler, which wakes a thread at its next tick.
    fn time(&self, block: u32) -> io::Result<[u64; 3]> {
        let memory = Box::new(Aligned([0; 65536]));
        let from = &memory.0[..(block as usize).min(memory.0.len())];
        let mut ring = build(GROUP as u32, 4 * GROUP as u32)?;
        // Written once before, as segments are.
        self.write(&mut ring, from, GROUP, false)?;
        self.file.sync_all()?;
        let mut times: [Vec<u64>; 3] = Default::default();
        let begin = Clock.now().mono;
        let mut last = begin;
        while times[2].len() < STRETCH * STRETCHES && last - begin < TIMING_NS_MAX {
            for (way, times) in WAYS.iter().zip(&mut times) {
                for _ in 0..STRETCH {
                    self.round(*way, &mut ring, from)?;
                    let now = Clock.now().mono;
                    times.push(now - last);
                    last = now;
                }
            }
        }
        times.iter_mut().for_each(|times| times.sort_unstable());
        let [single, durable, flushed] = &times;
        let tenth = |times: &[u64]| times[times.len() / 10];
        Ok([single[0], tenth(durable), tenth(flushed)])
    }

    fn round(&self, way: Way, ring: &mut IoUring, from: &[u8]) -> io::Result<()> {
        match way {
            Way::Single => self.write(ring, from, 1, true),
            Way::Durable => self.write(ring, from, GROUP, true),
            Way::Flushed => {
                self.write(ring, from, GROUP, false)?;
                let flush = opcode::Fsync::new(Fd(self.file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
                complete(ring, &[flush], 0)
            }
        }
    }

    /// Writes `count` blocks at once, side by side.
    fn write(&self, ring: &mut IoUring, from: &[u8], count: usize, durable: bool) -> io::Result<()> {
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let write = |number: usize| {
            let entry = opcode::Write::new(Fd(self.file.as_raw_fd()), from.as_ptr(), from.len() as u32);
            entry.offset((number * from.len()) as u64).rw_flags(flags).build()
        };
        let entries: Vec<_> = (0..count).map(write).collect();
        complete(ring, &entries, from.len() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_below_a_directory_is_examined_and_nothing_is_left_there() {
        let dir = std::env::temp_dir().join(format!("penstock-device-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let device = examine(&dir).expect("direct I/O works here");
        assert!(device.block >= BLOCK_MIN && device.block.is_power_of_two());
        assert!(device.write_ns > 0 && device.free > 0);
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 0);
        std::fs::remove_dir(&dir).expect("removed");
    }

    #[test]
    fn what_sysfs_says_of_a_cache_decides_the_class() {
        let dir = std::env::temp_dir().join(format!("penstock-queue-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let class = |cache: &str, fua: &str| {
            std::fs::write(dir.join("write_cache"), cache).expect("written");
            std::fs::write(dir.join("fua"), fua).expect("written");
            durability(Some(&dir))
        };
        assert_eq!(class("write through\n", "0\n"), Durability::NoCache);
        assert_eq!(class("write back\n", "1\n"), Durability::WriteThrough);
        assert_eq!(class("write back\n", "0\n"), Durability::Flush);
        assert_eq!(durability(None), Durability::Unknown);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
