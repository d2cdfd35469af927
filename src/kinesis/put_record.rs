//! PutRecord: what only it has, and its answer.

use super::encoder::Encoder;
use super::error::{Error, Kind};
use super::sequence::{Run, SequenceNumber};
use crate::catalog::identity::Identity;
use crate::io::clock::Wall;

/// Longest answer.
pub const ANSWER_MAX: usize = 128;

/// Writes the answer and gives its length.
pub fn answer(out: &mut [u8; ANSWER_MAX], sequence: &SequenceNumber) -> usize {
    let mut e = Encoder::at(out, 0);
    e.bytes(b"{\"SequenceNumber\":");
    e.sequence(&Run::new(*sequence), 0);
    e.bytes(b",\"ShardId\":");
    e.shard_id(sequence.shard);
    e.bytes(b"}");
    e.len()
}

/// Checks `SequenceNumberForOrdering`: a number that this service gave out, not of the future. Numbers of a shard rise in any case, so
/// nothing else follows from it.
pub fn check_ordering(text: &str, stream: &str, identity: &Identity, now: Wall) -> Result<(), Error> {
    let valid = |n: SequenceNumber| n.at <= now.seconds() + 1;
    if text == "0" || SequenceNumber::parse(text.as_bytes()).is_some_and(valid) {
        return Ok(());
    }
    let text = format!(
        "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {stream} under account {} is invalid.",
        identity.account
    );
    Err(Error::new(Kind::InvalidArgument, text))
}
