//! The footer of a sealed segment, so that a start reads footers instead of segments. Derived from the frames: rebuilt when missing.
//!
//! ```text
//! … commits │ runs, 36 bytes each │ rkyv: summary, entries │ zeros │ trailer, 64 bytes │ end of the file
//! ```
//!
//! Entries stay in memory as extents; runs are read when someone wants them, those of one entry in one read. Each has a
//! checksum of its own, with the incarnation in it: whoever reads some of them finds those that are damaged, or left from an earlier use of the file.

use super::checksum::crc;
use super::extents::{pack_runs, unpack_runs};
use super::format::{Damage, HEADER, ShardKey, Trailer, header_at, round_up};
use super::index::{ENTRY_SIZE, Entry, RUN_SIZE, Sealed};
use rkyv::api::low;
use rkyv::rancor::Failure;
use rkyv::ser::Positional;
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::writer::Buffer;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// The room at the end of a segment file that data never enters: a five-hundredth, at least a block.
pub const fn footer_room(segment_size: u64, block: u32) -> u64 {
    let room = round_up(segment_size / 512, block as u64);
    if room < block as u64 { block as u64 } else { room }
}

/// What a footer says of its segment beside the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub incarnation: u32,
    pub log: u32,
    /// Highest epoch in it.
    pub epoch: u32,
    /// CRC of the commit before its first one, and of its last one.
    pub first_previous: u32,
    pub last_crc: u32,
    /// Byte of the file behind the last commit.
    pub end: u32,
    /// Its table of runs: byte of the file, how many, CRC.
    pub runs_from: u32,
    pub runs: u32,
    pub runs_crc: u32,
}

// Archived types are never edited: a second version would be added beside them, and the trailer's version would rise.

#[derive(Archive, Serialize)]
struct RunV1 {
    shard: u64,
    first: u64,
    arrival: u64,
    at: u32,
    end: u32,
    /// [`run_crc`].
    crc: u32,
}

#[derive(Archive, Serialize)]
struct EntryV1 {
    shard: u64,
    first: u64,
    last_arrival: u64,
    count: u32,
    at: u32,
    bytes: u32,
    /// [`pack_runs`].
    runs: u32,
}

const _: () = assert!(size_of::<ArchivedRunV1>() == RUN_SIZE && size_of::<ArchivedEntryV1>() == ENTRY_SIZE);

#[derive(Archive, Serialize)]
struct FooterV2<'a> {
    incarnation: u32,
    log: u32,
    epoch: u32,
    first_previous: u32,
    last_crc: u32,
    end: u32,
    runs_from: u32,
    runs: u32,
    runs_crc: u32,
    #[rkyv(with = InlineAsBox)]
    entries: &'a [EntryV1],
}

/// Bytes of the table of runs: in a footer of several blocks it has blocks of its own, which are durable before the others are written.
/// Whoever finds the trailer of such a footer finds the runs too; one of a single block is checked whole.
pub fn runs_size(index: &Sealed, block: u32) -> u64 {
    let runs = (index.runs.len() * RUN_SIZE) as u64;
    match runs + rest_size(index) <= block as u64 {
        true => runs,
        false => round_up(runs, block as u64),
    }
}

/// Bytes of summary, entries and trailer.
fn rest_size(index: &Sealed) -> u64 {
    (index.entries.len() * ENTRY_SIZE + size_of::<ArchivedFooterV2>() + HEADER) as u64
}

/// Bytes of the footer of `index` with its trailer, in whole blocks.
pub fn footer_size(index: &Sealed, block: u32) -> u64 {
    round_up(runs_size(index, block) + rest_size(index), block as u64)
}

/// Writes the footer into `into`, which is the last `into.len()` bytes (whole blocks, [`footer_size`]) of a file of `segment_size`.
/// Returns the summary with what it says of the runs.
pub fn write_footer(
    into: &mut [u8],
    summary: Summary,
    index: &Sealed,
    (directory, segment_size, block): (u64, u64, u32),
) -> Summary {
    into.fill(0);
    let whole = into.len();
    let runs_room = runs_size(index, block) as usize;
    let (runs, rest) = into.split_at_mut(runs_room);
    let runs = &mut runs[..index.runs.len() * RUN_SIZE];
    for (run, slot) in index.runs.iter().zip(runs.chunks_exact_mut(RUN_SIZE)) {
        let crc = run_crc(summary.incarnation, run.shard.0, (run.first, run.arrival), (run.at, run.end));
        let run = RunV1 { shard: run.shard.0, first: run.first, arrival: run.arrival, at: run.at, end: run.end, crc };
        low::to_bytes_in_with_alloc::<_, _, Failure>(&run, Buffer::from(slot), SubAllocator::empty())
            .expect("a slot has the size of a run");
    }
    let summary = Summary {
        runs_from: (segment_size - whole as u64) as u32,
        runs: index.runs.len() as u32,
        runs_crc: crc(runs),
        ..summary
    };
    let entries: Vec<EntryV1> = index.entries.iter().map(entry_v1).collect();
    let footer = FooterV2 {
        incarnation: summary.incarnation,
        log: summary.log,
        epoch: summary.epoch,
        first_previous: summary.first_previous,
        last_crc: summary.last_crc,
        end: summary.end,
        runs_from: summary.runs_from,
        runs: summary.runs,
        runs_crc: summary.runs_crc,
        entries: &entries,
    };
    let (body, trailer) = rest.split_at_mut(whole - runs_room - HEADER);
    let length = low::to_bytes_in_with_alloc::<_, _, Failure>(&footer, Buffer::from(&mut *body), SubAllocator::empty())
        .expect("the room was sized for it")
        .pos();
    let trailer_fields = Trailer {
        directory,
        incarnation: summary.incarnation,
        log: summary.log,
        start: segment_size - (whole - runs_room) as u64,
        length: length as u64,
        footer_crc: crc(&body[..length]),
    };
    trailer_fields.encode(trailer.try_into().expect("64 bytes were split off"));
    summary
}

fn entry_v1(entry: &Entry) -> EntryV1 {
    EntryV1 {
        shard: entry.shard.0,
        first: entry.first,
        last_arrival: entry.last_arrival,
        count: entry.count,
        at: entry.at,
        bytes: entry.bytes,
        runs: pack_runs(entry.runs),
    }
}

/// The trailer in the last block of a segment file, if there is one of this directory and log that stays within `segment_size`.
pub fn find_trailer(last_block: &[u8], directory: u64, log: u32, segment_size: u64) -> Option<Trailer> {
    let trailer = Trailer::decode(header_at(last_block, last_block.len().checked_sub(HEADER)?)?).ok()?;
    let end = trailer.start.checked_add(trailer.length)?;
    let inside = end <= segment_size - HEADER as u64;
    (trailer.directory == directory && trailer.log == log && inside).then_some(trailer)
}

/// Whether the runs are those that the footer was written with; `tail`: the last bytes of the file. `None`: they do not reach that far.
pub fn check_runs(tail: &[u8], summary: &Summary, segment_size: u64) -> Option<bool> {
    let from = (summary.runs_from as u64).checked_sub(segment_size - tail.len() as u64)? as usize;
    Some(tail.get(from..from + summary.runs as usize * RUN_SIZE).is_some_and(|runs| crc(runs) == summary.runs_crc))
}

/// Reads a footer: `bytes` are exactly those that the trailer names.
pub fn read_footer(bytes: &[u8], trailer: &Trailer) -> Result<(Summary, Vec<Entry>), Damage> {
    let computed = crc(bytes);
    if computed != trailer.footer_crc {
        return Err(Damage::Checksum { what: "footer", stored: trailer.footer_crc, computed });
    }
    const WRONG: Damage = Damage::Field { what: "footer" };
    let footer = rkyv::access::<ArchivedFooterV2<'_>, Failure>(bytes).map_err(|_| WRONG)?;
    let summary = Summary {
        incarnation: footer.incarnation.to_native(),
        log: footer.log.to_native(),
        epoch: footer.epoch.to_native(),
        first_previous: footer.first_previous.to_native(),
        last_crc: footer.last_crc.to_native(),
        end: footer.end.to_native(),
        runs_from: footer.runs_from.to_native(),
        runs: footer.runs.to_native(),
        runs_crc: footer.runs_crc.to_native(),
    };
    let entries: Vec<Entry> = footer.entries.iter().map(entry_of).collect();
    let bounded = entries.iter().all(|entry| {
        let runs = entry.runs.0 as u64 + entry.runs.1 as u64;
        entry.at <= summary.end && runs <= summary.runs as u64 && entry.first.checked_add(entry.count as u64).is_some()
    });
    let table_end = summary.runs_from as u64 + summary.runs as u64 * RUN_SIZE as u64;
    let whole = summary.incarnation == trailer.incarnation && summary.log == trailer.log;
    match bounded && whole && table_end <= trailer.start {
        true => Ok((summary, entries)),
        false => Err(WRONG),
    }
}

fn entry_of(entry: &ArchivedEntryV1) -> Entry {
    Entry {
        shard: ShardKey(entry.shard.to_native()),
        first: entry.first.to_native(),
        count: entry.count.to_native(),
        at: entry.at.to_native(),
        bytes: entry.bytes.to_native(),
        last_arrival: entry.last_arrival.to_native(),
        runs: unpack_runs(entry.runs.to_native()),
        moved: false,
    }
}

/// CRC of a run of segment `incarnation`.
fn run_crc(incarnation: u32, shard: u64, (first, arrival): (u64, u64), (at, end): (u32, u32)) -> u32 {
    let mut bytes = [0; 36];
    bytes[..8].copy_from_slice(&shard.to_le_bytes());
    bytes[8..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..24].copy_from_slice(&arrival.to_le_bytes());
    bytes[24..28].copy_from_slice(&at.to_le_bytes());
    bytes[28..32].copy_from_slice(&end.to_le_bytes());
    bytes[32..].copy_from_slice(&incarnation.to_le_bytes());
    crc(&bytes)
}

/// The runs in a piece of the table of segment `incarnation`, all of one shard, as far as a reader needs them: (first number, arrival, byte of
/// the file, byte behind). `None` for one that is damaged.
pub fn read_runs(
    bytes: &[u8],
    incarnation: u32,
    shard: ShardKey,
) -> impl Iterator<Item = Option<(u64, u64, u32, u32)>> + '_ {
    bytes.chunks_exact(RUN_SIZE).map(move |bytes| {
        let run = rkyv::access::<ArchivedRunV1, Failure>(bytes).ok()?;
        let (first, arrival) = (run.first.to_native(), run.arrival.to_native());
        let (at, end) = (run.at.to_native(), run.end.to_native());
        let sound = run.crc.to_native() == run_crc(incarnation, run.shard.to_native(), (first, arrival), (at, end));
        (sound && run.shard.to_native() == shard.0).then_some((first, arrival, at, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::index::Run;

    #[test]
    fn a_damaged_run_is_found_by_itself_and_none_of_another_use_of_the_file_is_taken() {
        const BLOCK: u32 = 512;
        let shard = ShardKey::new(1, 2);
        let run = |k: u32| Run {
            shard,
            first: 1 + k as u64 * 10,
            arrival: 1_000 + k as u64,
            last_arrival: 1_000 + k as u64,
            at: 64 + k * 4096,
            end: 1064 + k * 4096,
            count: 10,
            bytes: 1000,
        };
        let index = Sealed { entries: Vec::new(), runs: (0..40).map(run).collect(), fits: true };
        let mut bytes = vec![0; footer_size(&index, BLOCK) as usize];
        let summary = Summary { incarnation: 7, ..Summary::default() };
        write_footer(&mut bytes, summary, &index, (9, 1 << 20, BLOCK));
        let table = &mut bytes[..index.runs.len() * RUN_SIZE];
        let wanted: Vec<_> = index.runs.iter().map(|run| Some((run.first, run.arrival, run.at, run.end))).collect();
        assert_eq!(read_runs(table, 7, shard).collect::<Vec<_>>(), wanted);
        assert!(read_runs(table, 6, shard).all(|run| run.is_none()));
        assert!(read_runs(table, 7, ShardKey::new(1, 3)).all(|run| run.is_none()));
        for at in 0..table.len() {
            table[at] ^= 1 << (at % 8);
            for (place, run) in read_runs(table, 7, shard).enumerate() {
                assert_eq!(run, if place == at / RUN_SIZE { None } else { wanted[place] }, "byte {at}");
            }
            table[at] ^= 1 << (at % 8);
        }
    }
}
