//! Readers that are kept while the log goes on.

use super::relocation::fate;
use super::*;
use crate::log::find::Located;
use crate::log::format::{FrameHeader, HEADER, header_at};
use std::ops::Range;

const KEPT: ShardKey = ShardKey::new(7, 1);

/// A log over a disk that nothing is in memory of: `frames` frames of `count` records of shard 1, between others.
fn cold(frames: u32, count: u32, others: u32) -> Rig {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    for _ in 0..frames {
        rig.append(1, count, 200);
        rig.settle();
        for _ in 0..others {
            rig.append(0, 1, 3000);
            rig.settle();
        }
    }
    let disk = rig.disk.clone();
    rig.restart(disk);
    rig
}

impl Rig {
    /// A reader that has given `frames` frames of shard 1.
    fn stopped(&mut self, frames: usize, span: Span) -> Reader {
        let mut reader = Reader::new(KEPT, 1);
        self.read_frames(&mut reader, frames, span, &mut Vec::new());
        reader
    }

    /// The numbers that a reader gives from now on, none of which may be damaged.
    fn rest(&mut self, reader: &mut Reader, span: Span) -> Vec<u64> {
        let mut damage = Vec::new();
        let found = self.read_frames(reader, usize::MAX, span, &mut damage);
        assert_eq!(damage, Vec::<String>::new());
        found.into_iter().map(|(number, _)| number).collect()
    }

    /// Moves what is kept; segments that have been emptied stay.
    fn move_all(&mut self) {
        for _ in 0..100 {
            while !self.log.survey(&mut { fate }, 2) {}
            self.now += 200_000_000;
            let (now, mut ops) = (self.now(), Vec::new());
            self.log.relocate(now, false, &mut { fate }, &mut self.buffers, &mut ops);
            self.log.end_turn(now, &mut self.buffers, &mut ops);
            self.take(ops);
            self.settle();
        }
    }
}

#[test]
fn a_reader_goes_on_from_any_number_of_the_frame_that_it_gave_last_and_from_the_next() {
    let mut rig = cold(30, 4, 1);
    let span = rig.buffers.take(Pool::Large).expect("free");
    for frames in 1..=30 {
        let last = frames as u64 * 4;
        for from in last - 3..=last + 1 {
            for with_bytes in [true, false] {
                let mut reader = rig.stopped(frames, span);
                assert!(reader.goes_on_from(from));
                if !with_bytes {
                    reader.forget_bytes();
                    rig.buffers.bytes_mut(span).fill(0xa5);
                }
                let found = rig.rest(&mut reader, span);
                let expected: Vec<u64> = ((from - 1) / 4 * 4 + 1..=120).collect();
                assert_eq!(found, expected, "from {from} after {frames} frames, with bytes: {with_bytes}");
            }
        }
        let mut reader = rig.stopped(frames, span);
        assert!(!reader.goes_on_from(last + 2) && (frames == 1 || !reader.goes_on_from(last - 4)));
    }
    assert!(!Reader::at_arrival(KEPT, 0).goes_on_from(0), "it has not found its number yet");
}

#[test]
fn a_kept_reader_finds_what_was_moved_though_what_it_was_moved_from_is_damaged_or_gone() {
    // Spoilt is a byte of the frame's header, or of its body.
    for (gone, with_bytes, at) in [
        (false, true, 20),
        (false, false, 20),
        (false, true, 70),
        (false, false, 70),
        (true, true, 20),
        (true, false, 20),
    ] {
        let mut rig = cold(24, 1, 3);
        let span = rig.buffers.take(Pool::Large).expect("free");
        let mut reader = rig.stopped(1, span);
        assert!(reader.goes_on_from(2));
        let stands = rig.log.place(reader_position(&rig, 2)).expect("its segment is there");
        match gone {
            true => rig.tidy_up(fate),
            false => rig.move_all(),
        }
        let moved = rig.log.place(reader_position(&rig, 2)).expect("it is somewhere");
        assert_ne!(moved.incarnation, stands.incarnation, "it was moved");
        assert_eq!(rig.log.segment_index(stands.incarnation).is_none(), gone);
        if !with_bytes {
            reader.forget_bytes();
        }
        // Whatever the reader still takes from where it stands: the next two are damaged there, the one behind them is not.
        let harmed = spoil(&mut rig.disk.files.get_mut(&stands.file).expect("there").bytes, 2..4, at)
            + spoil(rig.buffers.bytes_mut(span), 2..4, at);
        assert!(gone || harmed >= 2, "the segment has them still");
        assert_eq!(
            rig.rest(&mut reader, span),
            (2..=24).collect::<Vec<_>>(),
            "gone: {gone}, bytes: {with_bytes}, byte {at}"
        );
    }
}

#[test]
fn the_read_ahead_is_the_one_that_is_asked_for_next() {
    // (shards, records of a frame, bytes of a record, bytes of a segment): runs of many frames, of one; frames larger than a read's rest; many
    // segments, in which an extent has one run and no table.
    for (shards, count, len, segment) in
        [(1, 2, 300, 1 << 20), (3, 1, 7_000, 1 << 20), (1, 1, 30_000, 1 << 20), (2, 3, 900, SEGMENT)]
    {
        let mut rig = Rig::sized(false, (16, segment), Disk::default());
        rig.boot();
        for round in 0.. {
            rig.append(round % shards, count, len);
            rig.settle();
            if rig.log.segments.len() > 4 {
                break;
            }
        }
        let disk = rig.disk.clone();
        rig.restart(disk);
        let span = rig.buffers.take(Pool::Large).expect("free");
        let mut reader = Reader::new(ShardKey::new(7, 0), 1);
        let (mut ahead, mut right, mut of_tables) = (None, 0, 0);
        loop {
            match reader.next(&rig.log, &rig.buffers) {
                Step::Frame { .. } => {}
                Step::Read { file, at, len } => {
                    match ahead {
                        Some(ahead) => assert_eq!(Some(ahead), reader.asked()),
                        None => of_tables += 1,
                    }
                    right += usize::from(ahead.is_some());
                    let bytes = rig.disk.read(file, at, span.first(len), &mut rig.buffers).expect("it can be read");
                    assert_eq!(
                        reader.ahead(&rig.log, &rig.buffers),
                        reader.asked(),
                        "what is asked for is what comes next"
                    );
                    reader.filled(span, bytes);
                    ahead = reader.ahead(&rig.log, &rig.buffers);
                }
                Step::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ahead, None, "nothing is ahead at the end");
        assert!(right > 5 && of_tables <= 6, "{right} reads were foreseen, {of_tables} were not");
    }
}

#[test]
fn a_reader_whose_segment_has_been_sealed_passes_over_what_is_others() {
    let mut rig = Rig::sized(false, (16, 1 << 20), Disk::default());
    rig.boot();
    for round in 0..25 {
        rig.append(u32::from(round % 5 == 0), 1, 28_000);
        rig.settle();
    }
    let disk = rig.disk.clone();
    rig.restart(disk);
    let span = rig.buffers.take(Pool::Large).expect("free");
    let mut reader = rig.stopped(1, span);
    let incarnation = rig.log.place(reader_position(&rig, 1)).expect("it is there").incarnation;
    assert!(rig.log.building_of(incarnation).is_some(), "it is not sealed");
    while rig.log.building_of(incarnation).is_some() {
        rig.append(0, 1, 28_000);
        rig.settle();
    }
    let (mut frames, mut read) = (0, 0);
    loop {
        match reader.next(&rig.log, &rig.buffers) {
            Step::Frame { .. } => frames += 1,
            Step::Read { file, at, len } => {
                read += len as usize;
                let bytes = rig.disk.read(file, at, span.first(len), &mut rig.buffers).expect("it can be read");
                reader.filled(span, bytes);
            }
            Step::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(frames, 4);
    // Two of its frames are a run, with four of others between them.
    assert!(read < 10 * (32 << 10), "{read} bytes, where the four frames lie among 25");
}

/// Flips a bit of byte `at` of each frame of shard 1 that stands behind a commit's header and has a number of these; how many there were.
fn spoil(bytes: &mut [u8], numbers: Range<u64>, at: usize) -> usize {
    let mut spoilt = 0;
    for block in bytes.chunks_mut(BLOCK as usize) {
        let header = header_at(block, HEADER).and_then(|header| FrameHeader::decode(header).ok());
        if header.is_some_and(|header| header.shard == KEPT && numbers.contains(&header.sequence)) {
            block[HEADER + at] ^= 1;
            spoilt += 1;
        }
    }
    spoilt
}

/// Where a record of shard 1 begins to be looked for.
fn reader_position(rig: &Rig, sequence: u64) -> Position {
    match rig.log.locate(KEPT, sequence) {
        Some(Located::Extent(extent)) => rig.log.position(extent.incarnation, extent.at()),
        Some(Located::Open { incarnation, start }) => rig.log.position(incarnation, start.at),
        None => panic!("record {sequence} is nowhere"),
    }
}
