//! A record as a line of JSON: what `penstock export` writes.

use super::encoder::{Encoder, string_max};
use super::object::Encoding;
use super::sequence::{DIGITS, Run, SequenceNumber};
use crate::io::clock::Wall;

/// Names and punctuation of a line, a shard's id, a timestamp.
const FIXED: usize = 192;

/// Most bytes that a line takes.
pub const fn size_max(key_len: usize, data_len: usize) -> usize {
    FIXED + DIGITS + string_max(key_len) + data_len.div_ceil(3) * 4
}

/// Writes a line with its line feed, and gives its length; [`size_max`] bytes must be there.
pub fn write_line(out: &mut [u8], number: &SequenceNumber, arrival: Wall, key: Option<&[u8]>, data: &[u8]) -> usize {
    let mut e = Encoder::at(Encoding::Json, out, 0);
    e.bytes(b"{\"shardId\":");
    e.shard_id(number.shard);
    e.bytes(b",\"sequenceNumber\":");
    e.sequence(&Run::new(*number), 0);
    if let Some(key) = key {
        e.bytes(b",\"partitionKey\":");
        e.string(key);
    }
    e.bytes(b",\"approximateArrivalTimestamp\":");
    e.timestamp(arrival);
    e.bytes(b",\"data\":");
    e.blob(data);
    e.bytes(b"}\n");
    e.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_and_fits() {
        let number =
            SequenceNumber { created: 1_795_527_297, shard: 4_000_000_000, number: u64::MAX >> 1, at: 1_795_527_298 };
        let key = "\"\u{1}\u{e9}\\".repeat(60);
        for len in [0, 1, 2, 3, 1000] {
            let data = vec![0xa5; len];
            let mut out = vec![0; size_max(key.len(), len)];
            let used = write_line(&mut out, &number, Wall(1_795_527_298_007_000), Some(key.as_bytes()), &data);
            assert_eq!(out[used - 1], b'\n');
            let line: serde_json::Value = serde_json::from_slice(&out[..used]).expect("JSON");
            assert_eq!(line["shardId"], "shardId-004000000000");
            assert_eq!(line["partitionKey"], key.as_str());
            assert_eq!(line["approximateArrivalTimestamp"], 1_795_527_298.007);
            assert_eq!(line["data"].as_str().map(str::len), Some(len.div_ceil(3) * 4));
        }
    }
}
