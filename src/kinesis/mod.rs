//! The Kinesis API: one file an operation.

pub mod arn;
pub mod base64;
pub mod cbor;
pub mod cbor_answer;
mod cbor_object;
#[cfg(test)]
mod cbor_tests;
pub mod constraint;
pub mod consumer;
pub mod create_stream;
pub mod decrease_retention;
pub mod delete_stream;
pub mod deregister_stream_consumer;
pub mod describe_stream;
pub mod describe_stream_consumer;
pub mod describe_stream_summary;
pub mod encoder;
pub mod error;
pub mod event_stream;
pub mod export_line;
pub mod get_records;
pub mod get_records_request;
pub mod get_shard_iterator;
pub mod increase_retention;
pub mod iterator;
pub mod json;
pub mod json_skip;
pub mod json_string;
pub mod list_shards;
#[cfg(test)]
mod list_shards_tests;
pub mod list_stream_consumers;
pub mod list_streams;
pub mod list_tags_for_stream;
pub mod merge_shards;
pub mod object;
pub mod operation;
mod page;
pub mod permission;
pub mod put_diagnosis;
pub mod put_record;
pub mod put_records;
pub mod put_scan;
mod put_scan_cbor;
mod put_scan_json;
#[cfg(test)]
mod put_scan_tests;
pub mod register_stream_consumer;
pub mod request;
#[cfg(test)]
mod request_tests;
pub mod resource_policy;
pub mod sequence;
pub mod shard_answer;
pub mod shard_id;
pub mod split_shard;
pub mod subscribe_to_shard;
pub mod token;

pub use operation::{Cold, Operation, Refusal, admit, error_body};
pub use request::{Context, Mutation, Query, Request, decode};
