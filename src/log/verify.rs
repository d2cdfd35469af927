//! Whether a sealed segment is whole: every commit of it, from the first to the last, with all frames and bodies. Blocking, over any source
//! of bytes: for a segment that no server has.

use super::format::Position;
use super::scanner::{Found, Place, examine};
use super::snapshot::Held;
use std::io::{self, Read};

/// Bytes read at once.
const READ_BYTES: usize = 8 << 20;

/// What a segment must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The directory's secret number.
    pub directory: u64,
    pub log: u32,
    pub held: Held,
    /// In bytes, from the superblock.
    pub block: u32,
    pub segment_size: u64,
}

/// Reads a segment from its start; the inner error says at which byte it is not what it must be.
pub fn verify_segment(source: &mut impl Read, expected: &Expected) -> io::Result<Result<(), (u32, String)>> {
    let Held { incarnation, end, last_crc, .. } = expected.held;
    let (mut bytes, mut at, mut used) = (Vec::new(), 0, 0);
    let mut last = None;
    while at < end {
        let place = Place {
            directory: expected.directory,
            log: expected.log,
            incarnation,
            position: Position(incarnation as u64 * expected.segment_size + at as u64),
            block: expected.block,
            room: end - at,
        };
        match examine(&bytes[used..], &place, true) {
            Found::Commit { header, .. } if last.is_some_and(|last| last != header.previous) => {
                return Ok(Err((at, "a commit stands here that does not follow the one before".to_owned())));
            }
            Found::Commit { header, crc } => {
                (at, used, last) = (at + header.bytes, used + header.bytes as usize, Some(crc));
            }
            Found::Needs(need) => {
                bytes.drain(..used);
                used = 0;
                let wanted = (need as usize).max(READ_BYTES).saturating_sub(bytes.len());
                source.by_ref().take(wanted as u64).read_to_end(&mut bytes)?;
                if bytes.len() < need as usize {
                    return Ok(Err((at, "the file ends here".to_owned())));
                }
            }
            Found::Nothing(damage) => return Ok(Err((at, damage.to_string()))),
        }
    }
    match last {
        Some(crc) if crc == last_crc => Ok(Ok(())),
        _ => Ok(Err((end, "its last commit is another one than was there when the snapshot was taken".to_owned()))),
    }
}
