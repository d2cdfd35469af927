//! Writes answers into a buffer of fixed size, in either encoding. Those of the ack path are sized beforehand, so running out is an error of
//! the caller.
//!
//! What stands between the values is the same in every answer: a [`Piece`], which has its bytes in both encodings.

use super::cbor::{self, head};
use super::object::Encoding;
use super::sequence::{DIGITS, Run};
use crate::io::clock::Wall;

/// A constant part of an answer: as JSON, and as CBOR.
#[derive(Clone, Copy)]
pub struct Piece(pub &'static [u8], pub &'static [u8]);

impl Piece {
    /// Of the longer form.
    pub const fn len_max(self) -> usize {
        if self.0.len() > self.1.len() { self.0.len() } else { self.1.len() }
    }
}

/// The end of an object, and of an object that is an item of a list, and of a list: JSON has a comma behind an item, dropped behind the last.
pub const END: Piece = Piece(b"}", &[cbor::BREAK]);
pub const END_ITEM: Piece = Piece(b"},", &[cbor::BREAK]);
pub const END_LIST: Piece = Piece(b"]", &[cbor::BREAK]);

/// A buffer, and how far it is written.
pub struct Encoder<'a> {
    encoding: Encoding,
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Encoder<'a> {
    /// Goes on behind the first `at` bytes.
    pub fn at(encoding: Encoding, out: &'a mut [u8], at: usize) -> Encoder<'a> {
        Encoder { encoding, out, at }
    }

    pub fn len(&self) -> usize {
        self.at
    }

    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub fn piece(&mut self, piece: Piece) {
        match self.encoding {
            Encoding::Json => self.bytes(piece.0),
            Encoding::Cbor => self.bytes(piece.1),
        }
    }

    /// Drops the comma of JSON that nothing followed.
    pub fn trim(&mut self) {
        if self.encoding == Encoding::Json && self.at > 0 && self.out[self.at - 1] == b',' {
            self.at -= 1;
        }
    }

    /// The comma of JSON between two plain values.
    pub fn next(&mut self) {
        if self.encoding == Encoding::Json {
            self.bytes(b",");
        }
    }

    pub fn number(&mut self, value: u64) {
        match self.encoding {
            Encoding::Json => self.digits(value),
            Encoding::Cbor => self.head(cbor::UNSIGNED, value),
        }
    }

    fn head(&mut self, major: u8, value: u64) {
        let (bytes, len) = head(major, value);
        self.bytes(&bytes[..len]);
    }

    /// Without leading zeros.
    fn digits(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.bytes(&digits[from..]);
    }

    /// A time: seconds with milliseconds behind the point in JSON, whole milliseconds behind a tag in CBOR.
    pub fn timestamp(&mut self, at: Wall) {
        match self.encoding {
            Encoding::Json => {
                self.digits(at.seconds());
                let ms = at.millis() % 1000;
                let digit = |n: u64| b'0' + (n % 10) as u8;
                self.bytes(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
            }
            Encoding::Cbor => {
                self.head(cbor::TAG, cbor::TIME);
                self.head(cbor::UNSIGNED, at.millis());
            }
        }
    }

    /// `shardId-` and 12 digits, as a string.
    pub fn shard_id(&mut self, shard: u32) {
        let mut text = *b"shardId-000000000000";
        let mut rest = shard;
        let mut at = 19;
        while rest > 0 {
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            at -= 1;
        }
        self.plain(&text);
    }

    /// The digits, as a string, of the number `ordinal` behind the first of `run`.
    pub fn sequence(&mut self, run: &Run, ordinal: u32) {
        let mut digits = [0; DIGITS];
        run.write(ordinal, &mut digits);
        self.plain(&digits);
    }

    /// Text of ASCII that needs no escapes, as a string.
    pub fn plain(&mut self, text: &[u8]) {
        match self.encoding {
            Encoding::Json => {
                self.bytes(b"\"");
                self.bytes(text);
                self.bytes(b"\"");
            }
            Encoding::Cbor => {
                self.head(cbor::TEXT, text.len() as u64);
                self.bytes(text);
            }
        }
    }

    /// Data: a string of base64 in JSON, bytes in CBOR.
    pub fn blob(&mut self, data: &[u8]) {
        match self.encoding {
            Encoding::Json => {
                self.bytes(b"\"");
                self.at += super::base64::encode_into(data, &mut self.out[self.at..]);
                self.bytes(b"\"");
            }
            Encoding::Cbor => {
                self.head(cbor::BYTES, data.len() as u64);
                self.bytes(data);
            }
        }
    }

    /// Text, which is valid UTF-8 as stored.
    pub fn string(&mut self, text: &[u8]) {
        match self.encoding {
            Encoding::Json => self.escaped(text),
            Encoding::Cbor => {
                self.head(cbor::TEXT, text.len() as u64);
                self.bytes(text);
            }
        }
    }

    /// Only what JSON must have escaped is.
    fn escaped(&mut self, text: &[u8]) {
        self.bytes(b"\"");
        let mut plain = 0;
        for (at, &byte) in text.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.bytes(&text[plain..at]);
            plain = at + 1;
            match byte {
                b'"' | b'\\' => self.bytes(&[b'\\', byte]),
                _ => {
                    let hex = |nibble: u8| b"0123456789abcdef"[nibble as usize];
                    self.bytes(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                }
            }
        }
        self.bytes(&text[plain..]);
        self.bytes(b"\"");
    }
}

/// Most bytes of [`Encoder::string`] for `len` bytes of text: in JSON every one of them may need an escape.
pub const fn string_max(len: usize) -> usize {
    9 + 6 * len
}
