//! Parts that are the kernel's: a socket's two ends on this thread, and a file that is written as a log is.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So much is under way at once: both ends are this thread's, so it must fit into the sockets' buffers.
const PIECE: usize = 32 << 10;
const BLOCK: usize = 4096;
/// Of the file that commits are written into, again and again.
const FILE: usize = 16 << 20;

/// A connection over loopback, with both its ends.
pub struct Wire {
    near: TcpStream,
    far: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn new() -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("it has one")).expect("it listens");
        let (far, _) = listener.accept().expect("it connects");
        near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).expect("a socket option");
        Wire { near, far, buffer: vec![0; PIECE] }
    }

    /// Time of receiving `bytes`, without that of sending them.
    pub fn receive(&mut self, bytes: &[u8]) -> Duration {
        self.pass(bytes, false)
    }

    /// Time of sending `bytes`; over loopback the sender does most of the receiver's work.
    pub fn send(&mut self, bytes: &[u8]) -> Duration {
        self.pass(bytes, true)
    }

    fn pass(&mut self, bytes: &[u8], sending: bool) -> Duration {
        let mut took = Duration::ZERO;
        for piece in bytes.chunks(PIECE) {
            let began = Instant::now();
            self.near.write_all(piece).expect("there is room for it");
            let sent = Instant::now();
            self.far.read_exact(&mut self.buffer[..piece.len()]).expect("it has been sent");
            assert_eq!(self.buffer[..piece.len()], *piece, "what was sent is what came");
            took += if sending { sent - began } else { sent.elapsed() };
        }
        took
    }
}

/// Commits of one size into a file that has been written before.
pub struct Commit {
    file: File,
    path: PathBuf,
    /// Whole blocks from `start` on, where the memory is aligned to one: it is written past the page cache.
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
    at: usize,
}

impl Commit {
    /// One of at least `bytes`.
    pub fn new(bytes: usize) -> Commit {
        let target = Path::new(env!("CARGO_BIN_EXE_penstock")).parent().expect("a binary lies in a directory");
        let path = target.join(format!("bench-commits-{}", std::process::id()));
        std::fs::write(&path, vec![0xff; FILE]).expect("a file of our own");
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(&path).expect("it was made");
        file.sync_all().expect("the disk takes it");
        let bytes = bytes.next_multiple_of(BLOCK);
        let memory = vec![0x5a; bytes + BLOCK];
        let start = memory.as_ptr().addr().wrapping_neg() % BLOCK;
        Commit { file, path, memory, start, bytes, at: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Time until one is durable.
    pub fn write(&mut self) -> Duration {
        if self.at + self.bytes > FILE {
            self.at = 0;
        }
        let began = Instant::now();
        let commit = &self.memory[self.start..self.start + self.bytes];
        self.file.write_all_at(commit, self.at as u64).expect("the disk takes it");
        self.at += self.bytes;
        began.elapsed()
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
