//! A client of the native protocol (`native/PROTOCOL.md`) over blocking sockets: a [`Producer`] that batches, and a [`Consumer`] that reads on where it
//! was. It needs no runtime, and nothing of this crate's server.
//!
//! * `connection.rs`: one connection: its beginning, messages in and out, each with a deadline; `tls.rs`: what may lie under it
//! * `map.rs`: the shards of a stream, and which of them takes a key
//! * `lane.rs`: the batches of one shard on their way, by number, and what each answer means for them (pure)
//! * `producer.rs`, `driver.rs`: what callers see of a producer, and its thread
//! * `consumer.rs`, `links.rs`, `position.rs`: reading, over which connections, and where it goes on; `scan.rs`: reading what there is

#![doc = "\n## An example\n\nIt is run as it stands here by `tests/client`.\n\n```no_run"]
#![doc = include_str!("../../tests/client/example.rs")]
#![doc = "```"]
#![doc = "\n## In TLS\n\nIt is run as well.\n\n```no_run"]
#![doc = include_str!("../../tests/client/secure.rs")]
#![doc = "```"]

mod connection;
mod consumer;
mod driver;
mod error;
mod lane;
mod links;
mod map;
mod position;
mod producer;
mod scan;
mod tls;

pub use connection::{Credentials, Endpoint};
pub use consumer::{Batch, Consumer, Event, Record, Start};
pub use error::{Error, PutError};
pub use position::Position;
pub use producer::{Placed, Producer, ProducerId, Settings, Ticket};
pub use scan::Scan;
pub use tls::Tls;

use std::time::Instant;

/// The only place of the client that reads a clock.
#[expect(clippy::disallowed_methods, reason = "a client is no part of the pure core: its deadlines are its own")]
fn now() -> Instant {
    Instant::now()
}
