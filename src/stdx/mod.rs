//! Small parts that know nothing of Kinesis, each used at least twice.

pub mod calendar;
pub mod spsc;
#[cfg(test)]
mod spsc_tests;
mod sync;
pub mod text;
pub mod trust;
