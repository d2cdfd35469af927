//! Lease tables: the small part of DynamoDB that the Kinesis Client Library uses beside Kinesis.
//!
//! A request goes through [`request::decode`] at the worker that received it. What reads is answered by [`read`] from the durable state;
//! what writes is judged by [`judge`] against the state that all earlier writes leave, and becomes [`state::TableChange`]s, which the
//! catalog's journal makes durable. An item is kept as the text in which it is answered, so that reads paste and only conditions parse.

pub mod condition;
pub mod describe;
pub mod error;
pub mod expression;
pub mod item;
pub mod judge;
pub mod legacy;
pub mod limits;
pub mod members;
pub mod number;
pub mod operation;
mod permission;
pub mod read;
pub mod request;
pub mod schema;
pub mod state;
pub mod token;
pub mod update;

#[cfg(test)]
mod expression_tests;
#[cfg(test)]
mod judge_tests;
