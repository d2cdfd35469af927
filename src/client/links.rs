//! The connections of a consumer: one at each worker that owns shards which it reads, as far as they are found, so that what is read takes no detour
//! through another. Each has a thread that receives a message ahead; what nobody asks for waits in its socket.

use super::connection::{Connection, Endpoint, Message, Receiver, Sender};
use super::error::Error;
use super::map::Map;
use super::now;
use crate::native::message::{Header, Kind, blank};
use crate::native::welcome::Welcome;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// Further connections that are opened at once in search of a worker, beyond two for each.
const TRIES: usize = 6;
/// How soon workers are looked for again that no connection was found at.
const LOOKS_AGAIN: Duration = Duration::from_secs(10);

type Heard = Result<Message, Error>;

/// Connections that begin and end together: where one breaks, all are made anew.
pub(super) struct Links {
    endpoint: Endpoint,
    stream: String,
    links: Vec<Link>,
    tell: SyncSender<Heard>,
    heard: mpsc::Receiver<Heard>,
    pub map: Map,
    looks_at: Instant,
}

struct Link {
    sender: Sender,
    welcome: Welcome,
    said: Instant,
}

impl Links {
    /// Takes the first one, and looks for those that it does not have: `reads` says which shards are read.
    pub fn new(
        endpoint: &Endpoint,
        stream: &str,
        first: Connection,
        reads: impl Fn(u32) -> bool,
    ) -> Result<Links, Error> {
        let (tell, heard) = mpsc::sync_channel(1);
        let map = first.map.clone();
        let mut links = Links {
            endpoint: endpoint.clone(),
            stream: stream.to_owned(),
            links: Vec::new(),
            tell,
            heard,
            map,
            looks_at: now(),
        };
        let found = links.found(first, reads);
        found.into_iter().try_for_each(|connection| links.add(connection))?;
        Ok(links)
    }

    /// The connections to begin with: `first`, and one at each further worker that owns what is read; without `first` where that owns none of it.
    fn found(&mut self, first: Connection, reads: impl Fn(u32) -> bool) -> Vec<Connection> {
        let mut found = vec![first];
        let owners = self.owners(reads);
        self.search(&owners, &mut found);
        let is_owner = |connection: &Connection| owners.contains(&connection.welcome.worker);
        if found.len() > 1 && !is_owner(&found[0]) {
            found.remove(0).sender.end();
        }
        found
    }

    /// Workers that own shards which are read.
    fn owners(&self, reads: impl Fn(u32) -> bool) -> BTreeSet<u16> {
        self.map.shards.values().filter(|line| reads(line.shard)).map(|line| line.worker).collect()
    }

    /// Opens connections until there is one at each of these workers, or often enough: a server gives each to a worker of its own choice.
    fn search(&mut self, owners: &BTreeSet<u16>, found: &mut Vec<Connection>) {
        self.looks_at = now() + LOOKS_AGAIN;
        let workers =
            found.iter().map(|connection| connection.welcome).chain(self.links.iter().map(|link| link.welcome));
        let mut has: BTreeSet<u16> = workers.map(|welcome| welcome.worker).collect();
        let workers = found.first().map(|first| first.welcome).or(self.links.first().map(|link| link.welcome));
        for _ in 0..2 * workers.map_or(0, |welcome| welcome.workers as usize) + TRIES {
            if owners.is_subset(&has) {
                return;
            }
            // What cannot be had is done without.
            let Ok(mut connection) = Connection::open(&self.endpoint, &self.stream, 0, false) else { return };
            let worker = connection.welcome.worker;
            match owners.contains(&worker) && has.insert(worker) {
                true => found.push(connection),
                false => connection.sender.end(),
            }
        }
    }

    fn add(&mut self, connection: Connection) -> Result<(), Error> {
        let Connection { receiver, sender, welcome, map: _ } = connection;
        let tell = self.tell.clone();
        let listener = std::thread::Builder::new().name("penstock-consumer".to_owned());
        self.links.push(Link { sender, welcome, said: now() });
        let failed = |cause| Error::Io { what: "starting a thread for", address: self.endpoint.address.clone(), cause };
        listener.spawn(move || listen(receiver, &tell)).map(drop).map_err(failed)
    }

    /// The map is another one: workers that have come to own shards are looked for, unless that was done a moment ago.
    pub fn look_again(&mut self, reads: impl Fn(u32) -> bool) -> Result<(), Error> {
        if now() < self.looks_at {
            return Ok(());
        }
        let (owners, mut found) = (self.owners(reads), Vec::new());
        self.search(&owners, &mut found);
        found.into_iter().try_for_each(|connection| self.add(connection))
    }

    /// The one that a shard is read over: at its owner, else any.
    pub fn of_shard(&self, shard: u32) -> usize {
        let owner = self.map.shards.get(&shard).map(|line| line.worker);
        self.links.iter().position(|link| Some(link.welcome.worker) == owner).unwrap_or(0)
    }

    /// Sends a message over connection `at`.
    pub fn send(&mut self, at: usize, bytes: &[u8]) -> Result<(), Error> {
        self.links[at].said = now();
        self.links[at].sender.send(bytes)
    }

    /// Says something to any of them.
    pub fn say(&mut self, header: Header) -> Result<(), Error> {
        self.links[0].said = now();
        self.links[0].sender.say(header)
    }

    /// When something has to be said though there is nothing to say.
    pub fn idle_at(&self) -> Instant {
        self.links.iter().map(Link::idle_at).min().unwrap_or_else(now)
    }

    /// Says a ping over each on which nothing has been said for long.
    pub fn ping(&mut self) -> Result<(), Error> {
        let now = now();
        for link in self.links.iter_mut().filter(|link| link.idle_at() <= now) {
            link.said = now;
            link.sender.say(blank(Kind::Ping))?;
        }
        Ok(())
    }

    /// The next message of any of them; `None`: none comes by then.
    pub fn receive(&self, until: Instant) -> Result<Option<Message>, Error> {
        match self.heard.recv_timeout(until.saturating_duration_since(now())) {
            Ok(heard) => heard.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => unreachable!("there is a sender in this very value"),
        }
    }
}

impl Link {
    fn idle_at(&self) -> Instant {
        self.said + Duration::from_secs(self.welcome.idle_seconds.max(3) as u64 / 3)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.links.iter_mut().for_each(|link| link.sender.end());
    }
}

/// Receives until the connection ends, or nobody is there any more who wants it.
fn listen(mut receiver: Receiver, tell: &SyncSender<Heard>) {
    // The end of a connection ends this as well.
    const LONG: Duration = Duration::from_secs(3600);
    loop {
        let heard = match receiver.receive(now() + LONG) {
            Ok(None) => continue,
            Ok(Some(message)) if message.header.kind == Kind::Pong => continue,
            Ok(Some(message)) => Ok(message),
            Err(error) => Err(error),
        };
        let over = heard.is_err();
        if tell.send(heard).is_err() || over {
            return;
        }
    }
}
