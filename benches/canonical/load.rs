//! Streams, requests that are built before they are sent, and connections that send them again and again.

use crate::client::{self, Ask, Connection, base64, request};
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Of 1 µs to a minute: one that grows by itself would clamp what is saved in it before it has grown.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds and digits are valid")
}

pub fn create(port: u16, stream: &str, shards: usize) {
    let body = format!("{{\"StreamName\":\"{stream}\",\"ShardCount\":{shards}}}");
    Connection::open(port).ask(&request("CreateStream", &body));
}

pub fn delete(port: u16, stream: &str) {
    Connection::open(port).ask(&request("DeleteStream", &format!("{{\"StreamName\":\"{stream}\"}}")));
}

/// PutRecords requests of `records` records with `bytes` bytes of data each, no two with the same keys.
pub fn put_records(stream: &str, records: usize, bytes: usize, variants: usize) -> Vec<Vec<u8>> {
    let body = |variant: usize| {
        let data = base64(&vec![variant as u8 ^ 0x5a; bytes]);
        let record = |r: usize| format!("{{\"Data\":\"{data}\",\"PartitionKey\":\"key-{variant}-{r}\"}}");
        let records: Vec<String> = (0..records).map(record).collect();
        request("PutRecords", &format!("{{\"StreamName\":\"{stream}\",\"Records\":[{}]}}", records.join(",")))
    };
    (0..variants).map(body).collect()
}

/// PutRecord requests with `bytes` bytes of data, each with a key of its own.
pub fn put_record(stream: &str, bytes: usize, variants: usize) -> Vec<Vec<u8>> {
    let data = base64(&vec![0x5a; bytes]);
    let body = |c: usize| format!("{{\"StreamName\":\"{stream}\",\"Data\":\"{data}\",\"PartitionKey\":\"key-{c}\"}}");
    (0..variants).map(|c| request("PutRecord", &body(c))).collect()
}

/// The bodies of requests.
#[allow(dead_code, reason = "most benchmarks have no use for it")]
pub fn bodies_of(requests: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    requests.iter().map(|request| &request[memchr::memmem::find(request, b"\r\n\r\n").expect("a head") + 4..])
}

/// Connections that send until they are told to stop, each a thread on a core and its own request.
pub struct Load {
    stop: Arc<AtomicBool>,
    began: Instant,
    threads: Vec<JoinHandle<(u64, Histogram<u64>)>>,
}

impl Load {
    /// Connection `c` of `connections`, made by `open`, sends `requests[c % n]`.
    pub fn by(open: &(dyn Fn() -> Box<dyn Ask> + Sync), connections: usize, requests: &[Vec<u8>]) -> Load {
        Load::on(open, connections, requests, |c| c)
    }

    /// The same with connection `c` on the core of the number `core(c)`.
    pub fn on(
        open: &(dyn Fn() -> Box<dyn Ask> + Sync),
        connections: usize,
        requests: &[Vec<u8>],
        core: fn(usize) -> usize,
    ) -> Load {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let threads = (0..connections).map(|c| {
            let (request, stop) = (requests[c % requests.len()].clone(), stop.clone());
            let mut connection = open();
            std::thread::spawn(move || {
                client::pin(core(c));
                let (mut seen, mut answers) = (latencies(), 0u64);
                while !stop.load(Relaxed) {
                    let sent = Instant::now();
                    connection.ask(&request);
                    seen.saturating_record(sent.elapsed().as_micros() as u64);
                    answers += 1;
                }
                (answers, seen)
            })
        });
        Load { began, threads: threads.collect(), stop }
    }

    /// (Answers a second, latencies in µs.)
    pub fn stop(self) -> (f64, Histogram<u64>) {
        self.stop.store(true, Relaxed);
        let mut all = latencies();
        let mut answers = 0;
        for thread in self.threads {
            let (n, latencies) = thread.join().expect("a connection failed");
            answers += n;
            all.add(latencies).expect("the same digits");
        }
        (answers as f64 / self.began.elapsed().as_secs_f64(), all)
    }
}

/// Makes connections of HTTP/1.1 as it is.
pub fn plain(port: u16) -> impl Fn() -> Box<dyn Ask> + Sync {
    move || Box::new(Connection::open(port))
}

/// Such connections for a time.
pub fn round(port: u16, connections: usize, requests: &[Vec<u8>], time: Duration) -> (f64, Histogram<u64>) {
    round_by(&plain(port), connections, requests, time)
}

/// The same over connections that `open` makes.
pub fn round_by(
    open: &(dyn Fn() -> Box<dyn Ask> + Sync),
    connections: usize,
    requests: &[Vec<u8>],
    time: Duration,
) -> (f64, Histogram<u64>) {
    let load = Load::by(open, connections, requests);
    std::thread::sleep(time);
    load.stop()
}

/// Sends each request `calls` times, each over a connection of its own.
pub fn repeat(port: u16, requests: &[Vec<u8>], calls: u64) {
    std::thread::scope(|scope| {
        for request in requests {
            scope.spawn(move || {
                let mut connection = Connection::open(port);
                (0..calls).for_each(|_| {
                    connection.ask(request);
                });
            });
        }
    });
}
