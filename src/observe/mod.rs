//! Counters, latencies and events, and how they are shown.

pub mod counter;
pub mod expose;
pub mod latency;
