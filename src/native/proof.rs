//! That a client knows the secret of an access key, without the secret on the wire.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a challenge and of a proof.
pub const HASH: usize = 32;
/// What is proved is proved for this protocol alone.
const PURPOSE: &[u8] = b"penstock native 1\n";

/// HMAC-SHA-256 by `secret` of the purpose, the server's challenge, and the client's `Hello` (header and body, without padding): what was asked for
/// cannot be exchanged on the way, and no proof serves twice.
pub fn of(secret: &[u8], challenge: &[u8; HASH], hello: &[u8]) -> [u8; HASH] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key may have any length");
    mac.update(PURPOSE);
    mac.update(challenge);
    mac.update(hello);
    mac.finalize().into_bytes().into()
}

/// Whether two proofs are the same; as long wherever they differ.
pub fn same(one: &[u8; HASH], other: &[u8; HASH]) -> bool {
    one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
