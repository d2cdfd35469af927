//! What ends when, by the core's own clock: a worker is driven by hand, and hours pass in no time.

#[path = "../hand/mod.rs"]
mod hand;

mod bench;
mod bodies;
mod natives;
