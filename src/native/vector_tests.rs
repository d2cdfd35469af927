//! The page's test vectors and tables, made anew by the code.

use super::batch::{Ack, LARGEST, RECORDS_MAX, Terms, check_body, check_header};
use super::hello::{self, Hello};
use super::message::{self, Header, KINDS, Kind, blank, seal, seal_header};
use super::proof;
use super::reading::{Credit, Done, LATEST, Want};
use super::refusal::{CODES, Code, Fault, Outcome, Refusal};
use super::welcome::{ShardLine, ShardState, Welcome, decode_shards, encode_shards};
use crate::log::checksum::crc;
use crate::log::format::{Entry, FrameHeader, FrameKind, HEADER, ShardKey, body_size, header_at, records, write_index};

const PAGE: &str = include_str!("PROTOCOL.md");
const SECRET: &[u8] = b"an-example-secret-of-a-key";
const SHARD: ShardKey = ShardKey::new(1, 1);
const CHALLENGE: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

/// What `write` writes.
fn made(write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    // What was there before is no part of a message.
    let mut out = vec![0xa5; 16 << 10];
    let size = write(&mut out);
    assert!(size.is_multiple_of(HEADER), "{size}");
    out.truncate(size);
    out
}

fn opened(message: &[u8]) -> (Header, &[u8]) {
    let header = Header::decode(header_at(message, 0).expect("a header")).expect("a whole one");
    let body = &message[HEADER..HEADER + header.body as usize];
    header.check_body(body).expect("its body");
    (header, body)
}

fn key_hello() -> Hello<'static> {
    Hello {
        versions: (1, 1),
        wanted: 0,
        producer: 7 << 16 | 1,
        stream: "flights",
        key_id: "AKIAEXAMPLE1",
        session_token: "",
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        features: 0,
        producer: 0,
        largest: LARGEST,
        unanswered: (64, 0),
        records: RECORDS_MAX,
        record: 1 << 20,
        idle_seconds: 300,
        worker: 1,
        workers: 2,
        stream: 1,
    }
}

fn lines() -> [ShardLine; 3] {
    let half = 1 << 127;
    let line = |shard, state, parent, first, last| ShardLine {
        shard,
        state,
        worker: shard as u16 % 2,
        parents: [parent, None],
        first,
        last,
    };
    [
        line(0, ShardState::Closed, None, 0, u128::MAX),
        line(1, ShardState::Open, Some(0), 0, half - 1),
        line(2, ShardState::Open, Some(0), half, u128::MAX),
    ]
}

fn batch(stored: bool) -> Vec<u8> {
    let payload = b"N14228hello!";
    let mut body = payload.to_vec();
    body.resize(body_size(payload.len(), 2), 0);
    write_index(&mut body, payload.len(), &[Entry::new(0, Some(6), 5), Entry::new(11, None, 1)]);
    let (sequence, arrival, incarnation) = if stored { (40, 1_790_000_000_000_000, 3) } else { (0, 0, 0) };
    let header = Header { count: 2, shard: SHARD, number: 5, sequence, arrival, incarnation, ..blank(Kind::Batch) };
    made(|out| {
        out[HEADER..HEADER + body.len()].copy_from_slice(&body);
        seal(out, header, body.len())
    })
}

fn ack() -> Ack {
    Ack { shard: SHARD, number: 5, first: 40, count: 2, arrival: 1_790_000_000_000_000 }
}

fn want() -> Want {
    Want { shard: SHARD, sequence: 40, records: 0, bytes: 1 << 20, floor: 0 }
}

fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let plain = Hello { producer: 0, key_id: "", ..key_hello() };
    let signed = made(|out| key_hello().encode(out));
    let (header, _) = opened(&signed);
    let proved = proof::of(SECRET, &CHALLENGE, &signed[..HEADER + header.body as usize]);
    let full = Fault { code: Code::Full, why: "The log is full." };
    let stopping = Fault { code: Code::Stopping, why: "The server stops." };
    let done = Done { shard: SHARD, next: 42, code: Ok(Code::Ended), behind_ms: 0 };
    vec![
        ("hello", made(|out| plain.encode(out))),
        ("hello-key", signed),
        ("challenge", made(|out| hello::encode_hash(out, Kind::Challenge, &CHALLENGE))),
        ("proof", made(|out| hello::encode_hash(out, Kind::Proof, &proved))),
        ("welcome", made(|out| welcome().encode(out))),
        ("shards", made(|out| encode_shards(out, 17, false, lines().into_iter()))),
        ("batch", batch(false)),
        ("stored", batch(true)),
        ("ack", made(|out| ack().encode(out))),
        ("refused", made(|out| Refusal::of(&full, 1000).refused(out, SHARD, 6, 2))),
        ("goodbye", made(|out| Refusal::of(&stopping, 0).goodbye(out))),
        ("ping", made(|out| seal_header(out, Header { number: 9, ..blank(Kind::Ping) }))),
        ("subscribe", made(|out| want().encode(out, Kind::Subscribe))),
        ("credit", made(|out| Credit { shard: SHARD, bytes: 64 << 10 }.encode(out))),
        ("read", made(|out| latest().encode(out, Kind::Read))),
        ("unsubscribe", made(|out| seal_header(out, Header { shard: SHARD, ..blank(Kind::Unsubscribe) }))),
        ("done", made(|out| done.encode(out))),
    ]
}

fn latest() -> Want {
    Want { sequence: LATEST, records: 7, bytes: 1 << 20, ..want() }
}

/// The vectors of the page: name, and the message in hexadecimal digits.
fn shown() -> Vec<(&'static str, String)> {
    let blocks = PAGE.split("```vector ").skip(1).map(|rest| rest.split("```").next().expect("split gives one"));
    blocks
        .map(|block| {
            let (name, digits) = block.split_once('\n').expect("the name has a line");
            (name, digits.split_whitespace().collect())
        })
        .collect()
}

#[test]
fn the_vectors_are_these_bytes() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let made: Vec<_> = vectors().into_iter().map(|(name, bytes)| (name, hex(&bytes))).collect();
    let text = |of: &[(&str, String)]| of.iter().map(|(name, digits)| format!("{name} {digits}\n")).collect::<String>();
    assert!(text(&made) == text(&shown()), "the page should have\n{}", text(&made));
}

#[test]
fn the_tables_are_those_of_the_code() {
    for (code, name, outcome) in CODES {
        let row = format!("| {} | {name} | {} |", *code as u16, *outcome as u8);
        assert!(PAGE.contains(&row), "{row}");
    }
    for kind in KINDS {
        let sender = if kind.is_for_server() { ["both", "client"] } else { ["server", "server"] };
        let rows = sender.map(|sender| format!("| {} | {kind:?} | {sender} |", kind as u8));
        assert!(rows.iter().any(|row| PAGE.contains(row)), "{rows:?}");
    }
    assert_eq!((LARGEST, RECORDS_MAX, message::CONTROL_MAX), (12_582_848, 65_535, 8192));
    let said = ["`largest` is 12,582,848 and `records` 65,535", "at most 8,192 bytes long"];
    said.iter().for_each(|text| assert!(PAGE.contains(text), "{text}"));
    assert_eq!((crc(b"123456789"), crc(b"")), (0xe306_9283, 0));
}

#[test]
fn what_was_encoded_is_decoded_to_the_same() {
    let all = vectors();
    let find = |name: &str| opened(&all.iter().find(|(of, _)| *of == name).expect("a vector").1);
    let (header, body) = find("hello-key");
    assert_eq!(Hello::decode(&header, body), Ok(key_hello()));
    assert_eq!(hello::decode_hash(find("challenge").1), Some(CHALLENGE));
    let (header, body) = find("welcome");
    assert_eq!(Welcome::decode(&header, body), Some(welcome()));
    let (header, body) = find("shards");
    let found: Option<Vec<ShardLine>> = decode_shards(&header, body).expect("whole lines").collect();
    assert_eq!((found, header.number, header.sequence), (Some(lines().to_vec()), 0, 17));
    assert_eq!(Ack::of(&find("ack").0), ack());
    let refusal = Refusal::decode(find("refused").1).expect("an error");
    assert_eq!((refusal.code, refusal.outcome, refusal.wait_ms), (Ok(Code::Full), Outcome::NotStored, 1000));
    assert_eq!(refusal.text, "The log is full.");
    let (header, body) = find("subscribe");
    assert_eq!(Want::decode(&header, body), Some(want()));
    let (header, body) = find("credit");
    assert_eq!(Credit::decode(&header, body), Some(Credit { shard: SHARD, bytes: 64 << 10 }));
    let (header, body) = find("read");
    assert_eq!(Want::decode(&header, body), Some(latest()));
    let (header, body) = find("done");
    assert_eq!(Done::decode(&header, body).map(|done| (done.next, done.code)), Some((42, Ok(Code::Ended))));
}

#[test]
fn a_batch_is_taken_and_what_is_stored_of_it_is_a_frame_of_the_log() {
    let sent = batch(false);
    let header = message::from_client(header_at(&sent, 0).expect("a header"), LARGEST, false).expect("a message");
    check_header(&header, &Terms { stream: 1, producer: 0 }).expect("as agreed");
    let body = &sent[HEADER..HEADER + header.body as usize];
    assert_eq!(check_body(&header, body, 1 << 20), Ok(12));
    let stored = batch(true);
    let frame: FrameHeader = FrameHeader::decode(header_at(&stored, 0).expect("a header")).expect("a frame");
    assert_eq!((frame.kind, frame.next()), (FrameKind::Batch, 42));
    assert_eq!(&stored[HEADER..], &sent[HEADER..], "the body is stored as it came");
    frame.check_body(body).expect("with its checksum");
    let found: Vec<_> = records(body, 2).expect("records").map(|record| (record.key, record.data)).collect();
    assert_eq!(found, [(Some(&b"N14228"[..]), &b"hello"[..]), (None, &b"!"[..])]);
}
