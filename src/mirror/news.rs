//! What the layer tells the operator.

use super::unit::Name;
use crate::io::op::{Errno, FileName};
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The start cannot go on; nothing was changed.
    Refused {
        why: String,
    },
    /// A half has failed; the other one goes on without it.
    Degraded {
        unit: Name,
        given: u8,
        half: usize,
        path: String,
        what: String,
        errno: Errno,
    },
    /// The start goes on with one half.
    Alone {
        unit: Name,
        path: String,
        missing: String,
        why: String,
    },
    /// What a half has missed is being copied to it.
    Rebuilding {
        unit: Name,
        path: String,
        files: usize,
    },
    RebuildFailed {
        unit: Name,
        path: String,
        what: String,
        errno: Errno,
    },
    /// There is no room for all that is to be copied; told once.
    RebuildWaits {
        unit: Name,
        path: String,
        errno: Errno,
    },
    /// Both halves are whole again.
    Rebuilt {
        unit: Name,
        path: String,
        bytes: u64,
    },
    /// Part of the source of a rebuild could not be read: it is damaged on both halves now.
    Unread {
        file: FileName,
        at: u64,
        bytes: u32,
        errno: Errno,
    },
    /// Bytes of a half were replaced by the other half's.
    Repaired {
        file: FileName,
        path: String,
        bytes: u64,
    },
    /// A half is damaged where the other is not, and repairing it was of no use.
    NotRepaired {
        file: FileName,
        path: String,
    },
    /// What both halves acknowledged can no longer be said to be durable: nothing more is acknowledged.
    Dead {
        unit: Name,
        errno: Errno,
    },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Refused { why } => f.write_str(why),
            News::Degraded { unit, path, what, errno, .. } => write!(
                f,
                "MIRROR DEGRADED: {unit}: {path} has failed ({what}: {errno}) and is left behind; what is acknowledged from now on is on one \
                 drive only; replace the drive, and start again: it is rebuilt while the server runs"
            ),
            News::Alone { unit, path, missing, why } => write!(
                f,
                "MIRROR DEGRADED: {unit} is served from {path} alone: {missing} {why}; bring its drive back, or another, and start again"
            ),
            News::Rebuilding { unit, path, files } => {
                write!(
                    f,
                    "mirror: {unit} is being rebuilt in {path}: {files} files are copied, and it is not read before"
                )
            }
            News::RebuildFailed { unit, path, what, errno } => write!(
                f,
                "MIRROR DEGRADED: the rebuild of {unit} in {path} has failed ({what}: {errno}); the next start tries again"
            ),
            News::RebuildWaits { unit, path, errno } => write!(
                f,
                "MIRROR DEGRADED: the rebuild of {unit} in {path} has no room ({errno}): free space there; it is tried again every minute"
            ),
            News::Rebuilt { unit, path, bytes } => {
                write!(f, "mirror: {unit} is whole again in {path}: {} MiB were copied", bytes >> 20)
            }
            News::Unread { file, at, bytes, errno } => write!(
                f,
                "DAMAGE in {file}: {bytes} bytes at {at} cannot be read from the only whole half ({errno}), and are zeros in the other now"
            ),
            News::Repaired { file, path, bytes } => {
                write!(
                    f,
                    "mirror: {bytes} bytes of {file} in {path} were damaged, and are repaired from the other half"
                )
            }
            News::NotRepaired { file, path } => write!(
                f,
                "MIRROR: {file} in {path} is damaged and could not be repaired; the other half has it whole; look at the drive"
            ),
            News::Dead { unit, errno } => write!(
                f,
                "MIRROR FAILED: {unit}: its last half has failed ({errno}) before it could be said that the other is left behind: nothing \
                 more is acknowledged"
            ),
        }
    }
}
