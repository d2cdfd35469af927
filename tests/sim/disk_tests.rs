//! The disk model's own tests: what it promises, and that what it does not promise does get lost.

use super::disk::{Answer, Disk, EIO, Faults, MARK, Request};
use super::random::Random;
use penstock::io::op::{DirName, Errno, FileName, OpenHow, Sync};
use std::collections::BTreeSet;

const FILE: FileName = FileName::Segment { log: 0, index: 0 };
const OTHER: FileName = FileName::Preparing { log: 0, index: 0 };
const DIR: DirName = DirName::Log(0);

fn run(disk: &mut Disk, request: Request) -> Result<Answer, Errno> {
    let (number, _) = disk.submit(0, request);
    disk.finish(number)
}

fn write(at: u64, fill: u8, sync: Sync) -> Request {
    Request::Write { file: FILE, at, bytes: vec![fill; 8192], sync }
}

/// A disk with one open file of 64 KiB, durable with its entry.
fn disk(seed: u64) -> Disk {
    let mut disk = Disk::new(Random::stream(seed, "disk"), 1);
    disk.drives.mount(vec![0]);
    disk.drives.locate(0, 0);
    for request in [
        Request::MakeDir { dir: DIR },
        Request::SyncDir { dir: DirName::Top },
        Request::Open { file: FILE, how: OpenHow::Create { size: 65536 } },
        Request::Fsync { file: FILE },
        Request::SyncDir { dir: DIR },
    ] {
        run(&mut disk, request).expect("a sound disk");
    }
    disk
}

/// The different contents of bytes `at..at + 8192` that power cuts leave after `story`, as (first byte, whether all are equal).
fn outcomes(at: usize, story: impl Fn(&mut Disk)) -> BTreeSet<(u8, bool)> {
    (0..60)
        .map(|seed| {
            let mut disk = disk(seed);
            story(&mut disk);
            disk.cut();
            let bytes = &disk.content(FILE).expect("its entry is durable")[at..at + 8192];
            (bytes[0], bytes.iter().all(|b| *b == bytes[0]))
        })
        .collect()
}

#[test]
fn a_durable_write_makes_itself_durable_and_nothing_else() {
    let story = |disk: &mut Disk| {
        run(disk, write(0, 1, Sync::Later)).expect("sound");
        run(disk, write(8192, 2, Sync::Durable)).expect("sound");
    };
    assert_eq!(outcomes(8192, story), BTreeSet::from([(2, true)]));
    let earlier = outcomes(0, story);
    assert!(earlier.contains(&(0, true)) && earlier.contains(&(1, true)), "{earlier:?}");
    assert!(earlier.iter().any(|(_, whole)| !whole), "never torn: {earlier:?}");
}

#[test]
fn a_durable_write_stands_over_an_earlier_one_that_was_not() {
    let story = |disk: &mut Disk| {
        run(disk, write(0, 1, Sync::Later)).expect("sound");
        run(disk, write(0, 2, Sync::Durable)).expect("sound");
    };
    assert_eq!(outcomes(0, story), BTreeSet::from([(2, true)]));
}

#[test]
fn a_flush_covers_the_writes_completed_before_it_was_submitted() {
    let before = |disk: &mut Disk| {
        run(disk, write(0, 1, Sync::Later)).expect("sound");
        run(disk, Request::Fsync { file: FILE }).expect("sound");
    };
    assert_eq!(outcomes(0, before), BTreeSet::from([(1, true)]));
    let during = |disk: &mut Disk| {
        let (written, _) = disk.submit(0, write(0, 1, Sync::Later));
        let (flushed, _) = disk.submit(0, Request::Fsync { file: FILE });
        disk.finish(written).expect("sound");
        disk.finish(flushed).expect("sound");
    };
    assert!(outcomes(0, during).contains(&(0, true)));
}

#[test]
fn after_a_failed_flush_a_later_one_does_not_help() {
    let story = |disk: &mut Disk| {
        run(disk, write(0, 1, Sync::Later)).expect("sound");
        disk.faults = Faults { flush_fails: 1000, ..Faults::default() };
        assert_eq!(run(disk, Request::Fsync { file: FILE }).err(), Some(EIO));
        disk.faults = Faults::default();
        run(disk, Request::Fsync { file: FILE }).expect("it lies");
    };
    assert!(outcomes(0, story).contains(&(0, true)));
}

#[test]
fn a_write_in_flight_may_be_there_in_part() {
    let story = |disk: &mut Disk| {
        disk.submit(0, write(0, 1, Sync::Durable));
    };
    let seen = outcomes(0, story);
    assert!(seen.contains(&(0, true)) && seen.contains(&(1, true)) && seen.iter().any(|(_, whole)| !whole), "{seen:?}");
}

#[test]
fn an_entry_is_certain_after_its_directory_is_synced_and_a_rename_is_one() {
    let names = |sync: bool| -> BTreeSet<Vec<FileName>> {
        (0..60)
            .map(|seed| {
                let mut disk = disk(seed);
                run(&mut disk, Request::Open { file: OTHER, how: OpenHow::Create { size: 4096 } }).expect("sound");
                run(&mut disk, Request::Rename { from: OTHER, to: FILE }).expect("sound");
                if sync {
                    run(&mut disk, Request::SyncDir { dir: DIR }).expect("sound");
                }
                disk.cut();
                disk.files(DIR).into_iter().map(|(file, _)| file).collect()
            })
            .collect()
    };
    assert_eq!(names(true), BTreeSet::from([vec![FILE]]));
    assert_eq!(names(false), BTreeSet::from([vec![FILE], vec![FILE, OTHER]]));
}

#[test]
fn an_unsynced_size_may_be_lost() {
    let sizes: BTreeSet<u64> = (0..60)
        .map(|seed| {
            let mut disk = disk(seed);
            run(&mut disk, Request::Open { file: OTHER, how: OpenHow::Create { size: 8192 } }).expect("sound");
            run(&mut disk, Request::SyncDir { dir: DIR }).expect("sound");
            disk.cut();
            disk.files(DIR).into_iter().find(|(file, _)| *file == OTHER).expect("its entry is durable").1
        })
        .collect();
    assert_eq!(sizes, BTreeSet::from([0, 8192]));
}

#[test]
fn a_failed_write_may_have_got_somewhere_and_is_never_certain() {
    let story = |disk: &mut Disk| {
        disk.faults = Faults { write_fails: 1000, ..Faults::default() };
        assert_eq!(run(disk, write(0, 1, Sync::Durable)).err(), Some(EIO));
        disk.faults = Faults::default();
        run(disk, Request::Fsync { file: FILE }).expect("sound");
    };
    let seen = outcomes(0, story);
    assert!(seen.contains(&(0, true)) && seen.iter().any(|(first, _)| *first == 1), "{seen:?}");
}

#[test]
fn the_durable_image_is_searched_for_records() {
    let mut disk = disk(1);
    let mut bytes = vec![0; 4096];
    let data = [MARK, b"00000000002arest".as_slice()].concat();
    bytes[100..100 + data.len()].copy_from_slice(&data);
    run(&mut disk, Request::Write { file: FILE, at: 4096, bytes, sync: Sync::Later }).expect("sound");
    assert!(!disk.holds(42, &data), "written, not durable");
    run(&mut disk, Request::Fsync { file: FILE }).expect("sound");
    assert!(disk.holds(42, &data) && !disk.holds(42, b"other"));
}

#[test]
fn harm_is_healed() {
    let mut disk = disk(1);
    run(&mut disk, write(0, 1, Sync::Durable)).expect("sound");
    assert!(disk.harm(FILE, 700, 3));
    assert_eq!(disk.content(FILE).expect("there")[700], 9);
    disk.heal(true);
    assert_eq!(disk.content(FILE).expect("there")[700], 1);
}

#[test]
#[should_panic(expected = "not whole blocks")]
fn a_write_of_part_of_a_block_is_refused() {
    run(&mut disk(1), Request::Write { file: FILE, at: 512, bytes: vec![0; 4096], sync: Sync::Later }).ok();
}

#[test]
#[should_panic(expected = "two writes on the same bytes")]
fn overlapping_writes_in_flight_are_refused() {
    let mut disk = disk(1);
    disk.submit(0, write(0, 1, Sync::Later));
    disk.submit(0, write(4096, 1, Sync::Later));
}
