//! The log: one ordered chain of segments.

pub mod format;
