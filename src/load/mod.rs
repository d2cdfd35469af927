//! The load generator: pure parts. What they are driven by, and what is printed, is in `cli/load/`.
//!
//! A thread has a [`client::Client`]: a state machine over the same operations and completions as a worker's. It shares nothing with other
//! threads, allocates nothing for a record while it runs, and holds as much memory as its plan says.
//!
//! * `plan.rs`: what a run is to do, dealt out to threads · `schedule.rs`: when requests are due · `choice.rs`: sizes and keys ·
//!   `random.rs`: all that is drawn
//! * `client.rs`: the core · `link.rs`: a connection that is kept · `outbox.rs`: requests without an answer · `lanes.rs`: keys by shard
//! * `writer.rs`, with `native.rs` and `native_writer.rs`, `http.rs`, `http2.rs`, `http2_body.rs`, `put.rs`, `http_writer.rs` and `http2_writer.rs`: connections that write
//! * `readers.rs`: what reads back: `reader.rs` by the API, or `subscriber.rs` with `subscription.rs` natively · `gaps.rs`: what was not there ·
//!   `items.rs`: answers in CBOR · `chain.rs`, `ledger.rs`: whether what is read is what was written ·
//!   `audit.rs`: the same of a stream that runs have left
//! * `tally.rs`: counts and histograms · `verdict.rs`: what they are worth · `report.rs`, `histogram_log.rs`: how they are told

pub mod audit;
pub mod chain;
pub mod choice;
pub mod client;
#[cfg(test)]
mod client_tests;
pub mod compare;
mod gaps;
pub mod histogram_log;
mod http;
mod http2;
mod http2_body;
mod http2_writer;
mod http_writer;
mod items;
mod lanes;
pub mod ledger;
mod link;
mod native;
mod native_writer;
mod outbox;
pub mod plan;
#[cfg(test)]
mod plan_tests;
mod put;
pub mod random;
mod reader;
mod readers;
pub mod report;
pub mod schedule;
pub mod search;
pub mod selftest;
mod shared;
#[cfg(test)]
mod shelf_tests;
mod subscriber;
mod subscription;
pub mod tally;
pub mod verdict;
mod writer;
