//! A worker that is driven by hand: its setup, and the files that it asks for, of which every operation succeeds at once.

use penstock::io::buffers::Buffers;
use penstock::io::op::{Completion, DirName, Errno, FileName, Op, OpenHow};
use penstock::limits::Limits;
use penstock::log::Canary;
use penstock::log::directories::Given;
use penstock::observe::counter::Counters;
use penstock::worker::mailbox::connect;
use penstock::worker::{Options, Setup, WhenFull};
use std::collections::BTreeSet;

/// The only worker of a new directory, with what it counts. `flush`: the device needs one.
pub fn setup(limits: Limits, flush: bool) -> (Setup, Counters) {
    let buffers = Buffers::new(0, limits.layouts());
    let loans = vec![buffers.loans()];
    let options = Options {
        mirror: None,
        disk: Some(1 << 30),
        given: vec![Given { path: "/data".into(), free: 2 << 30, block: 4096, flush, ..Given::default() }],
        nodes: vec![None],
        when_full: WhenFull::Reject,
        region: None,
        account: None,
        retention_hour: None,
        segment: Some(64 << 20),
        random: [7; 32],
        admin_key: [7; 16],
        verify_keys: false,
        clock_synchronised: true,
        accept_clock: false,
        scrub: Some(14 * 86_400 * 1_000_000_000),
        canary: Canary::default(),
        no_epoch_bump: false,
    };
    let counters = Counters::default();
    let setup = Setup {
        worker: 0,
        workers: 1,
        limits,
        options,
        buffers,
        loans,
        counters: vec![counters.clone()],
        mailboxes: connect(1, limits.mailbox).remove(0),
    };
    (setup, counters)
}

/// Which files there are. What is in them nobody reads: a new directory is never opened again.
#[derive(Default)]
pub struct Files(BTreeSet<FileName>);

impl Files {
    /// The answer to an operation on files; `None`: it has none, or is no such operation.
    pub fn answer(&mut self, op: Op) -> Option<Completion> {
        let (token, result) = match op {
            Op::List { dir: DirName::Given(_), token } => {
                return Some(Completion::Listed { token, result: Ok(Vec::new()) });
            }
            Op::List { token, .. } => return Some(Completion::Listed { token, result: Err(Errno(2)) }),
            Op::Open { file, how: OpenHow::Existing, token } => {
                (token, if self.0.contains(&file) { Ok(0) } else { Err(Errno(2)) })
            }
            Op::Open { file, token, .. } => {
                self.0.insert(file);
                (token, Ok(0))
            }
            Op::Prepare { log, index, token, .. } => {
                self.0.insert(FileName::Segment { log, index });
                (token, Ok(0))
            }
            Op::WriteAt { token, from, .. } => (token, Ok(from.len)),
            Op::ReadAt { token, into, .. } => (token, Ok(into.len)),
            Op::Rename { from, to, token } => {
                self.0.remove(&from);
                self.0.insert(to);
                (token, Ok(0))
            }
            Op::Fsync { token, .. }
            | Op::Unlink { token, .. }
            | Op::CloseFile { token, .. }
            | Op::MakeDir { token, .. }
            | Op::SyncDir { token, .. }
            | Op::Link { token, .. }
            | Op::Clear { token, .. } => (token, Ok(0)),
            _ => return None,
        };
        Some(Completion::Done { token, result })
    }
}

/// A request of the Kinesis API.
pub fn request(operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost:4567\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
