//! Verifying a segment: read chunk by chunk at a bounded rate, judged by [`Verifier`]. The file is opened for each chunk: one that is
//! removed meanwhile gives its space back at once, and its worker knows that nothing found in it counts.

use super::companion::errno_of;
use super::watchdog::Steps;
use crate::io::clock::Mono;
use crate::io::op::Errno;
use crate::io::scrub::{CHUNK, Report, Request};
use crate::log::verify::Verifier;
use glommio::GlommioError;
use glommio::io::{OpenOptions, ReadResult};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A scrub under way.
pub struct Scrubbing {
    pub request: Request,
    path: PathBuf,
    verifier: Verifier,
    /// The next chunk is not read before.
    due: Mono,
}

impl Scrubbing {
    pub fn new(data: &Path, request: Request) -> Scrubbing {
        let path = data.join(request.segment.file().to_string());
        Scrubbing { request, path, verifier: Verifier::new(request.segment, CHUNK), due: Mono(0) }
    }

    /// How long to wait before the next chunk.
    pub fn pause(&self, now: Mono) -> Duration {
        Duration::from_nanos(self.due - now)
    }

    /// Whether all of it is verified.
    pub fn is_over(&self) -> bool {
        self.verifier.wants().is_none()
    }

    pub fn report(self) -> Report {
        self.verifier.report()
    }

    /// Reads and judges one chunk. What was held up is not made up for by a burst.
    pub async fn step(&mut self, now: Mono, steps: Steps) {
        let Some((at, len)) = self.verifier.wants() else { return };
        self.due = now + len as u64 * 1_000_000_000 / self.request.rate.max(1);
        match read(&self.path, at, len).await {
            Ok(bytes) => self.verifier.read(&bytes),
            Err(Failed::Open(errno)) => self.verifier.unopened(errno),
            Err(Failed::Read(errno)) => self.verifier.unreadable(errno),
        }
        steps.made();
    }
}

enum Failed {
    Open(Errno),
    Read(Errno),
}

async fn read(path: &Path, at: u64, len: u32) -> Result<ReadResult, Failed> {
    let open = |error: GlommioError<()>| Failed::Open(errno_of(&error));
    let read = |error: GlommioError<()>| Failed::Read(errno_of(&error));
    let file = OpenOptions::new().read(true).dma_open(path).await.map_err(open)?;
    let bytes = file.read_at_aligned(at, len as usize).await;
    file.close().await.map_err(read)?;
    bytes.map_err(read)
}
