//! ListTagsForStream.

use super::arn::{self, StreamMembers};
use super::constraint::{Constraints, Text};
use super::error::Error;
use super::object::Object;
use super::request::Context;
use super::shard_answer::body;
use crate::catalog::identity::Identity;
use crate::catalog::state::State;
use serde::Serialize;
use std::ops::Bound;

const TAGS_MAX: u32 = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTagsForStream {
    pub stream: String,
    limit: u32,
    /// Tags behind this key.
    after: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    tags: Vec<Tag<'a>>,
    has_more_tags: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag<'a> {
    key: &'a str,
    value: &'a str,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<ListTagsForStream, Error> {
    let stream = StreamMembers::take(request)?;
    let (limit, after) = (request.integer("Limit")?, request.string("ExclusiveStartTagKey")?);
    let mut constraints = Constraints::default();
    let limit = constraints.integer("limit", limit, 1, TAGS_MAX as i32);
    let after = constraints.text("exclusiveStartTagKey", after, &Text::TAG_KEY);
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;
    Ok(ListTagsForStream { stream: stream.resolve(identity)?, limit: limit.unwrap_or(TAGS_MAX), after })
}

impl ListTagsForStream {
    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let stream = arn::find_stream(state, &self.stream, context.identity)?;
        let after = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut listed = stream.tags.range::<str, _>((after, Bound::Unbounded));
        let tags = listed.by_ref().take(self.limit as usize).map(|(key, value)| Tag { key, value }).collect();
        body(&Answer { tags, has_more_tags: listed.next().is_some() })
    }
}
