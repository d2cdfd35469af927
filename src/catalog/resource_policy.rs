//! Policies of streams and of their consumers: who else may use them, beside the users whose own policies say so.

use super::change::Change;
use super::decide::Decide;
use super::state::{State, StreamStatus};
use crate::auth::policy::Policy;
use crate::auth::policy_text;
use crate::kinesis::error::{Error, Kind};
use rkyv::with::Skip;
use rkyv::{Archive, Deserialize, Serialize};

/// A policy as it was given, and as it is weighed.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ResourcePolicy {
    pub document: String,
    /// Derived.
    #[rkyv(with = Skip)]
    pub read: Policy,
}

impl ResourcePolicy {
    pub fn new(document: String) -> ResourcePolicy {
        let mut policy = ResourcePolicy { document, read: Policy::default() };
        policy.derive();
        policy
    }

    /// It was understood when it was given. Should another build not understand it, then nobody is let in rather than somebody.
    pub(super) fn derive(&mut self) {
        self.read = policy_text::of_resource(&self.document).unwrap_or_else(|_| Policy::deny_all());
    }
}

/// What follows the account in an ARN: policies are kept by it.
pub fn key_of(arn: &str) -> &str {
    arn.splitn(6, ':').nth(5).unwrap_or("")
}

/// The stream of `stream/NAME` or `stream/NAME/consumer/...`.
fn stream_of(key: &str) -> Option<&str> {
    key.strip_prefix("stream/")?.split('/').next()
}

impl State {
    /// The policy of the resource with this ARN.
    pub fn policy(&self, arn: &str) -> Option<&ResourcePolicy> {
        self.policies.get(key_of(arn))
    }

    /// Whether there is such a stream, not on its way out, or such a consumer of one.
    fn has_resource(&self, key: &str) -> bool {
        let Some(stream) = stream_of(key).and_then(|name| self.stream(name)) else { return false };
        let rest = &key["stream/".len() + stream.name.len()..];
        let consumer = || {
            let (name, created) = rest.strip_prefix("/consumer/")?.rsplit_once(':')?;
            stream.consumer(name, Some(created.parse().ok()?))
        };
        stream.status != StreamStatus::Deleting && (rest.is_empty() || consumer().is_some())
    }

    /// Sets or takes away a policy; of a resource that is gone there is none.
    pub(super) fn set_policy(&mut self, key: &str, document: Option<&str>) {
        match document {
            Some(document) if self.has_resource(key) => {
                self.policies.insert(key.to_owned(), ResourcePolicy::new(document.to_owned()));
            }
            _ => drop(self.policies.remove(key)),
        }
    }

    /// A consumer goes, and its policy.
    pub(super) fn drop_consumer_policy(&mut self, stream: u32, consumer: u32) {
        let Some(of) = self.stream_by_number(stream) else { return };
        let gone = of.consumers.iter().find(|(_, known)| known.number == consumer);
        if let Some((name, known)) = gone {
            let key = format!("stream/{}/consumer/{name}:{}", of.name, known.created.seconds());
            self.policies.remove(&key);
        }
    }

    /// Stream `number` is deleted: its policy goes, and those of its consumers.
    pub(super) fn drop_policies(&mut self, number: u32) {
        let Some(name) = self.names.get(&number) else { return };
        self.policies.retain(|key, _| stream_of(key) != Some(name));
    }
}

impl Decide<'_> {
    pub fn put_policy(&self, arn: &str, document: String) -> Result<Change, Error> {
        self.resource(arn)?;
        Ok(Change::Policy { resource: key_of(arn).to_owned(), document: Some(document) })
    }

    pub fn delete_policy(&self, arn: &str) -> Result<Change, Error> {
        self.resource(arn)?;
        match self.state.policy(arn) {
            Some(_) => Ok(Change::Policy { resource: key_of(arn).to_owned(), document: None }),
            None => Err(Error::new(Kind::ResourceNotFound, format!("No policy found for resource {arn}."))),
        }
    }

    fn resource(&self, arn: &str) -> Result<(), Error> {
        match self.state.has_resource(key_of(arn)) {
            true => Ok(()),
            false => Err(resource_not_found(arn)),
        }
    }
}

impl State {
    /// The text of the policy of a resource, empty where it has none.
    pub fn policy_text(&self, arn: &str) -> Result<&str, Error> {
        match self.has_resource(key_of(arn)) {
            true => Ok(self.policy(arn).map_or("{}", |policy| &policy.document)),
            false => Err(resource_not_found(arn)),
        }
    }
}

fn resource_not_found(arn: &str) -> Error {
    Error::new(Kind::ResourceNotFound, format!("Resource {arn} not found."))
}
