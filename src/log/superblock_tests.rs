//! The superblock on a disk that fails at every operation.

use super::memory_disk::{MemoryDisk, Random, buffers};
use super::steps::Staged;
use super::superblock::{Directory, Event, FORMAT, REVISION, Superblock, Superblocks};
use crate::io::op::{Completion, FileName, Op};

fn superblock(epoch: u32) -> Superblock {
    Superblock {
        directory: 0x0123_4567_89ab_cdef,
        epoch,
        generation: 0,
        block: 4096,
        segment_size: 64 << 20,
        disk: 10 << 30,
        directories: vec![Directory { id: 0x0123_4567_89ab_cdef, path: "/data".into(), space: 10 << 30, given: 0 }],
        logs: vec![0],
        iterator_key: [7; 16],
        next_ids: 1024,
        region: "us-east-1".into(),
        account: "000000000000".into(),
        retention_hour: 3600,
        retention_wall: 1_700_000_000_000_000,
    }
}

/// Operations left before the power fails.
struct Fuse(Option<u64>);

/// Drives the machine to its next event; `None` when the power failed.
fn drive(
    s: &mut Superblocks,
    disk: &mut MemoryDisk,
    ops: &mut Vec<Op>,
    b: &mut crate::io::buffers::Buffers,
    fuse: &mut Fuse,
    random: &mut Random,
) -> Option<Event> {
    loop {
        if let Some(event) = s.event() {
            return Some(event);
        }
        assert_eq!(ops.len(), 1, "one operation in flight");
        let op = ops.remove(0);
        if disk.fails(&op, b, &mut fuse.0, random) {
            return None;
        }
        match disk.run(&op, b) {
            Completion::Done { token, result } => s.on_done(token, result, b, ops),
            Completion::Listed { token, result } => s.on_listed(token, result, b, ops),
            other => panic!("{other:?}"),
        }
    }
}

/// Opens the directory without a crash.
fn opened(disk: &mut MemoryDisk) -> Event {
    let (mut b, mut ops) = (buffers(), Vec::new());
    let mut s = Superblocks::new(1, &mut b).expect("a slot");
    s.open(&mut b, &mut ops);
    drive(&mut s, disk, &mut ops, &mut b, &mut Fuse(None), &mut Random(0)).expect("no crash")
}

/// Opens, then writes epochs from the one found + 1 on, `writes` times, until the power fails. Gives the last epoch that was written
/// durably (of an earlier life if none was) and the last that was tried.
fn live(disk: &mut MemoryDisk, writes: u32, fuse: &mut Fuse, random: &mut Random, before: (u32, u32)) -> (u32, u32) {
    let (mut b, mut ops) = (buffers(), Vec::new());
    let mut s = Superblocks::new(1, &mut b).expect("a slot");
    s.open(&mut b, &mut ops);
    let Some(event) = drive(&mut s, disk, &mut ops, &mut b, fuse, random) else { return before };
    let found = match event {
        Event::Empty => 0,
        Event::Found { superblock, .. } => superblock.epoch,
        other => panic!("{other:?} after {before:?}"),
    };
    let (mut durable, mut tried) = before;
    assert!((durable..=tried).contains(&found), "found epoch {found}, durable {durable}, tried {tried}");
    durable = found;
    for epoch in found + 1..=found + writes {
        tried = tried.max(epoch);
        // Longer than a sector, so that it can be torn.
        let directories = vec![Directory { id: 1, path: "/data".repeat(200), space: epoch as u64, given: 0 }];
        s.write(&Superblock { directories, ..superblock(epoch) }, &mut b, &mut ops);
        match drive(&mut s, disk, &mut ops, &mut b, fuse, random) {
            Some(Event::Written) => durable = epoch,
            Some(other) => panic!("{other:?}"),
            None => return (durable, tried),
        }
    }
    (durable, tried)
}

#[test]
fn a_crash_at_any_operation_leaves_the_last_written_copy_or_a_later_one() {
    for at in 0..40 {
        for seed in 0..100 {
            let (mut disk, mut random) = (MemoryDisk::default(), Random(seed));
            let mut epochs = (0, 0);
            // The second life crashes too, the third shows what is there.
            for fuse in [Some(at), Some(random.below(20)), None] {
                epochs = live(&mut disk, 5, &mut Fuse(fuse), &mut random, epochs);
            }
        }
    }
}

#[test]
fn a_new_directory_is_empty_then_found_with_both_copies() {
    let mut disk = MemoryDisk::default();
    assert_eq!(opened(&mut disk), Event::Empty);
    live(&mut disk, 1, &mut Fuse(None), &mut Random(1), (0, 0));
    let Event::Found { superblock: found, other: None } = opened(&mut disk) else { panic!("both copies are whole") };
    assert_eq!((found.epoch, found.generation, found.iterator_key), (1, 2, [7; 16]));
}

#[test]
fn one_damaged_copy_is_said_and_replaced_and_two_are_refused_untouched() {
    let mut disk = MemoryDisk::default();
    live(&mut disk, 3, &mut Fuse(None), &mut Random(1), (0, 0));
    for copy in 0..2 {
        let mut disk = disk.clone();
        disk.overwrite(FileName::Superblock(copy), |bytes| bytes[100] ^= 1);
        let Event::Found { superblock: found, other } = opened(&mut disk) else { panic!("one copy is whole") };
        let (file, why) = other.expect("the other copy is damaged");
        assert_eq!((file, why.as_str()), (FileName::Superblock(copy), "the checksum of its body is wrong"));
        assert_eq!(found.epoch, if copy == 0 { 3 } else { 2 }, "epochs 1 1 2 3 were written to copies 0 1 0 1");
        live(&mut disk, 1, &mut Fuse(None), &mut Random(1), (found.epoch, found.epoch));
        assert!(matches!(opened(&mut disk), Event::Found { other: None, .. }));
    }
    disk.overwrite(FileName::Superblock(0), |bytes| bytes[3] ^= 1);
    disk.overwrite(FileName::Superblock(1), |bytes| bytes[40] ^= 1);
    let before = disk.files();
    assert!(matches!(opened(&mut disk), Event::Damaged { .. }));
    assert_eq!(disk.files(), before);
}

#[test]
fn data_of_a_newer_format_or_another_revision_is_refused_untouched() {
    let rewrite = |at: usize, value: u32| {
        let mut disk = MemoryDisk::default();
        live(&mut disk, 1, &mut Fuse(None), &mut Random(1), (0, 0));
        disk.overwrite(FileName::Superblock(0), |bytes| {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        });
        let before = disk.files();
        let event = opened(&mut disk);
        assert_eq!(disk.files(), before);
        assert!(event.refusal().is_some_and(|text| text.contains("nothing was touched")));
        event
    };
    assert_eq!(rewrite(8, FORMAT + 1), Event::Newer { format: FORMAT + 1 });
    assert_eq!(rewrite(12, REVISION + 1), Event::Incompatible { revision: REVISION + 1 });
}

#[test]
fn lost_superblocks_of_a_directory_with_a_catalog_are_damage() {
    let mut disk = MemoryDisk::default();
    let mut b = buffers();
    let token = crate::io::op::Token(0);
    disk.run(&Op::MakeDir { dir: crate::io::op::DirName::Catalog, token }, &mut b);
    let how = crate::io::op::OpenHow::Create { size: 4096 };
    disk.run(&Op::Open { file: FileName::Journal { number: 0 }, how, token }, &mut b);
    assert!(matches!(opened(&mut disk), Event::Damaged { .. }));
}

#[test]
fn its_bytes_do_not_change() {
    let bytes = Superblock { generation: 9, ..superblock(3) }.encode();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(hex(&bytes[..64]), GOLDEN_HEADER);
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("not all zero") + 1;
    assert_eq!(hex(&bytes[64..end]), GOLDEN_BODY);
}

const GOLDEN_HEADER: &str = "70656e73746f636b00000000080000009d000000000000000900000000000000efcdab89674523010000000000000000\
    0000000000000000fa6b5c693c70104a";
const GOLDEN_BODY: &str = "efcdab89674523012f64617461ffffff00000080020000000000000075732d656173742d31303030303030303030303030efcdab896745\
    23010300000009000000000000000010000000000004000000000000008002000000a7ffffff01000000b7ffffff010000000707070707\
    07070707070707070707070004000000000000890000009bffffff8c0000009cffffff100e000000401e18240a06";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
