//! Work that nobody waits for, on glommio: each worker has a companion, which prepares its segments and scrubs them.
//!
//! Companions decide nothing. Whatever can change what a restart finds is an operation of a worker; a prepared segment counts only when the
//! worker has adopted it.

pub mod companion;
mod scrub;
pub mod watchdog;
