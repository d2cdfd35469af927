//! The JSON that a put is scanned from.

use super::base64::{self, Text};
use super::json_skip;
use super::json_string::{self, Measured};
use super::object;
use super::put_scan::{Extent, Name, Parser, Raw, Unexpected};

/// A place in the body.
pub(super) struct JsonParser<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> JsonParser<'b> {
    pub fn new(bytes: &'b [u8]) -> JsonParser<'b> {
        JsonParser { bytes, at: 0 }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Result<u8, Unexpected> {
        self.space();
        self.bytes.get(self.at).copied().ok_or(Unexpected)
    }

    fn open(&mut self, byte: u8) -> Result<(), Unexpected> {
        if self.peek()? != byte {
            return Err(Unexpected);
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), Unexpected> {
        if self.takes(text) { Ok(()) } else { Err(Unexpected) }
    }

    /// Takes `text` if it comes next.
    #[inline]
    fn takes(&mut self, text: &[u8]) -> bool {
        let next = self.bytes[self.at..].starts_with(text);
        self.at += if next { text.len() } else { 0 };
        next
    }

    /// The rest of a string whose quote has been taken, with its end.
    fn string_body(&mut self) -> Result<Raw, Unexpected> {
        let Measured { len, escaped, ascii } = json_string::measure(&self.bytes[self.at..]).ok_or(Unexpected)?;
        let extent = Extent { at: self.at as u32, len: len as u32 };
        self.at += len + 1;
        Ok(Raw { extent, escaped, ascii })
    }
}

impl Parser for JsonParser<'_> {
    /// Whether no part has been read yet.
    type Open = bool;

    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn map(&mut self) -> Result<bool, Unexpected> {
        self.open(b'{').map(|()| true)
    }

    fn list(&mut self) -> Result<bool, Unexpected> {
        self.open(b'[').map(|()| true)
    }

    fn item(&mut self, first: &mut bool) -> Result<bool, Unexpected> {
        match (self.peek()?, std::mem::take(first)) {
            (b']', _) => {
                self.at += 1;
                Ok(false)
            }
            (_, true) => Ok(true),
            (b',', false) => {
                self.at += 1;
                match self.peek()? {
                    b']' => Err(Unexpected),
                    _ => Ok(true),
                }
            }
            _ => Err(Unexpected),
        }
    }

    fn member(&mut self, first: &mut bool) -> Result<Option<Name>, Unexpected> {
        match (self.peek()?, std::mem::take(first)) {
            (b'}', _) => {
                self.at += 1;
                return Ok(None);
            }
            (b',', false) => {
                self.at += 1;
            }
            (_, true) => {}
            _ => return Err(Unexpected),
        }
        self.open(b'"')?;
        // As SDKs write them; what follows is for all other names, and for these in other forms.
        if self.takes(b"Data\":") {
            return Ok(Some(Name::Data));
        }
        if self.takes(b"PartitionKey\":") {
            return Ok(Some(Name::PartitionKey));
        }
        let raw = self.string_body()?;
        self.open(b':')?;
        // A name too long to be looked at is none that is known.
        Ok(Some(raw.with_text(self.bytes, Name::of).unwrap_or(Name::Unknown)))
    }

    fn null(&mut self) -> Result<bool, Unexpected> {
        match self.peek()? {
            b'n' => self.literal(b"null").map(|()| true),
            _ => Ok(false),
        }
    }

    fn boolean(&mut self) -> Result<bool, Unexpected> {
        match self.peek()? {
            b't' => self.literal(b"true").map(|()| true),
            b'f' => self.literal(b"false").map(|()| false),
            b'"' => {
                self.at += 1;
                let raw = self.string_body()?;
                raw.with_text(self.bytes, object::is_true).flatten().ok_or(Unexpected)
            }
            _ => self.literal(b"null").map(|()| false),
        }
    }

    fn string(&mut self) -> Result<Option<Raw>, Unexpected> {
        if self.null()? {
            return Ok(None);
        }
        self.open(b'"')?;
        self.string_body().map(Some)
    }

    fn data(&mut self) -> Result<Option<(Raw, usize)>, Unexpected> {
        if self.null()? {
            return Ok(None);
        }
        self.open(b'"')?;
        match base64::measure(&self.bytes[self.at..]) {
            Text::Whole { len, data } => {
                let extent = Extent { at: self.at as u32, len: len as u32 };
                self.at += len + 1;
                Ok(Some((Raw { extent, escaped: false, ascii: true }, data)))
            }
            Text::Escaped { .. } => {
                let raw = self.string_body()?;
                Ok(Some((raw, json_string::base64_len(raw.extent.of(self.bytes)).ok_or(Unexpected)?)))
            }
            Text::Wrong => Err(Unexpected),
        }
    }

    fn skip(&mut self) -> Result<(), Unexpected> {
        self.at += json_skip::value_len(&self.bytes[self.at..]).ok_or(Unexpected)?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unexpected> {
        self.space();
        (self.at == self.bytes.len()).then_some(()).ok_or(Unexpected)
    }
}
