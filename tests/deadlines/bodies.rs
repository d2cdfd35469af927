//! Bodies of requests that come slowly, where buffers for them are few.

use crate::bench::Bench;
use crate::hand::request;
use penstock::io::buffers::Pool;
use penstock::limits::Limits;
use penstock::observe::counter::Counter;

/// Bytes of a body that needs a buffer.
const SIZE: usize = 900_000;

/// Four buffers of a mebibyte and none that is larger: one stays for replies, and strangers have one.
fn bench() -> Bench {
    let mut limits = Limits { log_bytes: 64 << 20, connections: 64, streams: 0, ..Limits::standard() };
    (limits.small.0, limits.medium.0, limits.large.0) = (4, 4, 0);
    Bench::new(limits)
}

/// A put of so many bytes, in its head and its body.
fn put(size: usize) -> (Vec<u8>, Vec<u8>) {
    let head = "{\"StreamName\":\"s\",\"PartitionKey\":\"k\",\"Data\":\"\"}";
    let body = head.replace("\"\"", &format!("\"{}\"", "A".repeat((size - head.len()) / 4 * 4)));
    let whole = request("PutRecord", &body);
    let (head, body) = whole.split_at(whole.len() - body.len());
    (head.to_vec(), body.to_vec())
}

/// The same where nobody has said how long the body is.
fn chunked(size: usize) -> (Vec<u8>, Vec<u8>) {
    let (head, body) = put(size);
    let text = String::from_utf8(head).expect("text");
    let head = text.replace(&format!("Content-Length: {}\r\n", body.len()), "Transfer-Encoding: chunked\r\n");
    (head.into_bytes(), [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat())
}

fn is_ok(bench: &mut Bench, socket: u32) -> bool {
    bench.client(socket).inbox.starts_with(b"HTTP/1.1 200 OK")
}

fn is_ended(bench: &mut Bench, socket: u32) -> bool {
    let client = bench.client(socket);
    client.closed && client.inbox.starts_with(b"HTTP/1.1 408 ")
}

/// A connection that has put something large.
fn earnest(bench: &mut Bench, socket: u32) -> u32 {
    let (head, body) = put(SIZE);
    bench.connect(socket);
    bench.send(socket, &[head, body].concat());
    bench.turns(20);
    assert!(is_ok(bench, socket));
    bench.client(socket).inbox.clear();
    socket
}

#[test]
fn who_sends_a_byte_now_and_then_holds_no_buffer() {
    for make in [put, chunked] {
        let mut bench = bench();
        let free = [Pool::Small, Pool::Medium].map(|pool| bench.worker.buffers().available(pool));
        let (head, body) = make(SIZE);
        for socket in 1..40 {
            bench.connect(socket);
            bench.send(socket, &head);
            bench.send(socket, &body[..1000]);
            bench.turns(3);
        }
        for at in 1000..1100 {
            (1..40).for_each(|socket| bench.send(socket, &body[at..at + 1]));
            bench.pass(100);
        }
        assert_eq!([Pool::Small, Pool::Medium].map(|pool| bench.worker.buffers().available(pool)), free);
        assert_eq!(bench.count(Counter::ConnectionsTimedOut), 0, "nobody waits for what they have");
        // A stranger's put goes through at once.
        bench.connect(50);
        bench.send(50, &[put(SIZE).0, put(SIZE).1].concat());
        bench.turns(20);
        assert!(is_ok(&mut bench, 50));
    }
}

#[test]
fn a_slow_body_ends_where_another_one_waits_for_its_buffer_and_a_steady_one_does_not() {
    let mut bench = bench();
    let (head, body) = put(SIZE);
    // All that have shown themselves may hold: three buffers of four.
    let (slow, slower, steady) = (earnest(&mut bench, 1), earnest(&mut bench, 2), earnest(&mut bench, 3));
    let late = earnest(&mut bench, 4);
    for (socket, sent) in [(slow, 6000), (slower, 5000), (steady, 50_000)] {
        bench.send(socket, &head);
        bench.send(socket, &body[..sent]);
        bench.turns(5);
    }
    let mut at = 50_000;
    let mut pass = |bench: &mut Bench, tenths: usize| {
        for _ in 0..tenths {
            // 110 KB a second.
            bench.send(steady, &body[at..at + 11_000]);
            at += 11_000;
            bench.pass(100);
        }
    };
    pass(&mut bench, 20);
    assert_eq!(bench.count(Counter::ConnectionsTimedOut), 0, "however slow they are, nobody waits");
    bench.send(late, &[head.clone(), body.clone()].concat());
    bench.turns(5);
    assert!(bench.is_left_unread(late), "it waits for a buffer");
    pass(&mut bench, 20);
    assert!(is_ok(&mut bench, late));
    assert!(is_ended(&mut bench, slower), "the slowest goes");
    assert!(!bench.client(slow).closed, "one is enough");
    // Whoever comes behind a slow one gets what that has held, and at last all of it is there again.
    pass(&mut bench, 10);
    bench.send(steady, &body[at..]);
    bench.turns(20);
    assert!(is_ok(&mut bench, steady), "who keeps the pace does not notice");
    assert_eq!((bench.count(Counter::ConnectionsTimedOut), bench.worker.buffers().available(Pool::Medium)), (1, 3));
    bench.send(slow, &body[6000..]);
    bench.turns(20);
    assert!(is_ok(&mut bench, slow), "nobody waited for what it held");
    assert_eq!(bench.worker.buffers().available(Pool::Medium), 4);
}

#[test]
fn strangers_hold_a_part_and_each_other_up_only() {
    let mut bench = bench();
    let (head, body) = put(SIZE);
    let known = earnest(&mut bench, 1);
    for socket in 2..6 {
        bench.connect(socket);
        bench.send(socket, &[&head, &body[..20_000]].concat());
        bench.turns(3);
    }
    assert_eq!(bench.worker.buffers().available(Pool::Medium), 3, "one of them has got a buffer");
    for _ in 0..10 {
        bench.send(known, &[head.clone(), body.clone()].concat());
        bench.turns(20);
        assert!(is_ok(&mut bench, known));
        bench.client(known).inbox.clear();
        bench.pass(100);
    }
    // Each has its turn, and none is ended before it has had its grace.
    let ended = |bench: &mut Bench| (2..6).filter(|socket| is_ended(bench, *socket)).collect::<Vec<_>>();
    assert_eq!(ended(&mut bench), Vec::<u32>::new());
    bench.pass(3_000);
    assert_eq!(ended(&mut bench), [2]);
    bench.send(3, &body[20_000..]);
    bench.turns(20);
    assert!(is_ok(&mut bench, 3), "it has waited for the first one");
    bench.send(4, &body[20_000..]);
    bench.turns(20);
    assert!(is_ok(&mut bench, 4));
}

#[test]
fn an_end_that_nobody_reads_gives_the_buffer_back_as_well() {
    let mut bench = bench();
    let (head, body) = put(SIZE);
    let slow = [1, 2, 3].map(|socket| earnest(&mut bench, socket));
    let late = earnest(&mut bench, 4);
    for socket in slow {
        bench.send(socket, &[&head, &body[..5000]].concat());
        bench.client(socket).deaf = true;
    }
    bench.turns(5);
    bench.send(late, &[head, body].concat());
    bench.pass(7_000);
    assert!(is_ok(&mut bench, late));
}

#[test]
fn a_body_in_chunks_has_as_much_time_as_one_whose_length_was_said() {
    let mut limits = Limits { log_bytes: 64 << 20, connections: 64, streams: 0, ..Limits::standard() };
    limits.large.0 = 8;
    let mut bench = Bench::new(limits);
    let (head, body) = chunked(8_000_000);
    let (steady, stalled) = (bench.connect(1), bench.connect(2));
    for socket in [steady, stalled] {
        bench.send(socket, &head);
        bench.send(socket, &body[..20_000]);
    }
    for piece in body[20_000..].chunks(20_000) {
        // 200 KB a second, for 40 seconds.
        bench.send(steady, piece);
        bench.pass(100);
    }
    bench.turns(20);
    assert!(bench.client(stalled).closed, "nothing has come for 40 s");
    let told = &bench.client(steady).inbox;
    assert!(told.starts_with(b"HTTP/1.1 400 "), "it was read to its end, and is too large: {told:?}");
}
