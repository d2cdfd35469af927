//! Recovery, fourth part: copies of what was cut off or found damaged.

use super::{Copy, Copying, Recovery, Step, WINDOW_BYTES};
use crate::io::op::{DirName, FileName, Op, OpenHow, Ops, Sync, Token};
use crate::log::Log;

impl Log {
    pub(super) fn copy_next(&mut self, r: &mut Recovery, ops: &mut Ops) {
        if r.copies.is_empty() {
            return self.flush_next(r, ops);
        }
        r.step = Step::Copy(Copying::MakeDir);
        ops.push(Op::MakeDir { dir: DirName::Quarantine, token: self.recovery_token() });
    }

    pub(super) fn on_copied(&mut self, r: &mut Recovery, copying: Copying, ops: &mut Ops) {
        let token = self.recovery_token();
        let Some(copy) = r.copies.front_mut() else { return };
        let into = self.copy_name(copy);
        let piece = (copy.len - copy.copied).min(self.settings.memory.len.min(WINDOW_BYTES));
        let memory = self.settings.memory;
        let (next, op) = match copying {
            Copying::MakeDir => (Copying::SyncTop, Op::SyncDir { dir: DirName::AboveQuarantine, token }),
            Copying::SyncTop | Copying::Unlink => {
                (Copying::Create, Op::Open { file: into, how: OpenHow::Create { size: copy.len as u64 }, token })
            }
            Copying::Create => (Copying::Read, self.copy_read(copy, piece, token)),
            Copying::Read => {
                let (at, from) = (copy.copied as u64, memory.first(piece));
                copy.copied += piece;
                (Copying::Write, Op::WriteAt { file: into, at, from, sync: Sync::Later, token })
            }
            Copying::Write if piece > 0 => (Copying::Read, self.copy_read(copy, piece, token)),
            Copying::Write => (Copying::Flush, Op::Fsync { file: into, token }),
            Copying::Flush => (Copying::Close, Op::CloseFile { file: into, token }),
            Copying::Close => (Copying::SyncDir, Op::SyncDir { dir: DirName::Quarantine, token }),
            Copying::SyncDir => {
                r.copies.pop_front();
                return self.copy_next(r, ops);
            }
        };
        r.step = Step::Copy(next);
        ops.push(op);
    }

    pub(super) fn copy_name(&self, copy: &Copy) -> FileName {
        FileName::Quarantine { log: self.settings.number, position: copy.position.0 }
    }

    pub(super) fn copy_read(&self, copy: &Copy, piece: u32, token: Token) -> Op {
        let at = (copy.from + copy.copied) as u64;
        Op::ReadAt { file: self.files.name(copy.file), at, into: self.settings.memory.first(piece), token }
    }
}
