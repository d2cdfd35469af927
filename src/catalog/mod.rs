//! Streams, shards, live segments: the control plane's state machine.

pub mod state;
