//! Registered consumers of enhanced fan-out: what the catalog knows of them, and what is decided about them.

use super::change::Change;
use super::decide::Decide;
use super::state::{Stream, StreamStatus};
use crate::io::clock::Wall;
use crate::kinesis::error::{Error, Kind};
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeMap;

/// Consumers of a stream. Each may have a subscription to each shard.
pub const CONSUMERS_MAX: usize = 20;

/// A consumer, known in its stream by its name.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Never used again in its stream: what is known of a consumer that has gone says nothing of a later one with its name.
    pub number: u32,
    pub created: Wall,
    pub tags: BTreeMap<String, String>,
}

impl Stream {
    /// The consumer called `name`; `created`, if given, is the second of its creation, which its ARN has.
    pub fn consumer(&self, name: &str, created: Option<u64>) -> Option<&Consumer> {
        self.consumers.get(name).filter(|consumer| created.is_none_or(|second| consumer.created.seconds() == second))
    }

    pub fn has_consumer(&self, number: u32) -> bool {
        self.consumers.values().any(|consumer| consumer.number == number)
    }

    pub(super) fn register(&mut self, name: &str, created: Wall, tags: &BTreeMap<String, String>) {
        let Some(next) = self.next_consumer.checked_add(1) else { return };
        if self.status == StreamStatus::Deleting || self.consumers.len() >= CONSUMERS_MAX {
            return;
        }
        if !self.consumers.contains_key(name) {
            let consumer = Consumer { number: self.next_consumer, created, tags: tags.clone() };
            self.consumers.insert(name.to_owned(), consumer);
            self.next_consumer = next;
        }
    }

    pub(super) fn deregister(&mut self, consumer: u32) {
        self.consumers.retain(|_, held| held.number != consumer);
    }
}

impl Decide<'_> {
    /// Also while the stream is resharding: its consumers have no part in that.
    pub fn register_consumer(
        &self,
        stream: &str,
        name: &str,
        tags: BTreeMap<String, String>,
        now: Wall,
    ) -> Result<Change, Error> {
        let stream = self.stream(stream)?;
        if stream.status == StreamStatus::Deleting {
            return Err(self.not_active(stream));
        }
        let account = &self.identity.account;
        if stream.consumers.contains_key(name) {
            let text = format!("Consumer {name} under stream {} already exists for account {account}.", stream.name);
            return Err(Error::new(Kind::ResourceInUse, text));
        }
        if stream.consumers.len() >= CONSUMERS_MAX || stream.next_consumer == u32::MAX {
            let text = format!(
                "This request would exceed the limit on the number of consumers of stream {} under account {account}. Current number of \
                 consumers: {}. Limit: {CONSUMERS_MAX}.",
                stream.name,
                stream.consumers.len()
            );
            return Err(Error::new(Kind::LimitExceeded, text));
        }
        Ok(Change::RegisterConsumer { stream: stream.number, name: name.to_owned(), created: now, tags })
    }

    /// `created`: the second of its creation, where the consumer was named by its ARN.
    pub fn deregister_consumer(&self, stream: &str, name: &str, created: Option<u64>) -> Result<Change, Error> {
        let found = self.stream(stream)?.consumer(name, created);
        let consumer = found.ok_or_else(|| {
            let text =
                format!("Consumer {name} under stream {stream} not found for account {}.", self.identity.account);
            Error::new(Kind::ResourceNotFound, text)
        })?;
        Ok(Change::DeregisterConsumer { stream: self.stream(stream)?.number, consumer: consumer.number })
    }
}
