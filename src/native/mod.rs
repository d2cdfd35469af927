//! The native protocol: the frame on the wire is the frame in the log. `PROTOCOL.md` beside this file is the page that clients are written from.
//!
//! What is here is pure: bytes to values and back, without allocation. Nothing that has come from a client is believed before it has been
//! through these functions.
//!
//! * `message.rs`: the header, kinds of messages, and what every message has
//! * `hello.rs`, `welcome.rs`: how a connection begins; `proof.rs`: that a client knows a secret
//! * `batch.rs`: records that a client wants to be stored
//! * `refusal.rs`: what an error means for what was sent
//! * `reading.rs`: reads and subscriptions

pub mod batch;
#[cfg(test)]
mod forged_tests;
pub mod hello;
pub mod message;
pub mod proof;
pub mod reading;
pub mod refusal;
#[cfg(test)]
mod vector_tests;
pub mod welcome;
