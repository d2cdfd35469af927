//! The log: one ordered chain of segments.

pub mod format;
pub mod steps;
pub mod superblock;

#[cfg(test)]
pub(crate) mod memory_disk;
#[cfg(test)]
mod superblock_tests;
