//! The log: one ordered chain of segments.

pub mod format;
pub mod steps;
pub mod superblock;
