//! What this host is, where penstock would run on it, and what about it costs latency or throughput. It reads, and changes nothing.
//!
//! Only `root` reads files. `topology` is the model of a host and does not know where it comes from; `discover` fills it from `/sys` and
//! `/proc`; `placement` says which thread runs where; `map` shows all of it; `check` holds the table of checks.

pub mod check;
pub mod cores;
pub mod discover;
pub mod map;
pub mod placement;
pub mod report;
pub mod root;
pub mod svg;
pub mod topology;
