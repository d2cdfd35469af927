//! The body of a frame: a batch of records of one shard.
//!
//! ```text
//! Payload   of each record: key, then data
//! Index     of each record: 0 position u32 | 4 data length u32 | 8 key length u16 | 10 flags u16 (bit 0: no key) | 12 arrival delta u32
//! Root      0 i32: minus the bytes of the index | 4 u32: how many entries it has
//! ```
//!
//! Index and root are what rkyv makes of a boxed slice; the words above are all that a client has to know of that.

use super::Damage;
use rkyv::api::low;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::writer::Buffer;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// Bytes of an entry of a body's index.
pub const ENTRY: usize = 16;
/// Bytes of the rkyv root that ends a body.
pub const ROOT: usize = 8;
/// Flag bit of an entry: the record has no partition key.
const NO_KEY: u16 = 1;

/// Bytes of the body of `count` records with `payload` bytes of keys and data.
pub const fn body_size(payload: usize, count: usize) -> usize {
    payload + ENTRY * count + ROOT
}

/// Where a record of a batch lies. Never edited: a second version would be added.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Byte of the body where its key begins; its data follows the key.
    pub position: u32,
    pub data_len: u32,
    pub key_len: u16,
    /// See [`Entry::new`].
    pub flags: u16,
    /// µs after the arrival of the frame.
    pub arrival_delta: u32,
}

impl Entry {
    /// An entry of a record at byte `position`; a `key_len` of `None` is a record without a partition key.
    pub fn new(position: u32, key_len: Option<u16>, data_len: u32) -> Entry {
        let flags = if key_len.is_none() { NO_KEY } else { 0 };
        Entry { position, data_len, key_len: key_len.unwrap_or(0), flags, arrival_delta: 0 }
    }
}

#[derive(Archive, Serialize)]
struct Index<'a> {
    #[rkyv(with = InlineAsBox)]
    entries: &'a [Entry],
}

const _: () = assert!(size_of::<ArchivedEntry>() == ENTRY && size_of::<ArchivedIndex>() == ROOT);

/// Archives the index of a body behind its payload, in place. `body` is exactly [`body_size`] of the payload and the entries.
pub fn write_index(body: &mut [u8], payload: usize, entries: &[Entry]) {
    assert_eq!(body.len(), body_size(payload, entries.len()), "a body of the size that was reserved");
    let into = Buffer::from(&mut body[payload..]);
    low::to_bytes_in_with_alloc::<_, _, Failure>(&Index { entries }, into, SubAllocator::empty())
        .expect("entries and root have exactly the room that the assertion above counts");
}

/// A record of a batch, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the batch; its sequence number is the frame's plus this.
    pub ordinal: u32,
    pub key: Option<&'a [u8]>,
    pub data: &'a [u8],
    /// µs after the arrival of the frame.
    pub arrival_delta: u32,
}

/// The records of a checked body.
#[derive(Clone)]
pub struct Records<'a> {
    body: &'a [u8],
    entries: &'a [ArchivedEntry],
    ordinal: u32,
}

/// The records of a batch of `count`. The body's CRC was checked before; here the index is, and that each record lies in the payload.
pub fn records(body: &[u8], count: u32) -> Result<Records<'_>, Damage> {
    const SHORT: Damage = Damage::Short { what: "index of a batch" };
    const WRONG: Damage = Damage::Field { what: "index of a batch" };
    let payload = (count as usize).checked_mul(ENTRY).and_then(|n| body.len().checked_sub(n + ROOT)).ok_or(SHORT)?;
    let index = rkyv::access::<ArchivedIndex<'_>, Failure>(&body[payload..]).map_err(|_| WRONG)?;
    let entries: &[ArchivedEntry] = &index.entries;
    if entries.len() != count as usize {
        return Err(WRONG);
    }
    let inside = |e: &ArchivedEntry| {
        let end = e.position.to_native() as u64 + e.key_len.to_native() as u64 + e.data_len.to_native() as u64;
        end <= payload as u64
    };
    match entries.iter().all(inside) {
        true => Ok(Records { body, entries, ordinal: 0 }),
        false => Err(WRONG),
    }
}

impl<'a> Records<'a> {
    /// Whether the records lie one behind the other from the first byte of the payload to its last, so that no two share a byte and none is
    /// left over, and every entry is as [`Entry::new`] makes it. So it is in every body that was made as this file's page says.
    pub fn are_packed(&self) -> bool {
        let mut at = 0;
        let next = |e: &ArchivedEntry| {
            let keyed = match e.flags.to_native() {
                0 => true,
                NO_KEY => e.key_len.to_native() == 0,
                _ => false,
            };
            let fits = keyed && e.position.to_native() as u64 == at && e.arrival_delta.to_native() == 0;
            at += e.key_len.to_native() as u64 + e.data_len.to_native() as u64;
            fits
        };
        let index = self.entries.len() * ENTRY;
        let [behind, count] = [-(index as i32), self.entries.len() as i32].map(i32::to_le_bytes);
        let (rest, root) = self.body.split_at(self.body.len() - ROOT);
        let rooted = root[..4] == behind && root[4..] == count;
        self.ordinal == 0 && rooted && self.entries.iter().all(next) && at == (rest.len() - index) as u64
    }

    /// Passes over the first `count` records without looking at them.
    pub fn after(mut self, count: u32) -> Records<'a> {
        let count = (count as usize).min(self.entries.len());
        self.entries = &self.entries[count..];
        self.ordinal += count as u32;
        self
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (entry, rest) = self.entries.split_first()?;
        self.entries = rest;
        let ordinal = self.ordinal;
        self.ordinal += 1;
        let key_at = entry.position.to_native() as usize;
        let data_at = key_at + entry.key_len.to_native() as usize;
        let key = (entry.flags.to_native() & NO_KEY == 0).then(|| &self.body[key_at..data_at]);
        let data = &self.body[data_at..data_at + entry.data_len.to_native() as usize];
        Some(Record { ordinal, key, data, arrival_delta: entry.arrival_delta.to_native() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.entries.len(), Some(self.entries.len()))
    }
}

impl ExactSizeIterator for Records<'_> {}
