//! From a partition key to a hash key.

pub mod md5;
