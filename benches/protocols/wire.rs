//! Other wires than HTTP/1.1 over a plain socket: TLS, and HTTP/2 as far as one request after the other needs it.

use crate::client::{Ask, Connection};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// What a client needs to know of a server with `--tls-self-signed`.
pub fn trusting(data: &Path, protocol: &str) -> Arc<ClientConfig> {
    let authority = CertificateDer::from_pem_file(data.join("tls/authority.pem")).expect("the local authority");
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

pub fn tls(port: u16, config: Arc<ClientConfig>) -> Tls {
    let session = ClientConnection::new(config, ServerName::try_from("localhost").expect("a name"));
    StreamOwned::new(session.expect("a session"), crate::client::connect(port))
}

/// HTTP/1.1 over TLS.
pub fn http1_in_tls(port: u16, config: Arc<ClientConfig>) -> Connection<Tls> {
    Connection::over(tls(port, config))
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of a frame until the server has said otherwise.
const FRAME_MAX: usize = 16 << 10;
/// The setting that says it.
const MAX_FRAME_SIZE: u16 = 5;
/// The window that a client gives is never in the way here.
const WINDOW: u32 = 1 << 30;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut out = Vec::new();
        match text.len() {
            short @ 0..127 => out.push(short as u8),
            long => {
                out.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    out.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                out.push(rest as u8);
            }
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![0], text(name), text(value)].concat()
}

/// A request of HTTP/1.1 as frames of stream 0 that carry up to `most` bytes, and where the stream's number stands in each.
fn framed(request: &[u8], most: usize) -> (Vec<u8>, Vec<usize>, usize) {
    let end = memchr::memmem::find(request, b"\r\n\r\n").expect("a head") + 4;
    let head = std::str::from_utf8(&request[..end]).expect("ASCII");
    let mut block = [literal(":method", "POST"), literal(":scheme", "http"), literal(":path", "/")].concat();
    block.extend(literal(":authority", "localhost"));
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header");
        if !name.eq_ignore_ascii_case("host") {
            block.extend(literal(&name.to_ascii_lowercase(), value));
        }
    }
    let (mut out, mut places) = (Vec::new(), vec![5]);
    out.extend(frame(HEADERS, END_HEADERS, 0, &block));
    let body = &request[end..];
    for piece in body.chunks(most) {
        let last = piece.as_ptr_range().end == body.as_ptr_range().end;
        places.push(out.len() + 5);
        out.extend(frame(DATA, if last { END_STREAM } else { 0 }, 0, piece));
    }
    (out, places, body.len())
}

pub struct Http2<S> {
    stream: S,
    next: u32,
    /// Of the last frame.
    last: u32,
    /// What the server lets this connection send.
    window: i64,
    given: u32,
    /// Bytes that a frame may carry: the server's word, as the clients of Java, Go and Rust take it.
    frame_max: usize,
    received: Vec<u8>,
    body: Vec<u8>,
    /// The request that was sent last, by its address, as frames.
    framed: Option<(usize, Vec<u8>, Vec<usize>, usize)>,
}

impl<S: Read + Write> Http2<S> {
    pub fn over(mut stream: S) -> Http2<S> {
        let settings = [&[0, 4][..], &WINDOW.to_be_bytes()].concat();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("taken");
        stream.write_all(&frame(SETTINGS, 0, 0, &settings)).expect("taken");
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes())).expect("taken");
        let mut made = Http2 {
            stream,
            next: 1,
            last: 0,
            window: 65_535,
            given: 0,
            frame_max: FRAME_MAX,
            received: Vec::new(),
            body: Vec::new(),
            framed: None,
        };
        // The server's settings, and the window that it gives the connection beyond the default.
        while made.window <= 65_535 {
            made.take();
        }
        made
    }

    /// Begins a request whose answer is not awaited.
    pub fn open(&mut self, request: &[u8]) {
        let (mut bytes, places, _) = framed(request, self.frame_max);
        for place in places {
            bytes[place..place + 4].copy_from_slice(&self.next.to_be_bytes());
        }
        self.next += 2;
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).expect("the server takes the request");
    }

    /// The next data of any stream.
    pub fn data(&mut self) -> (u32, Vec<u8>) {
        self.body.clear();
        while self.body.is_empty() {
            self.take();
        }
        (self.last, std::mem::take(&mut self.body))
    }

    /// One frame; gives whether it ended a stream.
    fn take(&mut self) -> bool {
        let whole = |bytes: &[u8]| match bytes {
            [a, b, c, ..] => 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize,
            _ => 9,
        };
        while self.received.len() < whole(&self.received) {
            let at = self.received.len();
            self.received.resize(at + (64 << 10), 0);
            let n = self.stream.read(&mut self.received[at..]).expect("the server answers");
            assert!(n > 0, "the server closed the connection");
            self.received.truncate(at + n);
        }
        let len = whole(&self.received);
        let (kind, flags) = (self.received[3], self.received[4]);
        self.last = u32::from_be_bytes(self.received[5..9].try_into().expect("four bytes"));
        let on_connection = self.last == 0;
        let payload = &self.received[9..len];
        let four = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        let mut reply = Vec::new();
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let setting = |s: &&[u8]| u16::from_be_bytes([s[0], s[1]]) == MAX_FRAME_SIZE;
                let most = payload.chunks_exact(6).find(setting);
                self.frame_max = most.map_or(FRAME_MAX, |s| u32::from_be_bytes([s[2], s[3], s[4], s[5]]) as usize);
                reply = frame(SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => reply = frame(PING, ACK, 0, payload),
            WINDOW_UPDATE if on_connection => self.window += four(0) as i64,
            HEADERS => {
                // A change of the table's size may come first; 0x88 is :status 200.
                let ok = payload.iter().take(4).any(|byte| *byte == 0x88);
                assert!(ok, "an answer that is not 200");
            }
            DATA => {
                self.body.extend_from_slice(payload);
                self.given += payload.len() as u32;
                if self.given > WINDOW / 4 {
                    reply = frame(WINDOW_UPDATE, 0, 0, &std::mem::take(&mut self.given).to_be_bytes());
                }
            }
            3 | 7 => panic!("reset or GOAWAY: {payload:?}"),
            _ => {}
        }
        self.received.drain(..len);
        if !reply.is_empty() {
            self.stream.write_all(&reply).expect("taken");
        }
        (kind == HEADERS || kind == DATA) && flags & END_STREAM != 0
    }
}

impl<S: Read + Write + Send> Ask for Http2<S> {
    fn ask(&mut self, request: &[u8]) -> &[u8] {
        if self.framed.as_ref().is_none_or(|(of, ..)| *of != request.as_ptr().addr()) {
            let (bytes, places, body) = framed(request, self.frame_max);
            self.framed = Some((request.as_ptr().addr(), bytes, places, body));
        }
        let (_, mut bytes, places, body) = self.framed.take().expect("made above");
        while self.window < body as i64 {
            self.take();
        }
        self.window -= body as i64;
        for place in &places {
            bytes[*place..*place + 4].copy_from_slice(&self.next.to_be_bytes());
        }
        self.next += 2;
        self.stream.write_all(&bytes).expect("the server takes the request");
        self.stream.flush().expect("sent");
        self.framed = Some((request.as_ptr().addr(), bytes, places, body));
        self.body.clear();
        while !self.take() {}
        assert!(!crate::client::has_refused(&self.body), "records were refused");
        &self.body
    }
}
