//! DescribeStreamConsumer.

use super::arn::stream_arn;
use super::consumer::{ConsumerAnswer, NamedConsumer};
use super::error::Error;
use super::object::Object;
use super::request::Context;
use super::shard_answer::body;
use crate::catalog::identity::Identity;
use crate::catalog::state::State;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeStreamConsumer {
    consumer: NamedConsumer,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    consumer_description: ConsumerAnswer<'a>,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<DescribeStreamConsumer, Error> {
    Ok(DescribeStreamConsumer { consumer: NamedConsumer::decode(request, identity)? })
}

impl DescribeStreamConsumer {
    pub(super) fn consumer(&self) -> &NamedConsumer {
        &self.consumer
    }

    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let (stream, consumer) = self.consumer.find(state, context.identity)?;
        let description = ConsumerAnswer::new(context.identity, &stream.name, &self.consumer.name, consumer.created);
        body(&Answer { consumer_description: description.with_stream(stream_arn(context.identity, &stream.name)) })
    }
}
