//! How long after a record's ack its event is with a subscriber, what many subscriptions cost one core, and what it costs the server and the
//! others that some read nothing.

use crate::client::{self, Connection, base64, member, request, shard_name};
use crate::extent::Extent;
use crate::load;
use crate::server::Server;
use crate::wire::Http2;
use hdrhistogram::Histogram;
use socket2::{Domain, Socket, Type};
use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const STREAM: &str = "fan";
/// Between puts of one record each.
pub const EVERY: Duration = Duration::from_millis(2);
const TIME: Duration = Duration::from_secs(20);
/// Streams of each connection of HTTP/2.
const STREAMS: usize = 250;
const MARK: &[u8] = b"\"SequenceNumber\":\"";
/// What subscribers that read nothing ask for: a shard of this stream each, so no two share an event, with more in it than an event and
/// the sockets' buffers hold.
const STALLED: &str = "stalled";
const STALLED_RECORDS: usize = 30;
const STALLED_BYTES: usize = 100_000;
/// As little of it as can be is to wait in the kernel.
const STALLED_RECEIVE: usize = 4096;

/// (shards, consumers, those that read nothing) of each part: a consumer subscribes to every shard.
pub fn run(extent: &Extent) {
    let time = extent.pick(TIME, Duration::from_secs(1));
    for &(shards, consumers, stalled) in
        extent.pick(&[(1, 1, 0), (50, 20, 0), (50, 20, 50)][..], &[(1, 1, 0), (4, 5, 4)])
    {
        part(shards, consumers, stalled, time);
    }
}

fn part(shards: usize, consumers: usize, stalled: usize, time: Duration) {
    let server = Server::start("2G", &["--cores", "0"]);
    load::create(server.port, STREAM, shards);
    if stalled > 0 {
        load::create(server.port, STALLED, stalled);
        fill(server.port, stalled);
    }
    let wanted = subscriptions(&server, STREAM, shards, consumers, "LATEST");
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = wanted
        .chunks(STREAMS)
        .map(|requests| {
            let (mut connection, stop) = (Http2::over(client::connect(server.port)), stop.clone());
            requests.iter().for_each(|request| connection.open(request));
            std::thread::spawn(move || {
                client::pin(1);
                read(&mut connection, &stop)
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let resident = server.resident_mb();
    let silent: Vec<TcpStream> = match stalled {
        0 => Vec::new(),
        _ => subscriptions(&server, STALLED, stalled, 1, "TRIM_HORIZON")
            .iter()
            .map(|request| stall(server.port, request))
            .collect(),
    };
    let cpu = server.cpu();
    let port = server.port;
    // A thread of its own, as it pins itself and servers that are started later would inherit that.
    let acked = std::thread::spawn(move || put(port, shards, time)).join().expect("a put failed");
    let cpu = (server.cpu() - cpu).as_secs_f64() / time.as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    let (grown, open) = (server.resident_mb() - resident, server.gauge("subscriptions_now") as usize);
    drop(silent);
    stop.store(true, Relaxed);
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("bounds and digits are valid");
    for (sequence, at) in readers.into_iter().flat_map(|reader| reader.join().expect("a reader failed")) {
        // An event may be there before the ack is.
        let after = acked.get(&sequence).map_or(Duration::ZERO, |acked| at.saturating_duration_since(*acked));
        latencies.saturating_record((after.as_micros() as u64).max(1));
    }
    let expected = acked.len() * consumers;
    assert!(!latencies.is_empty() && latencies.len() as usize <= expected, "{} of {expected} events", latencies.len());
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "  {:>5} subscriptions of {shards} shard(s): {} of {expected} events; behind the ack p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms; \
         one core of the server busy {:.0} %",
        wanted.len(),
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max() as f64 / 1000.0,
        cpu * 100.0
    );
    print!("        resident memory of the server: {grown:+.1} MB meanwhile");
    match stalled {
        0 => println!(),
        _ => println!(
            ", {:.0} KiB for each of {stalled} that read nothing, of which {} are open still",
            grown * 1024.0 / stalled as f64,
            open.saturating_sub(wanted.len())
        ),
    }
}

/// Puts into each shard what its subscriber will not read.
fn fill(port: u16, shards: usize) {
    let mut connection = Connection::open(port);
    let data = base64(&[0x5a; STALLED_BYTES]);
    for shard in 0..shards {
        let hash = u128::MAX / shards as u128 * shard as u128 + 1;
        let record = format!("{{\"Data\":\"{data}\",\"PartitionKey\":\"k\",\"ExplicitHashKey\":\"{hash}\"}}");
        let records = vec![record; STALLED_RECORDS].join(",");
        let body = format!("{{\"StreamName\":\"{STALLED}\",\"Records\":[{records}]}}");
        connection.ask(&request("PutRecords", &body));
    }
}

/// Subscribes, and reads nothing.
fn stall(port: u16, request: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Before it connects: the window that it offers first is kept.
    socket.set_recv_buffer_size(STALLED_RECEIVE).expect("a socket option");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("the server listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(request).expect("the server takes the request");
    stream
}

/// A request for each consumer and shard, from `position` on.
fn subscriptions(server: &Server, stream: &str, shards: usize, consumers: usize, position: &str) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(server.port);
    let summary = connection.ask(&request("DescribeStreamSummary", &format!("{{\"StreamName\":\"{stream}\"}}")));
    let arn = member(summary, "StreamARN").expect("a stream has one");
    let mut register = |number: usize| {
        let body = format!("{{\"StreamARN\":\"{arn}\",\"ConsumerName\":\"c{number}\"}}");
        member(connection.ask(&request("RegisterStreamConsumer", &body)), "ConsumerARN").expect("a consumer has one")
    };
    let consumers: Vec<String> = (0..consumers).map(&mut register).collect();
    let ask = |consumer: &str, shard: usize| {
        let (shard, position) = (shard_name(shard), format!("{{\"Type\":\"{position}\"}}"));
        let body =
            format!("{{\"ConsumerARN\":\"{consumer}\",\"ShardId\":\"{shard}\",\"StartingPosition\":{position}}}");
        request("SubscribeToShard", &body)
    };
    consumers.iter().flat_map(|consumer| (0..shards).map(|shard| ask(consumer, shard)).collect::<Vec<_>>()).collect()
}

/// When each record was acknowledged, by its sequence number.
fn put(port: u16, shards: usize, time: Duration) -> HashMap<String, Instant> {
    client::pin(1);
    let mut connection = Connection::open(port);
    let data = base64(&[0x5a; 100]);
    let (began, mut acked) = (Instant::now(), HashMap::new());
    for n in 0u32.. {
        let due = began + EVERY * n;
        if due - began >= time {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let hash = u128::MAX / shards as u128 * (n as u128 % shards as u128) + 1;
        let body = format!(
            "{{\"StreamName\":\"{STREAM}\",\"Data\":\"{data}\",\"PartitionKey\":\"k\",\"ExplicitHashKey\":\"{hash}\"}}"
        );
        let answer = connection.ask(&request("PutRecord", &body));
        let sequence = member(answer, "SequenceNumber").expect("it is acknowledged");
        acked.insert(sequence, Instant::now());
    }
    acked
}

/// Sequence numbers of the records that came, and when.
fn read(connection: &mut Http2<TcpStream>, stop: &AtomicBool) -> Vec<(String, Instant)> {
    let mut seen = Vec::new();
    // What of a stream's last frame may be the beginning of a number.
    let mut rests: HashMap<u32, Vec<u8>> = HashMap::new();
    // Events without records come at least every five seconds, so this ends.
    while !stop.load(Relaxed) {
        let (stream, data) = connection.data();
        let now = Instant::now();
        let mut bytes = rests.remove(&stream).unwrap_or_default();
        bytes.extend_from_slice(&data);
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&bytes[from..], MARK) {
            let start = from + at + MARK.len();
            let Some(len) = memchr::memchr(b'"', &bytes[start..]) else { break };
            seen.push((String::from_utf8_lossy(&bytes[start..start + len]).into_owned(), now));
            from = start + len;
        }
        let keep = bytes.len() - from.max(bytes.len().saturating_sub(MARK.len() + 64));
        rests.insert(stream, bytes[bytes.len() - keep..].to_vec());
    }
    seen
}
