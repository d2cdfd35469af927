//! Items of CBOR: of an answer, found without taking the whole of it apart, and the members of a request.

use crate::kinesis::cbor::{self, Parts, Walk};

/// Whether an item of CBOR is this text, in the form that everybody uses.
pub fn is_text(item: &[u8], text: &str) -> bool {
    let (head, used) = cbor::head(cbor::TEXT, text.len() as u64);
    item.strip_prefix(&head[..used]) == Some(text.as_bytes())
}

/// The member of a map that has this name.
pub fn member<'b>(map: &'b [u8], name: &str) -> Option<&'b [u8]> {
    Parts::of(map).find(|(called, _)| is_text(called, name)).map(|(_, value)| value)
}

/// The bytes of a text of known length.
pub fn text_of(item: &[u8]) -> Option<&[u8]> {
    let mut walk = Walk::new(item);
    match walk.head()? {
        cbor::Head::Text(Some(len)) => walk.take(len),
        _ => None,
    }
}

/// The bytes of a string of bytes of known length.
pub fn bytes_of(item: &[u8]) -> Option<&[u8]> {
    let mut walk = Walk::new(item);
    match walk.head()? {
        cbor::Head::Bytes(Some(len)) => walk.take(len),
        _ => None,
    }
}

/// Writes the members of a request one behind the other; the caller has made sure of the room.
pub struct Members<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Members<'o> {
    pub fn begin(out: &'o mut [u8]) -> Members<'o> {
        out[0] = cbor::OPEN_MAP;
        Members { out, at: 1 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn head(&mut self, major: u8, value: u64) {
        let (bytes, used) = cbor::head(major, value);
        self.put(&bytes[..used]);
    }

    fn name(&mut self, name: &str) {
        self.head(cbor::TEXT, name.len() as u64);
        self.put(name.as_bytes());
    }

    pub fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        self.head(cbor::TEXT, text.len() as u64);
        self.put(text);
    }

    pub fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.head(cbor::UNSIGNED, number);
    }

    /// In ms since 1970.
    pub fn time(&mut self, name: &str, time: u64) {
        self.name(name);
        self.head(cbor::TAG, cbor::TIME);
        self.head(cbor::UNSIGNED, time);
    }

    /// Gives the length.
    pub fn end(mut self) -> usize {
        self.put(&[cbor::BREAK]);
        self.at
    }
}
