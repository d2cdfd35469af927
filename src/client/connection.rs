//! One connection: its beginning, and messages in and out. Everything that waits has a deadline.

use super::error::Error;
use super::map::{ENDLESS, Map};
use super::now;
use super::tls::{Came, Session, Tls};
use crate::log::format::{Damage, HEADER, header_at, stride};
use crate::native::batch::LARGEST;
use crate::native::hello::{self, Hello};
use crate::native::message::{BLOCK, CONTROL_MAX, Header, Kind, VERSION, blank, seal_header};
use crate::native::proof;
use crate::native::refusal::Refusal;
use crate::native::welcome::{Welcome, decode_shards};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An access key of the server's credentials file.
#[derive(Clone)]
pub struct Credentials {
    pub key_id: String,
    pub secret: String,
    /// Of a key that has one; empty otherwise.
    pub session_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Where a server is, who asks, and how long is waited for it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host and port of `--native`.
    pub address: String,
    pub credentials: Option<Credentials>,
    /// Of a server that has TLS: whom to believe that it is it.
    pub tls: Option<Tls>,
    /// For a connection to be made and welcomed.
    pub connect_timeout: Duration,
    /// For what was sent to be taken, and for an answer. The server answers a batch within 40 s.
    pub answer_timeout: Duration,
}

impl Endpoint {
    /// With the usual deadlines, 5 s and 50 s, and without credentials.
    pub fn at(address: impl Into<String>) -> Endpoint {
        Endpoint {
            address: address.into(),
            credentials: None,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(50),
        }
    }

    /// The same, proving the secret of an access key.
    pub fn with_key(self, key_id: impl Into<String>, secret: impl Into<String>) -> Endpoint {
        let credentials = Credentials { key_id: key_id.into(), secret: secret.into(), session_token: String::new() };
        Endpoint { credentials: Some(credentials), ..self }
    }

    /// The same, in TLS.
    pub fn with_tls(self, tls: Tls) -> Endpoint {
        Endpoint { tls: Some(tls), ..self }
    }

    fn io(&self, what: &'static str) -> impl Fn(io::Error) -> Error + '_ {
        move |cause| Error::Io { what, address: self.address.clone(), cause }
    }
}

/// A message as it came.
pub(super) struct Message {
    pub header: Header,
    pub body: Vec<u8>,
}

/// The half that receives.
pub(super) struct Receiver {
    stream: TcpStream,
    tls: Option<(Arc<Session>, Came)>,
    address: String,
    held: Vec<u8>,
    /// What of `held` has come, and what of that has been taken.
    filled: usize,
    start: usize,
    largest: u32,
}

/// The half that sends.
pub(super) struct Sender {
    stream: TcpStream,
    tls: Option<Arc<Session>>,
    address: String,
    /// What is sent takes up whole blocks, and is put together here.
    bulk: bool,
    blocks: Vec<u8>,
}

/// One that has been welcomed.
pub(super) struct Connection {
    pub receiver: Receiver,
    pub sender: Sender,
    pub welcome: Welcome,
    pub map: Map,
}

impl Connection {
    /// Connects, proves who asks, and learns the map. `producer`: id and epoch as in a header; 0: none. `bulk`: if the server agrees.
    ///
    /// # Errors
    /// As the server refuses, or the first that goes wrong; nothing is tried again.
    pub fn open(endpoint: &Endpoint, name: &str, producer: u64, bulk: bool) -> Result<Connection, Error> {
        let until = now() + endpoint.connect_timeout;
        let stream = connect(endpoint, until)?;
        stream.set_nodelay(true).map_err(endpoint.io("setting up a connection"))?;
        stream.set_write_timeout(Some(endpoint.answer_timeout)).map_err(endpoint.io("setting up a connection"))?;
        let reading = stream.try_clone().map_err(endpoint.io("setting up a connection"))?;
        let tls = secure(endpoint, &stream, until)?;
        let address = endpoint.address.clone();
        let mut receiver = Receiver {
            stream: reading,
            tls: tls.clone().map(|session| (session, Came::default())),
            address: address.clone(),
            held: Vec::new(),
            filled: 0,
            start: 0,
            largest: CONTROL_MAX,
        };
        let mut sender = Sender { stream, tls, address, bulk: false, blocks: Vec::new() };
        let welcome = begin(endpoint, name, (producer, bulk), &mut sender, &mut receiver, until)?;
        sender.bulk = welcome.features & hello::feature::BULK != 0;
        receiver.largest = welcome.largest.clamp(CONTROL_MAX, LARGEST);
        let mut map = Map::default();
        loop {
            let message = receiver.expect(until, "the map of shards")?;
            if message.header.kind != Kind::Shards {
                continue;
            }
            match map.learn(&receiver.lines(&message)?, message.header.number == 0) {
                Some(true) => return Ok(Connection { receiver, sender, welcome, map }),
                Some(false) => {}
                None => return Err(receiver.wrong(ENDLESS)),
            }
        }
    }
}

fn connect(endpoint: &Endpoint, until: Instant) -> Result<TcpStream, Error> {
    let addresses = endpoint.address.to_socket_addrs().map_err(endpoint.io("looking up the server"))?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let left = until.saturating_duration_since(now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(endpoint.io("connecting")(failure))
}

/// Agrees on keys, where the server is to have TLS.
fn secure(endpoint: &Endpoint, stream: &TcpStream, until: Instant) -> Result<Option<Arc<Session>>, Error> {
    let Some(tls) = &endpoint.tls else { return Ok(None) };
    let address = || endpoint.address.clone();
    let session = tls.session(&endpoint.address).map_err(|why| Error::Tls { why, address: address() })?;
    let stream = stream.try_clone().map_err(endpoint.io("setting up a connection"))?;
    let begun = Session::begin(session, stream, until);
    begun.map(|session| Some(Arc::new(session))).map_err(|cause| match cause.kind() {
        io::ErrorKind::InvalidData => Error::Tls { why: cause.to_string(), address: address() },
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Error::TimedOut { what: "agreeing on keys", address: address() }
        }
        _ => endpoint.io("agreeing on keys")(cause),
    })
}

/// Hello, and what comes until the Welcome. `wants`: the producer, and whether bulk is.
fn begin(
    endpoint: &Endpoint,
    name: &str,
    (producer, bulk): (u64, bool),
    sender: &mut Sender,
    receiver: &mut Receiver,
    until: Instant,
) -> Result<Welcome, Error> {
    let credentials = endpoint.credentials.as_ref();
    let text = |of: fn(&Credentials) -> &String| credentials.map_or("", |credentials| of(credentials).as_str());
    let said = Hello {
        versions: (VERSION, VERSION),
        wanted: if bulk { hello::feature::BULK } else { 0 },
        producer,
        stream: name,
        key_id: text(|of| &of.key_id),
        session_token: text(|of| &of.session_token),
    };
    let fits = name.len() <= hello::STREAM_NAME_MAX
        && said.key_id.len() <= hello::KEY_ID_MAX
        && said.session_token.len() <= hello::SESSION_TOKEN_MAX;
    if !fits {
        return Err(receiver.wrong("a name, key id or session token is longer than the protocol takes"));
    }
    let mut bytes = vec![0; stride(hello::BODY_MAX as u32) as usize];
    let len = said.encode(&mut bytes);
    sender.send(&bytes[..len])?;
    loop {
        let message = receiver.expect(until, "the server's welcome")?;
        match message.header.kind {
            Kind::Challenge => {
                let challenge =
                    hello::decode_hash(&message.body).ok_or_else(|| receiver.wrong("a challenge is short"))?;
                let secret = text(|of| &of.secret);
                let header = Header::decode(header_at(&bytes, 0).expect("a message has a header"));
                let body = header.expect("it was just made").body as usize;
                let proved = proof::of(secret.as_bytes(), &challenge, &bytes[..HEADER + body]);
                let mut out = [0; 2 * HEADER];
                let len = hello::encode_hash(&mut out, Kind::Proof, &proved);
                sender.send(&out[..len])?;
            }
            Kind::Welcome => {
                return Welcome::decode(&message.header, &message.body)
                    .ok_or_else(|| receiver.wrong("a welcome is too short"));
            }
            _ => {}
        }
    }
}

impl Receiver {
    fn wrong(&self, what: &'static str) -> Error {
        Error::Protocol { what, address: self.address.clone() }
    }

    /// The lines of a message of the map.
    pub fn lines(&self, message: &Message) -> Result<Vec<crate::native::welcome::ShardLine>, Error> {
        let lines = decode_shards(&message.header, &message.body).and_then(|lines| lines.collect::<Option<Vec<_>>>());
        lines.ok_or_else(|| self.wrong("a line of the map is none"))
    }

    /// The next message, which must come in time; a Goodbye is an error.
    pub fn expect(&mut self, until: Instant, what: &'static str) -> Result<Message, Error> {
        match self.receive(until)? {
            Some(message) if message.header.kind == Kind::Goodbye => Err(self.goodbye(&message)),
            Some(message) => Ok(message),
            None => Err(Error::TimedOut { what, address: self.address.clone() }),
        }
    }

    /// What a Goodbye says.
    pub fn goodbye(&self, message: &Message) -> Error {
        Refusal::decode(&message.body)
            .map_or_else(|| self.wrong("a goodbye is too short"), |said| Error::refused(&said))
    }

    /// The next message of a kind that is known; `None`: it is not whole by then.
    pub fn receive(&mut self, until: Instant) -> Result<Option<Message>, Error> {
        loop {
            if !self.fill(HEADER, until)? {
                return Ok(None);
            }
            let bytes = header_at(&self.held, self.start).expect("64 bytes are there");
            let length = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
            let header = match Header::decode(bytes) {
                Ok(header) => Some(header),
                // Of a kind that is not known: passed over.
                Err(Damage::Field { what: "kind of frame" }) => None,
                Err(_) => return Err(self.wrong("the header of a message is none")),
            };
            let size = stride(length) as usize;
            if size > self.largest as usize {
                return Err(self.wrong("a message is longer than any may be"));
            }
            if !self.fill(size, until)? {
                return Ok(None);
            }
            let body = self.held[self.start + HEADER..self.start + HEADER + length as usize].to_vec();
            self.start += size;
            let Some(header) = header else { continue };
            if header.check_body(&body).is_err() {
                return Err(self.wrong("the checksum of a message is wrong"));
            }
            return Ok(Some(Message { header, body }));
        }
    }

    /// Receives until `size` bytes are there; `false`: they are not by then.
    fn fill(&mut self, size: usize, until: Instant) -> Result<bool, Error> {
        while self.filled - self.start < size {
            self.held.copy_within(self.start..self.filled, 0);
            (self.filled, self.start) = (self.filled - self.start, 0);
            // One large message does not hold its memory for ever.
            let room = size.max(64 << 10);
            if self.held.len() < room || self.held.len() > 4 * room {
                self.held.resize(room.max(self.filled), 0);
                self.held.shrink_to_fit();
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(false);
            }
            let failed = |cause| Error::Io { what: "receiving", address: self.address.clone(), cause };
            // A timeout of zero would be none.
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(failed)?;
            let into = &mut self.held[self.filled..];
            let read = match &mut self.tls {
                Some((session, came)) => session.receive(came, &self.stream, into),
                None => self.stream.read(into),
            };
            match read {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => self.filled += bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Error::Tls { why: error.to_string(), address: self.address.clone() });
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(true)
    }
}

impl Sender {
    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let failed = |cause| Error::Io { what: "sending", address: self.address.clone(), cause };
        let bytes = match self.bulk {
            true => {
                in_blocks(message, &mut self.blocks);
                &self.blocks
            }
            false => message,
        };
        let sent = match &self.tls {
            Some(session) => session.send(bytes),
            None => self.stream.write_all(bytes),
        };
        sent.map_err(failed)
    }

    /// Sends a message that is a header alone.
    pub fn say(&mut self, header: Header) -> Result<(), Error> {
        let mut out = [0; HEADER];
        seal_header(&mut out, header);
        self.send(&out)
    }

    /// Says goodbye, as far as that can be said, and ends both directions: whoever receives is woken.
    pub fn end(&mut self) {
        let _ = self.say(blank(Kind::Goodbye));
        self.tls.iter().for_each(|session| session.end());
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A message as it goes over a bulk connection: 64 zeros, the message, and zeros up to the end of a block.
fn in_blocks(message: &[u8], out: &mut Vec<u8>) {
    let size = (HEADER + message.len()).next_multiple_of(BLOCK as usize);
    out.clear();
    out.resize(HEADER, 0);
    out.extend_from_slice(message);
    out.resize(size, 0);
    let place = out[HEADER..].first_chunk_mut().expect("a message has a header");
    let header: Header = Header::decode(place).expect("it was just made");
    Header { stride: size as u32, ..header }.encode(place);
}
