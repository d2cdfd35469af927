//! The outside: ring, memory, sockets, clock. The only place that names `io_uring`.

pub mod buffers;
pub mod clock;
pub mod op;
