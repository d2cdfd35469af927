//! The checks: a table of what to look at, what is wanted, and why. Each is a function of a host's files and changes nothing.

mod clock;
mod cpu;
mod devices;
mod disk;
mod driver;
mod judge;
mod memory;
mod network;
mod stack;

pub use disk::{COMMIT_KIB, REQUEST_KIB, requests};
pub use driver::{COALESCING_US_MAX, OFFLOADS, RING_LEAST, RING_MOST};
pub use judge::chosen;
pub use network::{interrupts_as_wanted, packet_interrupts};
pub use stack::SOCKET_BYTES_MIN;

use super::placement::{Interrupts, Placement};
use super::root::Root;
use super::topology::Topology;

/// What the host is for. Advice that is right for one is wrong for another, so it is never given without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The shortest tail of acknowledgements, whatever the power costs.
    Latency,
    /// The most bytes a second.
    Throughput,
    /// Runs that can be compared with each other.
    Ci,
}

/// From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Ok,
    /// There is nothing of the kind on this host.
    Absent,
    /// Not as wanted, and no harm for this profile.
    Info,
    /// It may be either: what says so could not be read.
    Unknown,
    Warn,
    Fail,
}

/// What the checks look at.
pub struct Host<'a> {
    pub root: &'a Root,
    pub topology: &'a Topology,
    pub placement: &'a Placement,
    pub profile: Profile,
    /// The data directory, for the file system under it; empty: none is known.
    pub data: &'a str,
}

pub struct Check {
    pub id: &'static str,
    /// What it is where it is not met: for latency, throughput, ci.
    severity: [Status; 3],
    judge: fn(&Host) -> Finding,
    pub why: &'static str,
    /// How it is mended.
    pub mend: &'static str,
    /// What keeps it mended over a restart of the host.
    pub persist: Persist,
    /// What mending it costs.
    pub risk: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    Sysctl,
    Udev,
    Systemd,
    KernelCommandLine,
    FileSystem,
    Hardware,
    Nothing,
}

/// What a check has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    found: String,
    wanted: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Unmet,
    Absent,
    Unknown,
}

/// A finding with what it comes to for the profile.
pub struct Outcome {
    pub check: &'static Check,
    pub status: Status,
    pub found: String,
    pub wanted: String,
}

const FAIL: [Status; 3] = [Status::Fail; 3];
const WARN: [Status; 3] = [Status::Warn; 3];
const INFO: [Status; 3] = [Status::Info; 3];
/// Costs the tail of latencies, and hardly any throughput.
const TAIL: [Status; 3] = [Status::Warn, Status::Info, Status::Info];
/// Makes runs differ from each other as well.
const JITTER: [Status; 3] = [Status::Warn, Status::Info, Status::Warn];

/// Every check, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let tables = [
        cpu::CHECKS,
        clock::CHECKS,
        devices::CHECKS,
        memory::CHECKS,
        disk::CHECKS,
        network::CHECKS,
        stack::CHECKS,
        driver::CHECKS,
    ];
    tables.into_iter().flatten()
}

/// Makes every check.
pub fn run(host: &Host) -> Vec<Outcome> {
    all().map(|check| check.run(host)).collect()
}

/// The worst of all.
pub fn worst(outcomes: &[Outcome]) -> Status {
    outcomes.iter().map(|outcome| outcome.status).max().unwrap_or(Status::Ok)
}

impl Check {
    fn run(&'static self, host: &Host) -> Outcome {
        let Finding { verdict, found, wanted } = (self.judge)(host);
        let status = match verdict {
            Verdict::Met => Status::Ok,
            Verdict::Absent => Status::Absent,
            Verdict::Unknown => Status::Unknown,
            Verdict::Unmet => self.severity[host.profile as usize],
        };
        Outcome { check: self, status, found, wanted }
    }
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Profile::Latency => "latency",
            Profile::Throughput => "throughput",
            Profile::Ci => "ci",
        }
    }
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Absent => "absent",
            Status::Info => "info",
            Status::Unknown => "unknown",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

impl Persist {
    pub fn name(self) -> &'static str {
        match self {
            Persist::Sysctl => "sysctl.d",
            Persist::Udev => "udev rule",
            Persist::Systemd => "systemd unit",
            Persist::KernelCommandLine => "kernel command line",
            Persist::FileSystem => "file system",
            Persist::Hardware => "hardware",
            Persist::Nothing => "nothing",
        }
    }
}

impl Host<'_> {
    /// Cores with a worker on them.
    pub fn worker_cores(&self) -> Vec<usize> {
        self.placement.workers.iter().map(|worker| worker.core).collect()
    }

    /// Cores that packets wait for: those with a worker, and those that are kept for interrupts.
    pub fn waited_for(&self) -> Vec<usize> {
        let mut cores = self.worker_cores();
        if let Interrupts::Away(kept) = &self.placement.interrupts {
            cores.extend(kept);
        }
        cores.sort_unstable();
        cores
    }
}
