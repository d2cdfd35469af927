//! Small structures without a domain, each with two users at least.

pub mod spsc;
