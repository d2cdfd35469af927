//! A load thread: pinned, it takes turns with its ring, as a worker's thread does.

use super::secure::{Secure, Trust};
use crate::io::buffers::Buffers;
use crate::io::clock::{Clock, Mono, Now, Wall};
use crate::io::op::{Completions, Ops};
use crate::io::peers::Peers;
use crate::io::process;
use crate::io::uring::{Ring, RingSetup, Wait};
use crate::load::client::Client;
use crate::load::ledger::Findings;
use crate::load::plan::{Plan, Share};
use crate::load::tally::Tally;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

/// How long a thread with nothing to do looks around before it sleeps.
const SPIN_NS: u64 = 20_000;
/// Longest sleep.
const SLEEP_NS: u64 = 100_000_000;
/// How late a sleep is taken to end at first; more than the second is somebody else's doing, and not made up for.
const LATE_NS: u64 = 50_000;
const LATE_MAX_NS: u64 = 200_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Room for the completions and operations of a busy turn.
const TURN: usize = 4096;
/// How long operations of the kernel on our memory may take to end after their sockets have been closed.
const FLIGHTS_NS: u64 = 5_000_000_000;

/// The word to begin and the word to stop, for all threads of a run.
#[derive(Default)]
pub struct Baton {
    /// When the run begins: the boot clock and the wall clock, ns and µs. 0: not yet.
    mono: AtomicU64,
    wall: AtomicU64,
    stop: AtomicBool,
}

impl Baton {
    pub fn begin(&self, at: Now) {
        self.wall.store(at.wall.0, Ordering::Relaxed);
        self.mono.store(at.mono.0, Ordering::Release);
    }

    /// Before a run: an earlier one has begun and is over.
    pub fn rest(&self) {
        self.mono.store(0, Ordering::Release);
    }

    fn begins(&self) -> Option<Now> {
        let mono = self.mono.load(Ordering::Acquire);
        let wall = self.wall.load(Ordering::Relaxed);
        (mono > 0).then_some(Now { mono: Mono(mono), wall: Wall(wall) })
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What a thread tells of itself.
pub enum News {
    Ready,
    /// What it has counted in this second of the run.
    Second(u32, Box<Tally>),
    Done(Box<End>),
}

/// How a thread has ended.
pub struct End {
    /// The second that the last counts are of.
    pub second: u32,
    pub tally: Tally,
    pub findings: Findings,
    /// ns from the beginning.
    pub last_answer: u64,
    pub busy_ns: u64,
    pub complaints: Vec<(String, u64)>,
    pub fatal: Option<String>,
}

pub struct Post {
    pub plan: Arc<Plan>,
    pub share: Share,
    pub number: u16,
    pub core: Option<usize>,
    /// Of a plan in TLS.
    pub trust: Option<Trust>,
    pub peers: Arc<Peers>,
    pub baton: Arc<Baton>,
    pub news: Sender<News>,
}

/// Runs a share of a plan on this thread. A failure of the ring itself is an error.
pub fn run(post: Post) -> io::Result<()> {
    if let Some(id) = post.core {
        // Where that is not allowed it runs where the kernel puts it.
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    process::exact_timers();
    let (layouts, sockets) = Client::layouts(&post.plan, &post.share);
    let buffers = Buffers::new(post.number, layouts);
    let loans = buffers.loans();
    let (mut ring, _) = Ring::new(RingSetup {
        worker: post.number,
        connections: sockets,
        // Only its own memory is ever named; the list is by number.
        loans: vec![loans.clone(); post.number as usize + 1],
        log: None,
        data: &[],
        directories: 0,
        listener: None,
        native: None,
        locks: Vec::new(),
        peers: post.peers.clone(),
        companion: None,
    })?;
    let client = Client::new(post.plan.clone(), &post.share, buffers);
    // The native port has TLS where the endpoint has it.
    let http2 = if post.plan.http2 { post.share.connections.len() as u32 } else { 0 };
    let secure = post.trust.clone().map(|trust| Secure::new(trust, sockets, http2));
    let mut turns = Turns { post: &post, client, secure, busy_ns: 0, naps: Naps { late: LATE_NS }, second: 0 };
    turns.run(&mut ring)?;
    let end = turns.end();
    let _ = post.news.send(News::Done(Box::new(end)));
    // The kernel must have done with our memory before it goes.
    let until = Clock.now().mono + FLIGHTS_NS;
    let mut done = Completions::new();
    while ring.in_flight() > 0 && Clock.now().mono < until {
        ring.enter(Wait::Sleep(SPIN_NS))?;
        ring.collect(&mut done)?;
    }
    if ring.in_flight() > 0 {
        std::mem::forget(loans);
    }
    Ok(())
}

struct Turns<'p> {
    post: &'p Post,
    client: Client,
    secure: Option<Secure>,
    busy_ns: u64,
    naps: Naps,
    /// The second of the run that is being counted.
    second: u32,
}

/// Sleeps end late, by as much as the kernel needs to wake a thread on a core that rests: so long before something is due a thread looks around
/// instead. What a request waits for that would be the generator's doing, and count as the server's.
struct Naps {
    /// How late a sleep may end.
    late: u64,
}

impl Naps {
    /// How long may be slept if something is due in so many ns.
    fn before(&self, due: u64) -> u64 {
        due.saturating_sub(self.late)
    }

    /// A sleep of so many ns took so many; one that something has ended is shorter.
    fn ended(&mut self, sleep: u64, took: u64) {
        if let Some(late) = took.checked_sub(sleep) {
            // The latest of the last ones, and slowly less.
            self.late = late.min(LATE_MAX_NS).max(self.late - self.late / 32);
        }
    }
}

impl Turns<'_> {
    fn run(&mut self, ring: &mut Ring) -> io::Result<()> {
        let (mut done, mut ops) = (Completions::with_capacity(TURN), Ops::with_capacity(TURN));
        let (mut told, mut begun, mut active) = (false, None::<Mono>, Mono(0));
        let mut lower = Ops::with_capacity(TURN);
        while !self.client.is_done() {
            ring.collect(&mut done)?;
            if let Some(secure) = &mut self.secure {
                secure.receive(&mut done, self.client.memory(), &mut lower);
                secure.failure.take().into_iter().for_each(|text| self.client.fail(text));
            }
            let now = Clock.now();
            let came = !done.is_empty();
            if self.client.is_ready() {
                if !std::mem::replace(&mut told, true) {
                    let _ = self.post.news.send(News::Ready);
                }
                if let Some(at) = self.post.baton.begins() {
                    self.client.begin(at);
                    begun = Some(at.mono);
                }
            }
            if self.post.baton.stops() {
                self.client.stop(now, &mut ops);
            }
            // Looking around for something to do is not being busy, nor is waiting for a core that others have.
            let had = Clock.thread_ns();
            self.client.step(now, &mut done, &mut ops);
            if let Some(secure) = &mut self.secure {
                secure.send(&mut ops, self.client.memory());
            }
            lower.append(&mut ops);
            let busy = came || !lower.is_empty() || self.secure.as_ref().is_some_and(Secure::has_news);
            ring.carry(&mut lower)?;
            if busy {
                active = now.mono;
                ring.enter(Wait::Poll)?;
                self.busy_ns += if begun.is_some() { Clock.thread_ns() - had } else { 0 };
            } else {
                let due = self.client.deadline().map_or(SLEEP_NS, |deadline| deadline - now.mono).min(SLEEP_NS);
                let sleep = self.naps.before(due);
                match now.mono - active < SPIN_NS || sleep < SPIN_NS {
                    true => ring.enter(Wait::Poll)?,
                    false => {
                        ring.enter(Wait::Sleep(sleep))?;
                        self.naps.ended(sleep, Clock.now().mono - now.mono);
                    }
                }
            }
            if let Some(begun) = begun {
                self.tell_second(((now.mono - begun) / SECOND_NS) as u32);
            }
        }
        Ok(())
    }

    fn tell_second(&mut self, second: u32) {
        if second > self.second {
            let tally = Box::new(self.client.take_tally());
            let _ = self.post.news.send(News::Second(self.second, tally));
            self.second = second;
        }
    }

    fn end(&mut self) -> End {
        End {
            second: self.second,
            tally: self.client.take_tally(),
            findings: self.client.findings(),
            last_answer: self.client.last_answer(),
            busy_ns: self.busy_ns,
            complaints: self.client.complaints().to_vec(),
            fatal: self.client.fatal().map(str::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_wakes_late_sleeps_less_and_forgets_slowly() {
        let mut naps = Naps { late: LATE_NS };
        assert_eq!((naps.before(1_000_000), naps.before(10_000)), (950_000, 0));
        naps.ended(500_000, 400_000);
        assert_eq!(naps.late, LATE_NS, "something has ended it: that says nothing");
        naps.ended(500_000, 620_000);
        assert_eq!(naps.late, 120_000);
        naps.ended(500_000, 9_000_000);
        assert_eq!(naps.late, LATE_MAX_NS);
        (0..200).for_each(|_| naps.ended(500_000, 530_000));
        assert!((30_000..40_000).contains(&naps.late), "{}", naps.late);
    }
}
