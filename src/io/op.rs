//! What the pure core asks of the outside, and what it is told back.
//!
//! `io::uring` turns an [`Op`] into a submission and a completion into a [`Completion`]; the simulator turns the same values into events
//! over a faulty disk, network and clock. Nothing here holds an address: memory is a [`Span`], a file a [`FileName`], a socket a
//! [`Socket`]. Every op but [`Op::Wake`] is answered by exactly one completion ([`Op::Accept`] by one for each connection).

use super::buffers::Span;
use super::scrub;
use crate::auth::credentials::Access;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Slot of a connected socket in a worker's table, below `Limits::connections`. Reused only after [`Completion::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(pub u32);

/// What a file operation was for: returned unchanged with its completion. The owner packs its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl Token {
    /// Set in the token of an operation on the second half of a mirrored directory; its file is of that half.
    const SECOND: u64 = 1 << 63;

    /// The same, for half `half` of a mirror: 0 or 1. Without a mirror there is only half 0.
    pub const fn at_half(self, half: usize) -> Token {
        if half == 0 { Token(self.0 & !Token::SECOND) } else { Token(self.0 | Token::SECOND) }
    }

    /// The half of a mirror that the operation is on.
    pub const fn half(self) -> usize {
        (self.0 >> 63) as usize
    }
}

/// A file of the data directories, by its role. `Display` is its path inside the one that it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// One of the two copies, 0 or 1.
    Superblock(u8),
    /// File `index` of log `log`.
    Segment { log: u32, index: u32 },
    /// A file that a companion is still writing; renamed to its segment when it is durable.
    Preparing { log: u32, index: u32 },
    /// The catalog's changes since snapshot `number`.
    Journal { number: u64 },
    /// The catalog's state before journal `number`.
    Snapshot { number: u64 },
    /// Room that the catalog keeps for its next snapshot or journal: it becomes it by a rename.
    Spare(Spare),
    /// The same, being made; renamed when durable.
    SpareDraft(Spare),
    /// Copy of what recovery cut off or found damaged in log `log` at `position`.
    Quarantine { log: u32, position: u64 },
    /// Whose the data directory `given` of this start is.
    Identity { given: u8 },
    /// The same, being written; renamed when durable.
    IdentityDraft { given: u8 },
    /// What half of a mirror the data directory `given` of this start is, and how far it can be believed.
    Mark { given: u8 },
    /// The same of log `log`.
    LogMark { log: u32 },
    /// A file of the snapshot that is being taken.
    Captured(Piece),
}

/// What a spare file of the catalog is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spare {
    Snapshot,
    Journal,
}

/// What a snapshot is made of. Under `capture/`, its files have the names that they have in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// What belongs to it; written last, so a snapshot without it is none.
    Manifest,
    Superblock(u8),
    Snapshot {
        number: u64,
    },
    Journal {
        number: u64,
    },
    Segment {
        log: u32,
        index: u32,
    },
}

/// A directory of the data directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirName {
    /// The home: the first data directory, which has everything but logs to itself.
    Top,
    Catalog,
    /// Of a log, in the data directory that [`Op::Locate`] has named; in the home until then.
    Log(u32),
    Quarantine,
    /// The home again, for logs of any worker, which have nothing there but the quarantine.
    AboveQuarantine,
    /// The data directory that the log's lies in.
    Above(u32),
    /// A data directory, by its place among those that this start was given; 0 is the home.
    Given(u8),
    /// Where a snapshot is taken in a data directory, by its place as in [`DirName::Given`]; all but logs is in the home's.
    Capture(u8),
    CaptureCatalog,
    /// In the data directory that the log lies in.
    CaptureLog(u32),
}

/// The name of a mark, in the directory that it is of.
const MARK: &str = "mirror";

impl Piece {
    /// The file of a data directory that it is; the manifest is of none.
    pub const fn original(self) -> Option<FileName> {
        Some(match self {
            Piece::Manifest => return None,
            Piece::Superblock(copy) => FileName::Superblock(copy),
            Piece::Snapshot { number } => FileName::Snapshot { number },
            Piece::Journal { number } => FileName::Journal { number },
            Piece::Segment { log, index } => FileName::Segment { log, index },
        })
    }
}

impl FileName {
    /// The directory whose entry names the file.
    pub const fn dir(self) -> DirName {
        match self {
            FileName::Superblock(_) => DirName::Top,
            FileName::Segment { log, .. } | FileName::Preparing { log, .. } | FileName::LogMark { log } => {
                DirName::Log(log)
            }
            FileName::Journal { .. } | FileName::Snapshot { .. } | FileName::Spare(_) | FileName::SpareDraft(_) => {
                DirName::Catalog
            }
            FileName::Quarantine { .. } => DirName::Quarantine,
            FileName::Captured(Piece::Manifest | Piece::Superblock(_)) => DirName::Capture(0),
            FileName::Captured(Piece::Snapshot { .. } | Piece::Journal { .. }) => DirName::CaptureCatalog,
            FileName::Captured(Piece::Segment { log, .. }) => DirName::CaptureLog(log),
            FileName::Identity { given } | FileName::IdentityDraft { given } | FileName::Mark { given } => {
                DirName::Given(given)
            }
        }
    }

    /// The inverse of the last part of `Display`, for an entry of `dir`; `None` for a name that is not ours.
    pub fn parse(dir: DirName, name: &str) -> Option<FileName> {
        let number = |prefix: &str, suffix: &str, radix| {
            let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            u64::from_str_radix(digits, radix).ok()
        };
        let file = match dir {
            DirName::Top => FileName::Superblock(number("superblock-", "", 10)?.try_into().ok()?),
            DirName::Log(log) if name == MARK => FileName::LogMark { log },
            DirName::Log(log) => match number("segment-", "", 10) {
                Some(index) => FileName::Segment { log, index: index.try_into().ok()? },
                None => FileName::Preparing { log, index: number("segment-", ".preparing", 10)?.try_into().ok()? },
            },
            DirName::Catalog => match (number("journal-", "", 10), number("snapshot-", "", 10)) {
                (Some(number), _) => FileName::Journal { number },
                (_, Some(number)) => FileName::Snapshot { number },
                _ => {
                    let spare = if name.starts_with("snapshot") { Spare::Snapshot } else { Spare::Journal };
                    if name.ends_with(".draft") { FileName::SpareDraft(spare) } else { FileName::Spare(spare) }
                }
            },
            DirName::Quarantine => {
                let (log, position) = name.strip_prefix("log-")?.split_once('-')?;
                FileName::Quarantine { log: log.parse().ok()?, position: u64::from_str_radix(position, 16).ok()? }
            }
            // Never listed: what is there is written anew, or taken away whole.
            DirName::Capture(_) | DirName::CaptureCatalog | DirName::CaptureLog(_) => return None,
            DirName::Given(given) if name == "identity" => FileName::Identity { given },
            DirName::Given(given) if name == MARK => FileName::Mark { given },
            DirName::Given(given) => FileName::IdentityDraft { given },
            DirName::Above(_) | DirName::AboveQuarantine => return None,
        };
        (file.to_string().rsplit('/').next() == Some(name)).then_some(file)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FileName::Superblock(_)
            | FileName::Identity { .. }
            | FileName::IdentityDraft { .. }
            | FileName::Mark { .. }
            | FileName::Captured(_) => {}
            other => write!(f, "{}/", other.dir())?,
        }
        match *self {
            FileName::Superblock(copy) => write!(f, "superblock-{copy}"),
            FileName::Segment { index, .. } => write!(f, "segment-{index:06}"),
            FileName::Preparing { index, .. } => write!(f, "segment-{index:06}.preparing"),
            FileName::Journal { number } => write!(f, "journal-{number:012}"),
            FileName::Snapshot { number } => write!(f, "snapshot-{number:012}"),
            FileName::Spare(spare) => write!(f, "{spare}.spare"),
            FileName::SpareDraft(spare) => write!(f, "{spare}.spare.draft"),
            FileName::Quarantine { log, position } => write!(f, "log-{log:03}-{position:016x}"),
            FileName::Captured(piece) => match piece.original() {
                Some(original) => write!(f, "{}/{original}", DirName::Capture(0)),
                None => write!(f, "{}/manifest", DirName::Capture(0)),
            },
            FileName::Identity { .. } => f.write_str("identity"),
            FileName::IdentityDraft { .. } => f.write_str("identity.draft"),
            FileName::Mark { .. } | FileName::LogMark { .. } => f.write_str(MARK),
        }
    }
}

impl fmt::Display for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spare::Snapshot => "snapshot",
            Spare::Journal => "journal",
        })
    }
}

impl fmt::Display for DirName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DirName::Top | DirName::Above(_) | DirName::AboveQuarantine | DirName::Given(_) => f.write_str("."),
            DirName::Catalog => f.write_str("catalog"),
            DirName::Log(log) => write!(f, "log-{log:03}"),
            DirName::Quarantine => f.write_str("quarantine"),
            DirName::Capture(_) => f.write_str("capture"),
            DirName::CaptureCatalog => write!(f, "{}/{}", DirName::Capture(0), DirName::Catalog),
            DirName::CaptureLog(log) => write!(f, "{}/{}", DirName::Capture(0), DirName::Log(log)),
        }
    }
}

/// How [`Op::Open`] opens. Every file is opened for reading and writing with `O_DIRECT`: spans, places and lengths are whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHow {
    /// It must be there.
    Existing,
    /// It must not be there; `size` bytes are allocated (0: none), so that writes inside do not change its length.
    Create { size: u64 },
}

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// With `RWF_DSYNC`: when it completes, it and nothing else is durable.
    Durable,
    /// Not before an [`Op::Fsync`] that was submitted after its completion had been seen.
    Later,
}

/// A request of a worker to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Takes connections from the worker's listeners from now on.
    Accept,
    /// Opens a connection to `to` as `socket`, which is free, with `TCP_NODELAY`. Answered by [`Completion::Connected`]; after a failure the
    /// socket is free again, unless it was closed meanwhile.
    Connect {
        socket: Socket,
        to: SocketAddr,
    },
    /// Receives at least one byte into `into`, or tells the end (0). At most one in flight for a socket.
    Recv {
        socket: Socket,
        into: Span,
    },
    /// The same, but all of `into`: less only where the stream has ended, or the socket is being closed. What has come in part wakes nobody.
    RecvAll {
        socket: Socket,
        into: Span,
    },
    /// Sends all of `from`, or fails. At most one in flight for a socket; a second span follows the first in one call.
    Send {
        socket: Socket,
        from: Span,
        then: Option<Span>,
    },
    /// Ends both directions and frees the socket once its other operations have completed.
    Close {
        socket: Socket,
    },
    /// Opens a file under its name; the name is then used by the file operations until [`Op::CloseFile`] (or rename). Answered with the
    /// number of names (links) that the file has.
    Open {
        file: FileName,
        how: OpenHow,
        token: Token,
    },
    /// Writes all of `from` at byte `at`, or fails.
    WriteAt {
        file: FileName,
        at: u64,
        from: Span,
        sync: Sync,
        token: Token,
    },
    /// Reads up to `into.len` bytes from byte `at`; fewer only at the end of the file.
    ReadAt {
        file: FileName,
        at: u64,
        into: Span,
        token: Token,
    },
    /// Makes durable all writes of the file whose completions were seen before.
    Fsync {
        file: FileName,
        token: Token,
    },
    /// Renames within a directory; an open file keeps open under the new name, an open target is closed. Durable after [`Op::SyncDir`].
    Rename {
        from: FileName,
        to: FileName,
        token: Token,
    },
    /// Removes the entry; durable after [`Op::SyncDir`]. The file must not be open.
    Unlink {
        file: FileName,
        token: Token,
    },
    CloseFile {
        file: FileName,
        token: Token,
    },
    /// Creates a directory if it is not there (answered when it is there; durable after a sync of its parent).
    MakeDir {
        dir: DirName,
        token: Token,
    },
    /// Makes the entries of a directory durable.
    SyncDir {
        dir: DirName,
        token: Token,
    },
    /// Names and sizes of the files of a directory. Only at start: there is no io_uring opcode for it.
    List {
        dir: DirName,
        token: Token,
    },
    /// Asks the companion for a segment of `size` bytes, really written with zeros, durable with its entry. It works under
    /// [`FileName::Preparing`] and renames at the end.
    Prepare {
        log: u32,
        index: u32,
        size: u64,
        token: Token,
    },
    /// Gives the content of a closed-off segment a second name, durable but for the entry: a reflink where the file system has them, else a
    /// hard link, on another file system a copy. Answered with a [`Linked`].
    Link {
        from: FileName,
        to: FileName,
        token: Token,
    },
    /// Removes a directory with all that is in it, if it is there: first its own files, durably, then what is below; the rest is durable
    /// after [`Op::SyncDir`] of its parent.
    Clear {
        dir: DirName,
        token: Token,
    },
    /// Asks the companion to verify what is durable of a segment, at `rate` bytes a second. Answered by [`Completion::Scrubbed`].
    Scrub {
        segment: scrub::Segment,
        rate: u64,
        token: Token,
    },
    /// The files of log `log` lie in the data directory `given` of this start. Comes before any other operation on them.
    Locate {
        log: u32,
        given: u8,
    },
    /// Wakes another worker, which has a message.
    Wake {
        worker: u16,
    },
}

impl Op {
    /// The token of an operation on files; `None`: it is none.
    pub const fn token(mut self) -> Option<Token> {
        match self.token_mut() {
            Some(token) => Some(*token),
            None => None,
        }
    }

    /// The same operation, with another token if it is one on files.
    pub const fn with_token(mut self, other: Token) -> Op {
        if let Some(token) = self.token_mut() {
            *token = other;
        }
        self
    }

    const fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Op::Open { token, .. }
            | Op::WriteAt { token, .. }
            | Op::ReadAt { token, .. }
            | Op::Fsync { token, .. }
            | Op::Rename { token, .. }
            | Op::Unlink { token, .. }
            | Op::CloseFile { token, .. }
            | Op::MakeDir { token, .. }
            | Op::SyncDir { token, .. }
            | Op::List { token, .. }
            | Op::Prepare { token, .. }
            | Op::Link { token, .. }
            | Op::Clear { token, .. }
            | Op::Scrub { token, .. } => Some(token),
            Op::Accept
            | Op::Connect { .. }
            | Op::Recv { .. }
            | Op::RecvAll { .. }
            | Op::Send { .. }
            | Op::Close { .. }
            | Op::Locate { .. }
            | Op::Wake { .. } => None,
        }
    }

    /// The file that an operation is about; a segment in the making is the segment.
    pub const fn file(&self) -> Option<FileName> {
        Some(match *self {
            Op::Open { file, .. }
            | Op::WriteAt { file, .. }
            | Op::ReadAt { file, .. }
            | Op::Fsync { file, .. }
            | Op::Rename { from: file, .. }
            | Op::Unlink { file, .. }
            | Op::CloseFile { file, .. }
            | Op::Link { from: file, .. } => file,
            Op::Prepare { log, index, .. } => FileName::Segment { log, index },
            Op::Scrub { segment, .. } => FileName::Segment { log: segment.log, index: segment.index },
            _ => return None,
        })
    }

    /// The directory that an operation on files is in.
    pub const fn dir(&self) -> Option<DirName> {
        match (self.file(), *self) {
            (Some(file), _) => Some(file.dir()),
            (
                None,
                Op::MakeDir { dir, .. } | Op::SyncDir { dir, .. } | Op::List { dir, .. } | Op::Clear { dir, .. },
            ) => Some(dir),
            _ => None,
        }
    }
}

/// How an [`Op::Link`] was done: the number that it is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Linked {
    /// The extents are shared until one of the two is written to.
    Reflink = 0,
    /// One file with two names.
    Hard = 1,
    Copied = 2,
}

impl Linked {
    pub fn of(answer: u32) -> Linked {
        match answer {
            0 => Linked::Reflink,
            1 => Linked::Hard,
            _ => Linked::Copied,
        }
    }
}

/// Errno of a failed operation; printed with its name by `io::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

/// The answer of the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Who is at the other end of a connection, behind its `Accepted`. `secure`: what goes between is encrypted. `over`: the ring's socket
    /// that carries it, where it is a stream of HTTP/2.
    Client {
        socket: Socket,
        peer: Option<IpAddr>,
        secure: bool,
        over: Option<Socket>,
    },
    Accepted(Result<Socket, Errno>),
    /// The same of a client of the native protocol, and who it is. Its end is told by `NativeClosed`: what stands between ring and core knows
    /// nothing of it.
    NativeAccepted {
        socket: Socket,
        peer: Option<IpAddr>,
    },
    /// Of [`Op::Connect`].
    Connected {
        socket: Socket,
        result: Result<(), Errno>,
    },
    /// Bytes received; 0 is the peer's end.
    Received {
        socket: Socket,
        result: Result<u32, Errno>,
    },
    Sent {
        socket: Socket,
        result: Result<(), Errno>,
    },
    Closed {
        socket: Socket,
    },
    NativeClosed {
        socket: Socket,
    },
    /// Of a file operation: bytes moved; links of a file opened; how it was linked; else 0.
    Done {
        token: Token,
        result: Result<u32, Errno>,
    },
    /// Of [`Op::List`]: what parsed as ours, sorted, with sizes; an absent directory is `ENOENT`.
    Listed {
        token: Token,
        result: Result<Vec<(FileName, u64)>, Errno>,
    },
    /// Of [`Op::Scrub`]; `None`: there is no companion to do it.
    Scrubbed {
        token: Token,
        report: Option<Box<scrub::Report>>,
    },
    /// Another worker has sent a message.
    Woken,
    /// The operator's credentials: before the first request, and again when they have changed.
    Access(Arc<Access>),
}

/// Operations of one turn, in order. Cleared by whoever carries them out; its room is kept.
pub type Ops = Vec<Op>;
/// Completions since the last turn, in the order they were seen. Drained by the turn.
pub type Completions = Vec<Completion>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_parsed_back_from_its_path() {
        let files = [
            FileName::Superblock(1),
            FileName::Segment { log: 3, index: 12 },
            FileName::Preparing { log: 3, index: 12 },
            FileName::Journal { number: 7 },
            FileName::Snapshot { number: 8 },
            FileName::Spare(Spare::Snapshot),
            FileName::SpareDraft(Spare::Journal),
            FileName::Quarantine { log: 2, position: 0xfeed },
            FileName::Identity { given: 1 },
            FileName::IdentityDraft { given: 2 },
            FileName::Mark { given: 2 },
            FileName::LogMark { log: 7 },
        ];
        for file in files {
            let path = file.to_string();
            let last = path.rsplit('/').next().expect("rsplit gives one at least");
            assert_eq!(FileName::parse(file.dir(), last), Some(file), "{path}");
        }
        assert_eq!(
            FileName::Captured(Piece::Segment { log: 3, index: 12 }).to_string(),
            "capture/log-003/segment-000012"
        );
        assert_eq!(FileName::Captured(Piece::Superblock(1)).to_string(), "capture/superblock-1");
        assert_eq!(FileName::parse(DirName::Top, "superblock-01"), None);
        assert_eq!(FileName::parse(DirName::Catalog, "snapshot-000000000008.draft"), None);
        assert_eq!(FileName::parse(DirName::Log(0), "notes.txt"), None);
        assert_eq!(FileName::parse(DirName::Given(1), "superblock-0"), None);
    }
}
