//! What the parts of a record's way cost, each alone on one core: `cargo bench --bench hot [NAME...]`.
//!
//! The input is one PutRecords request of 500 records of 256 bytes, as the canonical benchmark sends it, and what becomes of it. A line:
//! the median over the rounds, with minimum and maximum, in nanoseconds a record, and the bytes a nanosecond that this makes.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use penstock::io::clock::Wall;
use penstock::kinesis::object::Encoding;
use penstock::kinesis::put_diagnosis::Shape;
use penstock::kinesis::put_scan::Scan;
use penstock::kinesis::sequence::{Run, SequenceNumber};
use penstock::kinesis::{base64, cbor, get_records, put_records};
use penstock::log::checksum;
use penstock::log::format::{self, Entry};
use penstock::observe::latency::{LATENCIES, Latencies};
use penstock::route::md5::Lanes;
use std::hint::black_box;
use std::time::{Duration, Instant};

const RECORDS: usize = 500;
const DATA: usize = 256;
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(20);

/// What is timed, and how it is called.
type Part = (&'static str, fn(&Input));

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    let input = Input::new();
    let parts: &[Part] = &[
        ("scan", scan),
        ("base64", base64_both),
        ("md5", md5),
        ("body", body),
        ("crc", crc),
        ("index", index),
        ("answers", answers),
        ("copy", copy),
        ("latency", latency),
    ];
    println!("{RECORDS} records of {DATA} bytes; the request's body has {} bytes", input.request.len());
    for (_, run) in parts.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        run(&input);
    }
}

/// A request and its parts.
struct Input {
    request: Vec<u8>,
    texts: Vec<String>,
    data: Vec<Vec<u8>>,
    keys: Vec<String>,
}

impl Input {
    fn new() -> Input {
        let mut state = 0x5eed_u64;
        let mut byte = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        let data: Vec<Vec<u8>> = (0..RECORDS).map(|_| (0..DATA).map(|_| byte()).collect()).collect();
        let texts: Vec<String> = data.iter().map(|data| encoded(data)).collect();
        let keys: Vec<String> = (0..RECORDS).map(|r| format!("key-{r:08}")).collect();
        let record = |(text, key): (&String, &String)| format!("{{\"Data\":\"{text}\",\"PartitionKey\":\"{key}\"}}");
        let records: Vec<String> = texts.iter().zip(&keys).map(record).collect();
        let request = format!("{{\"StreamName\":\"bench\",\"Records\":[{}]}}", records.join(",")).into_bytes();
        Input { request, texts, data, keys }
    }

    /// The request as Java's SDK would write it.
    fn in_cbor(&self) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            let (head, len) = cbor::head(cbor::TEXT, text.len() as u64);
            out.extend(&head[..len]);
            out.extend(text.as_bytes());
        };
        let mut out = vec![cbor::OPEN_MAP];
        ["StreamName", "bench", "Records"].iter().for_each(|part| text(&mut out, part));
        out.push(cbor::OPEN_LIST);
        for (data, key) in self.data.iter().zip(&self.keys) {
            out.push(cbor::OPEN_MAP);
            text(&mut out, "Data");
            let (head, len) = cbor::head(cbor::BYTES, data.len() as u64);
            out.extend(&head[..len]);
            out.extend(data);
            text(&mut out, "PartitionKey");
            text(&mut out, key);
            out.push(cbor::BREAK);
        }
        out.extend([cbor::BREAK, cbor::BREAK]);
        out
    }

    fn entries(&self) -> Vec<Entry> {
        let each = self.keys[0].len();
        (0..RECORDS).map(|r| Entry::new((r * (each + DATA)) as u32, Some(each as u16), DATA as u32)).collect()
    }

    /// The body of a frame with all records.
    fn body(&self) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for (key, data) in self.keys.iter().zip(&self.data) {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(data);
        }
        let payload = out.len();
        out.resize(format::body_size(payload, RECORDS), 0);
        format::write_index(&mut out, payload, &self.entries());
        out
    }
}

fn encoded(data: &[u8]) -> String {
    let mut out = vec![0; data.len().div_ceil(3) * 4];
    let len = base64::encode_into(data, &mut out);
    String::from_utf8(out[..len].to_vec()).expect("base64 is ASCII")
}

/// Times `work`, which handles all records and `bytes` bytes at each call.
fn show(what: &str, bytes: usize, mut work: impl FnMut()) {
    let mut figures: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (began, mut calls) = (Instant::now(), 0u32);
            while began.elapsed() < ROUND {
                (0..16).for_each(|_| work());
                calls += 16;
            }
            began.elapsed().as_nanos() as f64 / calls as f64 / RECORDS as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let (low, median, high) = (figures[0], figures[ROUNDS / 2], figures[ROUNDS - 1]);
    let rate = bytes as f64 / RECORDS as f64 / median;
    println!("  {what:<44} {median:>8.1} ns/record   ({low:.1} .. {high:.1})   {rate:>6.2} GB/s");
}

/// The first pass: validation, extents, MD5 of the keys.
fn scan(input: &Input) {
    for (what, encoding, request) in [
        ("scan of JSON, keys hashed", Encoding::Json, &input.request),
        ("scan of CBOR, keys hashed", Encoding::Cbor, &input.in_cbor()),
    ] {
        let (mut scan, mut request) = (Scan::new(), request.clone());
        show(what, request.len(), || {
            scan.scan(encoding, black_box(&mut request), Shape::Many).expect("the request is valid");
            black_box(&scan.records);
        });
    }
}

fn base64_both(input: &Input) {
    let text: usize = input.texts.iter().map(String::len).sum();
    let mut out = vec![0; DATA];
    show("base64, decoded", text, || {
        for text in &input.texts {
            base64::decode_into(black_box(text.as_bytes()), &mut out);
            black_box(&out);
        }
    });
    let mut out = vec![0; input.texts[0].len()];
    show("base64, encoded", text, || {
        for data in &input.data {
            black_box(base64::encode_into(black_box(data), &mut out));
        }
    });
}

fn md5(input: &Input) {
    let mut lanes = Lanes::default();
    let bytes: usize = input.keys.iter().map(String::len).sum();
    show("MD5 of the keys, in lanes", bytes, || {
        for (tag, key) in input.keys.iter().enumerate() {
            lanes.push(tag as u32, black_box(key.as_bytes()), |tag, hash| {
                black_box((tag, hash));
            });
        }
        lanes.flush(|tag, hash| {
            black_box((tag, hash));
        });
    });
}

/// The second pass, without routing: keys and decoded data into a frame's body, its index behind them.
fn body(input: &Input) {
    let entries = input.entries();
    let mut out = input.body();
    show("frame body: keys, data, index", out.len(), || {
        let mut at = 0;
        for (key, text) in input.keys.iter().zip(&input.texts) {
            out[at..at + key.len()].copy_from_slice(black_box(key.as_bytes()));
            at += key.len();
            base64::decode_into(black_box(text.as_bytes()), &mut out[at..at + DATA]);
            at += DATA;
        }
        format::write_index(&mut out, at, black_box(&entries));
        black_box(&out);
    });
}

fn crc(input: &Input) {
    let body = input.body();
    show("CRC-32C of the body", body.len(), || {
        black_box(checksum::crc(black_box(&body)));
    });
}

/// rkyv, both ways.
fn index(input: &Input) {
    let entries = input.entries();
    let mut body = input.body();
    let payload = body.len() - format::body_size(0, RECORDS);
    show("index, written", 16 * RECORDS, || {
        format::write_index(black_box(&mut body), payload, black_box(&entries));
    });
    show("index, checked and walked", 16 * RECORDS, || {
        let records = format::records(black_box(&body), RECORDS as u32).expect("it was just written");
        records.for_each(|record| {
            black_box(record.data.len());
        });
    });
}

fn number(at: usize) -> SequenceNumber {
    SequenceNumber { created: 1_790_000_000, shard: 3, number: 1_000_000 + at as u64, at: 1_790_000_777 }
}

fn answers(input: &Input) {
    let mut digits = [0; 56];
    show("sequence number, alone", 56 * RECORDS, || {
        for at in 0..RECORDS {
            number(black_box(at)).write(&mut digits);
            black_box(&digits);
        }
    });
    show("sequence number, of a run", 56 * RECORDS, || {
        let run = Run::new(number(black_box(0)));
        for at in 0..RECORDS {
            run.write(black_box(at) as u32, &mut digits);
            black_box(&digits);
        }
    });
    for encoding in [Encoding::Json, Encoding::Cbor] {
        let mut out = vec![0; put_records::size_max(RECORDS, 0)];
        show(&format!("answer of PutRecords, {encoding:?}"), out.len(), || {
            let mut answer = put_records::Answer::begin(encoding, &mut out, 0);
            let run = Run::new(number(black_box(0)));
            (0..RECORDS).for_each(|at| answer.stored(&run, black_box(at) as u32));
            black_box(answer.finish());
        });
        let each = get_records::size_max(input.keys[0].len(), DATA);
        let (body, mut out) = (input.body(), vec![0; 4096 + RECORDS * each]);
        show(&format!("answer of GetRecords, {encoding:?}"), DATA * RECORDS, || {
            let mut answer = get_records::Answer::begin(encoding, &mut out, 0);
            let run = Run::new(number(black_box(0)));
            for record in format::records(black_box(&body), RECORDS as u32).expect("a whole body") {
                answer.push(&mut out, &run, record.ordinal, Wall(1_790_000_777_000_000), record.key, record.data);
            }
            black_box(answer.finish(&mut out, get_records::Next::Nothing, 0, &[]));
        });
    }
}

/// What a plain copy of the request's body costs: a yardstick.
fn copy(input: &Input) {
    let mut out = vec![0; input.request.len()];
    show("copy of the request's body (yardstick)", out.len(), || {
        out.copy_from_slice(black_box(&input.request));
        black_box(&out);
    });
}

/// Three a request and three a commit, however many records they have; here one a record.
fn latency(_: &Input) {
    let (latencies, mut at) = (Latencies::default(), 1u64);
    show("counting a latency (six a request, at most)", 0, || {
        for (latency, _, _) in LATENCIES.iter().cycle().take(RECORDS) {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            latencies.record(*latency, black_box(at >> 40));
        }
    });
}
