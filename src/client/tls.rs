//! TLS under a connection: one session with two halves, of which one thread sends while another receives. What is encrypted goes to the socket in the
//! order in which it was made, and nobody waits for the network with the session in its hands.

use super::now;
use crate::stdx::trust;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Bytes that are taken from a socket at once.
const TAKE: usize = 64 << 10;

/// Whom a client believes that it is the server.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Whoever has a certificate of one of the authorities in this file, in PEM: the one that a server with `--tls-self-signed` names, say.
    ///
    /// # Errors
    /// Why there are none in it.
    pub fn of_authorities(file: impl AsRef<Path>) -> Result<Tls, String> {
        trust::config(Some(file.as_ref()), &[]).map(Tls)
    }

    /// Whoever has a certificate of an authority that this system trusts.
    ///
    /// # Errors
    /// Why it is not known which these are.
    pub fn of_system() -> Result<Tls, String> {
        trust::config(None, &[]).map(Tls)
    }

    /// The client's end with the server at `address`, host and port.
    pub(super) fn session(&self, address: &str) -> Result<ClientConnection, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| format!("{host}: no certificate can be for such a name"))?;
        ClientConnection::new(self.0.clone(), name).map_err(|error| error.to_string())
    }
}

/// A session over a socket.
pub(super) struct Session {
    tls: Mutex<ClientConnection>,
    /// Held by whoever takes records out of the session, until they are sent.
    stream: Mutex<TcpStream>,
}

/// What of a session's records has come, and what of that it has not taken.
pub(super) struct Came {
    bytes: Vec<u8>,
    rest: (usize, usize),
}

impl Default for Came {
    fn default() -> Came {
        Came { bytes: vec![0; TAKE], rest: (0, 0) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Agrees on keys.
    ///
    /// # Errors
    /// What is wrong with the server's certificate, or with what it says; or of the socket, `TimedOut` among them.
    pub fn begin(mut tls: ClientConnection, mut stream: TcpStream, until: Instant) -> io::Result<Session> {
        loop {
            while tls.wants_write() {
                tls.write_tls(&mut stream)?;
            }
            if !tls.is_handshaking() {
                return Ok(Session { tls: Mutex::new(tls), stream: Mutex::new(stream) });
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            if tls.read_tls(&mut stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(error) = tls.process_new_packets() {
                // The server is told why.
                let _ = tls.write_tls(&mut stream);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }

    /// Receives as a socket does, which is read from only where nothing is left of what has come.
    pub fn receive(&self, came: &mut Came, mut socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut tls = lock(&self.tls);
            match tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            let (from, to) = came.rest;
            if from < to {
                came.rest.0 += tls.read_tls(&mut &came.bytes[from..to])?;
                tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let answers = tls.wants_write();
                drop(tls);
                if answers {
                    self.answer()?;
                }
                continue;
            }
            drop(tls);
            match socket.read(&mut came.bytes)? {
                0 => return Ok(0),
                bytes => came.rest = (0, bytes),
            }
        }
    }

    /// Sends what the session itself has to say. Where somebody is sending at the moment it goes with the next records.
    fn answer(&self) -> io::Result<()> {
        match self.stream.try_lock() {
            Ok(stream) => self.flush(&stream),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => Ok(()),
        }
    }

    fn flush(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut records = Vec::new();
        let mut tls = lock(&self.tls);
        while tls.wants_write() {
            tls.write_tls(&mut records)?;
        }
        drop(tls);
        stream.write_all(&records)
    }

    pub fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        let stream = lock(&self.stream);
        while !bytes.is_empty() {
            // As much as the session takes before records of it have gone.
            let taken = lock(&self.tls).writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.flush(&stream)?;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub fn end(&self) {
        let stream = lock(&self.stream);
        lock(&self.tls).send_close_notify();
        let _ = self.flush(&stream);
    }
}
