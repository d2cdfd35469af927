//! What is wrong with a put that the scanner has not taken: syntax first, then types, then constraints, as AWS checks them. Rare, so it
//! allocates and uses general parsers.

use super::base64;
use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::json::{self, Object};
use super::put_scan::parse_hash;
use crate::limits::{RECORD_DATA_MAX, RECORDS_PER_REQUEST_MAX, REQUEST_PAYLOAD_MAX};

/// Which request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// PutRecord.
    One,
    /// PutRecords.
    Many,
}

/// How much of a wrong text is shown.
const SHOWN_MAX: usize = 1024;

/// The error of a body that is not a valid put.
pub fn diagnose(body: &[u8], shape: Shape) -> Error {
    match examine(body, shape) {
        Err(error) => error,
        // Nothing that AWS would mind, but what no serialiser writes: a wrong member that a later one of the same name replaces, or a name
        // so full of escapes that the scanner does not undo them.
        Ok(()) => Error::new(
            Kind::Serialization,
            "A member that is given twice, or is full of escapes, is written in a way that this server does not read.",
        ),
    }
}

/// More than one request may carry.
pub fn too_much() -> Error {
    let text = format!("Records size exceeds {} MB limit", REQUEST_PAYLOAD_MAX >> 20);
    Error::new(Kind::InvalidArgument, text)
}

/// The members of a record, by type only.
struct Record {
    data: Option<Blob>,
    key: Option<String>,
    hash: Option<String>,
}

struct Blob {
    len: usize,
}

fn examine(body: &[u8], shape: Shape) -> Result<(), Error> {
    let mut request = json::parse(body)?;
    let stream = request.string("StreamName")?;
    let arn = request.string("StreamARN")?;
    request.boolean("DryRun")?;
    let ordering = request.string("SequenceNumberForOrdering").unwrap_or(None);
    let records = match shape {
        Shape::One => None,
        Shape::Many => request.objects("Records")?,
    };
    let listed = records.as_ref().map(Vec::len);
    let mut read = Vec::new();
    match (shape, records) {
        (Shape::One, _) => read.push(record(&mut request)?),
        (Shape::Many, None) => {}
        (Shape::Many, Some(mut list)) => {
            for object in &mut list {
                read.push(record(object)?);
            }
        }
    }
    let mut c = Constraints::default();
    c.text("streamName", stream, &Text::NAME);
    c.text("streamARN", arn, &Text::STREAM_ARN);
    match shape {
        Shape::One => drop(c.text("sequenceNumberForOrdering", ordering, &Text::SEQUENCE_NUMBER)),
        Shape::Many => c.list("records", listed, RECORDS_PER_REQUEST_MAX),
    }
    for (at, record) in read.iter().enumerate() {
        let path = |member: &str| match shape {
            Shape::One => member.to_owned(),
            Shape::Many => format!("records.{}.member.{member}", at + 1),
        };
        c.blob(&path("data"), record.data.as_ref().map(|blob| blob.len), RECORD_DATA_MAX);
        c.required_text(&path("partitionKey"), record.key.clone(), &Text::PARTITION_KEY);
        c.text(&path("explicitHashKey"), record.hash.clone(), &Text::HASH_KEY);
    }
    c.check()?;
    for hash in read.iter().filter_map(|record| record.hash.as_ref()) {
        if parse_hash(hash.as_bytes()).is_none() {
            let text = format!(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {hash}"
            );
            return Err(Error::new(Kind::InvalidArgument, text));
        }
    }
    Ok(())
}

fn record(object: &mut Object) -> Result<Record, Error> {
    let data = object.blob("Data")?.map(|text| blob(&text)).transpose()?;
    Ok(Record { data, key: object.string("PartitionKey")?, hash: object.string("ExplicitHashKey")? })
}

fn blob(text: &str) -> Result<Blob, Error> {
    let refused = |why: String| {
        // Of a text of megabytes, the beginning tells which it was.
        let echo = &text[..text.floor_char_boundary(SHOWN_MAX)];
        Error::new(Kind::Serialization, format!("'{echo}' can not be converted to a Blob: {why}"))
    };
    if !text.len().is_multiple_of(4) {
        let found = text.len();
        return Err(refused(format!("Base64 encoded length is expected a multiple of 4 bytes but found: {found}")));
    }
    if let Some(len) = base64::decoded_len(text.as_bytes()) {
        return Ok(Blob { len });
    }
    let plain = base64::alphabet_len(text.as_bytes());
    // Padding is at the end, and nowhere else: of padding before other characters, the last is the one at fault.
    let padding = text[plain..].len() - text[plain..].trim_start_matches('=').len();
    let wrong = match &text[plain + padding..] {
        "" if padding <= 2 => None,
        _ if padding > 0 => Some('='),
        rest => rest.chars().next(),
    };
    Err(refused(match wrong {
        Some(character) => format!("Invalid Base64 character: '{character}'"),
        // Sic: the service spells it so.
        None => "Invalid last non-pad Base64 character dectected".to_owned(),
    }))
}
