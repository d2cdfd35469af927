//! The bytes of the log: the only file that knows where a field lies, with `format/batch.rs`, which knows it of a body. What travels between
//! native clients and the server has the same header.
//!
//! All numbers are little-endian; every CRC is CRC-32C. Fields marked c are the client's, s the server's (zero on the wire from a client).
//!
//! ```text
//! Frame header     0 magic u16 "pf" | 2 version u8 | 3 kind u8 | 4 stride u32 c | 8 body u32 c | 12 count u32 c
//!                 16 shard u64 c | 24 sequence u64 s (of the first record) | 32 arrival u64 s (µs since 1970)
//!                 40 producer u64 c | 48 number u32 c | 52 incarnation u32 s | 56 body CRC u32 c | 60 CRC u32 of bytes 0..60
//! Commit header    0 magic u16 "pC" | 2 version u8 | 3 kind u8 | 4 bytes u32 (whole commit) | 8 position u64
//!                 16 durable u64 | 24 epoch u32 | 28 incarnation u32 | 32 log u32 | 36 frames u32
//!                 40 previous u32 (CRC of the commit before) | 44 zero u32 | 48 directory u64 | 56 zero u32
//!                 60 CRC u32 of bytes 0..60, then of the header CRC of each frame in order
//! Commit          header, then frames, each on a multiple of 64; zeros up to the next block
//! Frame           header, then body; the next header of the commit is `stride` bytes behind this one
//! Body            payload (of each record: key, then data), then the index: entries of 16 bytes, then the rkyv root of 8 bytes
//! Footer          rkyv (`footer.rs`), zeros, then in the last 64 bytes of the segment file the trailer:
//!                  0 magic u32 "pgFt" | 4 version u8 | 5 zero u8 × 3 | 8 directory u64 | 16 incarnation u32 | 20 log u32
//!                 24 start u64 (byte of the file) | 32 length u64 | 40 CRC u32 of the rkyv bytes | 44 zero u8 × 16 | 60 CRC u32 of bytes 0..60
//! ```

mod batch;

use super::checksum::{Running, crc};
pub use batch::{ENTRY, Entry, ROOT, Record, Records, body_size, records, write_index};
use std::fmt;

/// A shard in frames: stream number in the high half, shard number in the low half.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey(pub u64);

impl ShardKey {
    pub const fn new(stream: u32, shard: u32) -> ShardKey {
        ShardKey((stream as u64) << 32 | shard as u64)
    }
    pub const fn stream(self) -> u32 {
        (self.0 >> 32) as u32
    }
    pub const fn shard(self) -> u32 {
        self.0 as u32
    }
}

/// A byte of a log: incarnation of its segment × segment size + byte in the file. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Bytes of a frame header, of a commit header and of a trailer; also what frames are aligned to.
pub const HEADER: usize = 64;
const FRAME_MAGIC: u16 = u16::from_le_bytes(*b"pf");
const COMMIT_MAGIC: u16 = u16::from_le_bytes(*b"pC");
const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"pgFt");
/// Version of frames and commits that this build writes, and the only one it reads.
const VERSION: u8 = 1;
/// Of trailers and the footers that they name; one of another version is no footer, and its segment is walked.
const TRAILER_VERSION: u8 = 2;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not begin with the magic number of a `what`.
    Magic { what: &'static str },
    /// It is a `what` of a version that this build cannot read.
    Version { what: &'static str, found: u8 },
    /// Its checksum does not match.
    Checksum { what: &'static str, stored: u32, computed: u32 },
    /// Its checksum matches, but a field cannot be.
    Field { what: &'static str },
    /// The bytes end before it does.
    Short { what: &'static str },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Damage::Magic { what } => write!(f, "no {what} begins here"),
            Damage::Version { what, found } => write!(f, "a {what} of version {found}, which this build cannot read"),
            Damage::Checksum { what, stored, computed } => {
                write!(f, "checksum of the {what} is {computed:08x}, stored was {stored:08x}")
            }
            Damage::Field { what } => write!(f, "impossible {what}"),
            Damage::Short { what } => write!(f, "the {what} is cut short"),
        }
    }
}

impl std::error::Error for Damage {}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Nothing: room whose owner gave it up. No records, body without meaning.
    Void = 0,
    /// Records of one shard.
    Batch = 1,
    /// The same, encrypted at rest.
    Encrypted = 2,
    /// The table of producers as it was here (`producers.rs`), or with a shard what is known of its producers from here on. No records.
    Producers = 4,
}

/// A kind in the header of a frame: of one that is stored, or of one that only travels.
pub trait HeaderKind: Copy {
    fn byte(self) -> u8;
    /// `None`: there is no such kind.
    fn of_byte(byte: u8) -> Option<Self>;
    /// Whether `sequence` and `count` are of records that follow.
    fn has_records(self) -> bool {
        true
    }
}

impl HeaderKind for FrameKind {
    fn byte(self) -> u8 {
        self as u8
    }

    fn of_byte(byte: u8) -> Option<FrameKind> {
        match byte {
            0 => Some(FrameKind::Void),
            1 => Some(FrameKind::Batch),
            2 => Some(FrameKind::Encrypted),
            4 => Some(FrameKind::Producers),
            _ => None,
        }
    }
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CommitKind {
    Data = 1,
    /// Frames that were moved from older segments.
    Moved = 2,
    /// No frames: says that the log before it is durable.
    Vouch = 4,
    /// No frames: the log was closed cleanly.
    Stopped = 5,
}

/// The header of a frame of the log.
pub type FrameHeader = Header<FrameKind>;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<K> {
    pub kind: K,
    /// Bytes from this header to the next of the commit: a multiple of 64, at least 64 + `body`.
    pub stride: u32,
    /// Bytes of the body.
    pub body: u32,
    /// Records.
    pub count: u32,
    pub shard: ShardKey,
    /// Of the first record; the others follow by one.
    pub sequence: u64,
    /// µs since 1970, not falling within a shard.
    pub arrival: u64,
    /// Producer id << 16 | its epoch; 0: none.
    pub producer: u64,
    /// Of the frame, by its producer.
    pub number: u32,
    /// Of the segment that it was written into.
    pub incarnation: u32,
    pub body_crc: u32,
}

/// The header of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHeader {
    pub kind: CommitKind,
    /// Of the whole commit: whole blocks.
    pub bytes: u32,
    pub position: Position,
    /// The log was durable below this position when the commit was sealed.
    pub durable: Position,
    pub epoch: u32,
    pub incarnation: u32,
    pub log: u32,
    pub frames: u32,
    /// CRC of the commit before it in the chain; 0 for the first of a log.
    pub previous: u32,
    pub directory: u64,
}

/// The last 64 bytes of a segment file that has a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub directory: u64,
    pub incarnation: u32,
    pub log: u32,
    /// Byte of the file where the footer begins, and its bytes.
    pub start: u64,
    pub length: u64,
    pub footer_crc: u32,
}

/// `bytes` rounded up to a multiple of `unit`, a power of two.
pub const fn round_up(bytes: u64, unit: u64) -> u64 {
    (bytes + unit - 1) & !(unit - 1)
}

/// Bytes of a frame with a body of `body` bytes, its header and the padding behind it counted.
pub const fn stride(body: u32) -> u64 {
    round_up(HEADER as u64 + body as u64, HEADER as u64)
}

struct Writer<'a>(&'a mut [u8; HEADER]);

impl Writer<'_> {
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }
}

fn u16_at(bytes: &[u8; HEADER], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes of a header"))
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes of a header"))
}

/// The 64 bytes at `at`, if that many are there.
pub fn header_at(bytes: &[u8], at: usize) -> Option<&[u8; HEADER]> {
    bytes.get(at..at.checked_add(HEADER)?)?.try_into().ok()
}

/// Whether a frame header may begin here: its magic number stands here.
pub fn is_frame(bytes: &[u8; HEADER]) -> bool {
    u16_at(bytes, 0) == FRAME_MAGIC
}

/// Whether a commit header may begin here: its magic number stands here.
pub fn is_commit(bytes: &[u8; HEADER]) -> bool {
    u16_at(bytes, 0) == COMMIT_MAGIC
}

fn checked_version(bytes: &[u8; HEADER], what: &'static str) -> Result<(), Damage> {
    match bytes[2] {
        VERSION => Ok(()),
        found => Err(Damage::Version { what, found }),
    }
}

impl<K: HeaderKind> Header<K> {
    /// Writes the header with its CRC, which is returned: the commit's CRC covers it.
    pub fn encode(&self, into: &mut [u8; HEADER]) -> u32 {
        let mut w = Writer(into);
        w.put(0, FRAME_MAGIC.to_le_bytes());
        w.put(2, [VERSION, self.kind.byte()]);
        w.put(4, self.stride.to_le_bytes());
        w.put(8, self.body.to_le_bytes());
        w.put(12, self.count.to_le_bytes());
        w.put(16, self.shard.0.to_le_bytes());
        w.put(24, self.sequence.to_le_bytes());
        w.put(32, self.arrival.to_le_bytes());
        w.put(40, self.producer.to_le_bytes());
        w.put(48, self.number.to_le_bytes());
        w.put(52, self.incarnation.to_le_bytes());
        w.put(56, self.body_crc.to_le_bytes());
        let sum = crc(&into[..60]);
        Writer(into).put(60, sum.to_le_bytes());
        sum
    }

    /// Reads a header after checking its CRC; bounds within itself are checked, those of its surroundings are the caller's.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Header<K>, Damage> {
        const WHAT: &str = "frame header";
        if !is_frame(bytes) {
            return Err(Damage::Magic { what: WHAT });
        }
        let (stored, computed) = (u32_at(bytes, 60), crc(&bytes[..60]));
        if stored != computed {
            return Err(Damage::Checksum { what: WHAT, stored, computed });
        }
        checked_version(bytes, WHAT)?;
        let kind = K::of_byte(bytes[3]).ok_or(Damage::Field { what: "kind of frame" })?;
        let header = Header {
            kind,
            stride: u32_at(bytes, 4),
            body: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            shard: ShardKey(u64_at(bytes, 16)),
            sequence: u64_at(bytes, 24),
            arrival: u64_at(bytes, 32),
            producer: u64_at(bytes, 40),
            number: u32_at(bytes, 48),
            incarnation: u32_at(bytes, 52),
            body_crc: u32_at(bytes, 56),
        };
        let fits = (header.stride as usize).is_multiple_of(HEADER)
            && header.stride as u64 >= HEADER as u64 + header.body as u64;
        if !fits {
            return Err(Damage::Field { what: "stride of a frame" });
        }
        if kind.has_records() && header.sequence.checked_add(header.count as u64).is_none() {
            return Err(Damage::Field { what: "sequence of a frame" });
        }
        Ok(header)
    }

    /// Whether `body` is the body that the header was made for.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Damage> {
        let computed = crc(body);
        match body.len() == self.body as usize && computed == self.body_crc {
            true => Ok(()),
            false => Err(Damage::Checksum { what: "body", stored: self.body_crc, computed }),
        }
    }

    /// The number after that of its last record.
    pub fn next(&self) -> u64 {
        self.sequence + self.count as u64
    }
}

/// Shard, stride and number after the last record of the frame that begins here, unchecked: to pass over frames that were made, or
/// checked, in this memory.
pub fn peek_frame(bytes: &[u8; HEADER]) -> Option<(ShardKey, u32, u64)> {
    let next = u64_at(bytes, 24).wrapping_add(u32_at(bytes, 12) as u64);
    (is_frame(bytes) && u32_at(bytes, 4) >= HEADER as u32)
        .then(|| (ShardKey(u64_at(bytes, 16)), u32_at(bytes, 4), next))
}

/// Walks the frame headers of a commit in memory.
struct FrameWalk<'a> {
    commit: &'a [u8],
    at: usize,
    left: u32,
}

impl Iterator for FrameWalk<'_> {
    type Item = Result<(usize, FrameHeader), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        let found = header_at(self.commit, at).ok_or(Damage::Short { what: "commit" }).and_then(FrameHeader::decode);
        match found {
            Ok(header) if at + header.stride as usize <= self.commit.len() => {
                self.at += header.stride as usize;
                Some(Ok((at, header)))
            }
            Ok(_) => {
                self.left = 0;
                Some(Err(Damage::Field { what: "stride of a frame" }))
            }
            Err(damage) => {
                self.left = 0;
                Some(Err(damage))
            }
        }
    }
}

impl CommitHeader {
    /// The frames of a commit: (byte in it, header), or what is wrong with the first one that is not right.
    pub fn frames<'a>(&self, commit: &'a [u8]) -> impl Iterator<Item = Result<(usize, FrameHeader), Damage>> + use<'a> {
        FrameWalk { commit, at: HEADER, left: self.frames }
    }

    /// Writes the header in front of the frames that lie in `commit`, with the CRC over both; returns the CRC.
    pub fn seal(&self, commit: &mut [u8]) -> u32 {
        let (into, _) = commit.split_first_chunk_mut::<HEADER>().expect("a commit has a header");
        let mut w = Writer(into);
        w.put(0, COMMIT_MAGIC.to_le_bytes());
        w.put(2, [VERSION, self.kind as u8]);
        w.put(4, self.bytes.to_le_bytes());
        w.put(8, self.position.0.to_le_bytes());
        w.put(16, self.durable.0.to_le_bytes());
        w.put(24, self.epoch.to_le_bytes());
        w.put(28, self.incarnation.to_le_bytes());
        w.put(32, self.log.to_le_bytes());
        w.put(36, self.frames.to_le_bytes());
        w.put(40, self.previous.to_le_bytes());
        w.put(44, [0; 4]);
        w.put(48, self.directory.to_le_bytes());
        w.put(56, [0; 4]);
        let sum = self.checksum(commit).expect("frames that were just laid out");
        commit[60..64].copy_from_slice(&sum.to_le_bytes());
        sum
    }

    /// CRC of the first 60 bytes, then of each frame's CRC: found by walking strides, without checking the frames themselves.
    fn checksum(&self, commit: &[u8]) -> Result<u32, Damage> {
        const SHORT: Damage = Damage::Short { what: "commit" };
        let mut running = Running::new();
        let mut gathered = [0u8; 256];
        gathered[..60].copy_from_slice(&commit[..60]);
        let (mut filled, mut at) = (60, HEADER);
        for _ in 0..self.frames {
            let frame = header_at(commit, at).ok_or(SHORT)?;
            if filled == gathered.len() {
                running.add(&gathered);
                filled = 0;
            }
            gathered[filled..filled + 4].copy_from_slice(&frame[60..64]);
            filled += 4;
            let stride = u32_at(frame, 4) as usize;
            if stride < HEADER || stride > commit.len() - at {
                return Err(SHORT);
            }
            at += stride;
        }
        running.add(&gathered[..filled]);
        Ok(running.value())
    }

    /// Reads the fields of a header whose CRC is not checked yet (it needs the whole commit): enough to know how long that is.
    pub fn peek(bytes: &[u8; HEADER]) -> Result<CommitHeader, Damage> {
        const WHAT: &str = "commit header";
        if !is_commit(bytes) {
            return Err(Damage::Magic { what: WHAT });
        }
        checked_version(bytes, WHAT)?;
        let kind = match bytes[3] {
            1 => CommitKind::Data,
            2 => CommitKind::Moved,
            4 => CommitKind::Vouch,
            5 => CommitKind::Stopped,
            _ => return Err(Damage::Field { what: "kind of commit" }),
        };
        Ok(CommitHeader {
            kind,
            bytes: u32_at(bytes, 4),
            position: Position(u64_at(bytes, 8)),
            durable: Position(u64_at(bytes, 16)),
            epoch: u32_at(bytes, 24),
            incarnation: u32_at(bytes, 28),
            log: u32_at(bytes, 32),
            frames: u32_at(bytes, 36),
            previous: u32_at(bytes, 40),
            directory: u64_at(bytes, 48),
        })
    }

    /// Reads the header of `commit` (exactly its bytes) after checking its CRC over all frame headers; returns the CRC too.
    pub fn decode(commit: &[u8]) -> Result<(CommitHeader, u32), Damage> {
        let header = CommitHeader::peek(header_at(commit, 0).ok_or(Damage::Short { what: "commit" })?)?;
        if header.bytes as usize != commit.len() {
            return Err(Damage::Short { what: "commit" });
        }
        let computed = header.checksum(commit)?;
        let stored = u32::from_le_bytes(commit[60..64].try_into().expect("four bytes"));
        match stored == computed {
            true => Ok((header, computed)),
            false => Err(Damage::Checksum { what: "commit", stored, computed }),
        }
    }

    /// The position behind it.
    pub fn end(&self) -> Position {
        Position(self.position.0 + self.bytes as u64)
    }
}

impl Trailer {
    pub fn encode(&self, into: &mut [u8; HEADER]) {
        into.fill(0);
        let mut w = Writer(into);
        w.put(0, TRAILER_MAGIC.to_le_bytes());
        w.put(4, [TRAILER_VERSION]);
        w.put(8, self.directory.to_le_bytes());
        w.put(16, self.incarnation.to_le_bytes());
        w.put(20, self.log.to_le_bytes());
        w.put(24, self.start.to_le_bytes());
        w.put(32, self.length.to_le_bytes());
        w.put(40, self.footer_crc.to_le_bytes());
        let sum = crc(&into[..60]);
        Writer(into).put(60, sum.to_le_bytes());
    }

    pub fn decode(bytes: &[u8; HEADER]) -> Result<Trailer, Damage> {
        const WHAT: &str = "trailer";
        if u32_at(bytes, 0) != TRAILER_MAGIC {
            return Err(Damage::Magic { what: WHAT });
        }
        let (stored, computed) = (u32_at(bytes, 60), crc(&bytes[..60]));
        if stored != computed {
            return Err(Damage::Checksum { what: WHAT, stored, computed });
        }
        if bytes[4] != TRAILER_VERSION {
            return Err(Damage::Version { what: WHAT, found: bytes[4] });
        }
        Ok(Trailer {
            directory: u64_at(bytes, 8),
            incarnation: u32_at(bytes, 16),
            log: u32_at(bytes, 20),
            start: u64_at(bytes, 24),
            length: u64_at(bytes, 32),
            footer_crc: u32_at(bytes, 40),
        })
    }
}
