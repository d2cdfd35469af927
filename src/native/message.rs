//! Messages: each is a 64-byte header, a body, and zeros up to the next multiple of 64.

use super::refusal::{Code, Fault};
use crate::log::checksum::crc;
use crate::log::format::{self, Damage, HEADER, HeaderKind, ShardKey, stride};

/// The only version of the protocol.
pub const VERSION: u16 = 1;
/// On a bulk connection a message takes up whole blocks of so many bytes, and 64 zeros come before its header.
pub const BLOCK: u32 = 4096;
/// Whatever is no batch is at most this long, header and padding counted.
pub const CONTROL_MAX: u32 = 8 << 10;

/// What a message is. Those below 64 are what the log stores, too; the others only travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Records: from a client to be stored, from the server as they are stored.
    Batch = 1,
    /// The same, encrypted at rest. Reserved: no log has any, and one that has would decrypt them for whoever may read.
    Encrypted = 2,
    Hello = 64,
    Challenge = 65,
    Proof = 66,
    Welcome = 67,
    /// Asks for the map of shards.
    Map = 68,
    Shards = 69,
    Ack = 70,
    Refused = 71,
    Goodbye = 72,
    Ping = 73,
    Pong = 74,
    Read = 80,
    Done = 81,
    Subscribe = 82,
    Credit = 83,
    Unsubscribe = 84,
}

/// In the order of their numbers.
pub const KINDS: [Kind; 18] = [
    Kind::Batch,
    Kind::Encrypted,
    Kind::Hello,
    Kind::Challenge,
    Kind::Proof,
    Kind::Welcome,
    Kind::Map,
    Kind::Shards,
    Kind::Ack,
    Kind::Refused,
    Kind::Goodbye,
    Kind::Ping,
    Kind::Pong,
    Kind::Read,
    Kind::Done,
    Kind::Subscribe,
    Kind::Credit,
    Kind::Unsubscribe,
];

impl HeaderKind for Kind {
    fn byte(self) -> u8 {
        self as u8
    }

    fn of_byte(byte: u8) -> Option<Kind> {
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Of a read, they are what is wanted.
    fn has_records(self) -> bool {
        matches!(self, Kind::Batch | Kind::Encrypted)
    }
}

impl Kind {
    /// Whether a client may send it.
    pub fn is_for_server(self) -> bool {
        use Kind::*;
        match self {
            Batch | Hello | Proof | Map | Goodbye | Ping | Pong | Read | Subscribe | Credit | Unsubscribe => true,
            Encrypted | Challenge | Welcome | Shards | Ack | Refused | Done => false,
        }
    }
}

/// The header of a message.
pub type Header = format::Header<Kind>;

/// A header of a message without a body, all of whose fields are zero.
pub fn blank(kind: Kind) -> Header {
    Header {
        kind,
        stride: HEADER as u32,
        body: 0,
        count: 0,
        shard: ShardKey(0),
        sequence: 0,
        arrival: 0,
        producer: 0,
        number: 0,
        incarnation: 0,
        body_crc: 0,
    }
}

/// Writes the header in front of a body of `body` bytes that lies behind its place, and zeros up to the end, which is returned. Stride, length and
/// CRC of the body are filled in.
pub fn seal(out: &mut [u8], header: Header, body: usize) -> usize {
    let size = stride(body as u32) as usize;
    out[HEADER + body..size].fill(0);
    let body_crc = crc(&out[HEADER..HEADER + body]);
    let header = Header { stride: size as u32, body: body as u32, body_crc, ..header };
    header.encode(out.first_chunk_mut().expect("a message has room for its header"));
    size
}

/// Writes a message that is a header alone.
pub fn seal_header(out: &mut [u8], header: Header) -> usize {
    seal(out, header, 0)
}

/// The header of a message from a client; `largest`: of a batch, with header and padding; `bulk`: of a bulk connection. What is refused here ends the connection, as nobody
/// knows where the next message begins.
pub fn from_client(bytes: &[u8; HEADER], largest: u32, bulk: bool) -> Result<Header, Fault> {
    let malformed = |why| Fault { code: Code::Malformed, why };
    let header = Header::decode(bytes).map_err(|damage| match damage {
        Damage::Version { .. } => Fault { code: Code::Version, why: "The header is of a version that is not served." },
        Damage::Magic { .. } => malformed("No message begins here: its first two bytes are not \"pf\"."),
        Damage::Checksum { .. } => malformed("The checksum of a header is wrong."),
        Damage::Field { what: "kind of frame" } => malformed("There is no message of this kind."),
        Damage::Field { .. } | Damage::Short { .. } => malformed("A header contradicts itself."),
    })?;
    if !header.kind.is_for_server() {
        return Err(malformed("A client does not send messages of this kind."));
    }
    if bulk {
        let fits =
            header.stride.is_multiple_of(BLOCK) && header.stride as u64 >= 2 * HEADER as u64 + header.body as u64;
        if !fits {
            return Err(malformed(
                "On a bulk connection a message takes up whole blocks, 128 bytes and its body at least.",
            ));
        }
    } else if header.stride as u64 != stride(header.body) {
        return Err(malformed("A message takes up 64 bytes and its body, rounded up to a multiple of 64, no more."));
    }
    let most = if header.kind == Kind::Batch { largest } else { CONTROL_MAX };
    if header.stride > most {
        return Err(malformed("A message is longer than the largest that is taken."));
    }
    Ok(header)
}

/// Takes a body apart, field by field.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}

/// Puts a body together.
pub struct Filler<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Filler<'a> {
    /// Of the message that begins `out`.
    pub fn body_of(out: &'a mut [u8]) -> Filler<'a> {
        Filler { out, at: HEADER }
    }

    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    /// Seals the message that these bytes are the body of.
    pub fn seal(self, header: Header) -> usize {
        seal(self.out, header, self.at - HEADER)
    }
}
