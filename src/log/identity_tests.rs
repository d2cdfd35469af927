//! Identities on a disk that fails at every operation.

use super::identity::{Event, Found, Identities, Identity};
use super::memory_disk::{MemoryDisk, Random, buffers};
use super::steps::Staged;
use crate::io::buffers::Buffers;
use crate::io::op::{Completion, FileName, Op};

fn identity(number: u32) -> Identity {
    // Longer than a sector, so that it can be torn.
    Identity { home: 7, id: 100 + number as u64, number, home_path: "/data".repeat(200) }
}

/// Drives the machine to its event; `None` when the power failed, `fuse` operations from now.
fn drive(
    machine: &mut Identities,
    disk: &mut MemoryDisk,
    (b, ops): (&mut Buffers, &mut Vec<Op>),
    fuse: &mut Option<u64>,
    random: &mut Random,
) -> Option<Event> {
    loop {
        if let Some(event) = machine.event() {
            return Some(event);
        }
        assert_eq!(ops.len(), 1, "one operation in flight");
        let op = ops.remove(0);
        if disk.fails(&op, b, fuse, random) {
            return None;
        }
        match disk.run(&op, b) {
            Completion::Done { token, result } => machine.on_done(token, result, b, ops),
            Completion::Listed { token, result } => machine.on_listed(token, result, b, ops),
            other => panic!("{other:?}"),
        }
    }
}

/// Reads what three directories say; then, unless the power fails before, writes `due`. Gives what was read, and whether all was written.
fn life(
    disk: &mut MemoryDisk,
    due: &[(u8, Identity)],
    mut fuse: Option<u64>,
    random: &mut Random,
) -> Option<(Vec<Found>, bool)> {
    let (mut b, mut ops) = (buffers(), Vec::new());
    let mut machine = Identities::new(1, &mut b).expect("a slot");
    machine.read(3, &mut b, &mut ops);
    let Event::Read(found) = drive(&mut machine, disk, (&mut b, &mut ops), &mut fuse, random)? else {
        panic!("reading works here")
    };
    if due.is_empty() {
        machine.release(&mut b);
        return Some((found, true));
    }
    machine.write(due.to_vec(), 4096, &mut b, &mut ops);
    let written = drive(&mut machine, disk, (&mut b, &mut ops), &mut fuse, random);
    Some((found, written == Some(Event::Written)))
}

#[test]
fn at_every_crash_an_identity_is_the_old_one_or_the_new_one_and_what_was_written_stays() {
    let mut torn_drafts = 0;
    for at in 0..40 {
        for seed in 0..30 {
            let (mut disk, mut random) = (MemoryDisk::default(), Random(seed));
            life(&mut disk, &[(1, identity(5))], None, &mut random);
            let due = [(1, identity(1)), (2, identity(2))];
            let written = life(&mut disk, &due, Some(at), &mut random).is_some_and(|(_, written)| written);
            torn_drafts += disk.files().contains_key(&FileName::IdentityDraft { given: 2 }) as u32;
            let (found, _) = life(&mut disk, &[], None, &mut random).expect("no crash");
            let (old, new) = (Found::Identity(identity(5)), Found::Identity(identity(1)));
            let other = Found::Identity(identity(2));
            assert_eq!(found[0], Found::Nothing);
            assert!(found[1] == new || found[1] == old && !written, "{:?}", found[1]);
            assert!(found[2] == other || found[2] == Found::Nothing && !written, "{:?}", found[2]);
            // What the crash has left does not keep the next start from writing.
            assert!(life(&mut disk, &due, None, &mut random).expect("no crash").1);
            assert_eq!(life(&mut disk, &[], None, &mut random).expect("no crash").0[1..], [new, other]);
        }
    }
    assert!(torn_drafts > 0, "no crash has left a draft");
}

#[test]
fn damage_is_told_and_nothing_is_touched() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(1));
    life(&mut disk, &[(1, identity(1))], None, &mut random);
    for (byte, why) in [(3, "does not begin"), (30, "its header"), (70, "its body")] {
        let mut disk = disk.clone();
        disk.overwrite(FileName::Identity { given: 1 }, |bytes| bytes[byte] ^= 1);
        let before = disk.files();
        let (found, _) = life(&mut disk, &[], None, &mut random).expect("no crash");
        assert!(matches!(&found[1], Found::Unusable(said) if said.contains(why)), "{:?}", found[1]);
        assert_eq!(disk.files(), before);
    }
}
