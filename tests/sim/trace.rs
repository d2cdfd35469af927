//! What happened: a hash of all of it, and the last events in full.

use penstock::io::op::{Completion, Op};
use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Events kept for the report of a failing seed, when `PENSTOCK_SIM_TAIL` does not say.
const KEPT: usize = 250;

#[derive(Debug)]
pub enum Entry {
    Op(u16, Op),
    Done(u16, Completion),
    Note(String),
}

#[derive(Debug)]
pub struct Trace {
    hash: Hash,
    kept: usize,
    last: VecDeque<(u64, Entry)>,
    pub events: u64,
}

/// FNV-1a over text, so that anything with `Debug` can be hashed.
#[derive(Debug)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Default for Trace {
    fn default() -> Trace {
        let kept = std::env::var("PENSTOCK_SIM_TAIL").ok().and_then(|text| text.parse().ok()).unwrap_or(KEPT);
        Trace { hash: Hash::default(), kept, last: VecDeque::new(), events: 0 }
    }
}

impl Trace {
    /// Notes an event at `mono` nanoseconds.
    pub fn push(&mut self, mono: u64, entry: Entry) {
        write!(self.hash, "{mono} {entry:?}").expect("hashing cannot fail");
        self.events += 1;
        if self.last.len() == self.kept {
            self.last.pop_front();
        }
        self.last.push_back((mono, entry));
    }

    pub fn hash(&self) -> u64 {
        self.hash.0
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> String {
        let mut text = String::new();
        for (mono, entry) in &self.last {
            let ms = *mono as f64 / 1e6;
            let _ = match entry {
                Entry::Op(worker, op) => writeln!(text, "{ms:12.4} ms  worker {worker} <- {op:?}"),
                Entry::Done(worker, done) => writeln!(text, "{ms:12.4} ms  worker {worker} -> {done:?}"),
                Entry::Note(note) => writeln!(text, "{ms:12.4} ms  {note}"),
            };
        }
        text
    }
}
