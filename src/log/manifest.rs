//! What belongs to a snapshot: a text, written last, that ends with its own checksum. A directory without a whole one is no snapshot.
//!
//! ```text
//! penstock snapshot 1
//! taken 1795527297286000                                     µs since 1970
//! file catalog/snapshot-000000000017 bytes 4096 crc 5b3c1a90
//! log 0 segment 3 incarnation 12 end 1052672 crc 89abcdef    byte behind its last commit, CRC-32C of that commit's header
//! sum 0badcafe                                               CRC-32C of all lines before; line feeds up to the block's end follow
//! ```

use super::checksum::crc;
use super::snapshot::Held;
use std::fmt::Write;

const FIRST: &str = "penstock snapshot 1";
/// Of a manifest: 100,000 segments.
pub const BYTES_MAX: u64 = 16 << 20;

/// A small file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Small {
    /// As in a data directory.
    pub path: String,
    pub bytes: u64,
    pub crc: u32,
}

/// A segment of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub log: u32,
    pub held: Held,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// When it was taken, µs since 1970.
    pub taken: u64,
    pub files: Vec<Small>,
    pub segments: Vec<Part>,
}

impl Small {
    pub fn of(path: String, content: &[u8]) -> Small {
        Small { path, bytes: content.len() as u64, crc: crc(content) }
    }
}

impl Manifest {
    /// Whole blocks, ready to be written.
    pub fn encode(&self, block: u32) -> Vec<u8> {
        let mut text = format!("{FIRST}\ntaken {}\n", self.taken);
        // Writing to a string cannot fail.
        for Small { path, bytes, crc } in &self.files {
            let _ = writeln!(text, "file {path} bytes {bytes} crc {crc:08x}");
        }
        for Part { log, held } in &self.segments {
            let Held { file, incarnation, end, last_crc } = held;
            let _ = writeln!(text, "log {log} segment {file} incarnation {incarnation} end {end} crc {last_crc:08x}");
        }
        let _ = writeln!(text, "sum {:08x}", crc(text.as_bytes()));
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(block as usize), b'\n');
        bytes
    }

    /// The manifest in a file's bytes, or why they are none.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?.trim_end_matches('\n');
        let (lines, sum) = text.rsplit_once('\n').ok_or("it is cut off")?;
        let sum = sum.strip_prefix("sum ").and_then(|sum| u32::from_str_radix(sum, 16).ok()).ok_or("it is cut off")?;
        if sum != crc(format!("{lines}\n").as_bytes()) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut lines = lines.lines();
        match lines.next() {
            Some(FIRST) => {}
            Some(other) => {
                return Err(format!("it is {other:?}, this build knows {FIRST:?}: use the build that wrote it"));
            }
            None => return Err("it is empty".to_owned()),
        }
        let mut manifest = Manifest::default();
        for line in lines {
            manifest.add(line).ok_or_else(|| format!("its line {line:?} is not understood"))?;
        }
        Ok(manifest)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let hexadecimal = |word: &str| u32::from_str_radix(word, 16).ok();
        match *words {
            ["taken", taken] => self.taken = taken.parse().ok()?,
            ["file", path, "bytes", bytes, "crc", crc] => {
                self.files.push(Small { path: path.to_owned(), bytes: bytes.parse().ok()?, crc: hexadecimal(crc)? });
            }
            ["log", log, "segment", file, "incarnation", incarnation, "end", end, "crc", crc] => {
                let (file, incarnation) = (file.parse().ok()?, incarnation.parse().ok()?);
                let held = Held { file, incarnation, end: end.parse().ok()?, last_crc: hexadecimal(crc)? };
                self.segments.push(Part { log: log.parse().ok()?, held });
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_whole_or_not_at_all() {
        let held = Held { file: 3, incarnation: 12, end: 1_052_672, last_crc: 0x89ab_cdef };
        let manifest = Manifest {
            taken: 1_795_527_297_286_000,
            files: vec![Small::of("superblock-0".to_owned(), b"bytes")],
            segments: vec![Part { log: 1, held }],
        };
        let bytes = manifest.encode(4096);
        assert_eq!((bytes.len(), Manifest::decode(&bytes)), (4096, Ok(manifest)));
        let whole = bytes.iter().rposition(|byte| *byte != b'\n').expect("text") + 1;
        for len in 0..whole {
            assert!(Manifest::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        for at in 0..whole {
            let mut harmed = bytes.clone();
            harmed[at] ^= 1;
            assert!(Manifest::decode(&harmed).is_err(), "byte {at}");
        }
        assert!(Manifest::decode(&[0; 4096]).is_err());
    }
}
