//! Latencies: one enum, and for each of it a histogram a worker, written by that worker alone, read by whoever answers `/metrics`.
//!
//! The buckets are those of an HDR histogram: 64 to each power of two, so a value is known to 1.6 %, from 1 ns to 4.6 minutes, in memory
//! that never grows. Times are the worker's, whose clock is read once a turn: what begins and ends within one turn took no time.

use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! latencies {
    ($($name:ident $family:ident $text:literal,)*) => {
        /// Something that takes time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Latency { $($name,)* }
        /// (latency, its family, its name there)
        pub const LATENCIES: &[(Latency, Family, &str)] = &[$((Latency::$name, Family::$family, $text),)*];
    };
}

/// What is shown together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A part of the way of every request, or of every commit.
    Stage,
    /// From when a request is whole to when its answer is handed to the kernel.
    Operation,
}

latencies! {
    // From a request's first byte, or a native batch's, to its last.
    Parsed Stage "parsed",
    // From a commit's first frame to its submission.
    Queued Stage "queued",
    // From there until the device has written it.
    Written Stage "written",
    // From there until it is durable with all before it.
    Durable Stage "durable",
    // From when an answer, of a native batch too, is handed to the kernel until the kernel has it all.
    Sent Stage "sent",
    // From a record's arrival until the kernel has it all for a subscriber that had everything before it.
    Delivered Stage "delivered",
    PutRecord Operation "PutRecord",
    PutRecords Operation "PutRecords",
    GetRecords Operation "GetRecords",
    GetShardIterator Operation "GetShardIterator",
    SubscribeToShard Operation "SubscribeToShard",
    Control Operation "control",
    LeaseTables Operation "lease-tables",
    ClientMetrics Operation "PutMetricData",
    NativeBatch Operation "native-batch",
}

/// Sub-buckets of a power of two, as a power of two.
const SUB: u32 = 6;
/// Values from two to this power on count as the highest below.
const LONGEST: u32 = 38;
const BUCKETS: usize = ((LONGEST - SUB + 1) as usize) << SUB;
/// Behind its buckets a histogram has the sum of its values.
const CELLS: usize = BUCKETS + 1;

fn bucket(ns: u64) -> usize {
    let ns = ns.min((1 << LONGEST) - 1);
    let octave = (u64::BITS - (ns >> SUB).leading_zeros()).saturating_sub(1);
    match ns >> SUB {
        0 => ns as usize,
        _ => ((octave as usize + 1) << SUB) | ((ns >> octave) as usize & ((1 << SUB) - 1)),
    }
}

/// The lowest value of a bucket.
fn lowest(bucket: usize) -> u64 {
    let (octave, sub) = (bucket >> SUB, (bucket & ((1 << SUB) - 1)) as u64);
    match octave {
        0 => sub,
        _ => ((1 << SUB) + sub) << (octave - 1),
    }
}

/// The latencies of one worker.
#[derive(Clone, Debug)]
pub struct Latencies(Arc<[AtomicU64]>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies((0..LATENCIES.len() * CELLS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Latencies {
    /// Counts one of `ns`.
    pub fn record(&self, latency: Latency, ns: u64) {
        self.record_many(latency, ns, 1);
    }

    /// Counts `many` of `ns` each. There is one writer: loads and stores are enough.
    pub fn record_many(&self, latency: Latency, ns: u64, many: u64) {
        let first = latency as usize * CELLS;
        for (cell, more) in [(first + bucket(ns), many), (first + BUCKETS, ns.wrapping_mul(many))] {
            self.0[cell].store(self.0[cell].load(Relaxed).wrapping_add(more), Relaxed);
        }
    }

    fn cells(&self, latency: Latency) -> &[AtomicU64] {
        let first = latency as usize * CELLS;
        &self.0[first..first + CELLS]
    }
}

/// What several workers have counted of one latency.
pub struct Counted {
    buckets: Vec<u64>,
    pub sum_ns: u64,
    pub count: u64,
}

impl Counted {
    pub fn of<'a>(workers: impl Iterator<Item = &'a Latencies>, latency: Latency) -> Counted {
        let (mut buckets, mut sum_ns) = (vec![0; BUCKETS], 0u64);
        for worker in workers {
            let cells = worker.cells(latency);
            sum_ns = sum_ns.wrapping_add(cells[BUCKETS].load(Relaxed));
            buckets.iter_mut().zip(cells).for_each(|(bucket, cell)| *bucket += cell.load(Relaxed));
        }
        let count = buckets.iter().sum();
        Counted { buckets, sum_ns, count }
    }

    /// How many took less than two to the power of `exponent` ns: exactly, as buckets begin there. `exponent` is at least 6.
    pub fn below(&self, exponent: u32) -> u64 {
        self.buckets[..bucket(1 << exponent)].iter().sum()
    }

    /// The same as a histogram, for its quantiles; a value stands in the middle of its bucket.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1 << LONGEST, 3).expect("bounds of a histogram");
        for (at, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let middle = (lowest(at) + lowest(at + 1)) / 2;
            histogram.record_n(middle.max(1), *count).expect("within its bounds");
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory_disk::Random;

    #[test]
    fn buckets_follow_each_other_and_hold_what_is_theirs() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(lowest(at)), at);
            assert!(lowest(at + 1) > lowest(at));
            assert_eq!(bucket(lowest(at + 1) - 1), at);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(lowest(BUCKETS), 1 << LONGEST);
    }

    #[test]
    fn quantiles_are_those_of_a_histogram_that_saw_the_values() {
        let (workers, mut seen) =
            ([Latencies::default(), Latencies::default()], Histogram::<u64>::new(3).expect("digits"));
        let mut random = Random(7);
        let mut sum = 0;
        for at in 0..20_000 {
            let most = 1 << (8 + random.below(22));
            let ns = 1 + random.below(most);
            workers[at % 2].record(Latency::Written, ns);
            seen.record(ns).expect("it grows");
            sum += ns;
        }
        let counted = Counted::of(workers.iter(), Latency::Written);
        assert_eq!((counted.count, counted.sum_ns), (20_000, sum));
        let histogram = counted.histogram();
        for quantile in [0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (ours, theirs) = (histogram.value_at_quantile(quantile), seen.value_at_quantile(quantile));
            assert!(ours.abs_diff(theirs) * 50 <= theirs, "{quantile}: {ours} and {theirs}");
        }
        for exponent in SUB..LONGEST {
            let below = (1u64 << exponent) - 1;
            let exact = seen.count_between(0, below);
            // The other one has buckets too, which do not end at a power of two.
            assert!(counted.below(exponent).abs_diff(exact) <= 20_000 / 100, "2^{exponent}");
        }
        assert_eq!(Counted::of(workers.iter(), Latency::Sent).count, 0);
        workers[0].record_many(Latency::Sent, 1_000, 3);
        let sent = Counted::of(workers.iter(), Latency::Sent);
        assert_eq!((sent.count, sent.sum_ns, sent.below(10)), (3, 3_000, 3));
    }
}
