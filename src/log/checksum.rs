//! CRC-32C (Castagnoli, reflected, as iSCSI): of bodies, headers, commits, footers.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC of `bytes`.
pub fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC of bytes that come in pieces.
pub struct Running(Digest);

impl Running {
    pub fn new() -> Running {
        Running(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Running {
    fn default() -> Running {
        Running::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The AVX-512 path of the crate is young: every length up to a few lanes, against another implementation.
    #[test]
    fn it_agrees_with_a_second_implementation_whole_and_in_pieces() {
        let bytes: Vec<u8> = (0..4099u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in (0..700).chain([1023, 1024, 1025, 4095, 4096, 4099]) {
            let expected = crc32c::crc32c(&bytes[..len]);
            assert_eq!(crc(&bytes[..len]), expected, "length {len}");
            let mut running = Running::new();
            bytes[..len].chunks(61).for_each(|piece| running.add(piece));
            assert_eq!(running.value(), expected, "length {len} in pieces");
        }
    }
}
