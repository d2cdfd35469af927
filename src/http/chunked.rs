//! A chunked body, decoded in place as it arrives.

use super::http1::{Refused, TOO_LARGE};
use crate::limits::HEAD_MAX;

/// Bytes of chunk extensions and trailers in a request, which are skipped. SDKs send none.
const SKIPPED_MAX: usize = HEAD_MAX;
/// Hexadecimal digits of a chunk size, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a chunk size: value and digits so far.
    Size {
        value: usize,
        digits: u8,
    },
    /// In the extensions behind a size, which are skipped.
    Extension {
        value: usize,
    },
    /// Behind the CR of a size line.
    SizeEnd {
        value: usize,
    },
    /// In a chunk, with `left` bytes to come.
    Data {
        left: usize,
    },
    /// Behind a chunk.
    DataEnd,
    /// Behind a chunk and its CR.
    DataEndLine,
    /// At the start of a trailer line.
    Trailer,
    /// In a trailer line, which is skipped.
    TrailerLine,
    /// Behind the CR of a trailer line.
    TrailerEnd,
    /// Behind the CR of the empty line that ends the body.
    LastLine,
    Done,
}

/// How far the body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input is used; the body so far is `buffer[..decoded]`. What arrives next goes right behind it.
    More { decoded: usize },
    /// The body is `buffer[..decoded]`; what follows the request starts at `buffer[rest]`.
    Done { decoded: usize, rest: usize },
}

/// Decoder of one body. It may be moved to a larger buffer between two calls, together with the bytes decoded so far.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    decoded: usize,
    skipped: usize,
    body_max: usize,
}

impl Decoder {
    /// For a body of up to `body_max` bytes.
    pub fn new(body_max: usize) -> Decoder {
        Decoder { state: State::Size { value: 0, digits: 0 }, decoded: 0, skipped: 0, body_max }
    }

    /// Decodes what has arrived. `buffer` is the body decoded so far, then the new bytes.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Progress, Refused> {
        let mut at = self.decoded;
        while at < buffer.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let n = left.min(buffer.len() - at);
                buffer.copy_within(at..at + n, self.decoded);
                self.decoded += n;
                at += n;
                self.state = if n == left { State::DataEnd } else { State::Data { left: left - n } };
            } else {
                self.framing(buffer[at])?;
                at += 1;
            }
        }
        Ok(match self.state {
            State::Done => Progress::Done { decoded: self.decoded, rest: at },
            _ => Progress::More { decoded: self.decoded },
        })
    }

    /// One byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<(), Refused> {
        self.state = match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => self.size_digit(value, digits, byte)?,
            (State::Size { value, digits: 1.. }, b'\r') => State::SizeEnd { value },
            (State::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { value },
            (State::Extension { value }, b'\r') => State::SizeEnd { value },
            (State::Extension { value }, _) if byte != b'\n' => self.skip(State::Extension { value })?,
            (State::SizeEnd { value: 0 }, b'\n') => State::Trailer,
            (State::SizeEnd { value }, b'\n') => State::Data { left: value },
            (State::DataEnd, b'\r') => State::DataEndLine,
            (State::DataEndLine, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailer, b'\r') => State::LastLine,
            (State::Trailer | State::TrailerLine, _) if byte != b'\n' && byte != b'\r' => {
                self.skip(State::TrailerLine)?
            }
            (State::TrailerLine, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastLine, b'\n') => State::Done,
            _ => return Err(Refused::new(400, "The chunked body is malformed.")),
        };
        Ok(())
    }

    fn size_digit(&self, value: usize, digits: u8, byte: u8) -> Result<State, Refused> {
        let digit = (byte as char).to_digit(16).unwrap_or(0) as usize;
        // The bound keeps the next shift far from overflow.
        let value = value * 16 + digit;
        if value > self.body_max - self.decoded {
            return Err(TOO_LARGE);
        }
        if digits == SIZE_DIGITS_MAX {
            return Err(Refused::new(400, "A chunk size has too many digits."));
        }
        Ok(State::Size { value, digits: digits + 1 })
    }

    fn skip(&mut self, next: State) -> Result<State, Refused> {
        self.skipped += 1;
        if self.skipped > SKIPPED_MAX {
            return Err(Refused::new(431, "Chunk extensions and trailers are too long."));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `step` bytes; the body and what was left, or the status of the refusal.
    fn decode(input: &[u8], step: usize, body_max: usize) -> Result<Option<[Vec<u8>; 2]>, u16> {
        let mut decoder = Decoder::new(body_max);
        let mut buffer = Vec::new();
        let mut pieces = input.chunks(step);
        while let Some(piece) = pieces.next() {
            buffer.extend_from_slice(piece);
            match decoder.decode(&mut buffer).map_err(|refused| refused.status)? {
                Progress::More { decoded } => buffer.truncate(decoded),
                Progress::Done { decoded, rest } => {
                    let mut left = buffer[rest..].to_vec();
                    left.extend(pieces.flatten());
                    return Ok(Some([buffer[..decoded].to_vec(), left]));
                }
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn check(input: &str, expect: Result<Option<(&str, &str)>, u16>) {
        for step in [1, 2, 3, 7, 4096] {
            let got = decode(input.as_bytes(), step, 100);
            let expect = expect.map(|o| o.map(|(body, left)| [body.as_bytes().to_vec(), left.as_bytes().to_vec()]));
            assert_eq!(got, expect, "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn a_body_is_decoded_however_it_arrives() {
        check("5\r\nhello\r\n0\r\n\r\n", Ok(Some(("hello", ""))));
        check("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nPOST /", Ok(Some(("hello world", "POST /"))));
        check("0\r\n\r\n", Ok(Some(("", ""))));
        check("00a;x=\"1\"\r\n0123456789\r\n0;y\r\nChecksum: 1\r\nB: 2\r\n\r\n", Ok(Some(("0123456789", ""))));
        check("A \r\n0123456789\r\n0\r\n\r\n", Ok(Some(("0123456789", ""))));
        check("5\r\nhello\r\n0\r\n", Ok(None));
        check("5\r\nhel", Ok(None));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for bad in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "\r\n",
            ";x\r\n",
            "-5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5;\nhello",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\rc\r\n",
            "0\r\n\rX",
            "00000000000000005\r\nhello\r\n",
        ] {
            check(bad, Err(400));
        }
    }

    #[test]
    fn every_length_is_bounded() {
        check("65\r\n", Err(413));
        check("ffffffffffffffff\r\n", Err(413));
        check(&format!("40\r\n{}\r\n25\r\n", "x".repeat(64)), Err(413));
        check(&format!("5;{}", "x".repeat(SKIPPED_MAX + 1)), Err(431));
        check(&format!("0\r\nA:{}", "x".repeat(SKIPPED_MAX + 1)), Err(431));
    }
}
