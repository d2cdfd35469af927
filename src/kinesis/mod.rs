//! The Kinesis API: one file an operation.

pub mod error;
