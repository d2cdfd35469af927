//! A server that is played here, whose disk was too slow: what it had of a client may be stored or not.

use penstock::client::{Endpoint, Producer, PutError, Settings};
use penstock::log::format::{HEADER, header_at, stride};
use penstock::native::batch::Ack;
use penstock::native::hello::Hello;
use penstock::native::message::{Header, Kind, VERSION};
use penstock::native::refusal::{Code, Fault, Refusal};
use penstock::native::welcome::{ShardLine, ShardState, Welcome, encode_shards};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

const LOST: Fault = Fault { code: Code::Lost, why: "A batch was not durable in time; it may be stored or not." };

/// The next message; `None`: the client has gone.
fn next(stream: &mut TcpStream) -> Option<(Header, Vec<u8>)> {
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).ok()?;
    let header = Header::decode(header_at(&head, 0).expect("64 bytes")).expect("a message");
    let mut body = vec![0; stride(header.body) as usize - HEADER];
    stream.read_exact(&mut body).ok()?;
    body.truncate(header.body as usize);
    Some((header, body))
}

/// Lets a client in, whose stream has one shard.
fn welcome(stream: &mut TcpStream) {
    let (header, body) = next(stream).expect("a Hello");
    let hello = Hello::decode(&header, &body).expect("a Hello");
    let welcome = Welcome {
        version: VERSION,
        features: 0,
        producer: hello.producer,
        largest: 1 << 20,
        unanswered: (64, 0),
        records: 100,
        record: 1 << 20,
        idle_seconds: 300,
        worker: 0,
        workers: 1,
        stream: 1,
    };
    let mut out = vec![0; 16 << 10];
    let mut len = welcome.encode(&mut out);
    let parents = [None; 2];
    let line = ShardLine { shard: 0, state: ShardState::Open, worker: 0, parents, first: 0, last: u128::MAX };
    len += encode_shards(&mut out[len..], 1, false, [line].into_iter());
    stream.write_all(&out[..len]).expect("it listens");
}

/// On its first connection the server says of a batch that it is lost, on later ones it acks all; tells the numbers of the batches that came.
fn played(comes: mpsc::Sender<u32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a client");
            welcome(&mut stream);
            while let Some((header, _)) = next(&mut stream) {
                let mut out = vec![0; 4096];
                let len = match header.kind {
                    Kind::Batch => {
                        if comes.send(header.number).is_err() {
                            return;
                        }
                        let (shard, number, count) = (header.shard, header.number, header.count);
                        match at {
                            0 => Refusal::of(&LOST, 0).goodbye(&mut out),
                            _ => Ack { shard, number, first: 7, count, arrival: 1 }.encode(&mut out),
                        }
                    }
                    Kind::Goodbye => Refusal::of(&Fault { code: Code::Ended, why: "" }, 0).goodbye(&mut out),
                    _ => continue,
                };
                if stream.write_all(&out[..len]).is_err() || at == 0 {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn what_the_server_has_lost_may_be_stored_so_only_a_producer_sends_it_again() {
    for idempotent in [false, true] {
        let (comes, came) = mpsc::channel();
        let settings = Settings { idempotent, ..Settings::default() };
        let producer = Producer::open_with(Endpoint::at(played(comes)), "s", settings).expect("it is welcome");
        let result = producer.put("key", b"data").expect("it is taken").wait();
        match idempotent {
            false => assert!(matches!(result, Err(PutError::Unknown { .. })), "{result:?}"),
            true => assert_eq!(result.expect("it is stored").sequence, 7),
        }
        producer.close();
        let numbers: Vec<u32> = came.try_iter().collect();
        assert_eq!(numbers, if idempotent { vec![0, 0] } else { vec![0] }, "with the number that it had");
    }
}
