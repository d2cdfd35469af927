//! HTTP over bytes in memory: what a connection has received goes in, what it must send comes out. No sockets, no clock.

pub mod chunked;
pub mod http1;
#[cfg(test)]
mod http1_tests;
pub mod http2;
pub mod response;
