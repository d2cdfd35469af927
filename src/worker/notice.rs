//! What a worker tells the operator: one line on standard error each.

use super::clock::ClockNews;
use super::hang::HangNews;
use super::scrub::Told;
use super::stream_news::StreamNews;
use crate::auth::refusal::Reason;
use crate::io::op::{Errno, FileName};
use crate::mirror::news::News;
use std::fmt;

/// What a data directory has of all space.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub path: String,
    /// Its place in this start.
    pub given: u8,
    pub logs: u32,
    /// Bytes that they may use together.
    pub space: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Worker 0, once: the data directory is open and requests are taken.
    Ready {
        new: bool,
        streams: usize,
        records: u64,
        disk: u64,
        logs: u32,
        segment: u64,
        directories: Vec<Share>,
        region: String,
        account: String,
    },
    /// This start cannot go on; the process ends with this text.
    Refused {
        why: String,
    },
    /// One copy of the superblock could not be used; the other one was.
    SuperblockCopy {
        file: FileName,
        why: String,
    },
    /// Recovery cut off a write that was never acknowledged.
    TornTail {
        log: u32,
        position: u64,
        bytes: u64,
    },
    /// The last entry of the catalog's journal was cut off.
    TornJournal {
        file: FileName,
    },
    /// Something acknowledged cannot be read any more. A start has kept a copy in quarantine.
    Damage {
        file: FileName,
        position: u64,
        why: String,
    },
    /// The same, met by a reader: nothing was copied, and the file stays as it is until its records expire.
    DamageRead {
        file: FileName,
        position: u64,
        why: String,
    },
    /// Runs in the footer of a segment are damaged or cannot be read: readers do without.
    FooterPassedOver {
        file: FileName,
        position: u64,
        why: String,
    },
    /// A segment that was to be emptied could not be read.
    Unread {
        file: FileName,
        position: u64,
        errno: Errno,
    },
    /// A segment that the catalog knows is not there.
    Missing {
        log: u32,
        position: u64,
    },
    /// There are more workers or directories than there were: logs are made for them, for new shards.
    MoreLogs {
        before: u32,
        now: u32,
    },
    /// There are more workers than logs, but what is stored leaves no room for more.
    NoMoreLogs {
        workers: u16,
        logs: u32,
    },
    /// The kernel does not call its clock synchronised: retention time goes on from the last run's.
    ClockNotBelieved {
        behind_seconds: u64,
    },
    /// More about the clock, at start.
    Clock(ClockNews),
    /// The log has failed: puts are refused, reads go on.
    LogFailed {
        log: u32,
        /// Where it lies, if there are several directories.
        path: Option<String>,
        what: String,
        errno: Errno,
    },
    /// The drive of a log does not answer, or does again.
    Hang(HangNews),
    /// The catalog has failed: control requests are refused, records go on.
    CatalogFailed {
        what: String,
        errno: Errno,
    },
    /// The log has passed 80 % of its space, or fallen below it again.
    Filling {
        log: u32,
        percent: u32,
        seconds_left: Option<u64>,
    },
    /// A segment was recycled before its records had expired.
    Trimmed {
        log: u32,
        records_until: u64,
    },
    /// Requests that were not let in, since the last such notice.
    Refusals {
        count: u64,
        reason: Reason,
    },
    /// Of the two halves of a data directory.
    Mirror(News),
    /// The file system has no room for another segment of a log, or (`back`) has it again.
    Room {
        log: u32,
        back: bool,
    },
    /// The file system has no room for a spare file of the catalog, or (`back`) has it again.
    CatalogRoom {
        back: bool,
    },
    /// A snapshot has been taken, or has not.
    SnapshotTaken {
        segments: u64,
        bytes: u64,
    },
    SnapshotFailed {
        why: String,
    },
    /// Of a stream and its shards.
    Stream(StreamNews),
    /// The boot clock and the wall clock have drifted apart by more than an hour: reclaim stops.
    ClockStep {
        seconds: i64,
    },
    /// Of verifying what is stored.
    Scrub(Told),
    Stopped,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Ready { new: true, .. } => write!(f, "ready: a new data directory"),
            Notice::Ready { streams, records, .. } => {
                write!(f, "ready: opened with {streams} streams, {records} records")
            }
            Notice::Refused { why } => f.write_str(why),
            Notice::SuperblockCopy { file, why } => {
                write!(f, "{file} is not usable ({why}); the other copy was used and this one is replaced")
            }
            Notice::TornTail { log, position, bytes } => {
                write!(
                    f,
                    "log {log}: cut off {bytes} bytes at position {position}, written in a crash and never acknowledged; copied to quarantine/"
                )
            }
            Notice::TornJournal { file } => {
                write!(
                    f,
                    "{file}: its last entry was not complete and was cut off; a change that was being made at the crash was never answered"
                )
            }
            Notice::Damage { file, position, why } => {
                write!(
                    f,
                    "DAMAGE in {file} at position {position}: {why}; records acknowledged there may be lost; a copy is in quarantine/"
                )
            }
            Notice::DamageRead { file, position, why } => {
                write!(
                    f,
                    "DAMAGE in {file} at position {position}: {why}; readers go on behind it; copy the file before its records expire"
                )
            }
            Notice::Missing { log, position } => {
                write!(
                    f,
                    "DAMAGE: the segment of log {log} that begins at position {position} is missing; its records are lost; restore the file from a copy"
                )
            }
            Notice::ClockNotBelieved { behind_seconds } => {
                write!(
                    f,
                    "the kernel does not call the clock synchronised: retention goes on from the last run, {behind_seconds} s behind the clock, so \
                     records live that much longer; to catch up, start with a synchronised clock (chrony, systemd-timesyncd), or with \
                     --accept-clock"
                )
            }
            Notice::Clock(news) => write!(f, "{news}"),
            Notice::MoreLogs { before, now } => {
                write!(
                    f,
                    "there are {now} logs now instead of {before}, as there are more workers or directories: new shards use them too"
                )
            }
            Notice::NoMoreLogs { workers, logs } => {
                write!(
                    f,
                    "{workers} workers share {logs} logs: what is stored leaves no room to divide the space further; \
                     start with a larger --disk, or again when records have expired"
                )
            }
            of_the_run => of_the_run.fmt_of_the_run(f),
        }
    }
}

impl Notice {
    /// What is told while records come and go.
    fn fmt_of_the_run(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::LogFailed { log, path, what, errno } => {
                let place = path.as_ref().map(|path| format!(" in {path}")).unwrap_or_default();
                write!(
                    f,
                    "log {log}{place} has failed ({what}: {errno}): puts to its shards are refused until a restart, reads go on"
                )
            }
            Notice::Unread { .. } | Notice::FooterPassedOver { .. } => self.fmt_of_reads(f),
            Notice::CatalogFailed { what, errno } => {
                write!(
                    f,
                    "the catalog has failed ({what}: {errno}): streams and shards cannot be changed until a restart"
                )
            }
            Notice::Filling { log, percent, seconds_left: Some(s) } => {
                write!(f, "log {log} is {percent} % full; full in {} min at the present rate", s / 60)
            }
            Notice::Filling { log, percent, seconds_left: None } => write!(f, "log {log} is {percent} % full"),
            Notice::Trimmed { log, .. } => {
                write!(f, "log {log} was full: its oldest segment was recycled before its records expired")
            }
            Notice::Refusals { count, reason } => write!(f, "refused {count} request(s) {}", reason.text()),
            Notice::Mirror(news) => write!(f, "{news}"),
            Notice::Hang(news) => write!(f, "{news}"),
            Notice::Room { log, back: false } => {
                write!(
                    f,
                    "the file system has no room for another segment of log {log}, which goes on in those that it has; it is tried again every 10 s: \
                     free space there, or start with a smaller --disk"
                )
            }
            Notice::Room { log, .. } => write!(f, "the file system has room again: log {log} grows"),
            Notice::CatalogRoom { back: false } => f.write_str(
                "the file system has no room for the spare files of the catalog: new streams and shards are refused, others can be used and \
                 deleted; it is tried again every 10 s: free space there",
            ),
            Notice::CatalogRoom { .. } => {
                f.write_str("the file system has room again: the catalog has its spare files")
            }
            Notice::SnapshotTaken { segments, bytes } => {
                write!(f, "a snapshot has been taken: {segments} segments with {bytes} bytes")
            }
            Notice::SnapshotFailed { why } => write!(f, "no snapshot was taken: {why}"),
            Notice::ClockStep { seconds } => {
                write!(
                    f,
                    "the wall clock stepped by {seconds} s: expiry goes on by the boot clock, and no space is reclaimed until a restart; \
                     with --accept-clock that one believes the clock in any case, else where the kernel calls it synchronised"
                )
            }
            Notice::Stream(news) => write!(f, "{news}"),
            Notice::Scrub(told) => write!(f, "{told}"),
            Notice::Stopped => write!(f, "stopped: the log is closed"),
            Notice::Ready { .. }
            | Notice::Refused { .. }
            | Notice::SuperblockCopy { .. }
            | Notice::TornTail { .. }
            | Notice::TornJournal { .. }
            | Notice::Damage { .. }
            | Notice::DamageRead { .. }
            | Notice::Missing { .. }
            | Notice::ClockNotBelieved { .. }
            | Notice::Clock(_)
            | Notice::MoreLogs { .. }
            | Notice::NoMoreLogs { .. } => unreachable!("the caller has written it"),
        }
    }

    /// What could not be read, and nothing is lost by it.
    fn fmt_of_reads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Unread { file, position, errno } => write!(
                f,
                "{file} cannot be read at position {position} ({errno}): its space is not given back yet; it is tried again; look at the device"
            ),
            Notice::FooterPassedOver { file, position, why } => write!(
                f,
                "DAMAGE in {file} at position {position}, among the places of its records: {why}; readers search the segment instead, which \
                 takes longer, and lose nothing by it; look at the device"
            ),
            _ => unreachable!("the caller has written it"),
        }
    }
}
