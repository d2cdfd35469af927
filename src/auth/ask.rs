//! What a policy is asked: who wants to do what to which resource, from where and when.

use super::stamp::Stamp;
use crate::catalog::identity::Identity;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// The longest ARN: 128 characters of a stream, 128 of its consumer, and what is around them; a table has 255.
const ARN_MAX: usize = 512;

/// Short text in place: what is made for one question allocates nothing.
#[derive(Clone, Copy)]
pub struct Short {
    bytes: [u8; ARN_MAX],
    len: usize,
}

impl Short {
    pub fn new() -> Short {
        Short { bytes: [0; ARN_MAX], len: 0 }
    }

    pub fn of(arguments: fmt::Arguments<'_>) -> Short {
        let mut short = Short::new();
        // What is too long is cut, and matches nothing then.
        let _ = short.write_fmt(arguments);
        short
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("whole strings were written")
    }
}

impl Default for Short {
    fn default() -> Short {
        Short::new()
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// What an action is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// Nothing of its own: `*`.
    Any,
    /// A stream, by name.
    Stream(&'a str),
    /// A consumer, by its stream, its name and the second of its creation.
    Consumer(&'a str, &'a str, u64),
    /// A table of the lease service, by name.
    Table(&'a str),
    /// Whatever else, by its ARN.
    Arn(&'a str),
}

impl<'a> Resource<'a> {
    pub fn arn(self, identity: &Identity) -> Short {
        let Identity { region, account } = identity;
        match self {
            Resource::Any => Short::of(format_args!("*")),
            Resource::Stream(name) => Short::of(format_args!("arn:aws:kinesis:{region}:{account}:stream/{name}")),
            Resource::Consumer(stream, name, created) => {
                Short::of(format_args!("arn:aws:kinesis:{region}:{account}:stream/{stream}/consumer/{name}:{created}"))
            }
            Resource::Table(name) => Short::of(format_args!("arn:aws:dynamodb:{region}:{account}:table/{name}")),
            Resource::Arn(arn) => Short::of(format_args!("{arn}")),
        }
    }

    /// The stream that it is.
    pub fn stream(self) -> Option<&'a str> {
        match self {
            Resource::Stream(name) => Some(name),
            // A consumer's goes on behind the name.
            Resource::Arn(arn) => arn.splitn(6, ':').nth(5)?.strip_prefix("stream/").filter(|name| !name.contains('/')),
            Resource::Any | Resource::Table(_) | Resource::Consumer(..) => None,
        }
    }
}

pub type Tags = BTreeMap<String, String>;

/// One question.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// As `kinesis:PutRecord`.
    pub action: &'a str,
    /// An ARN, or `*` where an action has no resource.
    pub resource: &'a str,
    pub username: &'a str,
    /// ARN of the user, and the account's number.
    pub principal: &'a str,
    pub account: &'a str,
    pub source_ip: Option<IpAddr>,
    pub secure: bool,
    /// Seconds since 1970.
    pub now: u64,
    /// Tags in the request, and those that the resource has.
    pub request_tags: Option<&'a Tags>,
    pub resource_tags: Option<&'a Tags>,
}

/// What a condition or a variable may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    SourceIp,
    SecureTransport,
    CurrentTime,
    EpochTime,
    Username,
    PrincipalArn,
    RequestTag(String),
    TagKeys,
    ResourceTag(String),
}

impl Name {
    /// Names are compared without their case, keys of tags behind them with it.
    pub fn read(text: &str) -> Option<Name> {
        let lower = text.to_ascii_lowercase();
        let tag = |prefix: &str| lower.starts_with(prefix).then(|| &text[prefix.len()..]).filter(|key| !key.is_empty());
        Some(match lower.as_str() {
            "aws:sourceip" => Name::SourceIp,
            "aws:securetransport" => Name::SecureTransport,
            "aws:currenttime" => Name::CurrentTime,
            "aws:epochtime" => Name::EpochTime,
            "aws:username" => Name::Username,
            "aws:principalarn" => Name::PrincipalArn,
            "aws:tagkeys" => Name::TagKeys,
            _ => match (tag("aws:requesttag/"), tag("aws:resourcetag/")) {
                (Some(key), _) => Name::RequestTag(key.to_owned()),
                (_, Some(key)) => Name::ResourceTag(key.to_owned()),
                (None, None) => return None,
            },
        })
    }
}

impl Ask<'_> {
    /// Calls `with` for each value that `name` has here: none, one, or with [`Name::TagKeys`] several.
    pub fn each(&self, name: &Name, with: &mut dyn FnMut(&str)) {
        let tag = |tags: Option<&Tags>, key: &str, with: &mut dyn FnMut(&str)| {
            if let Some(value) = tags.and_then(|tags| tags.get(key)) {
                with(value);
            }
        };
        match name {
            Name::SourceIp => {
                if let Some(address) = self.source_ip {
                    with(Short::of(format_args!("{address}")).as_str());
                }
            }
            Name::SecureTransport => with(if self.secure { "true" } else { "false" }),
            Name::CurrentTime => with(Stamp::of_seconds(self.now).as_str()),
            Name::EpochTime => with(Short::of(format_args!("{}", self.now)).as_str()),
            Name::Username => with(self.username),
            Name::PrincipalArn => with(self.principal),
            Name::RequestTag(key) => tag(self.request_tags, key, with),
            Name::ResourceTag(key) => tag(self.resource_tags, key, with),
            Name::TagKeys => self.request_tags.into_iter().flat_map(BTreeMap::keys).for_each(|key| with(key)),
        }
    }
}
