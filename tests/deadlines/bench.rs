//! One worker that serves, and the clients that a test plays.

use crate::hand::{Files, request, setup};
use penstock::io::buffers::Span;
use penstock::io::clock::{Mono, Now, Wall};
use penstock::io::op::{Completion, Completions, Op, Ops, Socket};
use penstock::limits::Limits;
use penstock::observe::counter::{Counter, Counters};
use penstock::worker::Worker;
use std::collections::BTreeMap;

/// A client's end of a socket.
#[derive(Default)]
pub struct Client {
    /// What it has sent, and the kernel has not handed on.
    outbox: Vec<u8>,
    /// Where the worker receives, and how many bytes at least.
    receives: Option<(Span, u32)>,
    /// What it has been sent.
    pub inbox: Vec<u8>,
    /// It takes nothing that is sent.
    pub deaf: bool,
    /// What is being sent to it, where it is deaf.
    untaken: bool,
    /// The worker has ended it.
    pub closed: bool,
    native: bool,
}

pub struct Bench {
    pub worker: Worker,
    counters: Counters,
    files: Files,
    clients: BTreeMap<u32, Client>,
    /// The device takes its time: what is written is not done before it is let go.
    pub slow_disk: bool,
    writing: Vec<Completion>,
    done: Completions,
    ops: Ops,
    now: Now,
    accepts: bool,
}

impl Bench {
    /// A worker with `limits` that serves, and has a stream `s` of two shards.
    pub fn new(limits: Limits) -> Bench {
        let (setup, counters) = setup(limits, false);
        let mut bench = Bench {
            worker: Worker::new(setup),
            counters,
            files: Files::default(),
            clients: BTreeMap::new(),
            slow_disk: false,
            writing: Vec::new(),
            done: Vec::new(),
            ops: Vec::new(),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_790_000_000_000_000) },
            accepts: false,
        };
        bench.turns(1000);
        assert!(bench.accepts, "it serves");
        let maker = bench.connect(0);
        bench.send(maker, &request("CreateStream", "{\"StreamName\":\"s\",\"ShardCount\":2}"));
        bench.turns(100);
        assert!(bench.client(maker).inbox.starts_with(b"HTTP/1.1 200 OK"));
        bench
    }

    pub fn connect(&mut self, socket: u32) -> u32 {
        self.done.push(Completion::Accepted(Ok(Socket(socket))));
        self.clients.insert(socket, Client::default());
        self.turns(3);
        socket
    }

    pub fn connect_natively(&mut self, socket: u32) -> u32 {
        self.done.push(Completion::NativeAccepted { socket: Socket(socket), peer: None });
        self.clients.insert(socket, Client { native: true, ..Client::default() });
        self.turns(3);
        socket
    }

    pub fn client(&mut self, socket: u32) -> &mut Client {
        self.clients.get_mut(&socket).expect("a client of the test")
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.get(counter)
    }

    /// The client sends `bytes`; they are received in the next turns.
    pub fn send(&mut self, socket: u32, bytes: &[u8]) {
        self.client(socket).outbox.extend_from_slice(bytes);
    }

    /// Whether some of what the client has sent is left to it, as nobody receives.
    pub fn is_left_unread(&self, socket: u32) -> bool {
        let client = &self.clients[&socket];
        !client.outbox.is_empty() && client.receives.is_none()
    }

    /// Time passes, a tenth of a second at a time.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.mono = self.now.mono.plus_ms(100);
            self.now.wall.0 += 100_000;
            self.turns(3);
        }
    }

    pub fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// The device has written what it was given.
    pub fn let_go(&mut self) {
        self.slow_disk = false;
        self.done.append(&mut self.writing);
        self.turns(20);
    }

    fn turn(&mut self) {
        self.now.mono = self.now.mono + 10_000;
        self.now.wall.0 += 10;
        self.worker.step(self.now, &mut self.done, &mut self.ops);
        for op in std::mem::take(&mut self.ops) {
            self.carry_out(op);
        }
        for (socket, client) in &mut self.clients {
            let there = client.outbox.len();
            let Some((into, _)) = client.receives.filter(|(_, least)| there >= *least as usize) else { continue };
            let len = client.outbox.len().min(into.len as usize);
            self.worker.buffers_mut().bytes_mut(into.first(len as u32)).copy_from_slice(&client.outbox[..len]);
            client.outbox.drain(..len);
            client.receives = None;
            self.done.push(Completion::Received { socket: Socket(*socket), result: Ok(len as u32) });
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Accept => self.accepts = true,
            Op::Recv { socket, into } => self.client(socket.0).receives = Some((into, 1)),
            Op::RecvAll { socket, into } => self.client(socket.0).receives = Some((into, into.len)),
            Op::Send { socket, from, then } => {
                let client = self.clients.get_mut(&socket.0).expect("a client of the test");
                if client.deaf {
                    client.untaken = true;
                    return;
                }
                for span in [Some(from), then].into_iter().flatten() {
                    client.inbox.extend_from_slice(self.worker.buffers().bytes(span));
                }
                self.done.push(Completion::Sent { socket, result: Ok(()) });
            }
            Op::Close { socket } => {
                let client = self.client(socket.0);
                (client.closed, client.receives) = (true, None);
                let (native, untaken) = (client.native, std::mem::take(&mut client.untaken));
                if untaken {
                    self.done.push(Completion::Sent { socket, result: Err(penstock::io::op::Errno(104)) });
                }
                self.done.push(match native {
                    true => Completion::NativeClosed { socket },
                    false => Completion::Closed { socket },
                });
            }
            op => {
                let writes = matches!(op, Op::WriteAt { .. } | Op::Fsync { .. });
                let answer = self.files.answer(op);
                let done = if writes && self.slow_disk { &mut self.writing } else { &mut self.done };
                done.extend(answer);
            }
        }
    }
}
