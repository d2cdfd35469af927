//! A native server with known pauses, for `selftest`: one connection, one shard, one batch after the other, stored nowhere.

use crate::io::clock::{Clock, Mono};
use crate::io::process;
use crate::load::selftest::{Lindley, Service};
use crate::log::format::{HEADER, stride};
use crate::native::batch::Ack;
use crate::native::message::{Header, Kind};
use crate::native::welcome::{SHARDS_MAX, ShardLine, ShardState, WELCOME_BYTES, Welcome, encode_shards};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// A sleep may end late: the rest of a wait is spent looking at the clock.
const AWAKE_NS: u64 = 200_000;
/// Batches that may wait.
const QUEUE: usize = 4096;
const BATCH_MAX: u32 = 1 << 20;

/// Starts it; gives its address. It serves one client and ends with it.
pub fn start(service: Service) -> Result<SocketAddr, String> {
    let failed = |error: io::Error| format!("the stub server cannot be started: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let named = thread::Builder::new().name("stub".to_string());
    named
        .spawn(move || {
            // A client that goes ends it: that is no failure.
            let _ = serve(&listener, service);
        })
        .map_err(failed)?;
    Ok(address)
}

fn serve(listener: &TcpListener, service: Service) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    // What comes is noted at once, so that it is known when it came however long the batches before it take.
    let (came, queue) = mpsc::sync_channel(QUEUE);
    let answering =
        thread::Builder::new().name("stub-answers".to_string()).spawn(move || answer(&mut answers, &queue, service))?;
    let receive = || -> io::Result<()> {
        let mut stream = stream;
        loop {
            let header = next(&mut stream)?;
            if came.send((Clock.now().mono, header)).is_err() {
                return Ok(());
            }
        }
    };
    let ended = receive();
    drop(came);
    let _ = answering.join();
    ended
}

/// The header of the next message, whose body is passed over.
fn next(stream: &mut TcpStream) -> io::Result<Header> {
    let mut head = [0; HEADER];
    stream.read_exact(&mut head)?;
    let header = Header::decode(&head).map_err(|damage| io::Error::other(damage.to_string()))?;
    let rest = stride(header.body) - HEADER as u64;
    io::copy(&mut stream.take(rest), &mut io::sink())?;
    Ok(header)
}

fn answer(stream: &mut TcpStream, queue: &Receiver<(Mono, Header)>, service: Service) -> io::Result<()> {
    process::exact_timers();
    let mut busy = Lindley::new(service);
    let mut out = vec![0; WELCOME_BYTES + SHARDS_MAX];
    while let Ok((came, header)) = queue.recv() {
        let len = match header.kind {
            Kind::Hello => greet(&mut out),
            Kind::Batch => {
                wait_until(Mono(busy.serve(came.0)));
                let Header { shard, number, count, .. } = header;
                Ack { shard, number, first: 1, count, arrival: 1 }.encode(&mut out)
            }
            _ => continue,
        };
        stream.write_all(&out[..len])?;
    }
    Ok(())
}

fn greet(out: &mut [u8]) -> usize {
    let welcome = Welcome {
        version: 1,
        features: 0,
        producer: 0,
        largest: BATCH_MAX,
        unanswered: (QUEUE as u32 / 2, 0),
        records: 65_535,
        record: BATCH_MAX,
        idle_seconds: 60,
        worker: 0,
        workers: 1,
        stream: 1,
    };
    let line =
        ShardLine { shard: 0, state: ShardState::Open, worker: 0, parents: [None; 2], first: 0, last: u128::MAX };
    let len = welcome.encode(out);
    len + encode_shards(&mut out[len..], 1, false, [line].into_iter())
}

fn wait_until(until: Mono) {
    loop {
        match until - Clock.now().mono {
            0 => return,
            left if left > AWAKE_NS => thread::sleep(Duration::from_nanos(left - AWAKE_NS)),
            _ => std::hint::spin_loop(),
        }
    }
}
