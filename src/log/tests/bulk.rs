//! Frames in place: between others, over crashes, and not touched before they are durable.

use super::*;
use crate::log::bulk::ROOM;
use crate::log::checksum::crc;
use crate::log::format::{FrameHeader, HEADER, header_at, is_commit};

/// A buffer that frames are received into, as a connection has one.
struct Inbox {
    span: Span,
    at: u32,
    /// Until when it is the log's.
    until: Position,
}

impl Rig {
    /// Appends a frame with a record of `len` bytes at the inbox's next block, in as many blocks as it takes and `spare` more.
    fn try_in_place(&mut self, inbox: &mut Inbox, shard: u32, len: usize, spare: u32) -> Result<(), Refusal> {
        let shard = ShardKey::new(7, shard);
        let first = *self.next.entry(shard).or_insert(1);
        let data = content(self.run, shard, first, len);
        let body = body_size(3 + len, 1);
        let blocks = (ROOM as usize + body).next_multiple_of(BLOCK as usize) as u32 + spare * BLOCK;
        let span = inbox.span.part(inbox.at, blocks);
        let memory = self.buffers.bytes_mut(span);
        // What a client sends beside the body does not matter.
        memory.fill(0xa5);
        let into = &mut memory[ROOM as usize..ROOM as usize + body];
        into[..3].copy_from_slice(b"key");
        into[3..3 + len].copy_from_slice(&data);
        write_index(into, 3 + len, &[Entry::new(0, Some(3), len as u32)]);
        let body_crc = Some(crc(into));
        let arrival = self.now;
        let stamp = Stamp {
            kind: FrameKind::Batch,
            shard,
            sequence: first,
            arrival,
            count: 1,
            producer: 0,
            number: 0,
            body_crc,
        };
        let durable_at = self.log.append_in_place(span, body as u32, &stamp, &mut self.buffers)?;
        inbox.at += blocks;
        inbox.until = durable_at;
        self.model.entry(shard).or_default().insert(first, Kept { data, durable_at, acked: false });
        self.next.insert(shard, first + 1);
        Ok(())
    }
}

/// An inbox with room for `bytes`, if there is a free one.
fn with_room<'a>(rig: &mut Rig, inboxes: &'a mut Vec<Inbox>, bytes: u32) -> Option<&'a mut Inbox> {
    let durable = rig.log.durable();
    for inbox in inboxes.iter_mut().filter(|inbox| inbox.until <= durable && inbox.at > 0) {
        // As if the next message were received: what is still being written must not change.
        rig.log.let_go(inbox.until);
        rig.buffers.bytes_mut(inbox.span).fill(0x5a);
        inbox.at = 0;
    }
    if inboxes.last().is_none_or(|inbox| inbox.at + bytes > inbox.span.len) {
        let free = inboxes.iter().position(|inbox| inbox.at == 0);
        match free {
            Some(free) => {
                let inbox = inboxes.remove(free);
                inboxes.push(inbox);
            }
            None if rig.buffers.available(Pool::Large) > 1 => {
                let span = rig.buffers.take(Pool::Large).expect("there are two");
                inboxes.push(Inbox { span, at: 0, until: Position(0) });
            }
            None => return None,
        }
    }
    inboxes.last_mut()
}

#[test]
fn frames_in_place_are_stored_between_others_and_survive_crashes() {
    for seed in 0..60u64 {
        let mut random = Random(seed);
        let mut rig = Rig::new(seed.is_multiple_of(2));
        rig.boot();
        let mut inboxes = Vec::new();
        for step in 0..600 {
            rig.now += random.below(40_000);
            match random.below(12) {
                0..4 => {
                    let (len, spare) = (random.below(9_000) as usize, random.below(8) / 7);
                    if let Some(inbox) = with_room(&mut rig, &mut inboxes, 20 << 10) {
                        let _ = rig.try_in_place(inbox, random.below(3) as u32, len, spare as u32);
                    }
                }
                4 | 5 => drop(rig.try_append(random.below(3) as u32, 1 + random.below(3) as u32, 500)),
                6 if rig.log.segments.len() > 4 => {
                    if let Some(reclaim) = rig.reclaim(|_| Fate::ExpiresBefore(0), true) {
                        rig.reclaimed(reclaim);
                    }
                }
                7 if step % 40 == 7 => {
                    let disk = match random.below(2) {
                        0 => rig.disk.killed(&rig.pending, &mut random),
                        _ => rig.disk.crashed(&rig.pending, &mut random),
                    };
                    inboxes.clear();
                    rig.restart(disk);
                }
                8 | 9 => rig.end_turn(),
                _ if !rig.pending.is_empty() => {
                    let index = random.below(rig.pending.len() as u64) as usize;
                    rig.complete(index);
                }
                _ => rig.end_turn(),
            }
        }
        rig.settle();
        rig.check();
        rig.restart(rig.disk.clone());
    }
}

#[test]
fn what_was_appended_in_place_is_read_from_there_until_it_is_let_go() {
    let mut rig = Rig::new(false);
    rig.boot();
    let span = rig.buffers.take(Pool::Large).expect("one is free");
    let mut inbox = Inbox { span, at: 0, until: Position(0) };
    rig.try_in_place(&mut inbox, 0, 5_000, 0).expect("there is room");
    rig.try_in_place(&mut inbox, 1, 100, 0).expect("there is room");
    let first = inbox.until;
    inbox.at += BLOCK;
    rig.try_in_place(&mut inbox, 2, 100, 0).expect("there is room");
    let next = |rig: &Rig, shard| Reader::new(ShardKey::new(7, shard), 0).next(&rig.log, &rig.buffers);
    (0..3).for_each(|shard| assert_eq!(next(&rig, shard), Step::End, "nothing is seen before it is durable"));
    rig.settle();
    for shard in 0..3 {
        assert!(matches!(next(&rig, shard), Step::Frame { body, .. } if body.pool == Pool::Large), "{shard}");
    }
    rig.log.let_go(first);
    rig.buffers.bytes_mut(span.first(3 * BLOCK)).fill(0x5a);
    for shard in 0..2 {
        assert!(matches!(next(&rig, shard), Step::Read { .. }), "{shard} is on the disk alone");
    }
    assert!(matches!(next(&rig, 2), Step::Frame { .. }), "the commit behind it is there still");
    rig.check();
}

#[test]
fn frames_that_lie_behind_each_other_are_one_commit_and_a_gap_begins_another() {
    let mut rig = Rig::new(false);
    rig.boot();
    let span = rig.buffers.take(Pool::Large).expect("one is free");
    let mut inbox = Inbox { span, at: 0, until: Position(0) };
    for len in [100, 5_000, 100] {
        rig.try_in_place(&mut inbox, 0, len, 0).expect("there is room");
    }
    inbox.at += BLOCK;
    rig.try_in_place(&mut inbox, 1, 9_000, 1).expect("there is room");
    rig.append(0, 2, 50);
    rig.settle();
    rig.check();
    let file = &rig.disk.files[&rig.log.files.name(0)];
    let kind = |block: usize| is_commit(header_at(&file.bytes, block * BLOCK as usize).expect("inside"));
    let begins: Vec<usize> = (0..12).filter(|block| kind(*block)).collect();
    assert_eq!(begins, [0, 4, 8], "three frames, one of four blocks, the ordinary one");
    let frame = |at: usize| FrameHeader::decode(header_at(&file.bytes, at).expect("inside")).expect("a frame");
    let strides = [64, BLOCK as usize + 64, 3 * BLOCK as usize + 64].map(|at| frame(at).stride);
    assert_eq!(strides, [BLOCK, 2 * BLOCK, BLOCK - HEADER as u32], "to the next frame, and the last one to the end");
    assert_eq!(&file.bytes[BLOCK as usize..BLOCK as usize + HEADER], &[0; HEADER], "no bytes of a client's there");
}
