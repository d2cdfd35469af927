//! Time as values. Only [`Clock::now`] reads a clock; the pure core is handed a [`Now`] per turn, so that the simulator owns time.

use std::ops::{Add, Sub};

/// Nanoseconds of the boot clock, from an arbitrary start; never goes back, counts suspended time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Microseconds since 1970, as the wall clock says: may step either way.
#[derive(
    rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub struct Wall(pub u64);

/// The time of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

impl Mono {
    pub const fn plus_ms(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms * 1_000_000))
    }
}

impl Add<u64> for Mono {
    type Output = Mono;
    /// Later by `ns` nanoseconds.
    fn add(self, ns: u64) -> Mono {
        Mono(self.0.saturating_add(ns))
    }
}

impl Sub for Mono {
    type Output = u64;
    /// Nanoseconds between; 0 when `earlier` is the later one.
    fn sub(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Wall {
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }
}

/// Reads the machine's clocks. The one place that does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    pub fn now(self) -> Now {
        Now { mono: Mono(read(libc::CLOCK_BOOTTIME)), wall: Wall(read(libc::CLOCK_REALTIME) / 1_000) }
    }

    /// Nanoseconds that this thread has had a core for.
    pub fn thread_ns(self) -> u64 {
        read(libc::CLOCK_THREAD_CPUTIME_ID)
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec that the call fills; all clocks exist on every kernel that passes the start-up check.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
