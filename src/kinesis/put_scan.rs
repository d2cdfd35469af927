//! The first of two passes over a put: everything is validated, nothing is copied.
//!
//! The scanner knows the one shape that SDKs send, in any order of members and with any escapes, and notes where names, keys and data lie
//! in the body. Whatever else it meets, it stops, and [`super::put_diagnosis`] finds the exact error. The body is changed
//! only when all of it is valid: then escapes are undone in place, so that every extent is the text itself. In CBOR nothing is escaped, but a
//! string may come in pieces: these are put together first, and the body is scanned again.

use super::cbor;
use super::error::Error;
use super::json_string;
use super::object::Encoding;
use super::put_diagnosis::{self, Shape};
use super::put_scan_cbor::CborParser;
use super::put_scan_json::JsonParser;
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
    /// The data: in base64 where the body is JSON.
    pub text: Extent,
    /// Bytes that it decodes to.
    pub data_len: u32,
    pub key: Extent,
    /// The explicit hash key, else the MD5 of the key.
    pub hash: u128,
}

/// A string of the body, as it was met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub extent: Extent,
    /// Valid, but with escapes in it.
    pub escaped: bool,
    pub ascii: bool,
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
    pub encoding: Encoding,
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
pub(super) struct Unexpected;

/// A reader of the body: it knows an encoding, and what the scan wants of it.
pub(super) trait Parser {
    /// How far a map or a list has been read.
    type Open;

    fn bytes(&self) -> &[u8];
    /// Takes the beginning of a map.
    fn map(&mut self) -> Result<Self::Open, Unexpected>;
    /// Takes the beginning of a list.
    fn list(&mut self) -> Result<Self::Open, Unexpected>;
    /// Takes the name of the map's next member; `None` at the end, which is taken.
    fn member(&mut self, map: &mut Self::Open) -> Result<Option<Name>, Unexpected>;
    /// Whether another item of the list follows; takes the end.
    fn item(&mut self, list: &mut Self::Open) -> Result<bool, Unexpected>;
    /// Takes a null, if one comes next.
    fn null(&mut self) -> Result<bool, Unexpected>;
    /// Takes what comes for a boolean; null is false.
    fn boolean(&mut self) -> Result<bool, Unexpected>;
    /// Takes a text; `None` for null.
    fn string(&mut self) -> Result<Option<Raw>, Unexpected>;
    /// Takes data, and says how many bytes it decodes to; `None` for null.
    fn data(&mut self) -> Result<Option<(Raw, usize)>, Unexpected>;
    /// Steps over a value that nobody knows.
    fn skip(&mut self) -> Result<(), Unexpected>;
    /// Nothing may follow.
    fn end(&mut self) -> Result<(), Unexpected>;
}

impl Default for Scan {
    fn default() -> Scan {
        Scan::new()
    }
}

impl Scan {
    pub fn new() -> Scan {
        Scan {
            encoding: Encoding::Json,
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

    /// Scans a body. Where strings in pieces have been put together it has become shorter, and extents lie in the part that is left.
    pub fn scan(&mut self, encoding: Encoding, body: &mut [u8], shape: Shape) -> Result<(), Error> {
        self.encoding = encoding;
        let names = match encoding {
            Encoding::Json => self.read(JsonParser::new(body), shape),
            Encoding::Cbor => self.read(CborParser::new(body), shape),
        };
        if let (Err(Unexpected), Encoding::Cbor) = (&names, encoding)
            && let Some(len) = cbor::join_chunks(body).filter(|len| *len < body.len())
        {
            let body = &mut body[..len];
            let names = self.read(CborParser::new(body), shape);
            return self.settle(names, body, shape);
        }
        self.settle(names, body, shape)
    }

    fn read(&mut self, mut parser: impl Parser, shape: Shape) -> Result<Names, Unexpected> {
        self.clear();
        let names = match shape {
            Shape::Many => self.many(&mut parser)?,
            Shape::One => self.one(&mut parser)?,
        };
        parser.end()?;
        names.fit(parser.bytes()).then_some(names).ok_or(Unexpected)
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
        let Ok(names) = names else { return Err(put_diagnosis::diagnose(self.encoding, body, shape)) };
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

    fn many<P: Parser>(&mut self, p: &mut P) -> Result<Names, Unexpected> {
        let (mut names, mut map, mut listed) = (Names::default(), p.map()?, false);
        while let Some(name) = p.member(&mut map)? {
            match name {
                Name::Stream => names.stream = p.string()?,
                Name::Arn => names.arn = p.string()?,
                Name::DryRun => self.dry_run = p.boolean()?,
                Name::Records => {
                    self.clear_records();
                    listed = !p.null()?;
                    if listed {
                        self.list(p)?;
                    }
                }
                _ => p.skip()?,
            }
        }
        listed.then_some(names).ok_or(Unexpected)
    }

    fn list<P: Parser>(&mut self, p: &mut P) -> Result<(), Unexpected> {
        let mut list = p.list()?;
        while p.item(&mut list)? {
            let (mut members, mut map) = (Members::default(), p.map()?);
            while let Some(name) = p.member(&mut map)? {
                members.take(name, p)?;
            }
            self.add(members, p.bytes())?;
        }
        match self.records.is_empty() {
            true => Err(Unexpected),
            false => Ok(()),
        }
    }

    fn one<P: Parser>(&mut self, p: &mut P) -> Result<Names, Unexpected> {
        let (mut names, mut members, mut map) = (Names::default(), Members::default(), p.map()?);
        while let Some(name) = p.member(&mut map)? {
            match name {
                Name::Stream => names.stream = p.string()?,
                Name::Arn => names.arn = p.string()?,
                Name::DryRun => self.dry_run = p.boolean()?,
                Name::Ordering => names.ordering = p.string()?,
                _ => members.take(name, p)?,
            }
        }
        self.add(members, p.bytes())?;
        Ok(names)
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
    pub fn with_text<T>(self, body: &[u8], look: impl FnOnce(&[u8]) -> T) -> Option<T> {
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
    fn take(&mut self, name: Name, p: &mut impl Parser) -> Result<(), Unexpected> {
        match name {
            Name::Data => {
                let data = p.data()?;
                if data.is_some_and(|(_, len)| len > RECORD_DATA_MAX) {
                    return Err(Unexpected);
                }
                self.data = data.map(|(raw, len)| (raw, len as u32));
            }
            Name::PartitionKey => self.key = p.string()?,
            Name::ExplicitHashKey => self.hash = p.string()?,
            _ => p.skip()?,
        }
        Ok(())
    }
}

/// The members that a put may have; in a record, those of the request are unknown, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
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
    #[inline]
    pub fn of(text: &[u8]) -> Name {
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
    let chars = || match key.escaped {
        true => json_string::chars(key.extent.of(body)),
        false => key.extent.text(body).chars().count(),
    };
    let few = len <= PARTITION_KEY_MAX || (key.escaped || !key.ascii) && chars() <= PARTITION_KEY_MAX;
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
