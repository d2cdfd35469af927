//! What each half of a mirrored unit durably says of itself: how far it can be believed, and which of its files may differ from the other
//! half's after a crash.
//!
//! A mark lies in two places of one file, written alternately, so that a torn write leaves the one before.

use crate::log::sealed::{Unusable, seal, unseal};
use rkyv::{Archive, Deserialize, Serialize, rancor};

const MAGIC: u64 = u64::from_le_bytes(*b"pensmirr");
/// Files that a mark can name: the block that holds it is the smallest there is.
pub const FILES_MAX: usize = 768;

/// Version 1.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The same on both halves; random, or the number of the data directory.
    pub id: u64,
    /// Rises with every write.
    pub serial: u64,
    /// Rises whenever the set of the halves that are whole changes: of two halves, one with a lower generation has missed something, and is
    /// never read. 0: nothing in this half counts, it is being rebuilt.
    pub generation: u64,
    /// The other half has been left behind.
    pub alone: bool,
    /// Segment files, by their index, that may be written to: what differs between halves of one generation differs in these.
    pub files: Vec<u32>,
}

/// What stands in the file of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Mark(Mark),
    /// It was made, and never written.
    Unwritten,
    /// Another build's, or damaged.
    Unusable(String),
}

impl Mark {
    /// The byte of the file that it goes to, and what goes there: one block.
    pub fn place(&self, block: u32) -> (u64, Vec<u8>) {
        // Fails only without memory.
        let body = rkyv::to_bytes::<rancor::Error>(self).expect("a mark is some kilobytes at most");
        let bytes = seal(MAGIC, self.generation, self.id, &body, block);
        assert_eq!(bytes.len(), block as usize, "a mark names {FILES_MAX} files at most");
        (self.serial % 2 * block as u64, bytes)
    }

    /// The newer one of the two that a file of two blocks holds.
    pub fn newest(bytes: &[u8], block: u32) -> Found {
        let (first, second) = bytes.split_at(bytes.len().min(block as usize));
        let marks = [decode(first), decode(second)];
        let newest = marks.iter().filter_map(|mark| mark.as_ref().ok()).max_by_key(|mark| mark.serial);
        if let Some(mark) = newest {
            return Found::Mark(mark.clone());
        }
        match &marks[0] {
            _ if bytes.iter().all(|byte| *byte == 0) => Found::Unwritten,
            Err(why) => Found::Unusable(why.to_string()),
            Ok(_) => Found::Unwritten,
        }
    }
}

fn decode(block: &[u8]) -> Result<Mark, Unusable> {
    let body = unseal(MAGIC, block)?;
    rkyv::from_bytes::<Mark, rancor::Error>(body).map_err(|_| Unusable::Damaged("its body does not decode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_mark_counts_and_a_torn_one_leaves_the_other() {
        let mark =
            |serial| Mark { id: 7, serial, generation: serial, alone: false, files: (0..FILES_MAX as u32).collect() };
        let mut file = vec![0; 8192];
        assert_eq!(Mark::newest(&file, 4096), Found::Unwritten);
        for serial in 1..5 {
            let (at, bytes) = mark(serial).place(4096);
            file[at as usize..][..4096].copy_from_slice(&bytes);
            assert_eq!(Mark::newest(&file, 4096), Found::Mark(mark(serial)));
        }
        let (at, _) = mark(4).place(4096);
        file[at as usize + 100] ^= 1;
        assert_eq!(Mark::newest(&file, 4096), Found::Mark(mark(3)));
        file[4196] ^= 1;
        assert!(matches!(Mark::newest(&file, 4096), Found::Unusable(_)));
    }
}
