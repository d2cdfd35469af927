//! What clients may send that is no batch, or no message: it is never believed, and never more than refused.

use super::batch::{LARGEST, RECORDS_MAX, check_body};
use super::hello::Hello;
use super::message::{self, CONTROL_MAX, Header, KINDS, Kind, blank, seal};
use super::reading::{Credit, Done, Want};
use super::refusal::{Code, Refusal};
use super::welcome::{Welcome, decode_shards};
use crate::log::checksum::crc;
use crate::log::format::{ENTRY, Entry, HEADER, ROOT, ShardKey, body_size, header_at, stride, write_index};
use crate::log::memory_disk::Random;

const RECORD_MAX: u32 = 64;

fn body_of(records: &[(Option<&[u8]>, &[u8])]) -> Vec<u8> {
    let (mut body, mut entries) = (Vec::new(), Vec::new());
    for (key, data) in records {
        entries.push(Entry::new(body.len() as u32, key.map(|key| key.len() as u16), data.len() as u32));
        body.extend_from_slice(key.unwrap_or(b""));
        body.extend_from_slice(data);
    }
    let payload = body.len();
    body.resize(body_size(payload, entries.len()), 0);
    write_index(&mut body, payload, &entries);
    body
}

/// A header that fits the body, whatever that is.
fn header_of(body: &[u8], count: u32) -> Header {
    let (stride, len) = (stride(body.len() as u32) as u32, body.len() as u32);
    Header { stride, body: len, body_crc: crc(body), count, shard: ShardKey::new(1, 0), ..blank(Kind::Batch) }
}

fn verdict(body: &[u8], count: u32) -> Result<u32, Code> {
    check_body(&header_of(body, count), body, RECORD_MAX).map_err(|fault| fault.code)
}

/// What the page says of a body, read word by word.
fn is_as_the_page_says(body: &[u8], count: u32) -> bool {
    let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes"));
    let half = |at: usize| u16::from_le_bytes(body[at..at + 2].try_into().expect("two bytes"));
    let Some(payload) = body.len().checked_sub(count as usize * ENTRY + ROOT) else { return false };
    let root = body.len() - ROOT;
    if !(1..=RECORDS_MAX).contains(&count) || word(root) != (count * 16).wrapping_neg() || word(root + 4) != count {
        return false;
    }
    let mut at = 0usize;
    for entry in (payload..root).step_by(ENTRY) {
        let (data, key) = (word(entry + 4) as usize, half(entry + 8) as usize);
        let keyless = half(entry + 10) == 1 && key == 0;
        let keyed = half(entry + 10) == 0 && key > 0;
        if word(entry) as usize != at || word(entry + 12) != 0 || !(keyless || keyed) || at + key + data > payload {
            return false;
        }
        let text = std::str::from_utf8(&body[at..at + key]);
        if text.is_err() || key + data > RECORD_MAX as usize {
            return false;
        }
        at += key + data;
    }
    at == payload
}

/// A body like one of a client.
fn drawn(random: &mut Random) -> (Vec<u8>, u32) {
    let count = 1 + random.below(6) as usize;
    let texts: Vec<(Vec<u8>, Vec<u8>)> = (0..count)
        .map(|_| {
            let text =
                |random: &mut Random, most| (0..random.below(most)).map(|_| b'a' + random.below(26) as u8).collect();
            (text(random, 9), text(random, 30))
        })
        .collect();
    let records: Vec<(Option<&[u8]>, &[u8])> =
        texts.iter().map(|(key, data)| (Some(&key[..]).filter(|key| !key.is_empty()), &data[..])).collect();
    (body_of(&records), count as u32)
}

#[test]
fn a_forged_body_is_believed_only_where_the_page_would() {
    let mut believed = 0;
    for seed in 0..40_000 {
        let mut random = Random(seed);
        let (mut body, mut count) = drawn(&mut random);
        assert!(is_as_the_page_says(&body, count) && verdict(&body, count).is_ok(), "seed {seed}: as it was made");
        for _ in 0..1 + random.below(3) {
            // Mostly in the index and its root, which is where a lie would pay.
            let index = (count as usize * ENTRY + ROOT).min(body.len());
            let from = if random.below(4) == 0 { 0 } else { body.len() - index };
            let at = from + random.below((body.len() - from).max(1) as u64) as usize;
            match random.below(8) {
                _ if body.is_empty() => {}
                0 => body[at] = random.below(256) as u8,
                1 => body[at] ^= 1 << random.below(8),
                2 => body[at] = body[at].wrapping_add(1),
                3 => body[at] = [0, 0xff, 0x80, 1][random.below(4) as usize],
                4 => body.truncate(random.below(body.len() as u64 + 1) as usize),
                5 => body.insert(at, random.below(256) as u8),
                6 => count = count.wrapping_add_signed(random.below(5) as i32 - 2),
                _ => body[at] = body[random.below(body.len() as u64) as usize],
            }
        }
        let expected = is_as_the_page_says(&body, count);
        let found = verdict(&body, count);
        assert_eq!(found.is_ok(), expected, "seed {seed}: {found:?} of {count} records in {body:02x?}");
        believed += expected as u32;
    }
    assert!(believed > 1_000, "some changes do no harm, or nothing was tried: {believed}");
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let (body, count) = drawn(&mut Random(7));
    let mut out = vec![0; 4096];
    out[HEADER..HEADER + body.len()].copy_from_slice(&body);
    let size = seal(&mut out, header_of(&body, count), body.len());
    let whole = HEADER + body.len();
    assert!(size >= whole);
    for bit in 0..whole * 8 {
        let mut sent = out.clone();
        sent[bit / 8] ^= 1 << (bit % 8);
        let Ok(header) = message::from_client(header_at(&sent, 0).expect("a header"), LARGEST, false) else { continue };
        assert!(bit >= HEADER * 8, "bit {bit} of the header");
        let found = check_body(&header, &sent[HEADER..whole], RECORD_MAX).map_err(|fault| fault.code);
        assert_eq!(found, Err(Code::BadChecksum), "bit {bit}");
    }
}

#[test]
fn a_record_has_a_key_of_1_to_256_characters_and_no_more_bytes_than_the_stream_takes() {
    let check = |records: &[(Option<&[u8]>, &[u8])], most: u32| {
        let body = body_of(records);
        check_body(&header_of(&body, records.len() as u32), &body, most).map_err(|fault| fault.code)
    };
    let (long, longer) = ("ü".repeat(256), "ü".repeat(257));
    assert_eq!(check(&[(Some(long.as_bytes()), b"x")], 1 << 20), Ok(513));
    assert_eq!(check(&[(Some(longer.as_bytes()), b"x")], 1 << 20), Err(Code::BadBatch));
    assert_eq!(check(&[(Some(b""), b"x")], 64), Err(Code::BadBatch));
    assert_eq!(check(&[(Some(b"\xff"), b"x")], 64), Err(Code::BadBatch));
    assert_eq!(check(&[(None, b"")], 64), Ok(0));
    assert_eq!(check(&[(Some(b"key"), &[7; 61])], 64), Ok(64));
    assert_eq!(check(&[(None, b""), (Some(b"key"), &[7; 62])], 64), Err(Code::RecordTooLarge));
}

#[test]
fn counts_and_sizes_are_bounded() {
    let many = vec![(None, &b""[..]); RECORDS_MAX as usize + 1];
    assert_eq!(verdict(&body_of(&many[1..]), RECORDS_MAX), Ok(0));
    assert_eq!(verdict(&body_of(&many), RECORDS_MAX + 1), Err(Code::BadBatch));
    assert_eq!(verdict(&body_of(&many), u32::MAX), Err(Code::BadBatch));
    assert_eq!(verdict(&[], 0), Err(Code::BadBatch));
    let taken = |kind, body: u64| {
        let mut bytes = [0; HEADER];
        let header = Header { body: body as u32, stride: stride(body as u32) as u32, ..blank(kind) };
        header.encode(&mut bytes);
        message::from_client(&bytes, LARGEST, false).map(|header| header.stride).map_err(|fault| fault.code)
    };
    assert_eq!(taken(Kind::Batch, LARGEST as u64 - 64), Ok(LARGEST));
    assert_eq!(taken(Kind::Batch, LARGEST as u64 - 63), Err(Code::Malformed));
    assert_eq!(taken(Kind::Batch, u32::MAX as u64 - 127), Err(Code::Malformed));
    assert_eq!(taken(Kind::Hello, CONTROL_MAX as u64 - 64), Ok(CONTROL_MAX));
    assert_eq!(taken(Kind::Hello, CONTROL_MAX as u64 - 63), Err(Code::Malformed));
    for kind in KINDS {
        assert_eq!(taken(kind, 0).is_ok(), kind.is_for_server(), "{kind:?}");
    }
}

#[test]
fn a_header_of_another_length_version_or_kind_ends_the_connection() {
    let refused = |change: &dyn Fn(&mut [u8; HEADER])| {
        let mut bytes = [0; HEADER];
        blank(Kind::Ping).encode(&mut bytes);
        change(&mut bytes);
        let sum = crc(&bytes[..60]).to_le_bytes();
        bytes[60..].copy_from_slice(&sum);
        message::from_client(&bytes, LARGEST, false).expect_err("refused").code
    };
    assert_eq!(refused(&|bytes| bytes[0] = b'P'), Code::Malformed);
    assert_eq!(refused(&|bytes| bytes[2] = 2), Code::Version);
    assert_eq!(refused(&|bytes| bytes[3] = 0), Code::Malformed);
    assert_eq!(refused(&|bytes| bytes[3] = 255), Code::Malformed);
    assert_eq!(refused(&|bytes| bytes[4] = 128), Code::Malformed, "a longer stride");
    assert_eq!(refused(&|bytes| bytes[4] = 0), Code::Malformed, "none");
    assert_eq!(refused(&|bytes| bytes[8] = 1), Code::Malformed, "a body that it does not hold");
}

#[test]
fn no_body_of_a_message_makes_a_decoder_fail_otherwise_than_by_saying_so() {
    let mut taken = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut body: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        if let Some(lengths) = body.get_mut(..16).filter(|_| seed % 2 == 0) {
            // Near to a Hello.
            lengths.copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0, random.below(130) as u8, 0, 0, 0, 0, 0, 0, 0]);
            body[16..].iter_mut().for_each(|byte| *byte = b'a' + *byte % 26);
        }
        let count = if seed % 3 == 0 { (body.len() / 48) as u32 } else { random.below(1 << 32) as u32 };
        let header = Header { count, sequence: random.below(1 << 60), ..blank(Kind::Hello) };
        taken += Hello::decode(&header, &body).is_ok() as u32;
        let _ = (Want::decode(&header, &body), Credit::decode(&header, &body), Done::decode(&header, &body));
        let _ = (Welcome::decode(&header, &body), Refusal::decode(&body));
        let lines = decode_shards(&header, &body);
        assert!(lines.is_none_or(|lines| lines.count() as u32 == count), "seed {seed}");
    }
    assert!(taken > 10, "the lengths of some add up: {taken}");
}

#[test]
fn a_hello_of_no_common_version_or_with_a_blank_is_refused() {
    let hello = |change: &dyn Fn(&mut Vec<u8>)| {
        let of = Hello { versions: (1, 3), wanted: 1, producer: 0, stream: "s", key_id: "k", session_token: "t" };
        let mut out = vec![0; 256];
        of.encode(&mut out);
        let mut body = out[HEADER..HEADER + 19].to_vec();
        change(&mut body);
        Hello::decode(&blank(Kind::Hello), &body).map(|_| ()).map_err(|fault| fault.code)
    };
    assert_eq!(hello(&|_| {}), Ok(()));
    assert_eq!(hello(&|body| body[0] = 2), Err(Code::Version));
    assert_eq!(hello(&|body| (body[0], body[2]) = (0, 0)), Err(Code::Version));
    assert_eq!(hello(&|body| body[16] = b' '), Err(Code::Malformed));
    assert_eq!(hello(&|body| body[18] = 0xc3), Err(Code::Malformed));
    assert_eq!(hello(&|body| body.push(0)), Err(Code::Malformed));
    assert_eq!(hello(&|body| body.truncate(18)), Err(Code::Malformed));
}
