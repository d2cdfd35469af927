//! penstock: Kinesis Data Streams of one's own, for bare-metal Linux. `src/ARCHITECTURE.md` is the map.

pub mod auth;
pub mod background;
pub mod catalog;
pub mod cli;
pub mod client;
pub mod client_metrics;
pub mod front;
pub mod http;
pub mod io;
pub mod kinesis;
pub mod limits;
pub mod load;
pub mod log;
pub mod mirror;
pub mod native;
pub mod observe;
pub mod route;
pub mod shard;
pub mod stdx;
pub mod tables;
pub mod tune;
pub mod worker;
