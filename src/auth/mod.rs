//! Who is asking.

pub mod sigv4;
