//! ListStreams.

use super::arn;
use super::constraint::{Constraints, Text};
use super::error::Error;
use super::object::Object;
use super::page::Page;
use super::request::Context;
use super::shard_answer::{ModeDetails, body, mode, seconds, status};
use super::token::Purpose;
use crate::catalog::state::State;
use serde::Serialize;
use std::ops::Bound;

/// Streams of one answer, whatever the request's limit.
const STREAMS_MAX: u32 = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStreams {
    limit: u32,
    start: Start,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    First,
    After(String),
    Token(String),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    stream_names: Vec<&'a str>,
    has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    stream_summaries: Vec<Summary<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary<'a> {
    stream_name: &'a str,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    stream_creation_timestamp: f64,
}

pub(super) fn decode(request: &Object<'_>) -> Result<ListStreams, Error> {
    let limit = request.integer("Limit")?;
    let (after, token) = (request.string("ExclusiveStartStreamName")?, request.string("NextToken")?);
    let mut constraints = Constraints::default();
    let limit = constraints.integer("limit", limit, 1, 10_000);
    let after = constraints.text("exclusiveStartStreamName", after, &Text::NAME);
    let token = constraints.text("nextToken", token, &Text::NEXT_TOKEN);
    constraints.check()?;
    let start = match (after, token) {
        (None, None) => Start::First,
        (Some(name), None) => Start::After(name),
        // Paginators of SDKs send the first page's name with every token.
        (_, Some(token)) => Start::Token(token),
    };
    Ok(ListStreams { limit: limit.unwrap_or(STREAMS_MAX).min(STREAMS_MAX), start })
}

impl ListStreams {
    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let from_token;
        let after = match &self.start {
            Start::First => Bound::Unbounded,
            Start::After(name) => Bound::Excluded(name.as_str()),
            Start::Token(text) => {
                from_token = Page::open(text, Purpose::ListStreams, context)?;
                Bound::Excluded(std::str::from_utf8(from_token.payload()).map_err(|_| Page::invalid())?)
            }
        };
        let mut listed = state.streams.range::<str, _>((after, Bound::Unbounded)).map(|(_, stream)| stream);
        let page: Vec<_> = listed.by_ref().take(self.limit as usize).collect();
        let has_more_streams = listed.next().is_some();
        let last = page.last().filter(|_| has_more_streams);
        body(&Answer {
            stream_names: page.iter().map(|stream| stream.name.as_str()).collect(),
            has_more_streams,
            next_token: last.map(|last| Page::seal(last.name.as_bytes(), Purpose::ListStreams, context)),
            stream_summaries: page
                .iter()
                .map(|stream| Summary {
                    stream_name: &stream.name,
                    stream_arn: arn::stream_arn(context.identity, &stream.name),
                    stream_status: status(stream.status),
                    stream_mode_details: mode(stream.mode),
                    stream_creation_timestamp: seconds(stream.created),
                })
                .collect(),
        })
    }
}
