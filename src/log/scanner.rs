//! Whether a whole commit stands somewhere: pure, over bytes that someone has read.

use super::format::{CommitHeader, Damage, FrameHeader, HEADER, Position, header_at, is_commit};

/// What makes a commit one of this log, at the place where it was found.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub directory: u64,
    pub log: u32,
    pub incarnation: u32,
    pub position: Position,
    pub block: u32,
    /// Bytes from here to the end of the segment file.
    pub room: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole commit, its header and all frame headers right; its bodies too where that was asked for.
    Commit {
        header: CommitHeader,
        crc: u32,
    },
    /// It may be one: that takes so many bytes from here.
    Needs(u32),
    Nothing(Damage),
}

/// Looks at the bytes of a place.
pub fn examine(bytes: &[u8], place: &Place, bodies: bool) -> Found {
    let Some(head) = header_at(bytes, 0) else { return Found::Needs(HEADER as u32) };
    let header = match CommitHeader::peek(head) {
        Ok(header) => header,
        Err(damage) => return Found::Nothing(damage),
    };
    let ours = header.directory == place.directory
        && header.log == place.log
        && header.incarnation == place.incarnation
        && header.position == place.position;
    let sized = header.bytes >= place.block && header.bytes.is_multiple_of(place.block) && header.bytes <= place.room;
    if !ours || !sized {
        return Found::Nothing(Damage::Field { what: "commit header for this place" });
    }
    let Some(commit) = bytes.get(..header.bytes as usize) else { return Found::Needs(header.bytes) };
    match check(commit, place, bodies) {
        Ok(crc) => Found::Commit { header, crc },
        Err(damage) => Found::Nothing(damage),
    }
}

fn check(commit: &[u8], place: &Place, bodies: bool) -> Result<u32, Damage> {
    let (header, crc) = CommitHeader::decode(commit)?;
    for frame in header.frames(commit) {
        let (at, frame) = frame?;
        if frame.incarnation != place.incarnation {
            return Err(Damage::Field { what: "incarnation of a frame" });
        }
        if bodies {
            frame.check_body(&commit[at + HEADER..at + HEADER + frame.body as usize])?;
        }
    }
    Ok(crc)
}

/// Whether a commit of this log claims to stand here, whole or not: for the extent of what a crash has torn.
pub fn claims(bytes: &[u8], place: &Place) -> Option<u32> {
    let header = CommitHeader::peek(header_at(bytes, 0)?).ok()?;
    let ours = header.directory == place.directory
        && header.incarnation == place.incarnation
        && header.position == place.position;
    (ours && header.bytes <= place.room).then_some(header.bytes)
}

/// Whether a commit header may stand at the start of `bytes`.
pub fn may_be_commit(bytes: &[u8]) -> bool {
    header_at(bytes, 0).is_some_and(is_commit)
}

/// Frame headers of an incarnation in bytes that are not a commit any more: what a damaged one has left.
pub fn remains(bytes: &[u8], incarnation: u32) -> impl Iterator<Item = FrameHeader> + '_ {
    bytes.chunks_exact(HEADER).filter_map(move |chunk| {
        let header = FrameHeader::decode(chunk.try_into().expect("chunks of 64")).ok()?;
        (header.incarnation == incarnation && header.count > 0).then_some(header)
    })
}
