//! The bytes of journals and snapshots.
//!
//! ```text
//! Entry   0 magic u32 "pCat" | 4 version u8 | 5 kind u8 | 6 zero u16 | 8 body u32 | 12 count u32 (of changes) | 16 number u64
//!        24 directory u64 | 32 file u64 (number of the journal or snapshot that it is in) | 40 previous u32 | 44 zero u8 × 12
//!        56 CRC-32C u32 of the body | 60 CRC-32C u32 of bytes 0..60 | 64 body, zeros to the block's end
//! kinds  1 changes: body = rkyv of Vec<Change>, the first of them change `number`
//!        2 snapshot: body = rkyv of State, whose last change is `number`
//! ```
//!
//! `previous` is the header CRC of the entry before; of a journal's first entry, that of its snapshot (0 when there is none). A journal is
//! written by one entry at a time, the next when the last is durable: so an entry that is broken at the end was never acknowledged, and
//! one that is broken before another was.

use super::change::Change;
use super::state::State;
use crc_fast::crc32_iscsi as crc;
use rkyv::rancor;

const MAGIC: u32 = u32::from_le_bytes(*b"pCat");
/// Version of entries: of the rkyv types of their bodies.
pub const VERSION: u8 = 1;
const KIND_CHANGES: u8 = 1;
const KIND_SNAPSHOT: u8 = 2;
const HEADER: usize = 64;

/// Where an entry lies: what its header must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes; entries begin at multiples.
    pub block: u32,
    pub directory: u64,
    /// Number of the journal or snapshot.
    pub file: u64,
}

/// An entry as bytes, and the header CRC that the next one names.
#[derive(Debug)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub crc: u32,
}

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Journal {
    pub changes: Vec<(u64, Change)>,
    /// Byte behind the last whole entry: the next one goes there.
    pub end: u64,
    /// Header CRC of the last whole entry.
    pub crc: u32,
    /// Something that was never acknowledged lies behind it.
    pub is_torn: bool,
}

/// Why a file is not what it should be, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub at: u64,
    pub why: String,
}

struct Header {
    version: u8,
    kind: u8,
    body: usize,
    count: u32,
    number: u64,
    directory: u64,
    file: u64,
    previous: u32,
    body_crc: u32,
    crc: u32,
}

/// Changes from `first` on, as one entry.
pub fn encode_changes(place: Place, previous: u32, first: u64, changes: &Vec<Change>) -> Encoded {
    // Fails only without memory, or past 2 GiB.
    let body = rkyv::to_bytes::<rancor::Error>(changes).expect("an entry's changes are far below 2 GiB");
    encode(place, KIND_CHANGES, previous, first, changes.len() as u32, &body)
}

/// A whole state.
pub fn encode_snapshot(place: Place, state: &State) -> Encoded {
    let body = rkyv::to_bytes::<rancor::Error>(state).expect("a catalog is far below 2 GiB");
    encode(place, KIND_SNAPSHOT, 0, state.applied, 0, &body)
}

fn encode(place: Place, kind: u8, previous: u32, number: u64, count: u32, body: &[u8]) -> Encoded {
    let mut bytes = vec![0; (HEADER + body.len()).next_multiple_of(place.block as usize)];
    bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4] = VERSION;
    bytes[5] = kind;
    bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..32].copy_from_slice(&place.directory.to_le_bytes());
    bytes[32..40].copy_from_slice(&place.file.to_le_bytes());
    bytes[40..44].copy_from_slice(&previous.to_le_bytes());
    bytes[56..60].copy_from_slice(&crc(body).to_le_bytes());
    let header_crc = crc(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header_crc.to_le_bytes());
    bytes[HEADER..HEADER + body.len()].copy_from_slice(body);
    Encoded { bytes, crc: header_crc }
}

/// The header that `bytes` begin with, if it is whole.
fn header(bytes: &[u8]) -> Option<Header> {
    let h = bytes.first_chunk::<HEADER>()?;
    let four = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    let eight = |at: usize| four(at) as u64 | (four(at + 4) as u64) << 32;
    (four(0) == MAGIC && four(60) == crc(&h[..60])).then(|| Header {
        version: h[4],
        kind: h[5],
        body: four(8) as usize,
        count: four(12),
        number: eight(16),
        directory: eight(24),
        file: eight(32),
        previous: four(40),
        body_crc: four(56),
        crc: four(60),
    })
}

impl Header {
    fn is_of(&self, place: Place) -> bool {
        self.directory == place.directory && self.file == place.file
    }

    /// The body behind the header, if it is whole.
    fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(HEADER..HEADER.checked_add(self.body)?).filter(|body| crc(body) == self.body_crc)
    }
}

/// The state in a snapshot file, and its header CRC.
pub fn decode_snapshot(place: Place, bytes: &[u8]) -> Result<(State, u32), Damage> {
    let damage = |why: &str| Damage { at: 0, why: why.to_owned() };
    let header = header(bytes).ok_or_else(|| damage("its header is damaged"))?;
    if !header.is_of(place) || header.kind != KIND_SNAPSHOT {
        return Err(damage("it belongs to another data directory or file"));
    }
    check_version(&header, 0)?;
    let body = header.body(bytes).ok_or_else(|| damage("the checksum of its body is wrong"))?;
    let mut state = rkyv::from_bytes::<State, rancor::Error>(body).map_err(|_| damage("its body does not decode"))?;
    if state.applied != header.number {
        return Err(damage("it holds another change than its header says"));
    }
    state.derive();
    Ok((state, header.crc))
}

/// Every whole entry of a journal whose snapshot ends at `place.file` and has the header CRC `previous`.
pub fn decode_journal(place: Place, previous: u32, bytes: &[u8]) -> Result<Journal, Damage> {
    let mut journal = Journal { crc: previous, ..Journal::default() };
    let mut next = place.file.saturating_add(1);
    loop {
        let rest = bytes.get(journal.end as usize..).unwrap_or_default();
        let Some((header, body)) = header(rest).and_then(|header| header.body(rest).map(|body| (header, body))) else {
            break;
        };
        if !header.is_of(place) || header.kind != KIND_CHANGES {
            return Err(Damage {
                at: journal.end,
                why: "an entry of another data directory or file is in it".to_owned(),
            });
        }
        check_version(&header, journal.end)?;
        if header.previous != journal.crc || header.number != next {
            return Err(Damage {
                at: journal.end,
                why: format!("change {next} is missing before the entry found here"),
            });
        }
        let changes =
            rkyv::from_bytes::<Vec<Change>, rancor::Error>(body).ok().filter(|c| c.len() == header.count as usize);
        let Some(changes) = changes else {
            return Err(Damage {
                at: journal.end,
                why: "an entry does not decode though its checksum is right".to_owned(),
            });
        };
        journal.changes.extend((next..).zip(changes));
        next = next.saturating_add(header.count as u64);
        journal.crc = header.crc;
        journal.end += ((HEADER + header.body) as u64).next_multiple_of(place.block as u64);
    }
    let rest = bytes.get(journal.end as usize..).unwrap_or_default();
    let is_later = |block: &[u8]| header(block).is_some_and(|h| h.is_of(place) && h.number > next);
    let behind = rest.chunks(place.block as usize).skip(1).position(is_later);
    if let Some(blocks) = behind {
        let at = journal.end + (blocks as u64 + 1) * place.block as u64;
        let why = format!(
            "the entry of change {next} is damaged, and a later one at byte {at} shows that it had been durable"
        );
        return Err(Damage { at: journal.end, why });
    }
    journal.is_torn = rest.iter().any(|byte| *byte != 0);
    Ok(journal)
}

fn check_version(header: &Header, at: u64) -> Result<(), Damage> {
    if header.version == VERSION {
        return Ok(());
    }
    let why = format!(
        "it holds an entry of version {}, this build knows version {VERSION}: use the build that wrote it",
        header.version
    );
    Err(Damage { at, why })
}
