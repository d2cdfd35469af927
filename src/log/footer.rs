//! The footer of a sealed segment: its index as rkyv, so that a start reads footers instead of segments. Derived: rebuilt when missing.

use super::checksum::crc;
use super::format::{Damage, HEADER, ShardKey, Trailer, header_at, round_up};
use super::index::{RUN_SIZE, Run, SPAN_SIZE, Sealed, ShardSpan};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

// Archived types are never edited: a second version would be added beside them, and the trailer's version would rise.

#[derive(Archive, Serialize)]
struct RunV1 {
    shard: u64,
    first: u64,
    arrival: u64,
    at: u32,
    count: u32,
}

#[derive(Archive, Serialize)]
struct SpanV1 {
    shard: u64,
    first: u64,
    next: u64,
    first_arrival: u64,
    last_arrival: u64,
    records: u64,
    runs_at: u32,
    runs: u32,
}

const _: () = assert!(size_of::<ArchivedRunV1>() == RUN_SIZE && size_of::<ArchivedSpanV1>() == SPAN_SIZE);

#[derive(Archive, Serialize)]
struct FooterV1<'a> {
    incarnation: u32,
    log: u32,
    epoch: u32,
    first_previous: u32,
    last_crc: u32,
    end: u32,
    #[rkyv(with = InlineAsBox)]
    spans: &'a [SpanV1],
    #[rkyv(with = InlineAsBox)]
    runs: &'a [RunV1],
}

fn run_v1(run: &Run) -> RunV1 {
    RunV1 { shard: run.shard.0, first: run.first, arrival: run.arrival, at: run.at, count: run.count }
}

fn span_v1(span: &ShardSpan) -> SpanV1 {
    SpanV1 {
        shard: span.shard.0,
        first: span.first,
        next: span.next,
        first_arrival: span.first_arrival,
        last_arrival: span.last_arrival,
        records: span.records,
        runs_at: span.runs_at,
        runs: span.runs,
    }
}

/// Bytes of the footer of `index` with its trailer, in whole blocks.
pub fn footer_size(index: &Sealed, block: u32) -> u64 {
    let rkyv = index.spans.len() * SPAN_SIZE + index.runs.len() * RUN_SIZE + size_of::<ArchivedFooterV1>();
    round_up((rkyv + HEADER) as u64, block as u64)
}

/// Writes the footer into `into`, which is the last `into.len()` bytes (whole blocks, [`footer_size`]) of a file of `segment_size`.
pub fn write_footer(into: &mut [u8], summary: &Summary, index: &Sealed, directory: u64, segment_size: u64) {
    let spans: Vec<SpanV1> = index.spans.iter().map(span_v1).collect();
    let runs: Vec<RunV1> = index.runs.iter().map(run_v1).collect();
    let footer = FooterV1 {
        incarnation: summary.incarnation,
        log: summary.log,
        epoch: summary.epoch,
        first_previous: summary.first_previous,
        last_crc: summary.last_crc,
        end: summary.end,
        spans: &spans,
        runs: &runs,
    };
    into.fill(0);
    let whole = into.len();
    let (body, trailer) = into.split_at_mut(whole - HEADER);
    let length = low::to_bytes_in_with_alloc::<_, _, Failure>(&footer, Buffer::from(&mut *body), SubAllocator::empty())
        .expect("the room was sized for it")
        .pos();
    let trailer_fields = Trailer {
        directory,
        incarnation: summary.incarnation,
        log: summary.log,
        start: segment_size - whole as u64,
        length: length as u64,
        footer_crc: crc(&body[..length]),
    };
    trailer_fields.encode(trailer.try_into().expect("64 bytes were split off"));
}

/// The trailer in the last block of a segment file, if there is one of this directory and log that stays within `segment_size`.
pub fn find_trailer(last_block: &[u8], directory: u64, log: u32, segment_size: u64) -> Option<Trailer> {
    let trailer = Trailer::decode(header_at(last_block, last_block.len().checked_sub(HEADER)?)?).ok()?;
    let end = trailer.start.checked_add(trailer.length)?;
    let inside = end <= segment_size - HEADER as u64 && trailer.start.is_multiple_of(last_block.len() as u64);
    (trailer.directory == directory && trailer.log == log && inside).then_some(trailer)
}

/// Reads a footer: `bytes` are exactly those that the trailer names.
pub fn read_footer(bytes: &[u8], trailer: &Trailer) -> Result<(Summary, Sealed), Damage> {
    let computed = crc(bytes);
    if computed != trailer.footer_crc {
        return Err(Damage::Checksum { what: "footer", stored: trailer.footer_crc, computed });
    }
    const WRONG: Damage = Damage::Field { what: "footer" };
    let footer = rkyv::access::<ArchivedFooterV1<'_>, Failure>(bytes).map_err(|_| WRONG)?;
    let summary = Summary {
        incarnation: footer.incarnation.to_native(),
        log: footer.log.to_native(),
        epoch: footer.epoch.to_native(),
        first_previous: footer.first_previous.to_native(),
        last_crc: footer.last_crc.to_native(),
        end: footer.end.to_native(),
    };
    let runs: Box<[Run]> = footer
        .runs
        .iter()
        .map(|run| Run {
            shard: ShardKey(run.shard.to_native()),
            first: run.first.to_native(),
            arrival: run.arrival.to_native(),
            at: run.at.to_native(),
            count: run.count.to_native(),
        })
        .collect();
    let spans: Box<[ShardSpan]> = footer
        .spans
        .iter()
        .map(|span| ShardSpan {
            shard: ShardKey(span.shard.to_native()),
            first: span.first.to_native(),
            next: span.next.to_native(),
            first_arrival: span.first_arrival.to_native(),
            last_arrival: span.last_arrival.to_native(),
            records: span.records.to_native(),
            runs_at: span.runs_at.to_native(),
            runs: span.runs.to_native(),
        })
        .collect();
    let bounded = spans.iter().all(|span| span.runs_at as u64 + span.runs as u64 <= runs.len() as u64);
    let sorted = spans.is_sorted_by_key(|span| span.shard);
    match bounded && sorted && summary.incarnation == trailer.incarnation && summary.log == trailer.log {
        true => Ok((summary, Sealed { spans, runs, fits: true })),
        false => Err(WRONG),
    }
}
