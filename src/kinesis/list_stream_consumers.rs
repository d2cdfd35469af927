//! ListStreamConsumers: a stream's consumers by name, in pages.

use super::arn;
use super::constraint::{Constraints, Text};
use super::consumer::{ConsumerAnswer, invalid};
use super::error::{Error, Kind};
use super::list_shards::is_creation;
use super::object::Object;
use super::page::Page;
use super::request::Context;
use super::shard_answer::body;
use super::token::Purpose;
use crate::catalog::identity::Identity;
use crate::catalog::state::{State, StreamStatus};
use crate::io::clock::Wall;
use serde::Serialize;
use std::ops::Bound;

/// Consumers of one answer, unless the request says another number.
const CONSUMERS_DEFAULT: u32 = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStreamConsumers {
    stream: String,
    token: Option<String>,
    limit: u32,
    created: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    consumers: Vec<ConsumerAnswer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<ListStreamConsumers, Error> {
    let stream = request.string("StreamARN")?;
    let (token, limit) = (request.string("NextToken")?, request.integer("MaxResults")?);
    let created = request.timestamp("StreamCreationTimestamp")?;
    let mut constraints = Constraints::default();
    let stream = constraints.required_text("streamARN", stream, &Text::STREAM_ARN);
    let token = constraints.text("nextToken", token, &Text::NEXT_TOKEN);
    let limit = constraints.integer("maxResults", limit, 1, 10_000).unwrap_or(CONSUMERS_DEFAULT);
    constraints.check()?;
    if token.is_some() && created.is_some() {
        return Err(invalid("NextToken and StreamCreationTimestamp cannot be provided together."));
    }
    let stream = arn::resolve(None, Some(&stream), identity)?.to_owned();
    Ok(ListStreamConsumers { stream, token, limit, created })
}

impl ListStreamConsumers {
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let identity = context.identity;
        let stream = arn::find_stream(state, &self.stream, identity)?;
        if self.created.is_some_and(|created| !is_creation(stream, Wall(created))) {
            return Err(arn::stream_not_found(&self.stream, identity));
        }
        if stream.status == StreamStatus::Deleting {
            let (name, account) = (&stream.name, &identity.account);
            let text = format!("Stream {name} under account {account} not ACTIVE, instead in state DELETING");
            return Err(Error::new(Kind::ResourceInUse, text));
        }
        // Of a token: stream number u32, then the name that was listed last.
        let after = match &self.token {
            None => None,
            Some(token) => {
                let page = Page::open(token, Purpose::ListStreamConsumers, context)?;
                let (number, name) = page.payload().split_first_chunk::<4>().ok_or_else(Page::invalid)?;
                if u32::from_le_bytes(*number) != stream.number {
                    return Err(Page::invalid());
                }
                Some(String::from_utf8_lossy(name).into_owned())
            }
        };
        let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut listed = stream.consumers.range::<str, _>((after, Bound::Unbounded)).peekable();
        let mut last = "";
        let mut consumers = Vec::new();
        for (name, consumer) in listed.by_ref().take(self.limit as usize) {
            consumers.push(ConsumerAnswer::new(identity, &stream.name, name, consumer.created));
            last = name;
        }
        let next_token = listed.peek().is_some().then(|| {
            let payload = [&stream.number.to_le_bytes()[..], last.as_bytes()].concat();
            Page::seal(&payload, Purpose::ListStreamConsumers, context)
        });
        body(&Answer { consumers, next_token })
    }
}
