//! The parts of a PutRecords request's way, each of which can be timed alone. What it makes of the input is looked at once, before that.

use crate::input::{DATA, Input, RECORDS};
use crate::kernel;
use crate::sign;
use penstock::auth::credentials::Access;
use penstock::auth::presented::SignedHead;
use penstock::auth::verify::{Check, DerivedKeys, Expected};
use penstock::http::http1::{self, Parsed};
use penstock::io::clock::Wall;
use penstock::kinesis::object::Encoding;
use penstock::kinesis::put_diagnosis::Shape;
use penstock::kinesis::put_scan::Scan;
use penstock::kinesis::sequence::{Run, SequenceNumber};
use penstock::kinesis::{base64, get_records, put_records};
use penstock::log::checksum;
use penstock::log::format;
use penstock::observe::latency::{Counted, LATENCIES, Latencies, Latency};
use penstock::route::md5::Lanes;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Calls between two looks at the clock, for what is short.
const CALLS: u32 = 16;

/// A part: the group that names it on the command line, what it is, the bytes it handles, and how it is done some times.
pub struct Part {
    pub group: &'static str,
    pub what: &'static str,
    pub bytes: usize,
    /// Gives how long it took, and how often it was done.
    work: Box<dyn FnMut() -> (Duration, u32)>,
}

impl Part {
    fn new(group: &'static str, what: &'static str, bytes: usize, mut work: impl FnMut() + 'static) -> Part {
        let timed = move || {
            let began = Instant::now();
            (0..CALLS).for_each(|_| work());
            (began.elapsed(), CALLS)
        };
        Part { group, what, bytes, work: Box::new(timed) }
    }

    /// One that says itself how long it took.
    fn timed(
        group: &'static str,
        what: &'static str,
        bytes: usize,
        mut work: impl FnMut() -> Duration + 'static,
    ) -> Part {
        Part { group, what, bytes, work: Box::new(move || (work(), 1)) }
    }

    /// Nanoseconds a record, over about `time`.
    pub fn round(&mut self, time: Duration) -> f64 {
        let (began, mut took, mut calls) = (Instant::now(), Duration::ZERO, 0);
        while calls == 0 || began.elapsed() < time {
            let (more, done) = (self.work)();
            took += more;
            calls += done;
        }
        took.as_nanos() as f64 / calls as f64 / RECORDS as f64
    }
}

/// All of them. The input is kept for as long as the process lives.
pub fn parts() -> Vec<Part> {
    let input: &'static Input = Box::leak(Box::new(Input::new()));
    let parts: [fn(&'static Input) -> Vec<Part>; 12] =
        [receive, head, scan, base64_both, md5, body, crc, index, answers, signature, write, copy];
    parts.iter().flat_map(|make| make(input)).chain(latency()).collect()
}

fn receive(input: &'static Input) -> Vec<Part> {
    let mut wire = kernel::Wire::new();
    let whole = sign::request("json", "PutRecords", &input.request);
    let bytes = whole.len();
    let mut sent = kernel::Wire::new();
    let answer = vec![b'x'; put_records::size_max(RECORDS, 0)];
    vec![
        Part::timed("receive", "request received: the kernel's copy", bytes, move || wire.receive(&whole)),
        Part::timed("send", "answer sent: the kernel's way, loopback", answer.len(), move || sent.send(&answer)),
    ]
}

/// The head of a signed request.
fn head(input: &'static Input) -> Vec<Part> {
    let whole = sign::request("json", "PutRecords", &input.request);
    let bounds = http1::Bounds { head: 16 << 10, body: 16 << 20 };
    let parse = move || {
        let Parsed::Head { head_len, .. } = http1::parse(black_box(&whole), bounds) else { panic!("a whole head") };
        black_box(head_len);
    };
    vec![Part::new("head", "head parsed", 0, parse)]
}

/// The first pass: validation, extents, MD5 of the keys.
fn scan(input: &'static Input) -> Vec<Part> {
    let one = |what, encoding, request: Vec<u8>| {
        let (mut scan, bytes, mut request) = (Scan::new(), request.len(), request);
        Part::new("scan", what, bytes, move || {
            scan.scan(encoding, black_box(&mut request), Shape::Many).expect("the request is valid");
            assert_eq!(black_box(&scan.records).len(), RECORDS);
        })
    };
    vec![
        one("scan of JSON, keys hashed", Encoding::Json, input.request.clone()),
        one("scan of CBOR, keys hashed", Encoding::Cbor, input.in_cbor()),
    ]
}

fn base64_both(input: &'static Input) -> Vec<Part> {
    let bytes: usize = input.texts.iter().map(String::len).sum();
    let mut decoded = vec![0; DATA];
    base64::decode_into(input.texts[0].as_bytes(), &mut decoded);
    assert_eq!(decoded, input.data[0], "what was decoded is what was encoded");
    let mut out = vec![0; input.texts[0].len()];
    vec![
        Part::new("base64", "base64, decoded", bytes, move || {
            for text in &input.texts {
                base64::decode_into(black_box(text.as_bytes()), &mut decoded);
                black_box(&decoded);
            }
        }),
        Part::new("base64", "base64, encoded", bytes, move || {
            for data in &input.data {
                black_box(base64::encode_into(black_box(data), &mut out));
            }
        }),
    ]
}

fn md5(input: &'static Input) -> Vec<Part> {
    let mut lanes = Lanes::default();
    let bytes: usize = input.keys.iter().map(String::len).sum();
    let hash = move || {
        let mut hashed = 0;
        for (tag, key) in input.keys.iter().enumerate() {
            lanes.push(tag as u32, black_box(key.as_bytes()), |tag, hash| {
                black_box((tag, hash));
                hashed += 1;
            });
        }
        lanes.flush(|tag, hash| {
            black_box((tag, hash));
            hashed += 1;
        });
        assert_eq!(hashed, RECORDS);
    };
    vec![Part::new("md5", "MD5 of the keys, in lanes", bytes, hash)]
}

/// The second pass, without routing: keys and decoded data into a frame's body, its index behind them.
fn body(input: &'static Input) -> Vec<Part> {
    let entries = input.entries();
    let whole = input.body();
    let fill = move |out: &mut [u8]| {
        let mut at = 0;
        for (key, text) in input.keys.iter().zip(&input.texts) {
            out[at..at + key.len()].copy_from_slice(black_box(key.as_bytes()));
            at += key.len();
            base64::decode_into(black_box(text.as_bytes()), &mut out[at..at + DATA]);
            at += DATA;
        }
        format::write_index(out, at, black_box(&entries));
    };
    let mut out = vec![0; whole.len()];
    fill(&mut out);
    assert_eq!(out, whole, "the body of the frame");
    let work = move || {
        fill(&mut out);
        black_box(&out);
    };
    vec![Part::new("body", "frame body: keys, data, index", whole.len(), work)]
}

fn crc(input: &'static Input) -> Vec<Part> {
    let body = input.body();
    assert_eq!(checksum::crc(&body), crc32c::crc32c(&body), "the checksum of another implementation");
    let work = move || {
        black_box(checksum::crc(black_box(&body)));
    };
    vec![Part::new("crc", "CRC-32C of the body", input.body().len(), work)]
}

/// rkyv, both ways.
fn index(input: &'static Input) -> Vec<Part> {
    let entries = input.entries();
    let (mut written, read) = (input.body(), input.body());
    let payload = written.len() - format::body_size(0, RECORDS);
    vec![
        Part::new("index", "index, written", 16 * RECORDS, move || {
            format::write_index(black_box(&mut written), payload, black_box(&entries));
        }),
        Part::new("index", "index, checked and walked", 16 * RECORDS, move || {
            let records = format::records(black_box(&read), RECORDS as u32).expect("it was just written");
            let bytes: usize = records.map(|record| black_box(record.data.len())).sum();
            assert_eq!(bytes, RECORDS * DATA);
        }),
    ]
}

fn number(at: usize) -> SequenceNumber {
    SequenceNumber { created: 1_790_000_000, shard: 3, number: 1_000_000 + at as u64, at: 1_790_000_777 }
}

fn answers(input: &'static Input) -> Vec<Part> {
    let (mut alone, mut of_run) = ([0; 56], [0; 56]);
    let mut parts = vec![
        Part::new("answers", "sequence number, alone", 56 * RECORDS, move || {
            for at in 0..RECORDS {
                number(black_box(at)).write(&mut alone);
                black_box(&alone);
            }
        }),
        Part::new("answers", "sequence number, of a run", 56 * RECORDS, move || {
            let run = Run::new(number(black_box(0)));
            for at in 0..RECORDS {
                run.write(black_box(at) as u32, &mut of_run);
                black_box(&of_run);
            }
        }),
    ];
    let ways = [
        (Encoding::Json, "answer of PutRecords, JSON", "answer of GetRecords, JSON"),
        (Encoding::Cbor, "answer of PutRecords, CBOR", "answer of GetRecords, CBOR"),
    ];
    for (encoding, put, get) in ways {
        let mut out = vec![0; put_records::size_max(RECORDS, 0)];
        parts.push(Part::new("answers", put, out.len(), move || {
            let mut answer = put_records::Answer::begin(encoding, &mut out, 0);
            let run = Run::new(number(black_box(0)));
            (0..RECORDS).for_each(|at| answer.stored(&run, black_box(at) as u32));
            assert!(black_box(answer.finish()) > RECORDS * 56);
        }));
        let each = get_records::size_max(input.keys[0].len(), DATA);
        let (body, mut out) = (input.body(), vec![0; 4096 + RECORDS * each]);
        parts.push(Part::new("answers", get, DATA * RECORDS, move || {
            let mut answer = get_records::Answer::begin(encoding, &mut out, 0);
            let run = Run::new(number(black_box(0)));
            for record in format::records(black_box(&body), RECORDS as u32).expect("a whole body") {
                answer.push(&mut out, &run, record.ordinal, Wall(1_790_000_777_000_000), record.key, record.data);
            }
            black_box(answer.finish(&mut out, get_records::Next::Nothing, 0, &[]));
        }));
    }
    parts
}

/// The signature of the request, the hash of its body with it, and all but that: a signature of an empty body.
fn signature(input: &'static Input) -> Vec<Part> {
    let access = Access::parse(&sign::users()).expect("the file of the benchmark");
    let access: &'static Access = Box::leak(Box::new(access));
    let one = |what, body: &'static [u8]| {
        let (whole, mut keys) = (sign::request("json", "PutRecords", body), DerivedKeys::new());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        Part::new("signature", what, body.len(), move || {
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut raw = httparse::Request::new(&mut headers);
            raw.parse(black_box(&whole)).expect("a head");
            let head = SignedHead { method: "POST", path: "/", query: "", headers: raw.headers };
            let expected = Expected { region: "us-east-1", service: "kinesis", now };
            let mut check = Check::begin(&head, access, &mut keys, &expected).expect("a signed head");
            check.feed(black_box(body));
            black_box(check.end().expect("the signature is right"));
        })
    };
    vec![one("signature verified, SHA-256 of the body", &input.request), one("  of it all but the body's hash", &[])]
}

/// What one write of a commit takes, which is not the processor's time but the device's.
fn write(input: &'static Input) -> Vec<Part> {
    let mut file = kernel::Commit::new(input.body().len());
    let bytes = file.bytes();
    vec![Part::timed("write", "a commit of it written, durable (the device's time)", bytes, move || file.write())]
}

/// What a plain copy of the request's body costs: a yardstick.
fn copy(input: &'static Input) -> Vec<Part> {
    let mut out = vec![0; input.request.len()];
    let work = move || {
        out.copy_from_slice(black_box(&input.request));
        black_box(&out);
    };
    vec![Part::new("copy", "copy of the request's body (yardstick)", input.request.len(), work)]
}

/// Three a request and three a commit, however many records they have; here one a record, each in another histogram and somewhere else in it.
fn latency() -> Vec<Part> {
    let (latencies, mut at) = (Latencies::default(), 1u64);
    latencies.record(Latency::Sent, 5);
    assert_eq!(Counted::of([&latencies].into_iter(), Latency::Sent).count, 1);
    let work = move || {
        for (latency, _, _) in LATENCIES.iter().cycle().take(RECORDS) {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            latencies.record(*latency, black_box(at >> 40));
        }
    };
    vec![Part::new("latency", "counting a latency", 0, work)]
}
