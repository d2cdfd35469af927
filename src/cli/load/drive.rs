//! Starts the threads of a run, tells them when to begin, and puts together what they count.

use super::counters::{self, Counters};
use super::files::Files;
use super::secure::Trust;
use super::thread::{self, Baton, End, News, Post};
use crate::io::clock::{Clock, Now};
use crate::io::peers::Peers;
use crate::load::ledger::Findings;
use crate::load::plan::{Pace, Plan, Share};
use crate::load::report::{Block, Report, shown};
use crate::load::tally::Tally;
use crate::load::verdict::{Evidence, judge};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

/// From when all are ready to when the run begins.
const LEAD_NS: u64 = 20_000_000;
/// No thread is silent for longer: it tells of every second, and its waits have ends.
const SILENCE: Duration = Duration::from_secs(90);

/// How a run is shown while it lasts.
pub struct Show<'s> {
    /// A line a second on standard error.
    pub progress: bool,
    /// What the server says of itself, for that line and for the report.
    pub counters: Option<Counters>,
    /// Where it writes down what it finds.
    pub files: Option<&'s mut Files>,
    /// Of a plan in TLS.
    pub trust: Option<Trust>,
    /// Set by whoever wants to stop it.
    pub baton: Arc<Baton>,
}

/// Runs `plan`, dealt out as `shares` say. The text says why it could not be.
pub fn run(plan: &Arc<Plan>, shares: &[Share], cores: &[usize], show: Show<'_>) -> Result<Report, String> {
    let count = shares.len() as u16;
    let peers = Peers::new(count).map_err(|error| format!("no descriptor for an eventfd: {error}"))?;
    let (news, heard) = mpsc::channel();
    show.baton.rest();
    let mut threads: Vec<JoinHandle<_>> = Vec::new();
    for (number, share) in shares.iter().enumerate() {
        let post = Post {
            plan: plan.clone(),
            share: share.clone(),
            number: number as u16,
            core: (!cores.is_empty()).then(|| cores[number % cores.len()]),
            trust: show.trust.clone(),
            peers: peers.clone(),
            baton: show.baton.clone(),
            news: news.clone(),
        };
        let named = std::thread::Builder::new().name(format!("load-{number}"));
        let thread = named.spawn(move || thread::run(post));
        threads.push(thread.map_err(|error| format!("a thread cannot be started: {error}"))?);
    }
    drop(news);
    let gathered = Gather {
        plan,
        peers: &peers,
        show,
        ready: 0,
        threads: shares.len(),
        seconds: BTreeMap::new(),
        ends: Vec::new(),
        begun: None,
        blocks: Vec::new(),
        total: Tally::default(),
    };
    let gathered = gathered.all(&heard);
    let mut failed = None;
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed = Some(format!("io_uring: {error}")),
            Err(_) => failed = Some("a thread of the generator has failed".to_string()),
        }
    }
    match failed {
        Some(text) => Err(text),
        None => gathered.map(|report| Report {
            connections: shares.iter().map(|share| share.connections.len() as u32).sum(),
            ..report
        }),
    }
}

struct Gather<'g> {
    plan: &'g Plan,
    peers: &'g Peers,
    show: Show<'g>,
    ready: usize,
    threads: usize,
    /// Seconds that not all threads have told of, with how many have.
    seconds: BTreeMap<u32, (Tally, usize)>,
    ends: Vec<End>,
    begun: Option<Now>,
    blocks: Vec<Block>,
    total: Tally,
}

impl Gather<'_> {
    fn all(mut self, heard: &Receiver<News>) -> Result<Report, String> {
        while self.ends.len() < self.threads {
            match heard.recv_timeout(SILENCE) {
                Ok(News::Ready) => self.on_ready(),
                Ok(News::Second(second, tally)) => self.on_second(second, &tally),
                Ok(News::Done(end)) => {
                    if end.fatal.is_some() {
                        self.show.baton.stop();
                        self.wake();
                    }
                    self.ends.push(*end);
                }
                // All threads are gone, or one hangs: joining them says which.
                Err(error) => {
                    self.show.baton.stop();
                    return Err(format!("a thread of the generator says nothing: {error}"));
                }
            }
        }
        self.report()
    }

    fn wake(&self) {
        (0..self.threads).for_each(|thread| self.peers.peer(thread as u16).wake());
    }

    fn on_ready(&mut self) {
        self.ready += 1;
        if self.ready == self.threads {
            let now = Clock.now();
            let at = Now { mono: now.mono + LEAD_NS, wall: crate::io::clock::Wall(now.wall.0 + LEAD_NS / 1000) };
            self.begun = Some(at);
            self.show.baton.begin(at);
            self.wake();
        }
    }

    fn on_second(&mut self, second: u32, tally: &Tally) {
        let (sum, told) = self.seconds.entry(second).or_default();
        sum.add(tally);
        *told += 1;
        // A thread may be a little late; one that is later has its seconds added to what was told.
        let done: Vec<u32> = self.seconds.range(..second.saturating_sub(1)).map(|(second, _)| *second).collect();
        let whole = self.seconds.get(&second).is_some_and(|(_, told)| *told == self.threads);
        for second in done.into_iter().chain(whole.then_some(second)) {
            self.close(second);
        }
    }

    /// A second is over.
    fn close(&mut self, second: u32) {
        let Some((tally, _)) = self.seconds.remove(&second) else { return };
        self.total.add(&tally);
        let server = self.show.counters.as_mut().map_or_else(Vec::new, Counters::changes);
        let block = Block { server: server.clone(), ..Block::of(second, &tally) };
        let counted = (second as u64 + 1) * 1_000_000_000 > self.plan.warm_up;
        match self.blocks.iter_mut().rev().find(|last| last.second == second) {
            // Told of twice, as one thread was late: rates add up, and percentiles are those of the others.
            Some(last) => {
                last.records += block.records;
                last.bytes += block.bytes;
                last.requests += block.requests;
                last.server.extend(block.server);
            }
            None if counted && (second as u64 + 1) * 1_000_000_000 <= self.plan.end => self.blocks.push(block),
            None => {}
        }
        if self.show.progress {
            progress(second, &tally, counted, &counters::line(&server));
        }
        if let Some(files) = &mut self.show.files {
            files.second(second, &tally);
        }
    }

    fn report(mut self) -> Result<Report, String> {
        for end in std::mem::take(&mut self.ends) {
            if let Some(fatal) = end.fatal {
                return Err(fatal);
            }
            self.seconds.entry(end.second).or_default().0.add(&end.tally);
            self.ends.push(End { tally: Tally::default(), ..end });
        }
        for second in self.seconds.keys().copied().collect::<Vec<_>>() {
            self.close(second);
        }
        let (mut findings, mut complaints) = (Findings::default(), Vec::<(String, u64)>::new());
        let mut last = 0;
        for end in &self.ends {
            findings.add(&end.findings);
            last = last.max(end.last_answer);
            for (text, times) in &end.complaints {
                match complaints.iter_mut().find(|(known, _)| known == text) {
                    Some((_, count)) => *count += times,
                    None => complaints.push((text.clone(), *times)),
                }
            }
        }
        let stopped = self.show.baton.stops();
        let seconds = match stopped {
            true => last.saturating_sub(self.plan.warm_up),
            // Of a closed loop only what is answered within the plan counts.
            false if matches!(self.plan.pace, Pace::Closed { .. }) => self.plan.end - self.plan.warm_up,
            false => last.max(self.plan.end) - self.plan.warm_up,
        };
        let busiest = self.ends.iter().map(|end| end.busy_ns).max().unwrap_or(0);
        let busy = busiest as f64 / (self.plan.warm_up + seconds).max(1) as f64;
        let (verdict, reasons) =
            judge(&Evidence { plan: self.plan, total: &self.total, findings: &findings, busy, stopped });
        Ok(Report {
            verdict,
            reasons,
            total: self.total,
            findings,
            seconds: seconds as f64 / 1e9,
            busy,
            threads: self.threads as u32,
            connections: 0,
            blocks: self.blocks,
            complaints,
        })
    }
}

fn progress(second: u32, tally: &Tally, counted: bool, server: &str) {
    let at = |quantile| shown(tally.response.value_at_quantile(quantile));
    let counts = &tally.counts;
    let mut line = match counted {
        false => format!("{:>4} s  warming up", second + 1),
        true => format!(
            "{:>4} s  {:>10} records/s {:>8.1} MB/s  p50 {}  p99 {}  p99.9 {}",
            second + 1,
            counts.acked_records,
            counts.acked_bytes as f64 / 1e6,
            at(0.5),
            at(0.99),
            at(0.999)
        ),
    };
    for (count, what) in [
        (counts.refused_records, "refused"),
        (counts.unknown_records, "unanswered"),
        (counts.disconnects, "connections ended"),
    ] {
        if count > 0 {
            line += &format!("  {count} {what}");
        }
    }
    eprintln!("{line}{server}");
}
