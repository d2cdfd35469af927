//! What the parts of a record's way cost, each alone on one core: `cargo bench --bench hot -- [NAME...] [--quick]`.
//!
//! The input is one PutRecords request of 500 records of 256 bytes, as the canonical benchmark sends it, and what becomes of it. The parts in
//! the order of the way: `receive`, `head` (parse), `scan` (validate), `md5` (hash), `base64` and `body` (copy), `index`, `crc` (checksum), `write`,
//! `answers` and `send` (ack), with `signature` where it is verified. A line: the median over the rounds, with minimum and maximum, in nanoseconds a record, and the bytes a nanosecond
//! that this makes. Each part is checked by what it makes before, or while, it is timed.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/extent.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod extent;
#[path = "hot/input.rs"]
mod input;
#[path = "hot/kernel.rs"]
mod kernel;
#[path = "hot/parts.rs"]
mod parts;
#[path = "protocols/sign.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod sign;

use input::{DATA, RECORDS};
use parts::Part;
use std::time::Duration;

const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(20);
const GROUPS: &[&str] = &[
    "receive",
    "head",
    "scan",
    "md5",
    "base64",
    "body",
    "index",
    "crc",
    "write",
    "answers",
    "send",
    "signature",
    "copy",
    "latency",
];

fn main() {
    let (groups, extent) = extent::arguments("hot", GROUPS);
    core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    let (rounds, round) = extent.pick((ROUNDS, ROUND), (3, Duration::from_millis(1)));
    let mut parts = parts::parts();
    println!("{RECORDS} records of {DATA} bytes");
    for group in groups {
        let mut shown = 0;
        for part in parts.iter_mut().filter(|part| part.group == group) {
            show(part, rounds, round);
            shown += 1;
        }
        assert!(shown > 0, "{group} has no part");
    }
}

fn show(part: &mut Part, rounds: usize, round: Duration) {
    let mut figures: Vec<f64> = (0..rounds).map(|_| part.round(round)).collect();
    figures.sort_by(f64::total_cmp);
    let (low, median, high) = (figures[0], figures[rounds / 2], figures[rounds - 1]);
    assert!(low > 0.0, "{} took no time", part.what);
    let rate = part.bytes as f64 / RECORDS as f64 / median;
    println!("  {:<52} {median:>8.1} ns/record   ({low:.1} .. {high:.1})   {rate:>6.2} GB/s", part.what);
}
