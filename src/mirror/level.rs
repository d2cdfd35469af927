//! Two halves of a segment file that differ: which bytes of which half count. Pure.
//!
//! A commit that is whole counts, whichever half has it; of two whole ones the one with the higher position, then epoch. Where neither half
//! has a commit, block by block the preferred half counts: what stands there was never acknowledged, or is damaged on both.

use crate::log::format::{CommitHeader, Position, header_at};
use crate::log::scanner::{Found, Place, examine};

/// What a segment file is looked at as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub directory: u64,
    pub log: u32,
    pub block: u32,
    /// Of the file, in bytes.
    pub size: u64,
}

/// `len` bytes at byte `at` of the file count in half `from`, and are other ones in the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub from: usize,
    pub at: u64,
    pub len: u32,
}

/// Compares the bytes of both halves from byte `at` of the file on, which begins a commit or a block. Gives what is to be copied, and how
/// many bytes are settled: a commit that does not end in them is left to the next call, unless it begins them.
pub(super) fn compare(segment: &Segment, at: u64, halves: [&[u8]; 2], prefer: usize) -> (Vec<Patch>, u32) {
    let len = halves[0].len();
    let is_last = at + len as u64 >= segment.size;
    let mut patches = Vec::new();
    let mut from = 0;
    while from < len {
        let rest = [&halves[0][from..], &halves[1][from..]];
        let place = at + from as u64;
        let claimed = rest.map(|bytes| claimed(segment, place, bytes));
        let longest = claimed.iter().map(|claim| claim.map_or(0, |(bytes, ..)| bytes as usize)).max().unwrap_or(0);
        if longest > rest[0].len() && from > 0 && !is_last {
            break;
        }
        let block = segment.block as usize;
        let same = longest.max(block).min(rest[0].len());
        if rest[0][..same] == rest[1][..same] {
            // Equal: only its end is looked for, and whether it is sound is the scrubber's to say.
            from += if longest <= rest[0].len() { same } else { block };
            continue;
        }
        let whole = [0, 1].map(|half| claimed[half].filter(|_| is_whole(segment, place, rest[half])));
        let chosen = match whole {
            [Some((_, position, epoch)), Some((_, other, others))] => match (position, epoch).cmp(&(other, others)) {
                std::cmp::Ordering::Greater => 0,
                std::cmp::Ordering::Less => 1,
                std::cmp::Ordering::Equal => prefer,
            },
            [Some(_), None] => 0,
            [None, Some(_)] => 1,
            [None, None] => prefer,
        };
        let bytes = whole[chosen].map_or(block, |(bytes, ..)| bytes as usize).min(rest[0].len());
        if rest[0][..bytes] != rest[1][..bytes] {
            patches.push(Patch { from: chosen, at: place, len: bytes as u32 });
        }
        from += bytes;
    }
    (patches, from as u32)
}

/// Bytes, position and epoch of the commit that begins `bytes`, if it is one of this file at this place.
fn claimed(segment: &Segment, at: u64, bytes: &[u8]) -> Option<(u32, u64, u32)> {
    let header = CommitHeader::peek(header_at(bytes, 0)?).ok()?;
    let ours = header.directory == segment.directory
        && header.log == segment.log
        && header.position.0 == header.incarnation as u64 * segment.size + at;
    let sized = header.bytes >= segment.block && header.bytes.is_multiple_of(segment.block);
    (ours && sized && at + header.bytes as u64 <= segment.size).then_some((
        header.bytes,
        header.position.0,
        header.epoch,
    ))
}

fn is_whole(segment: &Segment, at: u64, bytes: &[u8]) -> bool {
    let Some(head) = header_at(bytes, 0) else { return false };
    let Ok(header) = CommitHeader::peek(head) else { return false };
    let place = Place {
        directory: segment.directory,
        log: segment.log,
        incarnation: header.incarnation,
        position: Position(header.incarnation as u64 * segment.size + at),
        block: segment.block,
        room: (segment.size - at).min(u32::MAX as u64) as u32,
    };
    matches!(examine(bytes, &place, true), Found::Commit { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::CommitKind;

    const SEGMENT: Segment = Segment { directory: 7, log: 3, block: 4096, size: 1 << 20 };

    /// A bare commit of `blocks` blocks at `at`, of an incarnation and an epoch.
    fn commit(at: u64, incarnation: u32, epoch: u32, blocks: u32) -> Vec<u8> {
        let mut bytes = vec![0; (blocks * SEGMENT.block) as usize];
        let header = CommitHeader {
            kind: CommitKind::Vouch,
            bytes: blocks * SEGMENT.block,
            position: Position(incarnation as u64 * SEGMENT.size + at),
            durable: Position(0),
            epoch,
            incarnation,
            log: SEGMENT.log,
            frames: 0,
            previous: 0,
            directory: SEGMENT.directory,
        };
        header.seal(&mut bytes);
        bytes
    }

    #[test]
    fn whole_commits_count_and_the_newer_of_two() {
        let block = SEGMENT.block as u64;
        let (old, new) = (commit(0, 1, 1, 1), commit(0, 2, 5, 2));
        let first = [new.clone(), vec![0; 4096]].concat();
        let second = [old, vec![1; 8192]].concat();
        let (patches, settled) = compare(&SEGMENT, 0, [&first, &second], 1);
        let rest = Patch { from: 1, at: 2 * block, len: 4096 };
        assert_eq!((patches, settled), (vec![Patch { from: 0, at: 0, len: 8192 }, rest], 3 * 4096));
        // A torn one is no reason to lose the one that stands there still.
        let mut torn = new;
        torn[0] ^= 1;
        let torn = [torn, vec![0; 4096]].concat();
        let (patches, _) = compare(&SEGMENT, 0, [&torn, &second], 0);
        assert_eq!(patches[0], Patch { from: 1, at: 0, len: 4096 });
    }

    #[test]
    fn a_commit_that_does_not_end_here_is_left_to_the_next_call() {
        let whole = [commit(0, 1, 1, 1), commit(4096, 1, 1, 4)].concat();
        let other = [commit(0, 1, 1, 1), vec![0; 4 * 4096]].concat();
        let cut = 3 * 4096;
        assert_eq!(compare(&SEGMENT, 0, [&whole[..cut], &other[..cut]], 1), (Vec::new(), 4096));
        let (patches, settled) = compare(&SEGMENT, 4096, [&whole[4096..], &other[4096..]], 1);
        assert_eq!((patches, settled), (vec![Patch { from: 0, at: 4096, len: 4 * 4096 }], 4 * 4096));
        assert_eq!(compare(&SEGMENT, 0, [&whole, &whole], 0), (Vec::new(), whole.len() as u32));
    }
}
