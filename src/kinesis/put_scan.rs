//! The first of two passes over a put: everything is validated, nothing is copied.
//!
//! The scanner knows the one shape that SDKs send, in any order of members and with any escapes, and notes where names, keys and data lie
//! in the body. Whatever else it meets, it stops, and [`super::put_diagnosis`] finds the exact error with a general parser. The body is
//! changed only when all of it is valid: then escapes are undone in place, so that every extent is the text itself.

use super::base64::{self, Text};
use super::error::Error;
use super::put_diagnosis::{self, Shape};
use crate::limits::{PARTITION_KEY_MAX, RECORD_DATA_MAX, RECORDS_PER_REQUEST_MAX, REQUEST_PAYLOAD_MAX};
use crate::route::md5::Lanes;

/// A part of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub at: u32,
    pub len: u32,
}

impl Extent {
    pub fn of(self, body: &[u8]) -> &[u8] {
        &body[self.at as usize..][..self.len as usize]
    }

    /// For a part that was validated as UTF-8.
    pub fn text(self, body: &[u8]) -> &str {
        std::str::from_utf8(self.of(body)).unwrap_or("")
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ScannedRecord {
    /// The data in base64.
    pub text: Extent,
    /// Bytes that it decodes to.
    pub data_len: u32,
    pub key: Extent,
    /// The explicit hash key, else the MD5 of the key.
    pub hash: u128,
}

/// A string of the body, as it was met.
#[derive(Clone, Copy, Debug)]
struct Raw {
    extent: Extent,
    escaped: bool,
}

/// A record, as it was met.
#[derive(Clone, Copy, Debug, Default)]
struct Members {
    data: Option<(Raw, u32)>,
    key: Option<Raw>,
    hash: Option<Raw>,
}

/// What a put asks for. Its room is made once and used again.
pub struct Scan {
    pub stream: Option<Extent>,
    pub arn: Option<Extent>,
    pub records: Vec<ScannedRecord>,
    /// `SequenceNumberForOrdering` of PutRecord.
    pub ordering: Option<Extent>,
    pub dry_run: bool,
    /// Bytes of all data and keys.
    pub payload: usize,
    /// Strings with escapes, to be undone.
    escapes: Vec<(u32, Field)>,
    /// Records without an explicit hash key.
    unhashed: Vec<u16>,
    lanes: Lanes,
}

/// Which string of which record an escape is in.
#[derive(Clone, Copy, Debug)]
enum Field {
    Stream,
    Arn,
    Ordering,
    Data,
    Key,
}

/// Something that the scanner does not take; the diagnosis says what.
#[derive(Debug)]
struct Unexpected;

impl Default for Scan {
    fn default() -> Scan {
        Scan::new()
    }
}

impl Scan {
    pub fn new() -> Scan {
        Scan {
            stream: None,
            arn: None,
            records: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            ordering: None,
            dry_run: false,
            payload: 0,
            escapes: Vec::new(),
            unhashed: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            lanes: Lanes::default(),
        }
    }

    /// Scans the body of PutRecords.
    pub fn put_records(&mut self, body: &mut [u8]) -> Result<(), Error> {
        self.clear();
        let scanned = self.many(body).and_then(|()| self.undo_escapes(body));
        self.settle(scanned, body, Shape::Many)
    }

    /// Scans the body of PutRecord: one record, its members beside the stream's.
    pub fn put_record(&mut self, body: &mut [u8]) -> Result<(), Error> {
        self.clear();
        let scanned = self.one(body).and_then(|()| self.undo_escapes(body));
        self.settle(scanned, body, Shape::One)
    }

    fn clear(&mut self) {
        (self.stream, self.arn, self.ordering, self.dry_run, self.payload) = (None, None, None, false, 0);
        self.records.clear();
        self.escapes.clear();
        self.unhashed.clear();
    }

    fn settle(&mut self, scanned: Result<(), Unexpected>, body: &[u8], shape: Shape) -> Result<(), Error> {
        if scanned.is_err() {
            return Err(put_diagnosis::diagnose(body, shape));
        }
        self.hash_keys(body);
        self.payload = self.records.iter().map(|r| r.key.len as usize + r.data_len as usize).sum();
        if self.payload > REQUEST_PAYLOAD_MAX {
            return Err(put_diagnosis::too_much());
        }
        Ok(())
    }

    fn many(&mut self, body: &[u8]) -> Result<(), Unexpected> {
        let mut p = Parser { bytes: body, at: 0 };
        p.open(b'{')?;
        let mut first = true;
        let mut records = None;
        while let Some(name) = p.member(&mut first)? {
            match name {
                b"StreamName" => self.stream = self.note(p.string()?, Field::Stream, body)?,
                b"StreamARN" => self.arn = self.note(p.string()?, Field::Arn, body)?,
                b"DryRun" => self.dry_run = p.boolean()?,
                b"Records" => {
                    self.records.clear();
                    self.unhashed.clear();
                    self.escapes.retain(|(_, field)| matches!(field, Field::Stream | Field::Arn));
                    records = p.null_or(|p| self.list(p))?;
                }
                _ => p.skip()?,
            }
        }
        p.end()?;
        records.ok_or(Unexpected)
    }

    fn list(&mut self, p: &mut Parser<'_>) -> Result<(), Unexpected> {
        p.open(b'[')?;
        let mut first = true;
        while p.item(&mut first)? {
            p.open(b'{')?;
            let mut members = Members::default();
            let mut first = true;
            while let Some(name) = p.member(&mut first)? {
                members.take(name, p)?;
            }
            self.add(members, p.bytes)?;
        }
        match self.records.is_empty() {
            true => Err(Unexpected),
            false => Ok(()),
        }
    }

    fn one(&mut self, body: &[u8]) -> Result<(), Unexpected> {
        let mut p = Parser { bytes: body, at: 0 };
        p.open(b'{')?;
        let mut members = Members::default();
        let mut first = true;
        while let Some(name) = p.member(&mut first)? {
            match name {
                b"StreamName" => self.stream = self.note(p.string()?, Field::Stream, body)?,
                b"StreamARN" => self.arn = self.note(p.string()?, Field::Arn, body)?,
                b"DryRun" => self.dry_run = p.boolean()?,
                b"SequenceNumberForOrdering" => self.ordering = self.note(p.string()?, Field::Ordering, body)?,
                _ => members.take(name, &mut p)?,
            }
        }
        p.end()?;
        self.add(members, body)
    }

    /// Notes a string of the request.
    fn note(&mut self, raw: Option<Raw>, field: Field, body: &[u8]) -> Result<Option<Extent>, Unexpected> {
        let Some(raw) = raw else { return Ok(None) };
        let text = raw.extent.of(body);
        let fits = match field {
            _ if raw.escaped => {
                self.escapes.push((0, field));
                true
            }
            Field::Stream => name_fits(text),
            Field::Arn => arn_fits(text),
            Field::Ordering => is_decimal(text, 129),
            Field::Data | Field::Key => true,
        };
        fits.then_some(Some(raw.extent)).ok_or(Unexpected)
    }

    /// Takes up a record that is complete.
    fn add(&mut self, members: Members, body: &[u8]) -> Result<(), Unexpected> {
        let (Some((data, data_len)), Some(key)) = (members.data, members.key) else { return Err(Unexpected) };
        let index = self.records.len() as u32;
        if index as usize == RECORDS_PER_REQUEST_MAX || key.extent.len == 0 {
            return Err(Unexpected);
        }
        if data.escaped {
            self.escapes.push((index, Field::Data));
        }
        if key.escaped {
            self.escapes.push((index, Field::Key));
        } else if !key_fits(key.extent.of(body)) {
            return Err(Unexpected);
        }
        let hash = match members.hash {
            None => {
                self.unhashed.push(index as u16);
                0
            }
            Some(raw) if raw.escaped => return Err(Unexpected),
            Some(raw) => parse_hash(raw.extent.of(body)).ok_or(Unexpected)?,
        };
        self.records.push(ScannedRecord { text: data.extent, data_len, key: key.extent, hash });
        Ok(())
    }

    fn hash_keys(&mut self, body: &[u8]) {
        let (records, lanes) = (&mut self.records, &mut self.lanes);
        for index in &self.unhashed {
            let key = records[*index as usize].key.of(body);
            lanes.push(*index as u32, key, |index, hash| records[index as usize].hash = hash);
        }
        lanes.flush(|index, hash| records[index as usize].hash = hash);
    }

    /// Undoes the escapes in place: the text gets shorter, what is left over of it is never looked at again.
    fn undo_escapes(&mut self, body: &mut [u8]) -> Result<(), Unexpected> {
        // Everything is tried before anything is changed: a diagnosis needs the body as it came.
        for (index, field) in &self.escapes {
            let extent = self.extent_of(*index, *field);
            let text = unescape(extent.of(body)).ok_or(Unexpected)?;
            let fits = match field {
                Field::Data => base64::decoded_len(&text).is_some_and(|len| len <= RECORD_DATA_MAX),
                Field::Key => key_fits(&text) && !text.is_empty(),
                Field::Ordering => is_decimal(&text, 129),
                Field::Stream => name_fits(&text),
                Field::Arn => arn_fits(&text),
            };
            if !fits {
                return Err(Unexpected);
            }
        }
        let escapes = std::mem::take(&mut self.escapes);
        for (index, field) in &escapes {
            let extent = self.extent_of(*index, *field);
            let text = unescape(extent.of(body)).ok_or(Unexpected)?;
            let undone = Extent { at: extent.at, len: text.len() as u32 };
            body[extent.at as usize..][..text.len()].copy_from_slice(&text);
            match field {
                Field::Stream => self.stream = Some(undone),
                Field::Arn => self.arn = Some(undone),
                Field::Ordering => self.ordering = Some(undone),
                Field::Data => {
                    let record = &mut self.records[*index as usize];
                    record.text = undone;
                    record.data_len = base64::decoded_len(&text).ok_or(Unexpected)? as u32;
                }
                Field::Key => {
                    self.records[*index as usize].key = undone;
                }
            }
        }
        self.escapes = escapes;
        Ok(())
    }

    fn extent_of(&self, index: u32, field: Field) -> Extent {
        let record = self.records.get(index as usize);
        let none = Extent { at: 0, len: 0 };
        match field {
            Field::Stream => self.stream.unwrap_or(none),
            Field::Arn => self.arn.unwrap_or(none),
            Field::Ordering => self.ordering.unwrap_or(none),
            Field::Data => record.map_or(none, |r| r.text),
            Field::Key => record.map_or(none, |r| r.key),
        }
    }
}

impl Members {
    /// Takes a member of a record; of two with one name the later counts, null is as good as absent.
    fn take(&mut self, name: &[u8], p: &mut Parser<'_>) -> Result<(), Unexpected> {
        match name {
            b"Data" => self.data = p.null_or(Parser::data)?,
            b"PartitionKey" => self.key = p.string()?,
            b"ExplicitHashKey" => self.hash = p.string()?,
            _ => p.skip()?,
        }
        Ok(())
    }
}

/// 1 to 256 characters, valid UTF-8.
fn key_fits(key: &[u8]) -> bool {
    match key.len() <= PARTITION_KEY_MAX && key.is_ascii() {
        true => !key.is_empty(),
        false => std::str::from_utf8(key).is_ok_and(|key| key.chars().count() <= PARTITION_KEY_MAX),
    }
}

fn name_fits(name: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
    (1..=128).contains(&name.len()) && name.iter().all(letter)
}

/// What [`super::arn`] will look at more closely.
fn arn_fits(arn: &[u8]) -> bool {
    (1..=2048).contains(&arn.len())
        && std::str::from_utf8(arn).is_ok_and(|arn| super::arn::StreamArn::parse(arn).is_some())
}

/// 0, or digits without a leading zero, at most `most` of them.
fn is_decimal(text: &[u8], most: usize) -> bool {
    let digits = (1..=most).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    digits && (text[0] != b'0' || text.len() == 1)
}

/// A hash key: a decimal number of up to 128 bits.
pub(super) fn parse_hash(text: &[u8]) -> Option<u128> {
    is_decimal(text, 39).then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// The text of a JSON string with escapes.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let quoted = [b"\"", text, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).ok().map(String::into_bytes)
}

/// A reader of the body. It knows JSON, and what the scan wants of it.
struct Parser<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Parser<'b> {
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

    /// Whether another item of a list follows; takes the comma or the bracket.
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

    /// The name of the next member of an object, with its colon taken; `None` at the end. A name with escapes is nobody's that is known,
    /// but for one that spells a known one in a strange way: left to the diagnosis, which does not find anything wrong.
    fn member(&mut self, first: &mut bool) -> Result<Option<&'b [u8]>, Unexpected> {
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
        let raw = self.string_body()?;
        self.open(b':')?;
        match raw.escaped {
            true => Err(Unexpected),
            false => Ok(Some(raw.extent.of(self.bytes))),
        }
    }

    /// Nothing but white space may follow.
    fn end(&mut self) -> Result<(), Unexpected> {
        self.space();
        (self.at == self.bytes.len()).then_some(()).ok_or(Unexpected)
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), Unexpected> {
        if !self.bytes[self.at..].starts_with(text) {
            return Err(Unexpected);
        }
        self.at += text.len();
        Ok(())
    }

    /// `None` for null, else what `value` reads.
    fn null_or<T>(
        &mut self,
        value: impl FnOnce(&mut Parser<'b>) -> Result<T, Unexpected>,
    ) -> Result<Option<T>, Unexpected> {
        match self.peek()? {
            b'n' => self.literal(b"null").map(|()| None),
            _ => value(self).map(Some),
        }
    }

    fn boolean(&mut self) -> Result<bool, Unexpected> {
        match self.peek()? {
            b't' => self.literal(b"true").map(|()| true),
            b'f' => self.literal(b"false").map(|()| false),
            _ => self.literal(b"null").map(|()| false),
        }
    }

    fn string(&mut self) -> Result<Option<Raw>, Unexpected> {
        self.null_or(|p| {
            p.open(b'"')?;
            p.string_body()
        })
    }

    /// The rest of a string whose quote has been taken, with its end.
    fn string_body(&mut self) -> Result<Raw, Unexpected> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = &self.bytes[self.at..];
            let stop = rest.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20).ok_or(Unexpected)?;
            self.at += stop;
            match self.bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                    if self.at > self.bytes.len() {
                        return Err(Unexpected);
                    }
                }
                _ => return Err(Unexpected),
            }
        }
        let extent = Extent { at: start as u32, len: (self.at - start) as u32 };
        self.at += 1;
        let text = extent.of(self.bytes);
        if escaped && unescape(text).is_none() || !text.is_ascii() && std::str::from_utf8(text).is_err() {
            return Err(Unexpected);
        }
        Ok(Raw { extent, escaped })
    }

    /// A string of base64, and what it decodes to.
    fn data(&mut self) -> Result<(Raw, u32), Unexpected> {
        self.open(b'"')?;
        match base64::measure(&self.bytes[self.at..]) {
            Text::Whole { len, data } if data <= RECORD_DATA_MAX => {
                let extent = Extent { at: self.at as u32, len: len as u32 };
                self.at += len + 1;
                Ok((Raw { extent, escaped: false }, data as u32))
            }
            Text::Escaped { .. } => Ok((self.string_body()?, 0)),
            _ => Err(Unexpected),
        }
    }

    /// Steps over a value that nobody knows. Rare, so the general parser does it.
    fn skip(&mut self) -> Result<(), Unexpected> {
        self.space();
        let mut values =
            serde_json::Deserializer::from_slice(&self.bytes[self.at..]).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let value = &self.bytes[self.at..][..values.byte_offset()];
                self.at += value.len();
                // The parser does not look into strings that nobody wants.
                std::str::from_utf8(value).map(drop).map_err(|_| Unexpected)
            }
            _ => Err(Unexpected),
        }
    }
}

#[cfg(test)]
#[path = "put_scan_tests.rs"]
mod tests;
