//! Consumers as requests name them and answers show them.

use super::arn::{self, StreamArn};
use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::object::Object;
use super::shard_answer::seconds;
use crate::auth::ask::Resource;
use crate::catalog::consumer::Consumer;
use crate::catalog::identity::Identity;
use crate::catalog::state::{State, Stream, StreamStatus};
use crate::io::clock::Wall;
use serde::Serialize;

/// `STREAM-ARN/consumer/NAME:CREATION`, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerArn<'a> {
    /// Its `name` is the stream's.
    pub stream: StreamArn<'a>,
    pub name: &'a str,
    /// Second of its creation: a consumer that is registered again has another ARN.
    pub created: u64,
}

impl<'a> ConsumerArn<'a> {
    /// `None` where the model's pattern for ConsumerARN does not match.
    pub fn parse(text: &'a str) -> Option<ConsumerArn<'a>> {
        let arn = StreamArn::parse(text)?;
        let (stream, consumer) = arn.name.split_once("/consumer/")?;
        let (name, created) = consumer.split_once(':')?;
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        let is_number = !created.is_empty() && created.bytes().all(|b| b.is_ascii_digit());
        let whole = is_name(stream) && is_name(name) && is_number;
        // A creation that does not fit is no consumer's.
        let created = created.parse().unwrap_or(u64::MAX);
        whole.then_some(ConsumerArn { stream: StreamArn { name: stream, ..arn }, name, created })
    }
}

/// The ARN of a consumer of ours.
pub fn consumer_arn(identity: &Identity, stream: &str, name: &str, created: Wall) -> String {
    format!("{}/consumer/{name}:{}", arn::stream_arn(identity, stream), created.seconds())
}

/// A consumer that a request is about; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedConsumer {
    pub stream: String,
    pub name: String,
    /// Second of its creation, if its ARN was given.
    pub created: Option<u64>,
}

pub(super) fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, text)
}

pub fn not_found(name: &str, stream: &str, identity: &Identity) -> Error {
    let text = format!("Consumer {name} under stream {stream} not found for account {}.", identity.account);
    Error::new(Kind::ResourceNotFound, text)
}

impl NamedConsumer {
    /// From `ConsumerARN`, or `StreamARN` with `ConsumerName`, or all three.
    pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<NamedConsumer, Error> {
        let (stream, name) = (request.string("StreamARN")?, request.string("ConsumerName")?);
        let arn = request.string("ConsumerARN")?;
        let mut constraints = Constraints::default();
        let stream = constraints.text("streamARN", stream, &Text::STREAM_ARN);
        let name = constraints.text("consumerName", name, &Text::NAME);
        let arn = constraints.text("consumerARN", arn, &Text::CONSUMER_ARN);
        constraints.check()?;
        let of_stream = stream.as_deref().map(|stream| arn::resolve(None, Some(stream), identity)).transpose()?;
        let Some(text) = arn else {
            return match (of_stream, name) {
                (Some(stream), Some(name)) => Ok(NamedConsumer { stream: stream.to_owned(), name, created: None }),
                _ => Err(invalid("Either ConsumerARN, or StreamARN and ConsumerName must be given.")),
            };
        };
        let consumer = NamedConsumer::of_arn(&text, identity)?;
        let differs =
            of_stream.is_some_and(|stream| stream != consumer.stream) || name.is_some_and(|name| name != consumer.name);
        match differs {
            true => Err(invalid(format!("ConsumerARN {text} names another consumer than StreamARN or ConsumerName."))),
            false => Ok(consumer),
        }
    }

    pub(super) fn of_arn(text: &str, identity: &Identity) -> Result<NamedConsumer, Error> {
        let arn = ConsumerArn::parse(text).ok_or_else(|| invalid(format!("ConsumerARN {text} is malformed.")))?;
        let Identity { region, account } = identity;
        if arn.stream.account != account || arn.stream.region != region {
            let text = format!("Consumer {text} not found: this endpoint serves account {account} in {region}.");
            return Err(Error::new(Kind::ResourceNotFound, text));
        }
        Ok(NamedConsumer { stream: arn.stream.name.to_owned(), name: arn.name.to_owned(), created: Some(arn.created) })
    }

    /// What policies are asked about; one that is not there has the creation that its ARN says, or none.
    pub(super) fn resource<'r>(&'r self, state: &State) -> Resource<'r> {
        let found = state.stream(&self.stream).and_then(|stream| stream.consumer(&self.name, self.created));
        let created = found.map(|consumer| consumer.created.seconds()).or(self.created).unwrap_or(0);
        Resource::Consumer(&self.stream, &self.name, created)
    }

    /// Its stream and itself.
    pub fn find<'s>(&self, state: &'s State, identity: &Identity) -> Result<(&'s Stream, &'s Consumer), Error> {
        let stream = arn::find_stream(state, &self.stream, identity)?;
        let found = stream.consumer(&self.name, self.created).filter(|_| stream.status != StreamStatus::Deleting);
        Ok((stream, found.ok_or_else(|| not_found(&self.name, &self.stream, identity))?))
    }
}

/// A consumer in answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConsumerAnswer<'a> {
    consumer_name: &'a str,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    consumer_status: &'static str,
    consumer_creation_timestamp: f64,
    #[serde(rename = "StreamARN", skip_serializing_if = "Option::is_none")]
    stream_arn: Option<String>,
}

impl<'a> ConsumerAnswer<'a> {
    /// Who hears of a consumer may subscribe at any worker: there is no other status.
    pub(super) fn new(identity: &Identity, stream: &str, name: &'a str, created: Wall) -> ConsumerAnswer<'a> {
        ConsumerAnswer {
            consumer_name: name,
            consumer_arn: consumer_arn(identity, stream, name, created),
            consumer_status: "ACTIVE",
            consumer_creation_timestamp: seconds(created),
            stream_arn: None,
        }
    }

    pub(super) fn with_stream(self, arn: String) -> ConsumerAnswer<'a> {
        ConsumerAnswer { stream_arn: Some(arn), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_of_a_consumer_is_read_as_the_model_has_it() {
        let text = "arn:aws:kinesis:us-east-1:123456789012:stream/s-1/consumer/c.2:1700000000";
        let arn = ConsumerArn::parse(text).expect("well-formed");
        assert_eq!((arn.stream.name, arn.name, arn.created), ("s-1", "c.2", 1_700_000_000));
        for wrong in [
            "arn:aws:kinesis:us-east-1:123456789012:stream/s-1",
            "arn:aws:kinesis:us-east-1:123456789012:stream/s/consumer/c",
            "arn:aws:kinesis:us-east-1:123456789012:stream/s/consumer/c:",
            "arn:aws:kinesis:us-east-1:123456789012:stream/s/consumer/c:1x",
            "arn:aws:kinesis:us-east-1:123456789012:stream//consumer/c:1",
            "arn:aws:kinesis:us-east-1:123456789012:stream/a/b/consumer/c:1",
            "arn:aws:kinesis:us-east-1:12345678901:stream/s/consumer/c:1",
            "arn:aws:kinesis:us-east-1:123456789012:consumer/c:1",
        ] {
            assert_eq!(ConsumerArn::parse(wrong), None, "{wrong}");
        }
        let far = format!("{text}000000000000");
        assert_eq!(ConsumerArn::parse(&far).map(|arn| arn.created), Some(u64::MAX));
    }
}
