//! What a record says of itself, so that a reader can tell whether all have come, each once, as they were written and in their order.
//!
//! ```text
//!  0 run u64      which run wrote it
//!  8 key u32      number of its key in that run
//! 12 filler u32   CRC-32C of what follows the stamp
//! 16 number u64   of the record among those of its key, from 0
//! 24 sent u64     when it was due, µs since 1970
//! 32 before u64   hash of the record before it of the same key, 0 for the first
//! 40 hash u64     SipHash-1-3 of bytes 0 to 40
//! 48 filler       from a pool of random bytes
//! ```
//!
//! The hashes of a key are a chain: a record that was not written as it is, or not behind its predecessor, does not fit.

use crate::log::checksum::crc;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Bytes of a stamp: the least that a record of a verified run has.
pub const STAMP: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub run: u64,
    pub key: u32,
    pub number: u64,
    /// When it was due, µs since 1970.
    pub sent: u64,
    /// Hash of the record before it.
    pub before: u64,
}

/// What came back is not a record of a run as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strange {
    /// Too short, or of another run: somebody else's.
    Foreign,
    /// Of this run, and changed on the way.
    Damaged,
}

impl Stamp {
    /// Writes the stamp in front of the filler that lies behind its place; gives the hash, which the next record of the key names.
    pub fn seal(&self, data: &mut [u8]) -> u64 {
        let (stamp, filler) = data.split_at_mut(STAMP);
        stamp[..8].copy_from_slice(&self.run.to_le_bytes());
        stamp[8..12].copy_from_slice(&self.key.to_le_bytes());
        stamp[12..16].copy_from_slice(&crc(filler).to_le_bytes());
        stamp[16..24].copy_from_slice(&self.number.to_le_bytes());
        stamp[24..32].copy_from_slice(&self.sent.to_le_bytes());
        stamp[32..40].copy_from_slice(&self.before.to_le_bytes());
        let hash = hash(&stamp[..40]);
        stamp[40..].copy_from_slice(&hash.to_le_bytes());
        hash
    }

    /// The run that a record is of; `None`: of none.
    pub fn run(data: &[u8]) -> Option<u64> {
        let stamp = data.get(..STAMP)?;
        let word = |at: usize| u64::from_le_bytes(stamp[at..at + 8].try_into().expect("eight bytes of a stamp"));
        (hash(&stamp[..40]) == word(40)).then(|| word(0))
    }

    /// The stamp of a record of run `run`, and its hash.
    pub fn open(run: u64, data: &[u8]) -> Result<(Stamp, u64), Strange> {
        let (stamp, filler) = data.split_at_checked(STAMP).ok_or(Strange::Foreign)?;
        let word = |at: usize| u64::from_le_bytes(stamp[at..at + 8].try_into().expect("eight bytes of a stamp"));
        if word(0) != run {
            return Err(Strange::Foreign);
        }
        let (keyed, stored) = (word(8), word(40));
        if hash(&stamp[..40]) != stored || crc(filler) != (keyed >> 32) as u32 {
            return Err(Strange::Damaged);
        }
        Ok((Stamp { run, key: keyed as u32, number: word(16), sent: word(24), before: word(32) }, stored))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    // 0 stands for no record.
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::Random;

    #[test]
    fn a_stamp_is_read_back_and_any_flipped_bit_is_noticed() {
        let stamp = Stamp { run: 7, key: 3, number: 99, sent: 1_700_000_000_000_000, before: 12 };
        let mut data = vec![0; 100];
        Random::new(1).fill(&mut data);
        let hash = stamp.seal(&mut data);
        assert_eq!(Stamp::open(7, &data), Ok((stamp, hash)));
        assert_eq!(Stamp::open(8, &data), Err(Strange::Foreign));
        assert_eq!(Stamp::open(7, &data[..47]), Err(Strange::Foreign));
        assert_eq!(Stamp::open(7, &data[..99]), Err(Strange::Damaged));
        for bit in 64..800 {
            data[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::open(7, &data), Err(Strange::Damaged), "bit {bit}");
            data[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_may_be_a_stamp_alone() {
        let stamp = Stamp { run: 1, key: 0, number: 0, sent: 0, before: 0 };
        let mut data = [0; STAMP];
        let hash = stamp.seal(&mut data);
        assert_eq!(Stamp::open(1, &data), Ok((stamp, hash)));
    }
}
