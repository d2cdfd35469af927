//! Shard iterators: where a reader stands, handed to it as a token, kept nowhere.

use super::error::{Error, Kind};
use super::token::{self, Key, Purpose};
use crate::io::clock::{Mono, Now, Wall};
use crate::limits::ITERATOR_LIFE_MS;
use crate::stdx::calendar::Civil;

/// Length of an iterator's text. The model allows 512.
pub const TOKEN_LEN: usize = token::text_len(TOKEN_BYTES);

/// Purpose u8, version u8, stream u32, shard u32, sequence u64, arrival floor u64, wall µs u64, boot ns u64, nonce u64; then the tag.
const TOKEN_BYTES: usize = 2 + 4 + 4 + 5 * 8 + token::TAG;
const VERSION: u8 = 0;

/// Where a reader of a shard goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardIterator {
    /// Number of the stream: one of the same name made later has another.
    pub stream: u32,
    pub shard: u32,
    /// The first number wanted; the next higher one there is counts.
    pub sequence: u64,
    /// Records that arrived before this (µs since 1970) are not wanted; 0: all are.
    pub arrival_floor: u64,
    pub issued: Now,
    /// Makes two tokens for one place differ.
    pub nonce: u64,
}

/// Cuts a value off the front of a token.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (value, rest) = self.0.split_first_chunk().expect("a token has a fixed length");
        self.0 = rest;
        *value
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl ShardIterator {
    /// Writes the token's text. Does not allocate.
    pub fn seal(&self, key: &Key, out: &mut [u8; TOKEN_LEN]) {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[..2].copy_from_slice(&[Purpose::ShardIterator as u8, VERSION]);
        bytes[2..6].copy_from_slice(&self.stream.to_le_bytes());
        bytes[6..10].copy_from_slice(&self.shard.to_le_bytes());
        let words = [self.sequence, self.arrival_floor, self.issued.wall.0, self.issued.mono.0, self.nonce];
        for (slot, word) in bytes[10..].chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        token::seal(&mut bytes, key);
        token::encode(&bytes, out);
    }

    /// Reads a token: ours, not changed, not older than five minutes. One pair of double quotes around it is dropped, as AWS does.
    pub fn open(text: &[u8], key: &Key, now: Now) -> Result<ShardIterator, Error> {
        let text = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(text);
        let mut bytes = [0; TOKEN_BYTES];
        let genuine = token::decode(text, &mut bytes) && token::is_genuine(&bytes, Purpose::ShardIterator, key);
        if !genuine || bytes[1] != VERSION {
            return Err(invalid());
        }
        let mut cursor = Cursor(&bytes[2..]);
        let iterator = ShardIterator {
            stream: cursor.u32(),
            shard: cursor.u32(),
            sequence: cursor.u64(),
            arrival_floor: cursor.u64(),
            issued: Now { wall: Wall(cursor.u64()), mono: Mono(cursor.u64()) },
            nonce: cursor.u64(),
        };
        if token::age_ms(iterator.issued, now) > ITERATOR_LIFE_MS {
            return Err(Error::new(
                Kind::ExpiredIterator,
                format!("Iterator expired. {}", too_old("iterator", iterator.issued.wall, now)),
            ));
        }
        Ok(iterator)
    }
}

/// The shard and the number that a token of ours stands for, which anybody may read; whether it is genuine only its server knows. `None`: it is none.
pub fn place(text: &[u8]) -> Option<(u32, u64)> {
    let mut bytes = [0; TOKEN_BYTES];
    let is_ours = token::decode(text, &mut bytes) && bytes[..2] == [Purpose::ShardIterator as u8, VERSION];
    let mut cursor = Cursor(&bytes[6..]);
    is_ours.then(|| (cursor.u32(), cursor.u64()))
}

/// What garbage, a changed token and one of another directory are told alike.
pub fn invalid() -> Error {
    Error::new(Kind::InvalidArgument, "Invalid ShardIterator.")
}

/// The sentence on a token that has outlived its time.
pub(super) fn too_old(what: &str, issued: Wall, now: Now) -> String {
    format!(
        "The {what} was created at time {} while right now it is {} which is further in the future than the tolerated delay of \
         {ITERATOR_LIFE_MS} milliseconds.",
        java_time(issued),
        java_time(now.wall)
    )
}

/// `Thu Jan 22 01:22:02 UTC 2015`.
fn java_time(wall: Wall) -> String {
    let t = Civil::from_seconds(wall.seconds());
    let (weekday, month) = (t.weekday_name(), t.month_name());
    format!("{weekday} {month} {:02} {:02}:{:02}:{:02} UTC {}", t.day, t.hour, t.minute, t.second, t.year)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = *b"0123456789abcdef";

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(seconds * 1_000_000) }
    }

    fn sample() -> ShardIterator {
        ShardIterator { stream: 7, shard: 3, sequence: 1 << 40, arrival_floor: 9, issued: at(1_421_889_722), nonce: 5 }
    }

    fn sealed(iterator: &ShardIterator, key: &Key) -> [u8; TOKEN_LEN] {
        let mut out = [0; TOKEN_LEN];
        iterator.seal(key, &mut out);
        out
    }

    #[test]
    fn a_token_comes_back_as_it_went() {
        let token = sealed(&sample(), &KEY);
        let now = at(1_421_889_722 + 300);
        assert_eq!(ShardIterator::open(&token, &KEY, now), Ok(sample()));
        assert_eq!(place(&token), Some((3, 1 << 40)));
        assert_eq!(
            (place(&token[1..]), place(b"AAAAAAAAAAHsW8zCWf9164uy8Epue6AS3w6wmj4a4USt+CNvMd6uXQ==")),
            (None, None)
        );
        let quoted = [b"\"", token.as_slice(), b"\""].concat();
        assert_eq!(ShardIterator::open(&quoted, &KEY, now), Ok(sample()));
        let twice = [b"\"", quoted.as_slice(), b"\""].concat();
        assert_eq!(ShardIterator::open(&twice, &KEY, now), Err(invalid()));
        let extremes = ShardIterator {
            stream: u32::MAX,
            shard: u32::MAX,
            sequence: u64::MAX,
            arrival_floor: u64::MAX,
            nonce: u64::MAX,
            ..sample()
        };
        assert_eq!(ShardIterator::open(&sealed(&extremes, &KEY), &KEY, now), Ok(extremes));
    }

    #[test]
    fn two_tokens_for_one_place_differ() {
        assert_ne!(sealed(&sample(), &KEY), sealed(&ShardIterator { nonce: 6, ..sample() }, &KEY));
    }

    #[test]
    fn no_changed_or_foreign_token_is_taken() {
        let now = at(1_421_889_723);
        let token = sealed(&sample(), &KEY);
        for at in 0..TOKEN_LEN {
            for other in *b"ABz09-_" {
                let mut changed = token;
                changed[at] = other;
                if changed != token {
                    assert_eq!(ShardIterator::open(&changed, &KEY, now), Err(invalid()), "letter {at}");
                }
            }
            assert_eq!(ShardIterator::open(&token[..at], &KEY, now), Err(invalid()));
        }
        assert_eq!(ShardIterator::open(&token, b"0123456789abcdeF", now), Err(invalid()));
        for garbage in ["", "\"", "\"\"", "AAAAAAAAAAE=", "a b", "\u{ff}"] {
            assert_eq!(ShardIterator::open(garbage.as_bytes(), &KEY, now), Err(invalid()), "{garbage}");
        }
        let mut other_purpose = [0; TOKEN_BYTES];
        other_purpose[0] = Purpose::ListShards as u8;
        token::seal(&mut other_purpose, &KEY);
        let mut text = [0; TOKEN_LEN];
        token::encode(&other_purpose, &mut text);
        assert_eq!(ShardIterator::open(&text, &KEY, now), Err(invalid()));
    }

    #[test]
    fn an_old_token_is_told_both_times() {
        let token = sealed(&sample(), &KEY);
        let error = ShardIterator::open(&token, &KEY, at(1_421_889_722 + 301)).expect_err("expired");
        assert_eq!(error.kind, Kind::ExpiredIterator);
        assert_eq!(
            error.message,
            "Iterator expired. The iterator was created at time Thu Jan 22 01:22:02 UTC 2015 while right now it is Thu Jan 22 01:27:03 UTC \
             2015 which is further in the future than the tolerated delay of 300000 milliseconds."
        );
    }
}
