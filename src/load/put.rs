//! Bodies of PutRecord and PutRecords, and what their answers say of each record.

use super::items::{member, text_of};
use super::ledger::Place;
use super::plan::{KEY, Wire};
use crate::kinesis::base64;
use crate::kinesis::cbor::{self, Parts};
use crate::kinesis::sequence::SequenceNumber;

/// Writes one behind the other; the caller has counted the room.
pub struct Body<'o> {
    out: &'o mut [u8],
    /// A record's data before it becomes base64.
    raw: &'o mut Vec<u8>,
    at: usize,
    wire: Wire,
    records: u32,
    single: bool,
}

impl<'o> Body<'o> {
    /// Begins the body of a put into `stream`. `single`: of PutRecord, else of PutRecords.
    pub fn begin(wire: Wire, out: &'o mut [u8], raw: &'o mut Vec<u8>, stream: &str, single: bool) -> Body<'o> {
        let mut body = Body { out, raw, at: 0, wire, records: 0, single };
        match wire {
            Wire::Cbor => {
                body.put(&[cbor::OPEN_MAP]);
                body.text("StreamName");
                body.text(stream);
                if !single {
                    body.text("Records");
                    body.put(&[cbor::OPEN_LIST]);
                }
            }
            Wire::Json | Wire::Native => {
                body.put(b"{\"StreamName\":\"");
                body.put(stream.as_bytes());
                body.put(if single { b"\"," } else { b"\",\"Records\":[" });
            }
        }
        body
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn head(&mut self, major: u8, len: usize) {
        let (bytes, used) = cbor::head(major, len as u64);
        self.put(&bytes[..used]);
    }

    fn text(&mut self, text: &str) {
        self.head(cbor::TEXT, text.len());
        self.put(text.as_bytes());
    }

    /// The next record, of `size` bytes of data that `make` writes; gives what that gives.
    pub fn record<T>(&mut self, key: &[u8; KEY], size: usize, make: impl FnOnce(&mut [u8]) -> T) -> T {
        let made = match self.wire {
            Wire::Cbor => {
                if !self.single {
                    self.put(&[cbor::OPEN_MAP]);
                }
                self.text("Data");
                self.head(cbor::BYTES, size);
                let made = make(&mut self.out[self.at..self.at + size]);
                self.at += size;
                self.text("PartitionKey");
                self.head(cbor::TEXT, KEY);
                self.put(key);
                if !self.single {
                    self.put(&[cbor::BREAK]);
                }
                made
            }
            Wire::Json | Wire::Native => {
                let open: &[u8] = match (self.single, self.records) {
                    (true, _) => b"\"Data\":\"",
                    (false, 0) => b"{\"Data\":\"",
                    (false, _) => b",{\"Data\":\"",
                };
                self.put(open);
                self.raw.resize(size, 0);
                let made = make(self.raw);
                self.at += base64::encode_into(self.raw, &mut self.out[self.at..]);
                self.put(b"\",\"PartitionKey\":\"");
                self.put(key);
                self.put(if self.single { b"\"" } else { b"\"}" });
                made
            }
        };
        self.records += 1;
        made
    }

    /// Gives the length.
    pub fn end(mut self) -> usize {
        match (self.wire, self.single) {
            (Wire::Cbor, true) => self.put(&[cbor::BREAK]),
            (Wire::Cbor, false) => self.put(&[cbor::BREAK, cbor::BREAK]),
            (_, true) => self.put(b"}"),
            (_, false) => self.put(b"]}"),
        }
        self.at
    }
}

/// What became of a request's records.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All are durable.
    Acked,
    /// Of each record, whether it was refused, and whether because the service has too much to do.
    Some(Vec<Option<bool>>),
    /// None is stored. Whether because the service has too much to do; and its words.
    Refused(bool, String),
    /// Nobody can say.
    Unknown(String),
}

/// What the answer `body` with `status` says of `records` records.
pub fn outcome(wire: Wire, status: u16, body: &[u8], records: u32, single: bool) -> Outcome {
    match status {
        200 if single => Outcome::Acked,
        200 => some_of(wire, body, records),
        // The service has not taken what it calls the client's fault.
        400..=499 => {
            let text = words(wire, body);
            Outcome::Refused(throttles(&text), text)
        }
        _ => Outcome::Unknown(format!("status {status}: {}", words(wire, body))),
    }
}

fn throttles(text: &str) -> bool {
    text.contains("ProvisionedThroughputExceeded") || text.contains("LimitExceeded") || text.contains("Throttling")
}

fn some_of(wire: Wire, body: &[u8], records: u32) -> Outcome {
    let refused = match wire {
        Wire::Cbor => refused_in_cbor(body),
        Wire::Json | Wire::Native => refused_in_json(body),
    };
    match refused {
        Some(refused) if refused.is_empty() => Outcome::Acked,
        Some(refused) if refused.len() == records as usize => Outcome::Some(refused),
        _ => Outcome::Unknown("an answer of PutRecords is not one".to_string()),
    }
}

/// Empty: none was. Allocates only where some were.
fn refused_in_json(body: &[u8]) -> Option<Vec<Option<bool>>> {
    const NAME: &[u8] = b"\"FailedRecordCount\":";
    let at = memchr::memmem::find(body, NAME)? + NAME.len();
    let rest = body[at..].trim_ascii_start();
    if rest.first() == Some(&b'0') {
        return Some(Vec::new());
    }
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let records = answer["Records"].as_array()?;
    Some(records.iter().map(|record| record["ErrorCode"].as_str().map(throttles)).collect())
}

fn refused_in_cbor(body: &[u8]) -> Option<Vec<Option<bool>>> {
    let body = cbor::document(body)?;
    if member(body, "FailedRecordCount")? == [0] {
        return Some(Vec::new());
    }
    let refused = Parts::of(member(body, "Records")?).map(|(_, record)| {
        let code = member(record, "ErrorCode")?;
        Some(throttles(&String::from_utf8_lossy(code)))
    });
    Some(refused.collect())
}

/// Where the records are that the answer `body` calls stored, in their order, as far as it says so in numbers of a penstock.
pub fn places(wire: Wire, body: &[u8], into: &mut Vec<Option<Place>>) {
    const NAME: &[u8] = b"\"SequenceNumber\":\"";
    let place =
        |text: &[u8]| SequenceNumber::parse(text).map(|SequenceNumber { shard, number, .. }| Place { shard, number });
    into.clear();
    match wire {
        Wire::Cbor => {
            let Some(body) = cbor::document(body) else { return };
            let number = |record| text_of(member(record, "SequenceNumber")?);
            match member(body, "Records") {
                Some(records) => into.extend(Parts::of(records).filter_map(|(_, record)| number(record)).map(place)),
                None => into.extend(number(body).map(place)),
            }
        }
        Wire::Json | Wire::Native => into.extend(memchr::memmem::find_iter(body, NAME).map(|at| {
            let text = &body[at + NAME.len()..];
            place(&text[..memchr::memchr(b'"', text).unwrap_or(0)])
        })),
    }
}

/// An error's body, for people.
fn words(wire: Wire, body: &[u8]) -> String {
    const MAX: usize = 300;
    match wire {
        Wire::Cbor => {
            let texts = cbor::document(body).map(|body| Parts::of(body).map(|(_, value)| value).collect::<Vec<_>>());
            let texts = texts.unwrap_or_default();
            let plain = |item: &&[u8]| text_of(item).map(|text| String::from_utf8_lossy(text).into_owned());
            texts.iter().filter_map(plain).collect::<Vec<_>>().join(": ")
        }
        Wire::Json | Wire::Native => String::from_utf8_lossy(&body[..body.len().min(MAX)]).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::object::{self, Encoding};
    use crate::kinesis::sequence;
    use crate::load::plan::key_name;
    use serde_json::json;

    fn body(wire: Wire, single: bool, sizes: &[usize]) -> Vec<u8> {
        let mut out = vec![0; 4096];
        let mut raw = Vec::new();
        let mut body = Body::begin(wire, &mut out, &mut raw, "flights", single);
        for (key, size) in sizes.iter().enumerate() {
            body.record(&key_name(key as u32), *size, |data| data.fill(key as u8));
        }
        let len = body.end();
        out.truncate(len);
        out
    }

    #[test]
    fn bodies_are_what_the_service_reads() {
        for (wire, encoding) in [(Wire::Json, Encoding::Json), (Wire::Cbor, Encoding::Cbor)] {
            let many = body(wire, false, &[0, 1, 300]);
            let request = object::parse(encoding, &many).expect("an object");
            assert_eq!(request.string("StreamName").expect("text").as_deref(), Some("flights"));
            let records: Vec<_> = request.objects("Records").expect("a list").expect("it is there").collect();
            assert_eq!(records.len(), 3);
            for ((key, size), record) in [0, 1, 300].into_iter().enumerate().zip(records) {
                let record = record.expect("an object").expect("no null");
                assert_eq!(record.blob("Data").expect("bytes").map(|blob| blob.len), Some(size));
                let name = String::from_utf8(key_name(key as u32).to_vec()).expect("text");
                assert_eq!(record.string("PartitionKey").expect("text"), Some(name));
            }
            let one = body(wire, true, &[5]);
            let request = object::parse(encoding, &one).expect("an object");
            assert_eq!(request.blob("Data").expect("bytes").map(|blob| blob.len), Some(5));
        }
    }

    #[test]
    fn answers_say_what_became_of_each_record() {
        let all = br#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"s"}]}"#;
        assert_eq!(outcome(Wire::Json, 200, all, 1, false), Outcome::Acked);
        let some = br#"{"FailedRecordCount":1,"Records":[{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"x"},{"SequenceNumber":"1","ShardId":"s"},{"ErrorCode":"InternalFailure","ErrorMessage":"x"}]}"#;
        let expected = Outcome::Some(vec![Some(true), None, Some(false)]);
        assert_eq!(outcome(Wire::Json, 200, some, 3, false), expected);
        assert!(
            matches!(outcome(Wire::Json, 200, some, 2, false), Outcome::Unknown(_)),
            "of another number of records"
        );
        let mut cbor = Vec::new();
        let value: serde_json::Value = serde_json::from_slice(some).expect("JSON");
        ciborium::into_writer(&value, &mut cbor).expect("memory takes it");
        assert_eq!(outcome(Wire::Cbor, 200, &cbor, 3, false), expected);
        // Where those are that were not refused.
        let number = |shard, number| {
            let mut digits = [0; sequence::DIGITS];
            SequenceNumber { created: 1_700_000_000, shard, number, at: 1_700_000_001 }.write(&mut digits);
            String::from_utf8(digits.to_vec()).expect("digits")
        };
        let records = json!({"FailedRecordCount": 1, "Records": [
            {"SequenceNumber": number(3, 7), "ShardId": "s"},
            {"ErrorCode": "InternalFailure", "ErrorMessage": "x"},
            {"SequenceNumber": "12", "ShardId": "s"},
            {"SequenceNumber": number(1, 9), "ShardId": "s"},
        ]});
        let single = json!({"SequenceNumber": number(2, 5), "ShardId": "s"});
        let place = |shard, number| Some(Place { shard, number });
        for (value, expected) in [(records, vec![place(3, 7), None, place(1, 9)]), (single, vec![place(2, 5)])] {
            let (mut bytes, mut found) = (Vec::new(), Vec::new());
            ciborium::into_writer(&value, &mut bytes).expect("memory takes it");
            places(Wire::Cbor, &bytes, &mut found);
            assert_eq!(found, expected);
            places(Wire::Json, value.to_string().as_bytes(), &mut found);
            assert_eq!(found, expected);
        }
        places(Wire::Json, b"\"SequenceNumber\":\"1", &mut Vec::new());
        let mut none = Vec::new();
        let value: serde_json::Value = serde_json::from_slice(all).expect("JSON");
        ciborium::into_writer(&value, &mut none).expect("memory takes it");
        assert_eq!(outcome(Wire::Cbor, 200, &none, 1, false), Outcome::Acked);
        let refused = outcome(Wire::Json, 400, b"{\"__type\":\"LimitExceededException\"}", 1, true);
        assert!(matches!(refused, Outcome::Refused(true, _)), "{refused:?}");
        assert!(matches!(outcome(Wire::Json, 500, b"", 1, true), Outcome::Unknown(_)));
        assert!(matches!(outcome(Wire::Json, 200, b"junk", 1, false), Outcome::Unknown(_)));
    }
}
