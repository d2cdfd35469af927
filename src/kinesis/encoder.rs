//! Writes JSON into a buffer of fixed size. The answers of the ack path are sized beforehand, so running out is an error of the caller.

use super::sequence::{DIGITS, Run};

/// A buffer, and how far it is written.
pub struct Encoder<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Encoder<'a> {
    /// Goes on behind the first `at` bytes.
    pub fn at(out: &'a mut [u8], at: usize) -> Encoder<'a> {
        Encoder { out, at }
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

    /// Drops the last byte when it is `byte`: a comma that nothing followed.
    pub fn trim(&mut self, byte: u8) {
        if self.at > 0 && self.out[self.at - 1] == byte {
            self.at -= 1;
        }
    }

    /// Without leading zeros.
    pub fn number(&mut self, mut value: u64) {
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

    /// `shardId-` and 12 digits, in quotes.
    pub fn shard_id(&mut self, shard: u32) {
        let mut text = *b"\"shardId-000000000000\"";
        let mut rest = shard;
        let mut at = 20;
        while rest > 0 {
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            at -= 1;
        }
        self.bytes(&text);
    }

    /// The 56 digits, in quotes, of the number `ordinal` behind the first of `run`.
    pub fn sequence(&mut self, run: &Run, ordinal: u32) {
        let mut digits = [0; DIGITS];
        run.write(ordinal, &mut digits);
        self.bytes(b"\"");
        self.bytes(&digits);
        self.bytes(b"\"");
    }

    /// Data in base64, in quotes.
    pub fn base64(&mut self, data: &[u8]) {
        self.bytes(b"\"");
        self.at += super::base64::encode_into(data, &mut self.out[self.at..]);
        self.bytes(b"\"");
    }

    /// Text as a JSON string. It is valid UTF-8 as stored; only what JSON must have escaped is.
    pub fn string(&mut self, text: &[u8]) {
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

/// Most bytes of [`Encoder::string`] for `len` bytes of text.
pub const fn string_max(len: usize) -> usize {
    2 + 6 * len
}
