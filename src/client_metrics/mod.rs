//! Metrics that clients send: CloudWatch's PutMetricData in its three dialects, and a bounded last hour of what it brought.
//!
//! The Kinesis libraries send their own figures to CloudWatch every few seconds and log each failure. Here they end in `/metrics`. Nothing
//! of it is durable.

pub mod dialect;
pub mod form;
pub mod request;
pub mod store;

#[cfg(test)]
mod tests;
