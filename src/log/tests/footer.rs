//! Footers that are damaged, cut off or cannot be read under a running log: every record is found nevertheless.

use super::*;
use crate::log::footer::{Summary, read_footer};
use crate::log::format::{HEADER, Trailer, header_at};
use crate::log::index::RUN_SIZE;

const LARGE: u64 = 8 << 20;
/// Shards with several runs, which stand at both ends of the table, and a number between for those with one.
const LONG: [u32; 3] = [0, 1, 900];
const SHORT: u32 = 100;
const ROUNDS: u64 = 16;

/// A segment that was sealed, and what its footer says.
struct Sealed {
    rig: Rig,
    file: FileName,
    summary: Summary,
    /// When the first round of records arrived, of which each has two of each long shard; one every 10 µs.
    arrival: u64,
}

fn sealed() -> Sealed {
    let mut rig = Rig::sized(false, (8, LARGE), Disk::default());
    rig.boot();
    let arrival = rig.now;
    for round in 0..ROUNDS {
        rig.now = arrival + round * 10;
        for shard in LONG {
            rig.append(shard, 2, 9000);
            rig.settle();
        }
    }
    for shard in SHORT.. {
        rig.append(shard, 1, 50);
        rig.settle();
        if rig.log.segments.len() > 1 {
            break;
        }
    }
    let file = rig.log.files.name(rig.log.segments[0].file);
    let disk = rig.disk.clone();
    rig.restart(disk);
    let bytes = &rig.disk.files[&file].bytes;
    let trailer = Trailer::decode(header_at(bytes, bytes.len() - HEADER).unwrap()).unwrap();
    let body = trailer.start as usize..(trailer.start + trailer.length) as usize;
    let (summary, entries) = read_footer(&bytes[body], &trailer).expect("it is sound");
    let long = entries.iter().filter(|entry| LONG.contains(&entry.shard.shard()));
    assert!(long.clone().count() == 3 && long.clone().all(|entry| entry.runs.1 > 3), "{entries:?}");
    let blocks = (LARGE - summary.runs_from as u64) / BLOCK as u64;
    let of_runs = (trailer.start - summary.runs_from as u64) / BLOCK as u64;
    assert!(of_runs == 2 && blocks > of_runs, "{of_runs} blocks of {blocks}");
    Sealed { rig, file, summary, arrival }
}

impl Sealed {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.rig.disk.files.get_mut(&self.file).expect("it is there").bytes
    }

    /// All of a long shard is found from every place that a reader may begin at.
    fn check_long(&mut self, shard: u32, what: &str) {
        let key = ShardKey::new(7, shard);
        let last = 2 * ROUNDS;
        for from in 1..=last {
            let found = self.rig.read(key, from).unwrap_or_else(|why| panic!("{what}: {shard} from {from}: {why}"));
            let right = |(number, data): &(u64, Vec<u8>)| self.rig.model[&key][number].data == *data;
            assert!(found.iter().all(right), "{what}: {shard} from {from}");
            let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, (from..=last).collect::<Vec<_>>(), "{what}: {shard} from {from}");
        }
        for round in 0..ROUNDS {
            let mut damage = Vec::new();
            let found = self.rig.read_with(Reader::at_arrival(key, self.arrival + round * 10), &mut damage);
            let first = found.first().map(|(number, _)| *number);
            let whole = first.is_some_and(|first| first <= 2 * round + 1 && found.len() as u64 == last + 1 - first);
            assert!(whole && damage.is_empty(), "{what}: {shard} as of round {round}: from {first:?}: {damage:?}");
        }
    }

    /// Everything is found; whether a reader did without runs, each time those of this segment.
    fn check(&mut self, what: &str) -> bool {
        self.rig.passed_over.clear();
        self.rig.check();
        LONG.into_iter().for_each(|shard| self.check_long(shard, what));
        let table = (self.file, self.rig.log.position(self.summary.incarnation, self.summary.runs_from));
        assert!(self.rig.passed_over.iter().all(|told| *told == table), "{what}: {:?}", self.rig.passed_over);
        !self.rig.passed_over.is_empty()
    }
}

#[test]
fn all_records_are_found_whichever_block_of_a_footer_is_damaged_or_cannot_be_read() {
    let mut sealed = sealed();
    assert!(!sealed.check("sound"), "nothing is passed over");
    let sound = sealed.bytes().clone();
    let runs_end = sealed.summary.runs_from as usize + sealed.summary.runs as usize * RUN_SIZE;
    for block in (sealed.summary.runs_from as usize..LARGE as usize).step_by(BLOCK as usize) {
        let whole = block..block + BLOCK as usize;
        let of_runs = block < runs_end;
        for (how, with) in [("inverted", (|b| !b) as fn(u8) -> u8), ("zeros", |_| 0), ("a bit of each byte", |b| b ^ 8)]
        {
            sealed.bytes()[whole.clone()].iter_mut().for_each(|byte| *byte = with(*byte));
            let what = format!("block {block}, {how}");
            assert_eq!(sealed.check(&what), of_runs, "{what}");
            sealed.bytes()[whole.clone()].copy_from_slice(&sound[whole.clone()]);
        }
        sealed.rig.disk.unreadable = Some((sealed.file, block as u64..block as u64 + BLOCK as u64));
        assert_eq!(sealed.check(&format!("block {block}, unreadable")), of_runs);
        sealed.rig.disk.unreadable = None;
    }
    sealed.rig.disk.unreadable = Some((sealed.file, sealed.summary.runs_from as u64..LARGE));
    assert!(sealed.check("the footer is unreadable"));
    sealed.rig.disk.unreadable = None;
    assert!(!sealed.check("sound again"), "nothing is passed over");
}

#[test]
fn all_records_are_found_whichever_run_is_damaged() {
    let mut sealed = sealed();
    let from = sealed.summary.runs_from as usize;
    let mut long = 0;
    for run in 0..sealed.summary.runs as usize {
        let at = from + run * RUN_SIZE;
        let shard = ShardKey(u64::from_le_bytes(sealed.bytes()[at..at + 8].try_into().unwrap())).shard();
        let byte = at + run * 5 % RUN_SIZE;
        sealed.bytes()[byte] ^= 1 << (run % 8);
        sealed.rig.passed_over.clear();
        if LONG.contains(&shard) {
            sealed.check_long(shard, &format!("run {run}"));
            assert!(!sealed.rig.passed_over.is_empty(), "run {run}");
            long += 1;
        } else {
            assert_eq!(sealed.rig.read(ShardKey::new(7, shard), 0).map(|found| found.len()), Ok(1), "run {run}");
        }
        sealed.bytes()[byte] ^= 1 << (run % 8);
    }
    assert!(long > 9, "{long}");
}

#[test]
fn all_records_are_found_wherever_the_file_ends_in_the_footer() {
    let mut sealed = sealed();
    let sound = sealed.bytes().clone();
    let from = sealed.summary.runs_from as usize;
    for end in (from..from + sealed.summary.runs as usize * RUN_SIZE).step_by(512) {
        sealed.bytes().truncate(end);
        assert!(sealed.check(&format!("ends at {end}")));
        *sealed.bytes() = sound.clone();
    }
}

#[test]
fn a_start_over_a_damaged_footer_finds_all_records() {
    let mut sealed = sealed();
    let sound = sealed.rig.disk.clone();
    for block in (sealed.summary.runs_from as usize..LARGE as usize).step_by(BLOCK as usize) {
        let mut disk = sound.clone();
        let file = disk.files.get_mut(&sealed.file).expect("it is there");
        file.bytes[block..block + BLOCK as usize].iter_mut().for_each(|byte| *byte ^= 8);
        file.durable = file.bytes.clone();
        sealed.rig.restart(disk);
        sealed.check(&format!("block {block}"));
    }
}

#[test]
fn without_runs_a_reader_reads_no_more_than_from_where_the_extent_begins() {
    let mut sealed = sealed();
    let (key, last) = (ShardKey::new(7, 900), 2 * ROUNDS);
    let span = sealed.rig.buffers.take(Pool::Large).expect("a slot to read into");
    let mut fewest = [usize::MAX; 2];
    for (with, unreadable) in
        [None, Some((sealed.file, sealed.summary.runs_from as u64..LARGE))].into_iter().enumerate()
    {
        sealed.rig.disk.unreadable = unreadable;
        let mut reader = Reader::new(key, last);
        let (mut read, mut next) = (0, 0);
        let position = loop {
            match reader.next(&sealed.rig.log, &sealed.rig.buffers) {
                Step::Frame { position, .. } => break position,
                Step::PassedOver { .. } => {}
                Step::Read { file, at, len } => {
                    assert!(len <= 32 << 10, "{len} bytes at {at}");
                    match sealed.rig.disk.read(file, at, span.first(len), &mut sealed.rig.buffers) {
                        Ok(bytes) => {
                            // On and on: nothing is read twice, but for a frame that two reads share.
                            let of_runs = at >= sealed.summary.runs_from as u64;
                            assert!(of_runs || at + 20_000 >= next, "{at} after {next}");
                            read += len as usize;
                            next = if of_runs { next } else { at + len as u64 };
                            reader.filled(span, bytes);
                        }
                        Err(errno) => assert!(reader.failed(errno), "{at}"),
                    }
                }
                other => panic!("{other:?}"),
            }
        };
        fewest[with] = read;
        let within = (position.0 % LARGE) as usize;
        assert!(read <= 2 * within + (64 << 10), "{read} bytes for a frame at {within}");
    }
    assert!(fewest[0] < 100_000 && fewest[1] > 4 * fewest[0], "{fewest:?}");
}
