//! The shard of the server that tests of the core have: what it stores, how it is read, and what such a server may do wrong. The core must notice.

use super::client_tests::{Habits, World};
use super::ledger::Findings;
use super::plan::{Pace, Plan};
use super::plan_tests::plan;
use super::schedule::Shape;
use super::selftest::Service;
use crate::log::format::{HEADER, ShardKey};
use crate::native::message::{Header, Kind, seal};
use crate::native::reading::{Credit, Done, LATEST, Want};
use crate::native::refusal::Code;
use std::collections::BTreeMap;

/// What becomes of one batch of so many, all of which are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Harm {
    #[default]
    None,
    /// It is not there, and no number is missing; or its numbers are.
    Loses,
    Skips,
    /// It goes with all before it, whether they have been read or not.
    Trims,
    /// The same, and that they had numbers too.
    Forgets,
    Doubles,
    /// It comes behind the next one.
    Swaps,
    /// A bit of a record changes before it is checksummed.
    Flips,
}

/// A subscription: the number that comes next, and how much may go.
type Subscriber = (u64, i64);

pub(super) struct Shelf {
    harm: Harm,
    every: u64,
    came: u64,
    next: u64,
    frames: Vec<(Header, Vec<u8>)>,
    held: Option<(Header, Vec<u8>)>,
    subscribers: BTreeMap<u32, Subscriber>,
}

impl Shelf {
    pub fn new(harm: Harm, every: u64) -> Shelf {
        let subscribers = BTreeMap::new();
        Shelf { harm, every, came: 0, next: 1, frames: Vec::new(), held: None, subscribers }
    }

    /// A batch is stored; gives the number that its first record is said to have.
    pub fn store(&mut self, header: &Header, body: &[u8]) -> u64 {
        let first = self.next;
        self.came += 1;
        let hit = self.every > 0 && self.came.is_multiple_of(self.every);
        let harm = if hit { self.harm } else { Harm::None };
        let count = header.count as u64;
        let mut body = body.to_vec();
        match harm {
            Harm::None => self.put(*header, body),
            Harm::Loses => {}
            Harm::Skips => self.next += count,
            Harm::Trims => {
                self.next += count;
                self.frames.clear();
            }
            Harm::Forgets => self.frames.clear(),
            Harm::Doubles => {
                self.put(*header, body.clone());
                self.put(*header, body);
            }
            Harm::Swaps => {
                self.held = Some((*header, body));
                return first;
            }
            Harm::Flips => {
                // Behind key and stamp.
                body[80] ^= 1;
                self.put(*header, body);
            }
        }
        if let Some((header, body)) = self.held.take() {
            self.put(header, body);
        }
        first
    }

    fn put(&mut self, header: Header, body: Vec<u8>) {
        let count = header.count as u64;
        self.frames.push((Header { sequence: self.next, arrival: 1, ..header }, body));
        self.next += count;
    }

    pub fn leave(&mut self, socket: u32) {
        self.subscribers.remove(&socket);
    }

    /// What is answered to a message about reading.
    pub fn serve(&mut self, socket: u32, header: &Header, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let done = |next, code| Done { shard: ShardKey::new(1, 0), next, code: Ok(code), behind_ms: 0 };
        let say = |out: &mut Vec<u8>, next, code| {
            let mut room = [0; 256];
            let len = done(next, code).encode(&mut room);
            out.extend_from_slice(&room[..len]);
        };
        match header.kind {
            Kind::Subscribe if self.subscribers.contains_key(&socket) => panic!("one subscription of a shard"),
            Kind::Subscribe => {
                let want = Want::decode(header, body).expect("a subscription");
                self.subscribers.insert(socket, (want.sequence, want.bytes as i64));
            }
            Kind::Credit => {
                let more = Credit::decode(header, body).expect("credit").bytes as i64;
                self.subscribers.entry(socket).and_modify(|(_, credit)| *credit += more);
            }
            Kind::Unsubscribe => {
                if let Some((next, _)) = self.subscribers.remove(&socket) {
                    say(&mut out, next, Code::Ended);
                }
            }
            Kind::Read => {
                let want = Want::decode(header, body).expect("a read");
                assert!(!self.subscribers.contains_key(&socket), "a read beside a subscription is refused");
                let mut next = if want.sequence == LATEST { self.next } else { want.sequence };
                let most = if want.records == 0 { usize::MAX } else { want.records as usize };
                for (header, body) in self.frames.iter().filter(|(header, _)| header.next() > want.sequence).take(most)
                {
                    next = header.next();
                    out.extend(message(header, body));
                }
                say(&mut out, next, Code::Ended);
            }
            other => panic!("a reader says {other:?}"),
        }
        out
    }

    /// What subscribers get now.
    pub fn news(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut news = Vec::new();
        for (socket, (next, credit)) in &mut self.subscribers {
            let mut out = Vec::new();
            // What is left for want of credit comes with it.
            for (header, body) in &self.frames {
                if *credit > 0 && header.next() > *next {
                    let bytes = message(header, body);
                    *credit -= bytes.len() as i64;
                    out.extend(bytes);
                    *next = header.next();
                }
            }
            if !out.is_empty() {
                news.push((*socket, out));
            }
        }
        news
    }
}

fn message(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; crate::log::format::stride(body.len() as u32) as usize];
    out[HEADER..HEADER + body.len()].copy_from_slice(body);
    seal(&mut out, *header, body.len());
    out
}

/// Not the last of the 2,500 batches of a run, as only what comes behind shows that numbers are missing; and even, as connections take turns: the batch that
/// a swapped one changes places with is of the same connection now and then.
const EVERY: u64 = 22;
const HARMED: u64 = 2500 / EVERY * 4;

/// What a run finds at a server that does this to one of so many batches; `gone`: it is away for a second.
fn found(harm: Harm, gone: bool) -> (Findings, u64) {
    found_of(harm, EVERY, gone)
}

fn found_of(harm: Harm, every: u64, gone: bool) -> (Findings, u64) {
    let pace = Pace::Open { shape: Shape::Fixed, rate: 2000.0 };
    let plan = Plan { batch: 4, pace, end: 5_000_000_000, keys: 3, ..plan() };
    let habits = Habits {
        service: Service { usual: 100_000, ..Service::default() },
        producers: true,
        gone: gone.then_some((2_000_000_000, 3_000_000_000)),
        harm: (harm, every),
        ..Habits::default()
    };
    let mut world = World::new(plan, habits, 2);
    let tally = world.run();
    assert_eq!(tally.counts.acked_records, 10_000, "{harm:?}");
    (world.findings(), tally.put_to_get.len())
}

#[test]
fn a_server_that_keeps_everything_is_found_to_also_when_it_was_gone() {
    for gone in [false, true] {
        let (findings, measured) = found(Harm::None, gone);
        assert_eq!(findings, Findings { verified: 10_000, ..Findings::default() });
        assert_eq!(measured, 10_000, "what is read late counts too");
    }
}

#[test]
fn a_server_that_loses_doubles_swaps_or_changes_batches_is_found_out() {
    let harmed = HARMED;
    for gone in [false, true] {
        for harm in [Harm::Loses, Harm::Skips] {
            let findings = found(harm, gone).0;
            assert_eq!((findings.lost, findings.unverified), (harmed, 0), "{harm:?} {gone}: {findings:?}");
        }
        let doubled = found(Harm::Doubles, gone).0;
        assert_eq!((doubled.duplicated, doubled.verified, doubled.lost), (harmed, 10_000, 0), "{doubled:?}");
        let swapped = found(Harm::Swaps, gone).0;
        assert!(swapped.reordered > 0 && swapped.lost == 0, "{swapped:?}");
        let changed = found(Harm::Flips, gone).0;
        assert!(changed.damaged > 0 && changed.lost == changed.damaged, "{changed:?}");
    }
}

#[test]
fn what_is_missing_behind_all_that_came_is_lost_unless_it_is_proved_that_it_was_trimmed() {
    // The last of 2,500 batches: nothing comes behind it.
    for (harm, lost, unverified) in
        [(Harm::Trims, 0, 4), (Harm::Skips, 4, 0), (Harm::Loses, 4, 0), (Harm::Forgets, 4, 0), (Harm::None, 0, 0)]
    {
        for gone in [false, true] {
            let findings = found_of(harm, 2500, gone).0;
            assert_eq!((findings.lost, findings.unverified), (lost, unverified), "{harm:?} {gone}: {findings:?}");
        }
    }
}

#[test]
fn what_was_trimmed_before_it_came_is_not_verified_and_not_lost() {
    let findings = found(Harm::Trims, false).0;
    assert_eq!((findings.lost, findings.unverified), (0, HARMED), "{findings:?}");
}
