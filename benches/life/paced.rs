//! A load that keeps its pace whatever the server does: puts are due at fixed times, and a latency counts from when its put was due. Each is
//! put down to what the server was doing then.

use crate::client::Connection;
use crate::load::latencies;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What goes on beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Nothing,
    /// What is measured.
    Work,
    /// Something that counts for neither.
    Other,
}

/// A put: when it was due, and when it was acknowledged.
#[derive(Clone, Copy)]
struct Ack {
    due: Instant,
    at: Instant,
}

/// A load under way, and what went on beside it so far.
pub struct Paced {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Ack>>>,
    rate: usize,
    began: Instant,
    /// From when on what was done; the last until now.
    doings: Vec<(Instant, Doing)>,
}

/// Latencies in µs while nothing else was done, and during the work.
pub struct Latencies {
    pub quiet: Histogram<u64>,
    pub busy: Histogram<u64>,
    /// Acks a second, of all that were due.
    pub held: f64,
}

impl Paced {
    /// `rate` requests a second over `requests.len()` connections.
    pub fn start(port: u16, requests: &[Vec<u8>], rate: usize) -> Paced {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let connections = requests.len();
        let threads = requests.iter().cloned().enumerate().map(|(c, request)| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut connection = Connection::open(port);
                let mut acks = Vec::new();
                for number in 0.. {
                    let due = began + Duration::from_secs_f64((number * connections + c) as f64 / rate as f64);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Relaxed) {
                        break;
                    }
                    connection.ask(&request);
                    acks.push(Ack { due, at: Instant::now() });
                }
                acks
            })
        });
        Paced { threads: threads.collect(), stop, rate, began, doings: vec![(began, Doing::Other)] }
    }

    /// From now on.
    pub fn now(&mut self, doing: Doing) {
        if self.doings.last().is_some_and(|(_, last)| *last != doing) {
            self.doings.push((Instant::now(), doing));
        }
    }

    pub fn stop(self) -> Latencies {
        let ended = Instant::now();
        self.stop.store(true, Relaxed);
        let (mut quiet, mut busy, mut count) = (latencies(), latencies(), 0);
        for ack in self.threads.into_iter().flat_map(|thread| thread.join().expect("a connection failed")) {
            count += usize::from(ack.at <= ended);
            let into = match during(&self.doings, &ack) {
                Doing::Nothing => &mut quiet,
                Doing::Work => &mut busy,
                Doing::Other => continue,
            };
            into.saturating_record((ack.at - ack.due).as_micros() as u64);
        }
        let due = (ended - self.began).as_secs_f64() * self.rate as f64;
        Latencies { quiet, busy, held: count as f64 / due }
    }
}

/// Work if there was any from when the put was due until its ack; nothing only if there was nothing.
fn during(doings: &[(Instant, Doing)], ack: &Ack) -> Doing {
    let first = doings.partition_point(|(from, _)| *from <= ack.due).saturating_sub(1);
    let met = || doings[first..].iter().take_while(|(from, _)| *from <= ack.at).map(|(_, doing)| *doing);
    match (met().any(|doing| doing == Doing::Work), met().all(|doing| doing == Doing::Nothing)) {
        (true, _) => Doing::Work,
        (_, true) => Doing::Nothing,
        _ => Doing::Other,
    }
}
