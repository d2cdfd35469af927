//! Which stream a request means: by name, by ARN, or by both.

use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::object::Object;
use crate::catalog::identity::Identity;
use crate::catalog::state::{State, Stream};

/// `arn:aws:kinesis:REGION:ACCOUNT:stream/NAME`, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamArn<'a> {
    pub region: &'a str,
    pub account: &'a str,
    /// Whatever follows `stream/`: not always a possible name.
    pub name: &'a str,
}

impl<'a> StreamArn<'a> {
    /// `None` where the model's pattern for StreamARN does not match.
    pub fn parse(text: &'a str) -> Option<StreamArn<'a>> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (scheme, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        let name = resource.strip_prefix("stream/")?;
        let well_formed = scheme == "arn"
            && partition.starts_with("aws")
            && service == "kinesis"
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && !name.is_empty()
            && !name.contains(char::is_whitespace);
        well_formed.then_some(StreamArn { region, account, name })
    }
}

/// The ARN of a stream of ours.
pub fn stream_arn(identity: &Identity, name: &str) -> String {
    format!("arn:aws:kinesis:{}:{}:stream/{name}", identity.region, identity.account)
}

/// The name that `StreamName` and `StreamARN` of a request mean together. Does not allocate unless it fails.
pub fn resolve<'a>(name: Option<&'a str>, arn: Option<&'a str>, identity: &Identity) -> Result<&'a str, Error> {
    let Some(arn_text) = arn else {
        return name.ok_or_else(|| invalid("Either StreamName or StreamARN must be given."));
    };
    let Some(arn) = StreamArn::parse(arn_text) else {
        return Err(invalid(format!("StreamARN {arn_text} is malformed.")));
    };
    if name.is_some_and(|name| name != arn.name) {
        return Err(invalid(format!(
            "StreamName {} and StreamARN {arn_text} name different streams.",
            name.unwrap_or("")
        )));
    }
    if arn.account != identity.account || arn.region != identity.region {
        let Identity { region, account } = identity;
        let text = format!("Stream {arn_text} not found: this endpoint serves account {account} in {region}.");
        return Err(Error::new(Kind::ResourceNotFound, text));
    }
    Ok(arn.name)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, text)
}

/// The stream called `name`, in whatever state.
pub fn find_stream<'s>(state: &'s State, name: &str, identity: &Identity) -> Result<&'s Stream, Error> {
    state.streams.get(name).ok_or_else(|| stream_not_found(name, identity))
}

pub fn stream_not_found(name: &str, identity: &Identity) -> Error {
    Error::new(Kind::ResourceNotFound, format!("Stream {name} under account {} not found.", identity.account))
}

/// `StreamName` and `StreamARN` of a request on their way through the checks.
pub(super) struct StreamMembers {
    name: Option<String>,
    arn: Option<String>,
}

impl StreamMembers {
    pub(super) fn take(request: &Object<'_>) -> Result<StreamMembers, Error> {
        Ok(StreamMembers { name: request.string("StreamName")?, arn: request.string("StreamARN")? })
    }

    pub(super) fn constrain(self, constraints: &mut Constraints) -> StreamMembers {
        StreamMembers {
            name: constraints.text("streamName", self.name, &Text::NAME),
            arn: constraints.text("streamARN", self.arn, &Text::STREAM_ARN),
        }
    }

    pub(super) fn given(&self) -> bool {
        self.name.is_some() || self.arn.is_some()
    }

    /// The stream's name.
    pub(super) fn resolve(self, identity: &Identity) -> Result<String, Error> {
        resolve(self.name.as_deref(), self.arn.as_deref(), identity).map(str::to_owned)
    }
}
