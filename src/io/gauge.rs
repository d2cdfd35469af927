//! Probes that run for a while and say how this host did meanwhile: what takes a core away, and what a message to another thread and back takes.

use super::clock::Clock;
use super::drive::{Spread, histogram, spread};
use super::uring::{build, complete};
use core_affinity::CoreId;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;

/// What a core is taken away for is not told from a slow read of the clock below this.
const GAP_NS: u64 = 2_000;
/// Reads of the clock between looks at whether to stop.
const LOOK_EVERY: u32 = 1 << 16;
const MESSAGE: usize = 64;
/// Round trips between looks.
const TRIPS: u32 = 256;

/// What has taken a core away, of those times that are longer than [`GAP_NS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter {
    pub ns: u64,
    /// Nanoseconds that were taken in all, and at once.
    pub taken: u64,
    pub longest: u64,
}

/// Looks at the clock for so long, on the thread that calls, and at nothing else. `stop` ends it early.
pub fn jitter(ns: u64, stop: &dyn Fn() -> bool) -> Jitter {
    let begin = Clock.now().mono;
    let (mut last, mut taken, mut longest) = (begin, 0, 0);
    'all: loop {
        for _ in 0..LOOK_EVERY {
            let now = Clock.now().mono;
            let gap = now - last;
            if gap > GAP_NS {
                taken += gap;
                longest = longest.max(gap);
            }
            last = now;
            if now - begin >= ns {
                break 'all;
            }
        }
        if stop() {
            break;
        }
        // What the look took is nobody's doing.
        last = Clock.now().mono;
    }
    Jitter { ns: last - begin, taken, longest }
}

/// Two threads with a ring each, and a connection between them over the loopback device.
pub struct PingPong {
    ours: Option<TcpStream>,
    ring: IoUring,
    echo: Option<JoinHandle<()>>,
}

impl PingPong {
    /// The other thread runs on `core`, if that may be.
    pub fn new(core: usize) -> io::Result<PingPong> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let ours = TcpStream::connect(listener.local_addr()?)?;
        let theirs = listener.accept()?.0;
        for stream in [&ours, &theirs] {
            stream.set_nodelay(true)?;
        }
        let echo = move || {
            core_affinity::set_for_current(CoreId { id: core });
            // Whatever ends it ends the connection, which the other side sees.
            let _ = answer(&theirs);
        };
        let echo = std::thread::Builder::new().name("echo".to_string()).spawn(echo)?;
        Ok(PingPong { ours: Some(ours), ring: build(8, 16)?, echo: Some(echo) })
    }

    /// Round trips, one after the other, for so long. `stop` ends it early.
    pub fn run(&mut self, ns: u64, stop: &dyn Fn() -> bool) -> io::Result<Spread> {
        let stream = self.ours.as_ref().expect("it is there until the end");
        let mut seen = histogram();
        let begin = Clock.now().mono;
        while Clock.now().mono - begin < ns && !stop() {
            for _ in 0..TRIPS {
                let from = Clock.now().mono;
                send(&mut self.ring, stream, &[7; MESSAGE])?;
                receive(&mut self.ring, stream)?;
                seen.saturating_record(Clock.now().mono - from);
            }
        }
        Ok(spread(&seen))
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        // The other side receives the end of the connection, and ends.
        drop(self.ours.take());
        let _ = self.echo.take().map(JoinHandle::join);
    }
}

fn answer(stream: &TcpStream) -> io::Result<()> {
    let mut ring = build(8, 16)?;
    loop {
        let message = receive(&mut ring, stream)?;
        send(&mut ring, stream, &message)?;
    }
}

fn send(ring: &mut IoUring, stream: &TcpStream, message: &[u8; MESSAGE]) -> io::Result<()> {
    let send = opcode::Send::new(Fd(stream.as_raw_fd()), message.as_ptr(), MESSAGE as u32).flags(libc::MSG_NOSIGNAL);
    complete(ring, &[send.build()], MESSAGE as i32)
}

fn receive(ring: &mut IoUring, stream: &TcpStream) -> io::Result<[u8; MESSAGE]> {
    let mut message = [0; MESSAGE];
    let receive = opcode::Recv::new(Fd(stream.as_raw_fd()), message.as_mut_ptr(), MESSAGE as u32);
    complete(ring, &[receive.flags(libc::MSG_WAITALL).build()], MESSAGE as i32)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_and_come_back() {
        let mut pair = PingPong::new(0).expect("a loopback device");
        let seen = pair.run(20_000_000, &|| false).expect("it answers");
        assert!(seen.count >= u64::from(TRIPS) && seen.p50 > 0 && seen.p50 <= seen.max, "{seen:?}");
        assert_eq!(pair.run(u64::MAX, &|| true).expect("nothing is sent").count, 0);
    }

    #[test]
    fn a_core_is_watched_for_as_long_as_is_asked() {
        let seen = jitter(20_000_000, &|| false);
        assert!(seen.ns >= 20_000_000 && seen.longest <= seen.taken && seen.taken <= seen.ns, "{seen:?}");
        assert!(jitter(u64::MAX, &|| true).ns < 60_000_000_000, "it stops at the first look");
    }
}
