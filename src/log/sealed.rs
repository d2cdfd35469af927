//! Small values that say what a directory is, each alone in a file: an rkyv body behind a checksummed header.
//!
//! ```text
//!  0 magic u64 | 8 format u32 | 12 revision u32 | 16 body u32 (bytes) | 20 zero u32 | 24 generation u64 | 32 directory u64
//! 40 zero u8 × 16 | 56 CRC-32C u32 of the body | 60 CRC-32C u32 of bytes 0..60 | 64 body, then zeros to the end of the block
//! ```

use super::superblock::{FORMAT, REVISION};
use crc_fast::crc32_iscsi as crc;
use std::fmt;

const HEADER: usize = 64;

/// Why such a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    Missing,
    Damaged(&'static str),
    Newer(u32),
    Revision(u32),
}

/// Whole blocks of `block` bytes, ready to be written. `generation` and `directory` are for a person who looks at the file.
pub fn seal(magic: u64, generation: u64, directory: u64, body: &[u8], block: u32) -> Vec<u8> {
    let mut bytes = vec![0; (HEADER + body.len()).next_multiple_of(block as usize)];
    bytes[0..8].copy_from_slice(&magic.to_le_bytes());
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&REVISION.to_le_bytes());
    bytes[16..20].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&generation.to_le_bytes());
    bytes[32..40].copy_from_slice(&directory.to_le_bytes());
    bytes[56..60].copy_from_slice(&crc(body).to_le_bytes());
    let header = crc(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
    bytes[HEADER..HEADER + body.len()].copy_from_slice(body);
    bytes
}

/// The body, if header and body are whole and of this build's format.
pub fn unseal(magic: u64, bytes: &[u8]) -> Result<&[u8], Unusable> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Err(Unusable::Damaged("it is too short")) };
    let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..8] != magic.to_le_bytes() {
        return Err(Unusable::Damaged("it does not begin as one"));
    }
    if field(60) != crc(&header[..60]) {
        return Err(Unusable::Damaged("the checksum of its header is wrong"));
    }
    if field(8) > FORMAT {
        return Err(Unusable::Newer(field(8)));
    }
    if field(12) != REVISION {
        return Err(Unusable::Revision(field(12)));
    }
    let end = HEADER.saturating_add(field(16) as usize);
    let body = bytes.get(HEADER..end).ok_or(Unusable::Damaged("its body is cut off"))?;
    if field(56) != crc(body) {
        return Err(Unusable::Damaged("the checksum of its body is wrong"));
    }
    Ok(body)
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Missing => write!(f, "it is missing"),
            Unusable::Damaged(why) => f.write_str(why),
            Unusable::Newer(format) => write!(f, "it is of format {format}"),
            Unusable::Revision(revision) => write!(f, "it is of revision {revision}"),
        }
    }
}
