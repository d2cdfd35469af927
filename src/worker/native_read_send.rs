//! Frames on their way to native readers: how many of those that have come go out, and what is counted when they have.

use super::Worker;
use super::native_read::{Arrived, Reader, Stage};
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::log::format::{HEADER, ShardKey, header_at, stride};
use crate::native::message::Header;
use crate::native::reading::Done;
use crate::observe::counter::Counter;
use crate::observe::latency::Latency;

/// What a connection sends of a reader: the rest of what is known of it when it has been.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    shard: u32,
    arrived: Arrived,
    frames: u32,
    records: u32,
    bytes: u32,
    /// When its first frame arrived (µs), where the subscription had all before it.
    live_since: Option<u64>,
}

/// Those of some frames that one reader may have.
struct Share {
    frames: u32,
    records: u32,
    bytes: u32,
    first_arrival: u64,
    last_arrival: u64,
    /// Number of the first frame that it may not have.
    rest: Option<u64>,
}

/// Frames from the front of `bytes`, which are whole, as far as the reader's bounds go: of a subscription the one with which the credit ends is sent,
/// of a read only the first may be more than was wanted.
fn share_of(bytes: &[u8], reader: &Reader) -> Share {
    let mut share = Share { frames: 0, records: 0, bytes: 0, first_arrival: 0, last_arrival: 0, rest: None };
    while let Some(header) = header_at(bytes, share.bytes as usize) {
        let header = Header::decode(header).expect("the log's reader has checked it");
        let size = stride(header.body) as u32;
        let (sent, wanted) = (share.bytes as i64, size as i64);
        let first = share.frames == 0 && !reader.sent;
        let fits = match reader.subscribes {
            true => sent < reader.credit,
            false => {
                first
                    || sent + wanted <= reader.credit
                        && share.records as u64 + header.count as u64 <= reader.records as u64
            }
        };
        if !fits {
            share.rest = Some(header.sequence);
            break;
        }
        if share.frames == 0 {
            share.first_arrival = header.arrival;
        }
        share.last_arrival = header.arrival;
        (share.frames, share.records, share.bytes) =
            (share.frames + 1, share.records + header.count, share.bytes + size);
    }
    share
}

impl Worker {
    /// The bytes of a span of this worker, or of one that has been lent to it.
    fn read_bytes(&self, span: Span) -> &[u8] {
        match span.worker == self.id {
            true => self.buffers.bytes(span),
            false => self.loans[span.worker as usize].bytes(span),
        }
    }

    /// The next frames that the connection sends, if there are some: they are as good as sent.
    pub(super) fn native_next_frames(&mut self, place: u16) -> Option<Span> {
        while let Some(shard) = self.natives.slots[place as usize].readers.arrived.pop_front() {
            let reader = self.natives.slots[place as usize].readers.of[&shard];
            let Stage::Arrived(mut arrived) = reader.stage else { unreachable!("it is in the row of those") };
            let share = share_of(self.read_bytes(arrived.span), &reader);
            if share.rest.is_some() {
                (arrived.next, arrived.caught_up, arrived.ends) = (share.rest.unwrap_or(arrived.next), false, false);
                arrived.behind_ms = self.now.wall.0.saturating_sub(share.last_arrival) / 1000;
            }
            let native = &mut self.natives.slots[place as usize];
            let reader = native.readers.of.get_mut(&shard).expect("just seen");
            if share.frames == 0 {
                // A read that has had as much as it wanted.
                (reader.next, reader.stage, reader.credit) = (arrived.next, Stage::Sending, 0);
                self.native_reader_sent(place, shard, &arrived);
                self.release(arrived.span);
                // Its `Done` goes out with what comes next.
                self.natives.stir(place);
                continue;
            }
            let live = reader.subscribes && reader.caught_up;
            reader.stage = Stage::Sending;
            reader.credit = reader.credit.saturating_sub(share.bytes as i64);
            reader.records = if reader.subscribes { u32::MAX } else { reader.records.saturating_sub(share.records) };
            (reader.next, reader.floor) = (arrived.next, 0);
            (reader.sent, reader.behind_ms) = (true, arrived.behind_ms);
            let (frames, records, bytes) = (share.frames, share.records, share.bytes);
            let live_since = live.then_some(share.first_arrival);
            native.outgoing = Some(Outgoing { shard, arrived, frames, records, bytes, live_since });
            self.connections.slots[native.socket as usize].sending = Some(arrived.span);
            return Some(arrived.span.first(bytes));
        }
        None
    }

    /// What was sent behind other messages, if anything was, is with the kernel.
    pub(super) fn native_frames_sent(&mut self, place: u16) {
        let native = &mut self.natives.slots[place as usize];
        let socket = native.socket;
        let Some(outgoing) = native.outgoing.take() else { return };
        let sent = self.connections.slots[socket as usize].sending.take();
        sent.into_iter().for_each(|span| self.release(span));
        let Outgoing { shard, arrived, frames, records, bytes, live_since } = outgoing;
        self.counters.add(Counter::NativeBatchesRead, frames as u64);
        self.counters.add(Counter::NativeRecordsRead, records as u64);
        self.counters.add(Counter::NativeBytesRead, bytes as u64);
        if let Some(since) = live_since {
            let micros = self.now.wall.0.saturating_sub(since);
            self.counters.latencies.record(Latency::Delivered, micros.saturating_mul(1_000));
        }
        self.native_reader_sent(place, shard, &arrived);
    }

    /// Writes what there is to say of reads that have ended; gives the bytes behind `len` that are used then.
    pub(super) fn native_dones(&mut self, place: u16, mut len: usize) -> usize {
        let socket = self.natives.slots[place as usize].socket;
        let whole = self.buffers.whole(Pool::Reply, socket);
        while len + 2 * HEADER <= whole.len as usize {
            let native = &mut self.natives.slots[place as usize];
            let refused = native.due.done.take();
            let done = refused.or_else(|| {
                let shard = native.readers.ended.pop_front()?;
                let reader = native.readers.of[&shard];
                let Stage::Ended(code) = reader.stage else { unreachable!("it is in the row of those") };
                let key = ShardKey::new(native.stream, shard);
                Some(Done { shard: key, next: reader.next, code: Ok(code), behind_ms: reader.behind_ms })
            });
            let Some(done) = done else { break };
            len += done.encode(&mut self.buffers.bytes_mut(whole)[len..]);
            if refused.is_none() {
                self.native_reader_done(place, done.shard.shard());
            }
        }
        len
    }

    /// The connection that has not taken memory of worker `worker` for longest, and since when; if there is one for `patience_ms`.
    pub(super) fn native_longest(&self, worker: u16, patience_ms: u64) -> Option<(Mono, u16)> {
        let slots = self.natives.slots.iter().enumerate();
        let held = slots.filter(|(_, native)| {
            let sending = self.connections.slots[native.socket as usize].sending;
            native.outgoing.is_some() && sending.is_some_and(|span| span.worker == worker)
        });
        let since = held.map(|(place, native)| (native.sending_since, place as u16));
        since.filter(|(since, _)| since.plus_ms(patience_ms) <= self.now.mono).min()
    }

    /// Ends a connection whose client takes nothing, as others want for the memory.
    pub(super) fn native_shed(&mut self, place: u16, ops: &mut Ops) {
        self.counters.add(Counter::SubscriptionsShed, 1);
        self.native_close(place, ops);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::{FrameHeader, FrameKind};

    /// Frames with these numbers of records, of 128 bytes each, from number 1 on.
    fn frames(counts: &[u32]) -> Vec<u8> {
        let (mut bytes, mut sequence) = (Vec::new(), 1);
        for &count in counts {
            let header = FrameHeader {
                kind: FrameKind::Batch,
                // Bulk: more room than the frame takes.
                stride: 4096,
                body: 30,
                count,
                shard: ShardKey::new(1, 2),
                sequence,
                arrival: sequence * 10,
                producer: 0,
                number: 0,
                incarnation: 1,
                body_crc: 0,
            };
            let at = bytes.len();
            bytes.resize(at + 128, 0);
            header.encode(bytes[at..].first_chunk_mut().expect("room for a header"));
            sequence += count as u64;
        }
        bytes
    }

    fn reader(subscribes: bool, credit: i64, records: u32, sent: bool) -> Reader {
        let mut reader = Reader::for_tests(subscribes);
        (reader.credit, reader.records, reader.sent) = (credit, records, sent);
        reader
    }

    #[test]
    fn a_subscription_is_sent_the_frame_with_which_its_credit_ends() {
        let bytes = frames(&[1, 2, 3, 4]);
        for (credit, sent, rest) in
            [(1, 1, Some(2)), (128, 1, Some(2)), (129, 2, Some(4)), (512, 4, None), (9_999, 4, None)]
        {
            let share = share_of(&bytes, &reader(true, credit, u32::MAX, true));
            assert_eq!((share.frames, share.bytes, share.rest), (sent, sent * 128, rest), "{credit}");
        }
    }

    #[test]
    fn a_read_gets_whole_frames_within_its_bounds_and_one_at_least() {
        let bytes = frames(&[3, 2, 3]);
        let share = |credit, records, sent| {
            let share = share_of(&bytes, &reader(false, credit, records, sent));
            (share.frames, share.records, share.rest)
        };
        assert_eq!(share(1, u32::MAX, false), (1, 3, Some(4)));
        assert_eq!(share(255, u32::MAX, false), (1, 3, Some(4)));
        assert_eq!(share(256, u32::MAX, false), (2, 5, Some(6)));
        assert_eq!(share(1 << 20, 1, false), (1, 3, Some(4)), "batches are whole");
        assert_eq!(share(1 << 20, 5, false), (2, 5, Some(6)));
        assert_eq!(share(1 << 20, u32::MAX, true), (3, 8, None));
        assert_eq!(
            share(127, u32::MAX, true),
            (0, 0, Some(1)),
            "one that has been sent something gets no more than it wanted"
        );
        assert_eq!(share_of(&bytes, &reader(false, 256, 8, false)).last_arrival, 40);
    }
}
