//! The outside: ring, memory, sockets, clock. The only place that names `io_uring`.

pub mod buffers;
pub mod clock;
pub mod companion;
mod connect;
#[cfg(test)]
mod connect_tests;
pub mod cpu;
pub mod device;
pub mod drive;
pub mod driver;
pub mod ethtool;
mod files;
mod flight;
pub mod gauge;
pub mod link;
pub mod netlink;
pub mod op;
pub mod peers;
pub mod prepare;
pub mod probe;
pub mod process;
pub mod scrub;
pub mod socket;
pub mod still;
pub mod trial;
pub mod uring;
#[cfg(test)]
mod uring_tests;
