//! PutRecord: what only it has, and its answer.

use super::encoder::{END, Encoder};
use super::error::{Error, Kind};
use super::object::Encoding;
use super::put_records::{SEQUENCE, SHARD};
use super::sequence::{Run, SequenceNumber};
use crate::catalog::identity::Identity;
use crate::io::clock::Wall;

/// Longest answer.
pub const ANSWER_MAX: usize = 128;

/// Writes the answer and gives its length.
pub fn answer(encoding: Encoding, out: &mut [u8; ANSWER_MAX], sequence: &SequenceNumber) -> usize {
    let mut e = Encoder::at(encoding, out, 0);
    e.piece(SEQUENCE);
    e.sequence(&Run::new(*sequence), 0);
    e.piece(SHARD);
    e.shard_id(sequence.shard);
    e.piece(END);
    e.len()
}

/// How far the time in a number may be ahead of the clock, in seconds: a shard keeps the time of its last arrival when the clock is set back,
/// and a client that goes on from its own last number must not be refused then.
const AHEAD_MAX: u64 = 86_400;

/// Checks `SequenceNumberForOrdering`: a number that this service may have given out. Numbers of a shard rise in any case, so nothing else
/// follows from it.
pub fn check_ordering(text: &str, stream: &str, identity: &Identity, now: Wall) -> Result<(), Error> {
    let valid = |n: SequenceNumber| n.at <= now.seconds() + AHEAD_MAX;
    if text == "0" || SequenceNumber::parse(text.as_bytes()).is_some_and(valid) {
        return Ok(());
    }
    let text = format!(
        "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {stream} under account {} is invalid.",
        identity.account
    );
    Err(Error::new(Kind::InvalidArgument, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::sequence::DIGITS;

    #[test]
    fn a_number_of_this_service_is_taken_for_ordering_also_when_the_clock_has_been_set_back() {
        let identity = Identity { region: "us-east-1".into(), account: "123456789012".into() };
        let given_out = 1_790_000_000;
        let mut text = [0; DIGITS];
        SequenceNumber { created: given_out - 100, shard: 3, number: 7, at: given_out }.write(&mut text);
        let text = std::str::from_utf8(&text).expect("digits");
        let check = |text: &str, now_s: u64| check_ordering(text, "s", &identity, Wall(now_s * 1_000_000));
        for now in [given_out, given_out + 1_000_000, given_out - 1, given_out - 3_600] {
            assert_eq!(check(text, now), Ok(()), "{now}");
        }
        assert_eq!(check("0", given_out), Ok(()));
        for (wrong, now) in [(text, given_out - 100_000), ("1", given_out), ("", given_out), (&text[1..], given_out)] {
            let expected = format!(
                "InvalidArgumentException: ExclusiveMinimumSequenceNumber {wrong} used in PutRecord on stream s under account 123456789012 \
                 is invalid."
            );
            assert_eq!(check(wrong, now).map_err(|error| error.to_string()), Err(expected));
        }
    }
}
