//! What callers see of a producer: records in, a ticket for each, and room for as many bytes as were agreed on.

use super::connection::{Connection, Endpoint};
use super::driver::Driver;
use super::error::{Error, PutError};
use super::lane::{Item, cost};
use super::map::hash_of;
use super::now;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Who sends: the server stores nothing twice of one id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerId {
    /// 1 to 2^48 - 1.
    pub id: u64,
    /// Above that of every earlier start with this id.
    pub epoch: u16,
}

/// How a producer sends.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A batch takes what has come while earlier ones were on their way, up to so many bytes.
    pub batch_bytes: usize,
    /// Records that are not acked yet, in bytes of memory; who puts more waits.
    pub buffer_bytes: usize,
    /// A record that could not be stored by then is given up; so is the wait for room.
    pub put_timeout: Duration,
    /// So that a batch that is sent again, over whatever connection, is stored once. Off: what a connection took along when it broke is `Unknown`.
    pub idempotent: bool,
    /// `None`: one that nobody else has. Whoever keeps one must raise its epoch with each start.
    pub producer: Option<ProducerId>,
    /// Batches in whole blocks of 4 KiB, which the server writes to its log from where it receives them: for many records, in batches of 64 KiB and more.
    /// The server may decline, as it does over TLS; nothing else changes.
    pub bulk: bool,
}

impl Default for Settings {
    /// Batches of 1 MiB, room for 32 MiB, a minute, idempotent, not in bulk.
    fn default() -> Settings {
        Settings {
            batch_bytes: 1 << 20,
            buffer_bytes: 32 << 20,
            put_timeout: Duration::from_secs(60),
            idempotent: true,
            producer: None,
            bulk: false,
        }
    }
}

/// Where a record is, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Of `shardId-000000000007`: 7.
    pub shard: u32,
    /// Its number in the shard.
    pub sequence: u64,
    /// When it came, in µs since 1970.
    pub arrival: u64,
}

#[derive(Default)]
struct Slot {
    result: Mutex<Option<Result<Placed, PutError>>>,
    there: Condvar,
}

/// What a record will come to.
pub struct Ticket(Arc<Slot>);

/// The other end of a ticket: answered once, when it is dropped at the latest.
pub(super) struct Reply(Option<Arc<Slot>>);

impl Reply {
    pub fn answer(mut self, result: Result<Placed, PutError>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<Placed, PutError>) {
        let Some(slot) = self.0.take() else { return };
        *lock(&slot.result) = Some(result);
        slot.there.notify_all();
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Err(PutError::Unknown { why: "the producer's thread has ended".to_owned() }));
    }
}

impl Ticket {
    /// Waits until the record is durable, or will not be. That takes no longer than three times `put_timeout`, and mostly a millisecond.
    ///
    /// # Errors
    /// Why it was not acknowledged, and whether it may be stored all the same.
    pub fn wait(self) -> Result<Placed, PutError> {
        let mut result = lock(&self.0.result);
        loop {
            match result.take() {
                Some(result) => return result,
                None => result = self.0.there.wait(result).unwrap_or_else(std::sync::PoisonError::into_inner),
            }
        }
    }

    /// The result, if it is there.
    pub fn poll(&self) -> Option<Result<Placed, PutError>> {
        lock(&self.0.result).clone()
    }
}

/// What no panic of another thread makes unusable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What callers, the driver and the threads that receive have in common.
#[derive(Default)]
pub(super) struct Shared {
    pub inner: Mutex<Inner>,
    /// The driver has something to do.
    pub wake: Condvar,
    /// There is room again, or all is answered.
    pub room: Condvar,
}

#[derive(Default)]
pub(super) struct Inner {
    pub incoming: VecDeque<Item>,
    pub events: VecDeque<super::driver::Event>,
    /// Bytes of records without an answer.
    pub held: usize,
    /// No record comes any more; what there is is still sent.
    pub closing: bool,
    /// What there is is given up.
    pub dropped: bool,
    /// The producer has ended, for this reason.
    pub ended: Option<String>,
}

/// Puts records into the shards of one stream. Each call of [`Producer::put`] gives a ticket; records of one key are stored in the order in which they
/// were put, as long as one thread puts them and, where `idempotent` is off, none fails.
pub struct Producer {
    shared: Arc<Shared>,
    settings: Settings,
    record_max: usize,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    /// With the usual settings.
    ///
    /// # Errors
    /// As [`Producer::open_with`].
    pub fn open(endpoint: Endpoint, stream: &str) -> Result<Producer, Error> {
        Producer::open_with(endpoint, stream, Settings::default())
    }

    /// Connects once, so that a wrong address, name or secret is told at once; from then on broken connections are made again.
    ///
    /// # Errors
    /// Why the server could not be reached, or does not let this producer in.
    pub fn open_with(endpoint: Endpoint, stream: &str, settings: Settings) -> Result<Producer, Error> {
        let producer = settings.producer.unwrap_or_else(random_producer);
        let wire = if settings.idempotent { (producer.id & ((1 << 48) - 1)) << 16 | producer.epoch as u64 } else { 0 };
        let connection = Connection::open(&endpoint, stream, wire, settings.bulk)?;
        let record_max = connection.welcome.record as usize;
        let shared = Arc::new(Shared::default());
        let driver = Driver::new(endpoint, stream, settings, wire, shared.clone(), connection);
        let spawned = std::thread::Builder::new().name("penstock-producer".to_owned()).spawn(move || driver.run());
        let thread = spawned.map_err(|cause| Error::Io { what: "starting a thread", address: String::new(), cause })?;
        Ok(Producer { shared, settings, record_max, thread: Some(thread) })
    }

    /// Puts a record where the MD5 of its key says. Waits while there is no room, until `put_timeout`.
    ///
    /// # Errors
    /// `Invalid`: the record cannot be stored in this stream; `TimedOut`: there was no room in time; `Closed`: the producer has ended. Nothing was sent then.
    pub fn put(&self, key: &str, data: &[u8]) -> Result<Ticket, PutError> {
        self.put_at(key, hash_of(key), data)
    }

    /// The same with a hash key of one's own, which says where the record goes.
    ///
    /// # Errors
    /// As [`Producer::put`].
    pub fn put_at(&self, key: &str, hash: u128, data: &[u8]) -> Result<Ticket, PutError> {
        let invalid = |why: String| Err(PutError::Invalid { why });
        if key.is_empty() || key.chars().count() > crate::limits::PARTITION_KEY_MAX {
            return invalid(format!("a partition key has 1 to 256 characters, not {}", key.chars().count()));
        }
        let (size, most) = (key.len() + data.len(), self.record_max);
        if size > most {
            return invalid(format!("{size} bytes of key and data are more than the {most} that the stream takes"));
        }
        let bytes = cost(key, data);
        let deadline = now() + self.settings.put_timeout;
        let mut inner = lock(&self.shared.inner);
        loop {
            if inner.closing || inner.ended.is_some() {
                let why = inner.ended.clone().unwrap_or_else(|| "it was closed".to_owned());
                return Err(PutError::Closed { why });
            }
            // One that is larger than all of the room goes alone.
            if inner.held == 0 || inner.held + bytes <= self.settings.buffer_bytes {
                break;
            }
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return Err(PutError::TimedOut {
                    why: "there was no room for it in time: the server takes records slower".to_owned(),
                });
            }
            let waited = self.shared.room.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        let slot = Arc::new(Slot::default());
        let reply = Reply(Some(slot.clone()));
        inner.held += bytes;
        inner.incoming.push_back(Item { key: key.to_owned(), hash, data: data.to_owned(), reply, deadline });
        drop(inner);
        self.shared.wake.notify_one();
        Ok(Ticket(slot))
    }

    /// Waits until every record that was put has been answered: three times `put_timeout` at most.
    pub fn flush(&self) {
        let mut inner = lock(&self.shared.inner);
        while inner.held > 0 {
            inner = self.shared.room.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Waits for all answers, and says goodbye.
    pub fn close(mut self) {
        lock(&self.shared.inner).closing = true;
        self.end();
    }

    fn end(&mut self) {
        self.shared.wake.notify_one();
        // It answers everything before it ends, also where it panics nobody waits for ever.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Producer {
    /// Without [`Producer::close`], what has no answer yet is given up.
    fn drop(&mut self) {
        if self.thread.is_some() {
            let mut inner = lock(&self.shared.inner);
            (inner.closing, inner.dropped) = (true, true);
            drop(inner);
            self.end();
        }
    }
}

/// An id that nobody else has drawn, in its first epoch.
fn random_producer() -> ProducerId {
    let id = RandomState::new().build_hasher().finish() >> 16;
    ProducerId { id: id.max(1), epoch: 0 }
}

/// A reply that nobody waits for.
#[cfg(test)]
pub(super) fn reply_for_tests() -> Reply {
    Reply(Some(Arc::default()))
}
