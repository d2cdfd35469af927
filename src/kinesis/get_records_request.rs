//! GetRecords: its request.

use super::constraint::{Constraints, Pattern, Text};
use super::error::Error;
use super::object::{self, Encoding};
use crate::limits::GET_RECORDS_MAX;
use std::borrow::Cow;

/// A GetRecords request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRecords<'a> {
    /// The token, as it came.
    pub iterator: Cow<'a, str>,
    /// Most records to return.
    pub limit: u32,
    /// `StreamARN`; the iterator alone says what is read.
    pub arn: Option<Cow<'a, str>>,
    pub dry_run: bool,
}

/// Reads a body: types, then constraints. Does not allocate for a valid one in JSON as the SDKs write it.
pub fn decode(encoding: Encoding, body: &[u8]) -> Result<GetRecords<'_>, Error> {
    match plain(body) {
        Some(request) if encoding == Encoding::Json => Ok(request),
        _ => general(encoding, body),
    }
}

/// Any body, and every error.
fn general<'a>(encoding: Encoding, body: &[u8]) -> Result<GetRecords<'a>, Error> {
    let request = &object::parse(encoding, body)?;
    let (iterator, limit) = (request.string("ShardIterator")?, request.integer("Limit")?);
    let (arn, dry_run) = (request.string("StreamARN")?, request.boolean("DryRun")?);
    let mut constraints = Constraints::default();
    let limit = constraints.integer("limit", limit, 1, GET_RECORDS_MAX as i32);
    let iterator = constraints.required_text("shardIterator", iterator, &Text::SHARD_ITERATOR);
    let arn = constraints.text("streamARN", arn, &Text::STREAM_ARN);
    constraints.check()?;
    let limit = limit.unwrap_or(GET_RECORDS_MAX as u32);
    Ok(GetRecords { iterator: iterator.into(), limit, arn: arn.map(Cow::from), dry_run: dry_run.unwrap_or(false) })
}

/// A valid body of strings without escapes and of small numbers. `None`: the general way has to look, be it only to say what is wrong.
fn plain(body: &[u8]) -> Option<GetRecords<'_>> {
    let mut rest = Unread(body);
    let (mut iterator, mut limit, mut arn) = (None, GET_RECORDS_MAX as u32, None);
    rest.take(b'{')?;
    loop {
        let name = rest.string()?;
        rest.take(b':')?;
        match name {
            "ShardIterator" => iterator = Some(rest.string()?),
            "Limit" => limit = rest.number()?,
            "StreamARN" => arn = Some(rest.string()?),
            _ => return None,
        }
        if rest.take(b',').is_none() {
            break;
        }
    }
    rest.take(b'}')?;
    rest.skip_blank();
    let iterator = iterator?;
    let valid = rest.0.is_empty()
        && (Text::SHARD_ITERATOR.least..=Text::SHARD_ITERATOR.most).contains(&iterator.len())
        && (1..=GET_RECORDS_MAX as u32).contains(&limit)
        && arn.is_none_or(|arn| arn.len() <= Text::STREAM_ARN.most && Pattern::StreamArn.matches(arn));
    valid.then_some(GetRecords { iterator: iterator.into(), limit, arn: arn.map(Cow::from), dry_run: false })
}

/// What is left of a body.
struct Unread<'a>(&'a [u8]);

impl<'a> Unread<'a> {
    /// Passes over the white space of JSON.
    fn skip_blank(&mut self) {
        let blank = self.0.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.0 = &self.0[blank..];
    }

    /// Takes `byte`, and white space before it.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_blank();
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// A string of printable ASCII without escapes, so that bytes are characters.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let end = self.0.iter().position(|b| !matches!(b, b' '..=b'~') || matches!(b, b'"' | b'\\'))?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix(b"\"")?;
        std::str::from_utf8(text).ok()
    }

    /// A whole number of up to nine digits; what may follow one in JSON is for the caller to find.
    fn number(&mut self) -> Option<u32> {
        self.skip_blank();
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (text, rest) = self.0.split_at(digits);
        self.0 = rest;
        let plain = (1..=9).contains(&digits) && (text[0] != b'0' || digits == 1);
        plain.then(|| text.iter().fold(0, |n, digit| n * 10 + (digit - b'0') as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_as_sdks_write_them_are_read_where_they_lie() {
        for body in [
            r#"{"ShardIterator":"AAAA-_","Limit":25}"#,
            r#"{"ShardIterator": "AAAA-_", "Limit": 25}"#,
            " {\r\n\t\"Limit\" : 25 ,\n\"ShardIterator\" : \"AAAA-_\" }\n",
            r#"{"Limit":3,"ShardIterator":"first","Limit":25,"ShardIterator":"AAAA-_"}"#,
        ] {
            let read = decode(Encoding::Json, body.as_bytes()).expect(body);
            assert!(matches!(read.iterator, Cow::Borrowed("AAAA-_")), "{body}");
            assert_eq!((read.limit, read.arn, read.dry_run), (25, None, false), "{body}");
        }
        let body = r#"{"ShardIterator":"A","StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/s"}"#;
        let read = decode(Encoding::Json, body.as_bytes()).expect(body);
        assert_eq!(read.arn.as_deref(), Some("arn:aws:kinesis:eu-west-1:123456789012:stream/s"));
        assert_eq!(read.limit, 10_000);
    }

    #[test]
    fn other_valid_bodies_are_read_too() {
        for (body, iterator, limit, dry_run) in [
            (r#"{"ShardIterator":"A\/B","Limit":1}"#, "A/B", 1, false),
            (r#"{"ShardIterator":"\"A\"","Limit":null}"#, "\"A\"", 10_000, false),
            (r#"{"ShardIterator":"é","Limit":2.9,"X":[{}]}"#, "é", 2, false),
            (r#"{"ShardIterator":"A","DryRun":true,"StreamARN":null}"#, "A", 10_000, true),
        ] {
            let expect = GetRecords { iterator: iterator.into(), limit, arn: None, dry_run };
            assert_eq!(decode(Encoding::Json, body.as_bytes()), Ok(expect), "{body}");
        }
    }

    #[test]
    fn wrong_bodies_are_told_why() {
        let long = "x".repeat(513);
        let constraint = |value: &str, path: &str, rule: &str| {
            format!(
                "ValidationException: 1 validation error detected: Value {value} at '{path}' failed to satisfy constraint: {rule}"
            )
        };
        for (body, text) in [
            ("{}".to_owned(), constraint("null", "shardIterator", "Member must not be null")),
            (
                r#"{"ShardIterator":""}"#.to_owned(),
                constraint("''", "shardIterator", "Member must have length greater than or equal to 1"),
            ),
            (
                format!(r#"{{"ShardIterator":"{long}"}}"#),
                constraint(&format!("'{long}'"), "shardIterator", "Member must have length less than or equal to 512"),
            ),
            (
                r#"{"ShardIterator":"A","Limit":0}"#.to_owned(),
                constraint("'0'", "limit", "Member must have value greater than or equal to 1"),
            ),
            (
                r#"{"ShardIterator":"A","Limit":10001}"#.to_owned(),
                constraint("'10001'", "limit", "Member must have value less than or equal to 10000"),
            ),
            (
                r#"{"ShardIterator":"A","Limit":"1"}"#.to_owned(),
                "SerializationException: class java.lang.String can not be converted to an Integer".to_owned(),
            ),
        ] {
            assert_eq!(decode(Encoding::Json, body.as_bytes()).map_err(|error| error.to_string()), Err(text), "{body}");
        }
        for body in [
            "",
            "{",
            "[]",
            r#"{"ShardIterator":"A",}"#,
            r#"{"ShardIterator":"A","Limit":01}"#,
            r#"{"ShardIterator":"A"}x"#,
        ] {
            assert_eq!(
                decode(Encoding::Json, body.as_bytes()).map_err(|error| error.to_string()),
                Err("SerializationException: ".to_owned()),
                "{body}"
            );
        }
    }

    /// Both ways agree on every cut and on every change of a byte: the plain one takes nothing that the general one would not.
    #[test]
    fn the_plain_way_takes_only_what_the_general_one_takes() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/s";
        let body = format!(r#"{{"ShardIterator": "AAAA", "Limit":10, "StreamARN":"{arn}"}} "#).into_bytes();
        let agree = |body: &[u8]| match plain(body) {
            Some(read) => assert_eq!(Ok(read), general(Encoding::Json, body), "{:?}", String::from_utf8_lossy(body)),
            None => drop(general(Encoding::Json, body)),
        };
        for at in 0..body.len() {
            agree(&body[..at]);
            for byte in 0..=255 {
                let mut changed = body.clone();
                changed[at] = byte;
                agree(&changed);
                changed.insert(at, body[at]);
                agree(&changed);
            }
        }
        assert!(plain(&body).is_some());
    }
}
