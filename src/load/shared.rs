//! What the connections of a thread have in common.

use super::ledger::{Came, Fate, Ledger, Place};
use super::native::Common;
use super::outbox::Request;
use super::plan::{Plan, Share};
use super::random::Random;
use super::tally::{self, Tally};
use crate::io::buffers::Buffers;
use crate::io::clock::Now;
use crate::log::format::Entry;
use std::sync::Arc;

/// Random bytes that records are filled from, at the least.
const FILLER: usize = 1 << 20;
/// Different complaints that are kept.
const COMPLAINTS_MAX: usize = 8;

pub struct Shared {
    pub plan: Arc<Plan>,
    pub buffers: Buffers,
    /// Of a verified run.
    pub ledger: Option<Ledger>,
    pub tally: Tally,
    /// When the run has begun.
    pub begun: Option<Now>,
    /// Records are cut out of it.
    filler: Vec<u8>,
    /// Prebuilt batches that its connections have in common.
    pub common: Vec<Common>,
    /// For the index of a batch that is being made.
    pub entries: Vec<Entry>,
    raw: Vec<u8>,
    /// Where the records are that an answer of the API is about.
    pub places: Vec<Option<Place>>,
    /// What servers and the kernel have said, each with how often; and why the run cannot go on.
    pub complaints: Vec<(String, u64)>,
    pub fatal: Option<String>,
}

impl Shared {
    pub fn new(plan: Arc<Plan>, buffers: Buffers, share: &Share) -> Shared {
        let mut filler = vec![0; FILLER + plan.sizes.most() as usize];
        Random::stream(plan.seed, u64::MAX - share.thread as u64).fill(&mut filler);
        Shared {
            ledger: plan.is_verified().then(|| Ledger::new(plan.run, plan.keys, share.keys())),
            common: Vec::new(),
            entries: Vec::with_capacity(plan.batch as usize),
            raw: Vec::with_capacity(plan.sizes.most() as usize),
            places: Vec::with_capacity(plan.batch as usize),
            plan,
            buffers,
            tally: Tally::default(),
            begun: None,
            filler,
            complaints: Vec::new(),
            fatal: None,
        }
    }

    /// ns since the run has begun; 0 before.
    pub fn elapsed(&self, now: Now) -> u64 {
        self.begun.map_or(0, |begun| now.mono - begun.mono)
    }

    /// Whether requests are sent now.
    pub fn is_running(&self, now: Now) -> bool {
        self.begun.is_some() && self.elapsed(now) < self.plan.end
    }

    pub fn complain(&mut self, text: String) {
        if self.complaints.len() == COMPLAINTS_MAX && self.complaints.iter().all(|(known, _)| *known != text) {
            return;
        }
        match self.complaints.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => self.complaints.push((text, 1)),
        }
    }

    /// What became of a request whose records are not stored, or may not be.
    pub fn count_failure(&mut self, request: &Request, fate: Fate, throttled: bool) {
        if !request.counted {
            return;
        }
        let records = request.records as u64;
        match fate {
            Fate::Refused => self.tally.counts.refused_records += records,
            _ => self.tally.counts.unknown_records += records,
        }
        self.tally.counts.throttled_records += if throttled { records } else { 0 };
    }
}

/// Makes the data of records.
pub struct Maker<'s> {
    pub filler: &'s [u8],
    pub ledger: Option<&'s mut Ledger>,
    /// When the request is due, µs since 1970.
    pub sent: u64,
}

impl Maker<'_> {
    /// Fills `data` with a record of `key`; gives its number among those of the key, 0 where nothing is verified.
    pub fn make(&mut self, key: u32, data: &mut [u8], random: &mut Random) -> u64 {
        let at = random.below((self.filler.len() - data.len()) as u64 + 1) as usize;
        data.copy_from_slice(&self.filler[at..at + data.len()]);
        self.ledger.as_mut().map_or(0, |ledger| ledger.write(key, self.sent, data))
    }
}

/// Takes records that are read back.
pub struct Reading<'s> {
    ledger: Option<&'s mut Ledger>,
    tally: &'s mut Tally,
    plan: &'s Plan,
    begun: Option<Now>,
    /// ns of the run.
    elapsed: u64,
}

impl Reading<'_> {
    /// The next record of a shard. What counts of how long it took is when it was due, so that what comes late is not left out.
    pub fn take(&mut self, data: &[u8]) {
        let came = self.ledger.as_mut().map_or(Came::Strange, |ledger| ledger.read(data));
        // Where two threads read a shard, each record counts for one.
        self.tally.counts.read_records += (came != Came::Others) as u64;
        let (Came::Own(stamp), Some(begun)) = (came, self.begun) else { return };
        let due = stamp.sent.saturating_sub(begun.wall.0) * 1000;
        if self.plan.counts(due) {
            tally::record(&mut self.tally.put_to_get, self.elapsed.saturating_sub(due));
        }
    }
}

impl Shared {
    /// Memory, and what takes the records that are read back from it at `elapsed`, ns of the run.
    pub fn reading(&mut self, elapsed: u64) -> (&Buffers, Reading<'_>) {
        let Shared { plan, buffers, ledger, tally, begun, .. } = self;
        (buffers, Reading { ledger: ledger.as_mut(), tally, plan, begun: *begun, elapsed })
    }

    /// µs since 1970 at which a request of this run is due.
    pub fn wall(&self, due: u64) -> u64 {
        self.begun.map_or(0, |begun| begun.wall.0 + due / 1000)
    }

    /// The parts that making a request needs at once: the maker, memory, the list of entries, and room for a record.
    pub fn making(&mut self, due: u64) -> (Maker<'_>, &mut Buffers, &mut Vec<Entry>, &mut Vec<u8>) {
        let sent = self.wall(due);
        let Shared { filler, ledger, buffers, entries, raw, .. } = self;
        (Maker { filler, ledger: ledger.as_mut(), sent }, buffers, entries, raw)
    }
}
