//! Native clients that say nothing, take nothing, or want too much; and a disk that takes too long.

use crate::bench::Bench;
use penstock::limits::Limits;
use penstock::log::format::{Entry, HEADER, ShardKey, body_size, header_at, stride, write_index};
use penstock::native::hello::Hello;
use penstock::native::message::{Header, Kind, blank, seal, seal_header};
use penstock::native::refusal::{Code, Outcome, Refusal};
use penstock::native::welcome::Welcome;
use penstock::observe::counter::Counter;

const SECOND: u64 = 1000;

fn bench() -> Bench {
    Bench::new(Limits { log_bytes: 64 << 20, connections: 16, ..Limits::standard() })
}

/// Every whole message that has come, with its body.
fn messages(bytes: &[u8]) -> Vec<(Header, &[u8])> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = header_at(bytes, at) {
        let header = Header::decode(header).expect("a message");
        found.push((header, &bytes[at + HEADER..at + HEADER + header.body as usize]));
        at += stride(header.body) as usize;
    }
    found
}

/// Kinds of the messages that have come since it was asked last.
fn kinds(bench: &mut Bench, socket: u32) -> Vec<Kind> {
    let inbox = std::mem::take(&mut bench.client(socket).inbox);
    messages(&inbox).iter().map(|(header, _)| header.kind).collect()
}

/// A client that has been let in; the stream's number.
fn welcome(bench: &mut Bench, socket: u32) -> u32 {
    bench.connect_natively(socket);
    let hello = Hello { versions: (1, 1), wanted: 0, producer: 0, stream: "s", key_id: "", session_token: "" };
    let mut out = vec![0; 4096];
    let len = hello.encode(&mut out);
    bench.send(socket, &out[..len]);
    bench.turns(5);
    let inbox = std::mem::take(&mut bench.client(socket).inbox);
    let (header, body) = messages(&inbox)[0];
    let welcome = Welcome::decode(&header, body).expect("a Welcome");
    assert_eq!((welcome.unanswered.0, welcome.idle_seconds), (64, 300));
    welcome.stream
}

fn batch(stream: u32, shard: u32, number: u32) -> Vec<u8> {
    let mut body = b"key and data".to_vec();
    body.resize(body_size(12, 1), 0);
    write_index(&mut body, 12, &[Entry::new(0, Some(3), 9)]);
    let mut out = vec![0; HEADER + body.len() + HEADER];
    out[HEADER..HEADER + body.len()].copy_from_slice(&body);
    let header = Header { shard: ShardKey::new(stream, shard), count: 1, number, ..blank(Kind::Batch) };
    let len = seal(&mut out, header, body.len());
    out.truncate(len);
    out
}

fn ping(number: u32) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    seal_header(&mut out, Header { number, ..blank(Kind::Ping) });
    out
}

/// The Goodbye that is the only thing that has come.
fn goodbye(bench: &mut Bench, socket: u32) -> (Code, Outcome) {
    let inbox = std::mem::take(&mut bench.client(socket).inbox);
    let [(header, body)] = messages(&inbox)[..] else { panic!("one message, not {inbox:?}") };
    assert_eq!(header.kind, Kind::Goodbye);
    let refusal = Refusal::decode(body).expect("it says why");
    (refusal.code.expect("a known code"), refusal.outcome)
}

#[test]
fn a_client_that_says_nothing_for_five_minutes_is_ended_and_one_that_pings_is_not() {
    let mut bench = bench();
    let (silent, pings) = (1, 2);
    welcome(&mut bench, silent);
    welcome(&mut bench, pings);
    bench.pass(200 * SECOND);
    bench.send(pings, &ping(7));
    bench.pass(99 * SECOND);
    assert_eq!(kinds(&mut bench, silent), []);
    bench.pass(2 * SECOND);
    assert_eq!(goodbye(&mut bench, silent), (Code::Idle, Outcome::NotStored));
    // What it may send still is read for two more seconds.
    assert!(!bench.client(silent).closed);
    bench.pass(4 * SECOND);
    assert!(bench.client(silent).closed);
    assert_eq!((kinds(&mut bench, pings), bench.client(pings).closed), (vec![Kind::Pong], false));
    bench.pass(190 * SECOND);
    assert_eq!(kinds(&mut bench, pings), []);
    bench.pass(6 * SECOND);
    assert_eq!(goodbye(&mut bench, pings), (Code::Idle, Outcome::NotStored));
}

#[test]
fn a_client_that_does_not_take_an_answer_for_a_minute_is_ended() {
    let mut bench = bench();
    let (deaf, other) = (1, 2);
    let stream = welcome(&mut bench, deaf);
    welcome(&mut bench, other);
    bench.client(deaf).deaf = true;
    bench.send(deaf, &batch(stream, 0, 0));
    bench.pass(59 * SECOND);
    assert!(!bench.client(deaf).closed);
    bench.send(other, &batch(stream, 0, 0));
    bench.pass(3 * SECOND);
    assert!(bench.client(deaf).closed);
    assert_eq!((kinds(&mut bench, other), bench.client(other).closed), (vec![Kind::Ack], false));
}

#[test]
fn a_batch_that_is_not_durable_within_forty_seconds_is_lost() {
    let mut bench = bench();
    let stream = welcome(&mut bench, 1);
    bench.slow_disk = true;
    bench.send(1, &batch(stream, 0, 0));
    bench.pass(20 * SECOND);
    bench.send(1, &batch(stream, 1, 1));
    bench.pass(19 * SECOND);
    assert_eq!(kinds(&mut bench, 1), []);
    bench.pass(3 * SECOND);
    assert_eq!(goodbye(&mut bench, 1), (Code::Lost, Outcome::Unknown), "also of the younger one");
    bench.let_go();
    assert_eq!(kinds(&mut bench, 1), [], "nothing comes behind a Goodbye");
}

#[test]
fn sixty_four_batches_may_be_unanswered_and_the_next_is_left_unread() {
    let mut bench = bench();
    let stream = welcome(&mut bench, 1);
    bench.slow_disk = true;
    let batches = |numbers: std::ops::Range<u32>| numbers.flat_map(|n| batch(stream, n % 2, n)).collect::<Vec<_>>();
    bench.send(1, &batches(0..63));
    bench.turns(50);
    assert_eq!(bench.count(Counter::NativeBatches), 63);
    assert!(!bench.is_left_unread(1), "there is room for one more");
    bench.send(1, &batches(63..64));
    bench.turns(50);
    assert_eq!(bench.count(Counter::NativeBatches), 64);
    // Nothing is received any more, so what comes fills the client's own socket.
    bench.send(1, &batches(64..65));
    bench.turns(50);
    assert!(bench.is_left_unread(1));
    assert_eq!((bench.count(Counter::NativeBatches), kinds(&mut bench, 1)), (64, vec![]));
    bench.let_go();
    let inbox = std::mem::take(&mut bench.client(1).inbox);
    let mut acks: Vec<u32> = messages(&inbox).iter().map(|(header, _)| header.number).collect();
    acks.sort_unstable();
    assert_eq!(acks, (0..65).collect::<Vec<_>>(), "each is answered, once");
}
