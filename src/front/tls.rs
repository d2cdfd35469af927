//! TLS as a transform of bytes: rustls without buffers of its own for what goes, and a record's for what comes.
//!
//! rustls remembers places in what it has been shown and has not used, such as the first half of a message: so whoever calls it shows it
//! `held` again, the bytes that it left at the last call of [`Tls::open`].

use super::TELLING;
use crate::http::http1::HTTP2_PREFACE;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use std::sync::Arc;

/// Bytes of a record around what it carries, with the longest of all suites, and those of a last one that is not full.
pub(super) const RECORDS_OVERHEAD: usize = 512;
/// The first byte of a connection that begins with TLS: a record of the handshake.
pub(super) const HANDSHAKE: u8 = 0x16;

pub(super) struct Tls {
    session: UnbufferedServerConnection,
    /// Records of the handshake, and alerts, that are to be sent before anything else.
    queue: Vec<u8>,
    /// What has come, decrypted; read up to `read`.
    plain: Vec<u8>,
    read: usize,
    agreed: bool,
    said_end: bool,
    /// The client has said that nothing more comes.
    pub ended: bool,
    /// Something that is no TLS has come, or something forged: nothing more is read.
    pub failed: bool,
}

impl Tls {
    /// `None`: the server's settings do not allow a session.
    pub fn new(config: Arc<ServerConfig>) -> Option<Tls> {
        let session = UnbufferedServerConnection::new(config).ok()?;
        let (queue, plain) = (Vec::new(), Vec::new());
        Some(Tls { session, queue, plain, read: 0, agreed: false, said_end: false, ended: false, failed: false })
    }

    /// Whether both sides have agreed on keys.
    pub fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Whether the client speaks HTTP/2, as agreed on. Some that take it for granted offer no protocol (the Java SDK's asynchronous client), so
    /// where none was agreed on the first bytes tell; `None`: they have not come.
    pub fn is_http2(&self) -> Option<bool> {
        if let Some(agreed) = self.session.alpn_protocol() {
            return Some(agreed == b"h2");
        }
        let begins = &self.plain()[..self.plain().len().min(HTTP2_PREFACE.len())];
        let like = HTTP2_PREFACE.starts_with(begins);
        (!like || begins.len() >= TELLING as usize).then_some(like)
    }

    /// Decrypts the whole records at the beginning of `bytes`, in place; gives how many bytes that were. Behind the server's own farewell
    /// nothing is read: rustls takes it for a defect if it would have to complain after that.
    pub fn open(&mut self, bytes: &mut [u8]) -> usize {
        if self.said_end {
            return bytes.len();
        }
        let mut used = 0;
        while !self.failed && !self.ended {
            let UnbufferedStatus { mut discard, state } = self.session.process_tls_records(&mut bytes[used..]);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                self.plain.extend_from_slice(record.payload);
                            }
                            Err(_) => self.failed = true,
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.queue, |out| match data.encode(out) {
                        Err(EncodeError::InsufficientSize(more)) => Err(more.required_size),
                        other => Ok(other.ok()),
                    });
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(_)) => (self.agreed, waits) = (true, true),
                Ok(ConnectionState::BlockedHandshake) => waits = true,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => self.ended = true,
                // Early data is not asked for, and of states to come nothing is known.
                Ok(_) => self.failed = true,
                Err(_) => self.failed = true,
            }
            used += discard;
            if waits {
                break;
            }
        }
        // Asked without an alert that waits, rustls would look at what has failed once more.
        if self.failed && self.session.wants_write() {
            self.queue_alert(&mut bytes[used..]);
        }
        used
    }

    /// What rustls has to say about a failure: one alert.
    fn queue_alert(&mut self, held: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.session.process_tls_records(held).state {
            encode(&mut self.queue, |out| match data.encode(out) {
                Err(EncodeError::InsufficientSize(more)) => Err(more.required_size),
                other => Ok(other.ok()),
            });
        }
    }

    /// What has been decrypted and not read.
    pub fn plain(&self) -> &[u8] {
        &self.plain[self.read..]
    }

    /// `len` bytes of it have been read.
    pub fn took(&mut self, len: usize) {
        self.read += len;
        // What is left may be the beginning of a frame each time: what has been read must not stay for its sake.
        if self.read > self.plain.len() / 2 {
            self.plain.drain(..self.read);
            self.read = 0;
        }
    }

    /// Moves what is queued to the beginning of `out`; gives how long that is.
    pub fn take_queued(&mut self, out: &mut [u8]) -> usize {
        let len = self.queue.len().min(out.len());
        out[..len].copy_from_slice(&self.queue[..len]);
        self.queue.drain(..len);
        len
    }

    /// Encrypts the beginning of `plain` into `out`; gives (bytes of `plain` used, bytes of `out` filled). Nothing before keys are agreed on,
    /// and nothing without room.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8], held: &mut [u8]) -> (usize, usize) {
        let len = plain.len().min(out.len().saturating_sub(RECORDS_OVERHEAD));
        if len == 0 || self.failed || !self.agreed {
            return (0, 0);
        }
        let state = self.session.process_tls_records(held).state;
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return (0, 0) };
        match traffic.encrypt(&plain[..len], out) {
            Ok(filled) => (len, filled),
            Err(_) => {
                debug_assert!(false, "there is room for the records, and their number is far from its end");
                self.failed = true;
                (0, 0)
            }
        }
    }

    /// Queues the word that nothing more will be sent, once.
    pub fn say_end(&mut self, held: &mut [u8]) {
        if self.failed || !self.agreed || std::mem::replace(&mut self.said_end, true) {
            return;
        }
        let state = self.session.process_tls_records(held).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            encode(&mut self.queue, |out| match traffic.queue_close_notify(out) {
                Err(EncryptError::InsufficientSize(more)) => Err(more.required_size),
                other => Ok(other.ok()),
            });
        }
    }
}

/// Appends to `queue` what `write` makes; it says how much room it misses.
fn encode(queue: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<Option<usize>, usize>) {
    let before = queue.len();
    queue.resize(before + 64, 0);
    loop {
        match write(&mut queue[before..]) {
            Ok(len) => return queue.truncate(before + len.unwrap_or(0)),
            Err(required) => queue.resize(before + required, 0),
        }
    }
}
