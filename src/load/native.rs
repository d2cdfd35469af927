//! The native protocol from a client's side: `native/PROTOCOL.md`.

use super::lanes::Lane;
use super::outbox::Reference;
use super::plan::{KEY, Plan, key_name};
use super::random::Random;
use super::shared::Shared;
use crate::io::buffers::{Buffers, Pool, Span};
use crate::log::format::{Entry, HEADER, ShardKey, body_size, write_index};
use crate::native::hello::feature::BULK;
use crate::native::hello::{Hello, decode_hash, encode_hash};
use crate::native::message::{BLOCK, Header, Kind, VERSION, blank, seal};
use crate::native::proof;
use crate::native::welcome::{ShardLine, Welcome, decode_shards};

/// Unanswered batches of a shard that a producer may have.
const PRODUCER_WINDOW: u32 = 8;
/// Where the second message of a greeting goes: the first must stay as it is.
const SECOND: u32 = 8 << 10;
/// Where a Ping goes: a Map that is wanted while it is being sent leaves it as it is.
const PING: u32 = 12 << 10;
/// Room that all of them need.
pub const CONTROL: u32 = 16 << 10;
/// ns without a message after which a Ping is sent: a third of what servers allow.
pub const QUIET_NS: u64 = 20_000_000_000;

/// What is said where a server asks who somebody is that has no key.
pub const KEY_WANTED: &str = "the server asks for an access key: give one by --key-id and --secret, or by AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Hello is on its way.
    Greeting,
    /// The map is on its way.
    Mapping,
    Ready,
}

/// What is known of a connection.
pub struct Native {
    pub stage: Stage,
    /// Wanted; and held, 0 where the server knows no producers.
    wanted: u64,
    pub producer: u64,
    wants_bulk: bool,
    /// What was sent again was refused: its number stays taken as long as it may still come from the connection before.
    pub ends_epoch: bool,
    pub stream: u32,
    /// What is sent takes up whole blocks.
    bulk: bool,
    /// Batches that may be unanswered.
    pub unanswered: u32,
    /// The same in bytes; 0: only batches are counted.
    pub unanswered_bytes: u32,
    /// Of what was sent as a Hello, without padding.
    hello: u32,
    lines: Vec<ShardLine>,
    /// A message that waits to be sent.
    pub pending: Option<Span>,
}

/// What a request is made of, besides its records.
#[derive(Clone, Copy)]
pub struct Made {
    pub header: Header,
    pub len: u32,
    pub bytes: u64,
}

/// A prebuilt batch that all connections of a thread send, each with a head of its own. So it stays in the cache of the thread's core, as
/// what a real client has just made would; one for each place of each connection would be read from memory each time it is sent.
pub struct Common {
    made: Made,
    /// Bytes before its body.
    head: u32,
    span: Span,
}

impl Native {
    /// `bulk`: what is sent is to take up whole blocks, if the server agrees.
    pub fn new(producer: u64, bulk: bool) -> Native {
        Native {
            stage: Stage::Greeting,
            wanted: producer,
            producer: 0,
            wants_bulk: bulk,
            ends_epoch: false,
            stream: 0,
            bulk: false,
            unanswered: 0,
            unanswered_bytes: 0,
            hello: 0,
            lines: Vec::new(),
            pending: None,
        }
    }

    /// From now on numbers begin at 0 again, and what is under way with older ones is fenced off.
    pub fn begin_epoch(&mut self) {
        // The epoch is the lower half of the id: a run does not come to its end.
        self.wanted += 1;
    }

    /// The connection is there: says Hello.
    pub fn greet(&mut self, plan: &Plan, control: Span, buffers: &mut Buffers) {
        let key_id = plan.identity.as_ref().map_or("", |identity| &identity.key_id);
        let session_token = plan.identity.as_ref().and_then(|identity| identity.token.as_deref()).unwrap_or("");
        let hello = Hello {
            versions: (VERSION, VERSION),
            wanted: if self.wants_bulk { BULK } else { 0 },
            producer: self.wanted,
            stream: &plan.stream,
            key_id,
            session_token,
        };
        let out = buffers.bytes_mut(control.first(SECOND));
        let len = hello.encode(out);
        self.hello =
            Header::decode(out.first_chunk().expect("a message")).map_or(0, |header| HEADER as u32 + header.body);
        self.stage = Stage::Greeting;
        self.bulk = false;
        self.lines.clear();
        self.pending = Some(control.first(len as u32));
    }

    /// The server wants to know whether we know the secret. False: it cannot be told.
    pub fn prove(&mut self, plan: &Plan, challenge: &[u8], control: Span, buffers: &mut Buffers) -> bool {
        let (Some(challenge), Some(identity)) = (decode_hash(challenge), &plan.identity) else { return false };
        let proof = proof::of(identity.secret.as_bytes(), &challenge, buffers.bytes(control.first(self.hello)));
        let second = control.part(SECOND, CONTROL - SECOND);
        let len = encode_hash(buffers.bytes_mut(second), Kind::Proof, &proof);
        self.pending = Some(second.first(len as u32));
        true
    }

    pub fn welcome(&mut self, welcome: &Welcome) {
        self.stage = Stage::Mapping;
        (self.producer, self.stream, self.bulk) = (welcome.producer, welcome.stream, welcome.features & BULK != 0);
        (self.unanswered, self.unanswered_bytes) = welcome.unanswered;
    }

    /// A message of the map has come. Gives the map when it is whole; `None` inside: it is no map.
    pub fn shards(&mut self, header: &Header, body: &[u8]) -> Option<Option<&[ShardLine]>> {
        for line in decode_shards(header, body)? {
            let line = line?;
            match self.lines.iter_mut().find(|known| known.shard == line.shard) {
                Some(known) => *known = line,
                None => self.lines.push(line),
            }
        }
        Some((header.number == 0).then_some(&self.lines))
    }

    /// A message without a body waits to be sent.
    pub fn say(&mut self, kind: Kind, control: Span, buffers: &mut Buffers) {
        let place = control.part(if kind == Kind::Ping { PING } else { SECOND }, BLOCK);
        let out = buffers.bytes_mut(place);
        let len = self.seal(out, blank(kind), 0);
        self.pending = Some(place.first(len));
    }

    /// Asks for the map of shards, which comes instead of a greeting's.
    pub fn say_map(&mut self, control: Span, buffers: &mut Buffers) {
        self.lines.clear();
        self.say(Kind::Map, control, buffers);
    }

    /// Bytes in front of a message.
    fn lead(&self) -> usize {
        if self.bulk { HEADER } else { 0 }
    }

    /// Bytes of a message before its body.
    pub fn head(&self) -> u32 {
        (self.lead() + HEADER) as u32
    }

    /// Seals a message whose body of `body` bytes lies behind the places of what comes before it; gives its length.
    fn seal(&self, out: &mut [u8], header: Header, body: usize) -> u32 {
        let (lead, message) = out.split_at_mut(self.lead());
        let len = seal(message, header, body);
        if !self.bulk {
            return len as u32;
        }
        lead.fill(0);
        let stride = (lead.len() + len).next_multiple_of(BLOCK as usize);
        message[len..stride - lead.len()].fill(0);
        let place = message.first_chunk_mut().expect("a message has a header");
        let sealed = Header::decode(place).expect("it has just been made");
        Header { stride: stride as u32, ..sealed }.encode(place);
        stride as u32
    }

    /// Whether a batch of `lane` may be sent.
    pub fn takes(&self, lane: &Lane) -> bool {
        self.producer == 0 || (!lane.stopped && lane.unanswered < PRODUCER_WINDOW)
    }

    /// Of a shard of the stream.
    pub fn shard(&self, number: u32) -> ShardKey {
        ShardKey::new(self.stream, number)
    }

    /// Makes a batch of `plan.batch` records of `lane`, due at `due`, in `span`.
    pub fn make(
        &self,
        shared: &mut Shared,
        random: &mut Random,
        lane: &Lane,
        span: Span,
        due: u64,
        references: &mut Vec<Reference>,
    ) -> Made {
        let (batch, sizes, verified) = (shared.plan.batch as usize, shared.plan.sizes, shared.ledger.is_some());
        let (mut maker, buffers, entries, _) = shared.making(due);
        let lead = self.lead();
        let out = buffers.bytes_mut(span);
        entries.clear();
        references.clear();
        let (mut at, mut bytes) = (0, 0);
        for _ in 0..batch {
            let (key, size) = (lane.draw(random), sizes.draw(random));
            entries.push(Entry::new(at as u32, Some(KEY as u16), size));
            let body = &mut out[lead + HEADER + at..];
            body[..KEY].copy_from_slice(&key_name(key));
            let number = maker.make(key, &mut body[KEY..KEY + size as usize], random);
            if verified {
                references.push((key, number));
            }
            at += KEY + size as usize;
            bytes += size as u64;
        }
        let body = body_size(at, batch);
        write_index(&mut out[lead + HEADER..lead + HEADER + body], at, entries);
        let header = Header {
            count: batch as u32,
            shard: self.shard(lane.shard),
            producer: self.producer,
            number: lane.next,
            ..blank(Kind::Batch)
        };
        let len = self.seal(out, header, body);
        let place = out[lead..].first_chunk().expect("a batch has a header");
        let header = Header::decode(place).expect("it has just been made");
        Made { header, len, bytes }
    }

    /// A batch that was made before goes as the next one of `lane`: its head is made again, at the beginning of `span`.
    pub fn make_again(&self, made: &mut Made, lane: &Lane, span: Span, buffers: &mut Buffers) {
        made.header.number = lane.next;
        made.header.producer = self.producer;
        let (lead, message) = buffers.bytes_mut(span.first(self.head())).split_at_mut(self.lead());
        lead.fill(0);
        made.header.encode(message.first_chunk_mut().expect("64 bytes"));
    }

    /// The batch of `lane` that all connections of the thread send, and where it lies; made by the first that does. `None`: there are more shards
    /// than such batches.
    pub fn common(&self, shared: &mut Shared, random: &mut Random, lane: &Lane, due: u64) -> Option<(Made, Span)> {
        let (shard, head) = (self.shard(lane.shard), self.head());
        let of = |common: &&Common| (common.made.header.shard, common.head) == (shard, head);
        if let Some(common) = shared.common.iter().find(of) {
            return Some((common.made, common.span));
        }
        let span = shared.buffers.take(Pool::Bulk)?;
        let made = self.make(shared, random, lane, span, due, &mut Vec::new());
        shared.common.push(Common { made, head, span });
        Some((made, span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::Layouts;
    use crate::log::format::header_at;

    #[test]
    fn a_map_that_is_wanted_leaves_a_ping_on_its_way_as_it_is() {
        let mut pools = [(0, 4096); 9];
        pools[Pool::Reply as usize] = (1, CONTROL);
        let mut buffers = Buffers::new(0, Layouts(pools));
        let control = buffers.whole(Pool::Reply, 0);
        for bulk in [false, true] {
            let mut native = Native { stage: Stage::Ready, bulk, ..Native::new(0, bulk) };
            native.say(Kind::Ping, control, &mut buffers);
            let ping = native.pending.take().expect("it is being sent now");
            let before = buffers.bytes(ping).to_vec();
            native.say_map(control, &mut buffers);
            let map = native.pending.expect("it waits");
            assert_eq!(buffers.bytes(ping), before);
            let kind = |span| {
                let header = header_at(buffers.bytes(span), native.lead()).expect("a header");
                Header::decode(header).expect("a message").kind
            };
            assert_eq!([ping, map].map(kind), [Kind::Ping, Kind::Map]);
        }
    }
}
