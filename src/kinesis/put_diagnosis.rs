//! What is wrong with a put that the scanner has not taken: syntax first, then types, then constraints, as AWS checks them. Rare, so it
//! allocates.

use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::object::{self, Blob, Encoding, Object};
use crate::limits::{RECORD_DATA_MAX, RECORDS_PER_REQUEST_MAX, REQUEST_PAYLOAD_MAX};

/// Which request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// PutRecord.
    One,
    /// PutRecords.
    Many,
}

/// The error of a body that is not a valid put.
pub fn diagnose(encoding: Encoding, body: &[u8], shape: Shape) -> Error {
    match examine(encoding, body, shape) {
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

/// A hash key that meets its pattern and is too large.
pub fn beyond_hashes(hash: &str) -> Error {
    let text = format!(
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {hash}"
    );
    Error::new(Kind::InvalidArgument, text)
}

/// The members of a record, by type only.
struct Record {
    data: Option<Blob>,
    key: Option<String>,
    hash: Option<String>,
}

/// Records are read twice, first for their types and then for their constraints: keeping them would take many times a body's memory.
fn examine(encoding: Encoding, body: &[u8], shape: Shape) -> Result<(), Error> {
    let request = object::parse(encoding, body)?;
    let stream = request.string("StreamName")?;
    let arn = request.string("StreamARN")?;
    request.boolean("DryRun")?;
    let mut c = Constraints::default();
    match shape {
        Shape::One => {
            let ordering = request.string("SequenceNumberForOrdering")?;
            let record = record(&request)?;
            names(&mut c, stream, arn);
            c.text("sequenceNumberForOrdering", ordering, &Text::SEQUENCE_NUMBER);
            constrain(&mut c, "", record);
        }
        Shape::Many => {
            let mut count = 0;
            for item in request.objects("Records")?.into_iter().flatten() {
                item?.map(|object| record(&object)).transpose()?;
                count += 1;
            }
            let records = request.objects("Records")?;
            names(&mut c, stream, arn);
            c.list("records", records.is_some().then_some(count), RECORDS_PER_REQUEST_MAX);
            for (item, number) in records.into_iter().flatten().zip(1..) {
                if c.are_full() {
                    break;
                }
                let path = format!("records.{number}.member");
                match item? {
                    None => c.missing(&path),
                    Some(object) => {
                        let record = record(&object)?;
                        constrain(&mut c, &format!("{path}."), record);
                    }
                }
            }
        }
    }
    c.check()
}

fn names(c: &mut Constraints, stream: Option<String>, arn: Option<String>) {
    c.text("streamName", stream, &Text::NAME);
    c.text("streamARN", arn, &Text::STREAM_ARN);
}

/// `path`: what stands before the names of its members.
fn constrain(c: &mut Constraints, path: &str, record: Record) {
    c.blob(&format!("{path}data"), record.data.as_ref().map(|blob| blob.len), RECORD_DATA_MAX);
    c.required_text(&format!("{path}partitionKey"), record.key, &Text::PARTITION_KEY);
    c.text(&format!("{path}explicitHashKey"), record.hash, &Text::HASH_KEY);
}

fn record(object: &Object<'_>) -> Result<Record, Error> {
    Ok(Record {
        data: object.blob("Data")?,
        key: object.string("PartitionKey")?,
        hash: object.string("ExplicitHashKey")?,
    })
}
