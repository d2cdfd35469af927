//! RegisterStreamConsumer.

use super::arn;
use super::constraint::{Constraints, TAG_MAP_MAX, Text};
use super::consumer::ConsumerAnswer;
use super::create_stream::check_tags;
use super::error::Error;
use super::object::Object;
use super::request::Mutation;
use super::shard_answer::body;
use crate::catalog::identity::Identity;
use crate::io::clock::Wall;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    consumer: ConsumerAnswer<'a>,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let (stream, name) = (request.string("StreamARN")?, request.string("ConsumerName")?);
    let tags = request.strings("Tags", TAG_MAP_MAX)?;
    let mut constraints = Constraints::default();
    let stream = constraints.required_text("streamARN", stream, &Text::STREAM_ARN);
    let name = constraints.required_text("consumerName", name, &Text::NAME);
    let tags = constraints.tags("tags", tags);
    constraints.check()?;
    let stream = arn::resolve(None, Some(&stream), identity)?.to_owned();
    check_tags(&format!("Consumer {name}"), &tags)?;
    Ok(Mutation::RegisterConsumer { stream, name, tags })
}

/// The answer, when the consumer is there for every worker.
pub fn answer(identity: &Identity, stream: &str, name: &str, created: Wall) -> Result<Vec<u8>, Error> {
    body(&Answer { consumer: ConsumerAnswer::new(identity, stream, name, created) })
}
