//! A short list of operations on one half, and how it ended.

use crate::io::buffers::Buffers;
use crate::io::op::{Errno, FileName, Ops, Token};
use crate::log::steps::{Progress, Step, Steps};

const ENOENT: Errno = Errno(2);

/// The lists of one half: one at a time.
pub(super) struct Script {
    steps: Steps,
    running: bool,
    /// What the last one met: the step that failed.
    pub failed: Option<(Step, Errno)>,
    /// What the last listing found.
    pub listed: Vec<(FileName, u64)>,
}

impl Script {
    /// `owner` becomes the top byte of every token; its upper bit says which half.
    pub fn new(owner: u8, buffers: &mut Buffers) -> Option<Script> {
        let steps = Steps::new(owner, buffers)?;
        Some(Script { steps, running: false, failed: None, listed: Vec::new() })
    }

    pub fn run(&mut self, steps: impl IntoIterator<Item = Step>, buffers: &mut Buffers, ops: &mut Ops) {
        debug_assert!(!self.running, "one list at a time");
        self.failed = None;
        self.running = false;
        for step in steps {
            self.running = true;
            self.steps.push(step);
        }
        self.steps.go(buffers, ops);
    }

    pub fn is_running(&self) -> bool {
        self.running
    }

    pub fn on_done(&mut self, token: Token, result: Result<u32, Errno>, buffers: &mut Buffers, ops: &mut Ops) {
        match self.steps.done(token, result, buffers) {
            Progress::NotMine | Progress::More => {}
            Progress::Finished => self.running = false,
            Progress::Failed(step, errno) => {
                self.running = false;
                self.failed = Some((step, errno));
            }
        }
        self.steps.go(buffers, ops);
    }

    /// An absent directory is an empty one.
    pub fn on_listed(
        &mut self,
        token: Token,
        result: Result<Vec<(FileName, u64)>, Errno>,
        buffers: &mut Buffers,
        ops: &mut Ops,
    ) {
        let result = match result {
            Ok(files) => {
                self.listed = files;
                Ok(0)
            }
            Err(ENOENT) => {
                self.listed.clear();
                Ok(0)
            }
            Err(errno) => Err(errno),
        };
        self.on_done(token, result, buffers, ops);
    }

    pub fn take_read(&mut self) -> Vec<u8> {
        self.steps.take_read()
    }
}
