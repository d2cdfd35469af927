//! `NextToken`: where a listing goes on, good for five minutes.

use super::error::{Error, Kind};
use super::iterator::too_old;
use super::request::Context;
use super::token::{self, Purpose};
use crate::io::clock::{Mono, Now, Wall};
use crate::limits::ITERATOR_LIFE_MS;

/// Purpose u8, length of the payload u8, wall µs u64, boot ns u64; then payload, zeros up to whole groups of three, tag.
const HEAD: usize = 2 + 2 * 8;

/// A token that has been found genuine and young enough.
pub(super) struct Page {
    bytes: Vec<u8>,
}

impl Page {
    /// A token over `payload`, of up to 255 bytes.
    pub(super) fn seal(payload: &[u8], purpose: Purpose, context: &Context<'_>) -> String {
        debug_assert!(payload.len() <= u8::MAX as usize, "names have 128 bytes at most");
        let length = (HEAD + payload.len() + token::TAG).next_multiple_of(3);
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&[purpose as u8, payload.len() as u8]);
        bytes[2..10].copy_from_slice(&context.now.wall.0.to_le_bytes());
        bytes[10..HEAD].copy_from_slice(&context.now.mono.0.to_le_bytes());
        bytes[HEAD..HEAD + payload.len()].copy_from_slice(payload);
        token::seal(&mut bytes, context.key);
        let mut text = vec![0; token::text_len(length)];
        token::encode(&bytes, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(super) fn open(text: &str, purpose: Purpose, context: &Context<'_>) -> Result<Page, Error> {
        let mut bytes = vec![0; text.len() / 4 * 3];
        let genuine = token::decode(text.as_bytes(), &mut bytes) && token::is_genuine(&bytes, purpose, context.key);
        if !genuine || bytes.len() < HEAD + token::TAG {
            return Err(Page::invalid());
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let issued = Now { wall: Wall(word(2)), mono: Mono(word(10)) };
        if token::age_ms(issued, context.now) > ITERATOR_LIFE_MS {
            let text = format!("NextToken expired. {}", too_old("NextToken", issued.wall, context.now));
            return Err(Error::new(Kind::ExpiredNextToken, text));
        }
        Ok(Page { bytes })
    }

    pub(super) fn payload(&self) -> &[u8] {
        let length = self.bytes[1] as usize;
        &self.bytes[HEAD..HEAD + length]
    }

    pub(super) fn invalid() -> Error {
        Error::new(Kind::InvalidArgument, "Invalid NextToken.")
    }
}
