//! What a thread counts. It is handed over once a second, and put together by whoever has started the threads: counts are added, histograms
//! too, so that no percentile is ever a mean of percentiles.

use hdrhistogram::Histogram;

/// Values beyond an hour count as one.
pub const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// A histogram of ns, exact to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("bounds of a histogram")
}

/// Requests and records, of those that are counted: what was due in the warm-up is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were due.
    pub due: u64,
    /// Of those, sent.
    pub sent: u64,
    pub acked_requests: u64,
    pub acked_records: u64,
    /// Of data, without keys.
    pub acked_bytes: u64,
    pub refused_records: u64,
    /// Of those, refused because the server has too much to do, or no room.
    pub throttled_records: u64,
    /// Records whose fate nobody has told: the connection ended, or the server did not know.
    pub unknown_records: u64,
    /// Records that were read, whoever wrote them.
    pub read_records: u64,
    /// Connections that ended before they should.
    pub disconnects: u64,
}

impl Counts {
    /// Records of which something has been said.
    pub fn answered(&self) -> u64 {
        self.acked_records + self.refused_records + self.unknown_records
    }

    pub fn add(&mut self, other: &Counts) {
        self.due += other.due;
        self.sent += other.sent;
        self.acked_requests += other.acked_requests;
        self.acked_records += other.acked_records;
        self.acked_bytes += other.acked_bytes;
        self.refused_records += other.refused_records;
        self.throttled_records += other.throttled_records;
        self.unknown_records += other.unknown_records;
        self.read_records += other.read_records;
        self.disconnects += other.disconnects;
    }
}

/// What happened in a stretch of time.
#[derive(Clone)]
pub struct Tally {
    pub counts: Counts,
    /// From when a request was due to its answer, ns.
    pub response: Histogram<u64>,
    /// From when it was handed to the ring.
    pub service: Histogram<u64>,
    /// From when it was due, or could be sent at the earliest, to when it was: the generator's own part.
    pub lag: Histogram<u64>,
    /// From when a record was due until it was read.
    pub put_to_get: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            counts: Counts::default(),
            response: histogram(),
            service: histogram(),
            lag: histogram(),
            put_to_get: histogram(),
        }
    }
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.counts.add(&other.counts);
        let pairs = [
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
            (&mut self.put_to_get, &other.put_to_get),
        ];
        pairs.into_iter().for_each(|(into, from)| into.add(from).expect("all have the same bounds"));
    }
}

/// Counts `ns` in a histogram made by [`histogram`].
pub fn record(histogram: &mut Histogram<u64>, ns: u64) {
    histogram.saturating_record(ns.max(1));
}
