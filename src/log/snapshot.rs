//! Holding segments for a snapshot.
//!
//! A snapshot is a prefix of each log, as a crash might have left it: [`Log::pin`] seals the active segment, and from then on no segment is
//! given back; when all that is sealed is durable, [`Log::held`] lists it, and the catalog can be written down. Each segment then gets a second name ([`Log::link`],
//! [`Log::linked`], oldest first), after which it may be given back again: one with two names is not written any more, but replaced.

use super::{FooterState, Log};
use crate::io::op::FileName;

/// A segment that belongs to a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Index of its file.
    pub file: u32,
    pub incarnation: u32,
    /// Byte behind its last commit.
    pub end: u32,
    /// CRC of its last commit.
    pub last_crc: u32,
}

/// What a snapshot holds of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pin {
    #[default]
    Nothing,
    /// Everything; the active segment is sealed when the turn ends.
    Seal,
    /// Incarnations `from..=to`; while `from` is 0, nothing may go at all: what goes is written into the catalog, which is to be as it was.
    /// `linking`: `from` is getting its second name; whether its file had one before.
    Sealed { from: u32, to: u32, linking: Option<bool> },
}

impl Pin {
    /// Whether the segment must stay.
    pub fn holds(self, incarnation: u32) -> bool {
        match self {
            Pin::Nothing => false,
            Pin::Seal => true,
            Pin::Sealed { from, to, .. } => from == 0 || (from..=to).contains(&incarnation),
        }
    }
}

impl Log {
    /// Seals the active segment at the end of this turn, and keeps all segments until they are linked or unpinned.
    pub fn pin(&mut self) {
        self.pin = Pin::Seal;
    }

    /// What is left of a snapshot's hold ends.
    pub fn unpin(&mut self) {
        self.pin = Pin::Nothing;
    }

    /// At the end of a turn, where no frame is open.
    pub(super) fn seal_for_snapshot(&mut self) {
        if self.pin != Pin::Seal {
            return;
        }
        self.finish_commit();
        if self.active && self.at > 0 {
            self.seal_segment();
        }
        let sealed = self.segments.len() - self.active as usize;
        let to = sealed.checked_sub(1).map_or(0, |last| self.segments[last].incarnation);
        self.pin = Pin::Sealed { from: 0, to, linking: None };
    }

    /// The segments held, oldest first; `None` until all of them are durable with their footers, and no older one is on its way out.
    pub fn held(&self) -> Option<Vec<Held>> {
        let Pin::Sealed { to, .. } = self.pin else { return None };
        let sealed = || self.segments.iter().take_while(|segment| segment.incarnation <= to);
        let settled = sealed().all(|segment| {
            let durable = self.position(segment.incarnation, segment.end) <= self.durable;
            durable && !segment.leaving && segment.footer == FooterState::Settled
        });
        let held = sealed().map(|segment| Held {
            file: segment.file,
            incarnation: segment.incarnation,
            end: segment.end,
            last_crc: segment.last_crc,
        });
        settled.then(|| held.collect())
    }

    /// The file of a held segment, which is about to get a second name.
    pub fn link(&mut self, held: &Held) -> FileName {
        if let Pin::Sealed { from, linking, .. } = &mut self.pin {
            // Until it is known to be a file of its own, it counts as shared.
            *linking = Some(self.files.share(held.file, true));
            *from = held.incarnation;
        }
        self.files.name(held.file)
    }

    /// The segment has its second name, and may be given back. `apart`: by a copy or reflink, so that its file may be written in place.
    pub fn linked(&mut self, held: &Held, apart: bool) {
        if let Pin::Sealed { from, linking, .. } = &mut self.pin {
            if let (Some(false), true) = (linking.take(), apart) {
                self.files.share(held.file, false);
            }
            *from = held.incarnation + 1;
        }
    }
}
