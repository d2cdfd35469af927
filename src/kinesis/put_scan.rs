//! The first of two passes over a put: everything is validated, nothing is copied.
//!
//! The scanner knows the one shape that SDKs send, in any order of members and with any escapes, and notes where names, keys and data lie
//! in the body. Whatever else it meets, it stops, and [`super::put_diagnosis`] finds the exact error. The body is changed
//! only when all of it is valid: then escapes are undone in place, so that every extent is the text itself.

use super::base64::{self, Text};
use super::error::Error;
use super::json;
use super::json_skip;
use super::json_string::{self, Measured};
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
    /// Valid, but with escapes in it.
    escaped: bool,
    ascii: bool,
}

/// A record, as it was met.
#[derive(Clone, Copy, Debug, Default)]
struct Members {
    data: Option<(Raw, u32)>,
    key: Option<Raw>,
    hash: Option<Raw>,
}

/// The strings beside the records, as they were met.
#[derive(Clone, Copy, Debug, Default)]
struct Names {
    stream: Option<Raw>,
    arn: Option<Raw>,
    ordering: Option<Raw>,
}

/// What a put asks for. Its room is made once and used again.
pub struct Scan {
    pub stream: Option<Extent>,
    pub arn: Option<Extent>,
    pub records: Vec<ScannedRecord>,
    /// `SequenceNumberForOrdering` of PutRecord.
    pub ordering: Option<Extent>,
    /// The first explicit hash key that is a number and too large: refused, but not before the stream has been found.
    pub beyond_hashes: Option<Extent>,
    pub dry_run: bool,
    /// Bytes of all data and keys.
    pub payload: usize,
    /// As it was met.
    beyond: Option<Raw>,
    /// Records with escapes to be undone.
    escapes: Vec<(u16, Field)>,
    /// Records without an explicit hash key.
    unhashed: Vec<u16>,
    lanes: Lanes,
}

/// Which string of a record has escapes.
#[derive(Clone, Copy, Debug)]
enum Field {
    Data,
    Key,
}

/// Room for a name of at most 2048 characters with some of them escaped; a longer one is left to the diagnosis.
const NAME_ROOM: usize = 4096;

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
            beyond_hashes: None,
            dry_run: false,
            payload: 0,
            beyond: None,
            escapes: Vec::with_capacity(2 * RECORDS_PER_REQUEST_MAX),
            unhashed: Vec::with_capacity(RECORDS_PER_REQUEST_MAX),
            lanes: Lanes::default(),
        }
    }

    /// Scans the body of PutRecords.
    pub fn put_records(&mut self, body: &mut [u8]) -> Result<(), Error> {
        self.clear();
        let names = self.many(body);
        self.settle(names, body, Shape::Many)
    }

    /// Scans the body of PutRecord: one record, its members beside the stream's.
    pub fn put_record(&mut self, body: &mut [u8]) -> Result<(), Error> {
        self.clear();
        let names = self.one(body);
        self.settle(names, body, Shape::One)
    }

    fn clear(&mut self) {
        (self.stream, self.arn, self.ordering, self.beyond_hashes) = (None, None, None, None);
        (self.dry_run, self.payload) = (false, 0);
        self.clear_records();
    }

    fn clear_records(&mut self) {
        self.beyond = None;
        self.records.clear();
        self.escapes.clear();
        self.unhashed.clear();
    }

    /// From here on the body is known to be valid, or it is diagnosed as it came.
    fn settle(&mut self, names: Result<Names, Unexpected>, body: &mut [u8], shape: Shape) -> Result<(), Error> {
        let Ok(names) = names else { return Err(put_diagnosis::diagnose(body, shape)) };
        let plain = |raw: Option<Raw>, body: &mut [u8]| raw.map(|raw| undo(raw.extent, raw.escaped, body));
        self.stream = plain(names.stream, body);
        self.arn = plain(names.arn, body);
        self.ordering = plain(names.ordering, body);
        self.beyond_hashes = plain(self.beyond, body);
        for (index, field) in &self.escapes {
            let record = &mut self.records[*index as usize];
            match field {
                Field::Data => record.text = undo(record.text, true, body),
                Field::Key => record.key = undo(record.key, true, body),
            }
        }
        self.hash_keys(body);
        self.payload = self.records.iter().map(|r| r.key.len as usize + r.data_len as usize).sum();
        if self.payload > REQUEST_PAYLOAD_MAX {
            return Err(put_diagnosis::too_much());
        }
        Ok(())
    }

    fn many(&mut self, body: &[u8]) -> Result<Names, Unexpected> {
        let mut p = Parser { bytes: body, at: 0 };
        p.open(b'{')?;
        let (mut names, mut first, mut records) = (Names::default(), true, None);
        while let Some(name) = p.member(&mut first)? {
            match name {
                Name::Stream => names.stream = p.string()?,
                Name::Arn => names.arn = p.string()?,
                Name::DryRun => self.dry_run = p.boolean()?,
                Name::Records => {
                    self.clear_records();
                    records = p.null_or(|p| self.list(p))?;
                }
                _ => p.skip()?,
            }
        }
        p.end()?;
        records.filter(|()| names.fit(body)).map(|()| names).ok_or(Unexpected)
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

    fn one(&mut self, body: &[u8]) -> Result<Names, Unexpected> {
        let mut p = Parser { bytes: body, at: 0 };
        p.open(b'{')?;
        let (mut names, mut members, mut first) = (Names::default(), Members::default(), true);
        while let Some(name) = p.member(&mut first)? {
            match name {
                Name::Stream => names.stream = p.string()?,
                Name::Arn => names.arn = p.string()?,
                Name::DryRun => self.dry_run = p.boolean()?,
                Name::Ordering => names.ordering = p.string()?,
                _ => members.take(name, &mut p)?,
            }
        }
        p.end()?;
        self.add(members, body)?;
        names.fit(body).then_some(names).ok_or(Unexpected)
    }

    /// Takes up a record that is complete.
    fn add(&mut self, members: Members, body: &[u8]) -> Result<(), Unexpected> {
        let (Some((data, data_len)), Some(key)) = (members.data, members.key) else { return Err(Unexpected) };
        let index = self.records.len() as u16;
        if index as usize == RECORDS_PER_REQUEST_MAX || !key_fits(key, body) {
            return Err(Unexpected);
        }
        if data.escaped {
            self.escapes.push((index, Field::Data));
        }
        if key.escaped {
            self.escapes.push((index, Field::Key));
        }
        let hash = match members.hash {
            None => {
                self.unhashed.push(index);
                0
            }
            Some(raw) => {
                let (is_number, hash) =
                    raw.with_text(body, |text| (is_decimal(text, 39), parse_hash(text))).ok_or(Unexpected)?;
                if !is_number {
                    return Err(Unexpected);
                }
                if hash.is_none() && self.beyond.is_none() {
                    self.beyond = Some(raw);
                }
                hash.unwrap_or(0)
            }
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
}

/// Undoes escapes in place: the text gets shorter, what is left over of it is never looked at again.
fn undo(extent: Extent, escaped: bool, body: &mut [u8]) -> Extent {
    match escaped {
        false => extent,
        true => {
            let len = json_string::unescape(&mut body[extent.at as usize..][..extent.len as usize]);
            Extent { len: len as u32, ..extent }
        }
    }
}

impl Raw {
    /// Hands the text, without escapes, to `look`; `None` if it is too long for that.
    fn with_text<T>(self, body: &[u8], look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let text = self.extent.of(body);
        match self.escaped {
            false => Some(look(text)),
            true => json_string::unescape_into(text, &mut [0; NAME_ROOM]).map(look),
        }
    }
}

impl Names {
    /// Whether all meet the constraints of the model.
    fn fit(&self, body: &[u8]) -> bool {
        let fits =
            |raw: Option<Raw>, rule: fn(&[u8]) -> bool| raw.is_none_or(|raw| raw.with_text(body, rule) == Some(true));
        fits(self.stream, name_fits) && fits(self.arn, arn_fits) && fits(self.ordering, |text| is_decimal(text, 129))
    }
}

impl Members {
    /// Takes a member of a record; of two with one name the later counts, null is as good as absent.
    fn take(&mut self, name: Name, p: &mut Parser<'_>) -> Result<(), Unexpected> {
        match name {
            Name::Data => self.data = p.null_or(Parser::data)?,
            Name::PartitionKey => self.key = p.string()?,
            Name::ExplicitHashKey => self.hash = p.string()?,
            _ => p.skip()?,
        }
        Ok(())
    }
}

/// The members that a put may have; in a record, those of the request are unknown, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Stream,
    Arn,
    DryRun,
    Records,
    Ordering,
    Data,
    PartitionKey,
    ExplicitHashKey,
    Unknown,
}

impl Name {
    fn of(text: &[u8]) -> Name {
        match text {
            b"Data" => Name::Data,
            b"PartitionKey" => Name::PartitionKey,
            b"ExplicitHashKey" => Name::ExplicitHashKey,
            b"StreamName" => Name::Stream,
            b"StreamARN" => Name::Arn,
            b"Records" => Name::Records,
            b"DryRun" => Name::DryRun,
            b"SequenceNumberForOrdering" => Name::Ordering,
            _ => Name::Unknown,
        }
    }
}

/// 1 to 256 characters.
fn key_fits(key: Raw, body: &[u8]) -> bool {
    let len = key.extent.len as usize;
    let few = len <= PARTITION_KEY_MAX
        || (key.escaped || !key.ascii) && json_string::chars(key.extent.of(body)) <= PARTITION_KEY_MAX;
    len > 0 && few
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
fn parse_hash(text: &[u8]) -> Option<u128> {
    is_decimal(text, 39).then(|| std::str::from_utf8(text).ok()?.parse().ok())?
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

    /// The next member of an object, with its colon taken; `None` at the end.
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

    /// Nothing but white space may follow.
    fn end(&mut self) -> Result<(), Unexpected> {
        self.space();
        (self.at == self.bytes.len()).then_some(()).ok_or(Unexpected)
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
            b'"' => {
                self.at += 1;
                let raw = self.string_body()?;
                raw.with_text(self.bytes, json::truth).flatten().ok_or(Unexpected)
            }
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
        let Measured { len, escaped, ascii } = json_string::measure(&self.bytes[self.at..]).ok_or(Unexpected)?;
        let extent = Extent { at: self.at as u32, len: len as u32 };
        self.at += len + 1;
        Ok(Raw { extent, escaped, ascii })
    }

    /// A string of base64, and what it decodes to.
    fn data(&mut self) -> Result<(Raw, u32), Unexpected> {
        self.open(b'"')?;
        let (raw, data) = match base64::measure(&self.bytes[self.at..]) {
            Text::Whole { len, data } => {
                let extent = Extent { at: self.at as u32, len: len as u32 };
                self.at += len + 1;
                (Raw { extent, escaped: false, ascii: true }, data)
            }
            Text::Escaped { .. } => {
                let raw = self.string_body()?;
                (raw, json_string::base64_len(raw.extent.of(self.bytes)).ok_or(Unexpected)?)
            }
            Text::Wrong => return Err(Unexpected),
        };
        match data <= RECORD_DATA_MAX {
            true => Ok((raw, data as u32)),
            false => Err(Unexpected),
        }
    }

    /// Steps over a value that nobody knows.
    fn skip(&mut self) -> Result<(), Unexpected> {
        self.at += json_skip::value_len(&self.bytes[self.at..]).ok_or(Unexpected)?;
        Ok(())
    }
}
