//! Frames of event streams, taken apart by the clients' own code.

use serde_json::Value;
use std::collections::BTreeMap;

/// One frame: headers and payload.
pub struct Frame {
    headers: BTreeMap<String, String>,
    payload: Vec<u8>,
}

/// Bit by bit, so that it is nobody else's.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ *byte as u32, step))
}

impl Frame {
    /// A chunk is one whole frame.
    pub fn read(chunk: &[u8]) -> Frame {
        let four = |at: usize| u32::from_be_bytes(chunk[at..at + 4].try_into().expect("four bytes"));
        assert!(chunk.len() >= 16 && four(0) as usize == chunk.len(), "a frame of {} bytes", chunk.len());
        assert_eq!(four(8), crc32(&chunk[..8]), "the checksum of a prelude");
        let end = chunk.len() - 4;
        assert_eq!(four(end), crc32(&chunk[..end]), "the checksum of a frame");
        let (mut headers, mut at, payload) = (BTreeMap::new(), 12, 12 + four(4) as usize);
        let text = |from: usize, len: usize| String::from_utf8(chunk[from..from + len].to_vec()).expect("text");
        while at < payload {
            let name = chunk[at] as usize;
            let value = u16::from_be_bytes([chunk[at + 2 + name], chunk[at + 3 + name]]) as usize;
            assert_eq!(chunk[at + 1 + name], 7, "a header that is no string");
            headers.insert(text(at + 1, name), text(at + 4 + name, value));
            at += 4 + name + value;
        }
        assert_eq!(at, payload, "headers end where they say");
        Frame { headers, payload: chunk[payload..end].to_vec() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("an event is JSON")
    }
}

#[test]
fn the_checksum_is_the_one_of_zlib() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
