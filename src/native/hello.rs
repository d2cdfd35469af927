//! The first message of a client: what it wants to do, on which stream, and who it is.

use super::message::{Fields, Filler, Header, Kind, VERSION, blank};
use super::proof::HASH;
use super::refusal::{Code, Fault};

/// Bits of what a client may want; the server accepts some of them.
pub mod feature {
    /// Batches are written from where the kernel receives them.
    pub const BULK: u32 = 1;
}

pub const STREAM_NAME_MAX: usize = 128;
pub const KEY_ID_MAX: usize = 128;
pub const SESSION_TOKEN_MAX: usize = 4096;
/// Of a `Hello`.
pub const BODY_MAX: usize = 16 + STREAM_NAME_MAX + KEY_ID_MAX + SESSION_TOKEN_MAX;

/// What a client says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Versions of the protocol that it speaks, from the lowest to the highest.
    pub versions: (u16, u16),
    /// Bits of [`feature`].
    pub wanted: u32,
    /// Producer id << 16 | its epoch; 0: none.
    pub producer: u64,
    pub stream: &'a str,
    /// Of an access key; empty: none.
    pub key_id: &'a str,
    /// Of a key that has one.
    pub session_token: &'a str,
}

impl<'a> Hello<'a> {
    pub fn decode(header: &Header, body: &'a [u8]) -> Result<Hello<'a>, Fault> {
        const WRONG: Fault = Fault { code: Code::Malformed, why: "The Hello is not one: its lengths do not add up." };
        let mut fields = Fields(body);
        let mut lengths = || {
            let versions = (fields.u16()?, fields.u16()?);
            let wanted = fields.u32()?;
            Some((versions, wanted, [fields.u16()?, fields.u16()?, fields.u16()?], fields.u16()?))
        };
        let (versions, wanted, lengths, _) = lengths().ok_or(WRONG)?;
        let most = [STREAM_NAME_MAX, KEY_ID_MAX, SESSION_TOKEN_MAX];
        let mut texts = [""; 3];
        for ((text, length), most) in texts.iter_mut().zip(lengths).zip(most) {
            let bytes = fields.bytes(length as usize).filter(|bytes| bytes.len() <= most).ok_or(WRONG)?;
            // Names, ids and tokens are printable characters of ASCII.
            let printable = bytes.iter().all(u8::is_ascii_graphic);
            *text = std::str::from_utf8(bytes).ok().filter(|_| printable).ok_or(WRONG)?;
        }
        if !fields.0.is_empty() {
            return Err(WRONG);
        }
        if versions.0 > VERSION || versions.1 < VERSION {
            let why = "This server speaks version 1 of the protocol.";
            return Err(Fault { code: Code::Version, why });
        }
        let [stream, key_id, session_token] = texts;
        Ok(Hello { versions, wanted, producer: header.producer, stream, key_id, session_token })
    }

    pub fn encode(&self, out: &mut [u8]) -> usize {
        let texts = [self.stream, self.key_id, self.session_token];
        let mut body = Filler::body_of(out);
        body.put(&self.versions.0.to_le_bytes()).put(&self.versions.1.to_le_bytes()).put(&self.wanted.to_le_bytes());
        texts.iter().for_each(|text| {
            body.put(&(text.len() as u16).to_le_bytes());
        });
        body.put(&[0; 2]);
        texts.iter().for_each(|text| {
            body.put(text.as_bytes());
        });
        body.seal(Header { producer: self.producer, ..blank(Kind::Hello) })
    }
}

/// Writes a `Challenge` or a `Proof`: 32 bytes.
pub fn encode_hash(out: &mut [u8], kind: Kind, hash: &[u8; HASH]) -> usize {
    let mut body = Filler::body_of(out);
    body.put(hash);
    body.seal(blank(kind))
}

pub fn decode_hash(body: &[u8]) -> Option<[u8; HASH]> {
    body.try_into().ok()
}
