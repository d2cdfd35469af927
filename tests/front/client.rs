//! A client: what it speaks, over TLS or not, what becomes of it on the way, and whether it may complain.

use crate::core::{Kind, Wanted};
use crate::harm::{Harm, Then, Units};
use crate::http1::Http1;
use crate::http2::{Ask, Http2, Outcome};
use crate::pipe::Pipe;
use crate::random::Random;
use crate::ring::{End, Line};
use crate::secure::Secure;
use rustls::ClientConnection;
use std::io::{Read, Write};
use std::panic::AssertUnwindSafe;

/// Bytes that wait at the server's socket; a client sends no more meanwhile.
const UP_MAX: usize = 128 << 10;
/// Turns without a byte after which a client leaves that is disturbed, and one that is not, which must not come to that: it may wait for
/// buffers that are lent to the others until they leave.
const PATIENCE: [u32; 2] = [1_000, 8_000];

enum Speaker {
    Http1(Http1),
    Http2(Box<Http2>),
}

pub struct Client {
    pub line: usize,
    tls: Option<ClientConnection>,
    speaker: Speaker,
    pipe: Pipe,
    /// Harm to what it says, and to what TLS has made of that.
    inside: Option<Harm>,
    outside: Option<Harm>,
    /// Turns since something came or went.
    quiet: u32,
    /// How soon it takes what comes, in parts of 1,000 turns.
    eager: u32,
    /// Its direction has ended.
    silent: bool,
    broken: bool,
    pub has_left: bool,
    random: Random,
    name: String,
}

/// What is to be seen of a client.
pub struct Plan<'a> {
    pub secure: &'a Secure,
    /// Requests without TLS are answered.
    pub plaintext: bool,
    pub disturbed: bool,
}

fn some_asks(random: &mut Random) -> Vec<(Wanted, Vec<u8>)> {
    let asks = random.between(1, 8);
    let size = |random: &mut Random| match random.below(10) {
        0..3 => 0,
        3..6 => random.index(300),
        6..9 => random.index(40_000),
        _ => random.index(400_000),
    };
    (0..asks)
        .map(|_| {
            let kind = match random.below(20) {
                0 => Kind::None,
                1 => Kind::Half,
                2..8 => Kind::Chunked,
                _ => Kind::Sized,
            };
            let (len, body) = (size(random), size(random));
            let fill = random.next();
            let body = (0..body).map(|at| (fill.wrapping_mul(at as u64 + 1) >> 20) as u8).collect();
            (Wanted { kind, len, id: random.below(1 << 40) }, body)
        })
        .collect()
}

impl Client {
    pub fn new(line: usize, plan: &Plan<'_>, mut random: Random) -> Client {
        let pipe = Pipe::default();
        let secure = !plan.plaintext || random.chance(600);
        let is_http2 = random.chance(800);
        // Some that speak HTTP/2 do not say so in TLS.
        let says = !is_http2 || random.chance(700);
        let (tls, version) = match secure {
            true => {
                let (session, version) = plan.secure.client(is_http2, says, &mut random);
                (Some(session), version)
            }
            false => (None, "no TLS"),
        };
        let mut asks = some_asks(&mut random);
        let speaker = if is_http2 {
            let asks = asks.into_iter().map(|(wanted, body)| Ask::new(wanted, body, &mut random)).collect();
            Speaker::Http2(Box::new(Http2::new(pipe.clone(), asks, Random::stream(random.next(), "http2"))))
        } else {
            asks.sort_by_key(|(wanted, _)| matches!(wanted.kind, Kind::None | Kind::Half));
            Speaker::Http1(Http1::new(asks))
        };
        let name = format!("client {line}: {} over {version}", if is_http2 { "HTTP/2" } else { "HTTP/1.1" });
        let mut client = Client::of(line, tls, speaker, pipe, random, name);
        if plan.disturbed {
            client.disturb(is_http2);
        }
        client
    }

    /// One that asks `requests` times at once, over HTTP/2, and is answered each time.
    pub fn crowd(line: usize, requests: usize, mut random: Random) -> Client {
        let pipe = Pipe::default();
        let wanted = |id: u64| Wanted { kind: Kind::Chunked, len: 300, id };
        let asks = (0..requests as u64).map(|id| Ask::new(wanted(id), Vec::new(), &mut random).surely()).collect();
        let http2 = Http2::new(pipe.clone(), asks, Random::stream(random.next(), "http2")).eager();
        Client::of(line, None, Speaker::Http2(Box::new(http2)), pipe, random, format!("client {line}: a crowd"))
    }

    fn of(
        line: usize,
        tls: Option<ClientConnection>,
        speaker: Speaker,
        pipe: Pipe,
        mut random: Random,
        name: String,
    ) -> Client {
        Client {
            line,
            tls,
            speaker,
            pipe,
            inside: None,
            outside: None,
            quiet: 0,
            eager: *random.pick(&[1000, 500, 100]),
            silent: false,
            broken: false,
            has_left: false,
            random,
            name,
        }
    }

    fn disturb(&mut self, is_http2: bool) {
        let random = &mut self.random;
        let spoken = if is_http2 && random.chance(800) { Units::Frames } else { Units::Pieces };
        let within = Random::stream(random.next(), "harm");
        if self.tls.is_some() && random.chance(500) {
            let units = if random.chance(700) { Units::Records } else { Units::Pieces };
            // Mostly when keys have been agreed on.
            let from = if random.chance(600) { 4 } else { 0 };
            self.outside = Some(Harm::new(units, from, within));
        } else {
            self.inside = Some(Harm::new(spoken, 0, within));
        }
    }

    /// Whether what it receives can only be right, if it is whole.
    fn is_true(&self) -> bool {
        self.inside.is_none()
    }

    pub fn is_disturbed(&self) -> bool {
        self.inside.is_some() || self.outside.is_some()
    }

    pub fn has_been_struck(&self) -> bool {
        self.inside.iter().chain(&self.outside).any(|harm| harm.struck)
    }

    pub fn step(&mut self, line: &mut Line) {
        if self.has_left {
            line.down.clear();
            return;
        }
        let before = (line.down.len(), line.up.len());
        self.take_in(line);
        match &mut self.speaker {
            Speaker::Http1(http1) => http1.step(&self.pipe),
            Speaker::Http2(http2) => http2.step(),
        }
        self.send(line);
        self.quiet = if before == (line.down.len(), line.up.len()) { self.quiet + 1 } else { 0 };
        let is_over = match &self.speaker {
            Speaker::Http1(http1) => http1.is_over,
            Speaker::Http2(http2) => http2.is_over,
        };
        if is_over
            || self.broken
            || line.closed && line.down.is_empty()
            || self.quiet > PATIENCE[!self.is_disturbed() as usize]
        {
            self.leave(line);
        }
    }

    fn take_in(&mut self, line: &mut Line) {
        if self.pipe.unread() < UP_MAX && self.random.chance(self.eager) {
            let len =
                if self.random.chance(300) { self.random.index(line.down.len().min(30) + 1) } else { line.down.len() };
            let bytes: Vec<u8> = line.down.drain(..len).collect();
            self.broken |= self.open(&bytes).is_err();
        }
        if line.closed && line.down.is_empty() {
            self.pipe.end();
        }
    }

    /// Takes TLS off.
    fn open(&mut self, bytes: &[u8]) -> Result<(), String> {
        let disturbed = self.is_disturbed();
        let Some(tls) = &mut self.tls else {
            self.pipe.give(bytes);
            return Ok(());
        };
        let (mut rest, mut plain) = (bytes, Vec::new());
        while !rest.is_empty() {
            tls.read_tls(&mut rest).map_err(|error| format!("{error}"))?;
            // In a client that says what it does not mean rustls asserts that it has not complained before, and rarely it has.
            let state = std::panic::catch_unwind(AssertUnwindSafe(|| tls.process_new_packets()));
            let state = match state {
                Ok(state) => state.map_err(|error| format!("{error}"))?,
                Err(_) if disturbed => return Err("an assertion".to_string()),
                Err(panic) => std::panic::resume_unwind(panic),
            };
            plain.resize(state.plaintext_bytes_to_read(), 0);
            if !plain.is_empty() {
                tls.reader().read_exact(&mut plain).map_err(|error| format!("{error}"))?;
                self.pipe.give(&plain);
            }
            if state.peer_has_closed() {
                self.pipe.end();
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, line: &mut Line) {
        if self.silent || line.up.len() > UP_MAX {
            return;
        }
        let mut said = self.pipe.take();
        let mut then = None;
        if let Some(harm) = &mut self.inside {
            let bytes = std::mem::take(&mut said);
            then = harm.pass(&bytes, &mut said);
        }
        if let Some(tls) = &mut self.tls {
            // Its buffer has no bound, but nothing is taken when the server has complained.
            self.broken |= tls.writer().write_all(&said).is_err();
            said.clear();
            // A farewell comes behind what has been said.
            if then == Some(Then::Farewell) {
                tls.send_close_notify();
            }
            while tls.wants_write() {
                tls.write_tls(&mut said).expect("memory takes it");
            }
        }
        if let Some(harm) = &mut self.outside {
            let bytes = std::mem::take(&mut said);
            then = then.or(harm.pass(&bytes, &mut said));
            if let (Some(Then::Farewell), Some(tls)) = (then, &mut self.tls) {
                tls.send_close_notify();
                tls.write_tls(&mut said).expect("memory takes it");
            }
        }
        line.up.extend_from_slice(&said);
        match then {
            Some(Then::End(end)) => (line.up_end, self.silent) = (Some(end), true),
            Some(Then::Farewell) => self.silent = self.random.chance(500),
            None => {}
        }
    }

    fn leave(&mut self, line: &mut Line) {
        self.has_left = true;
        if line.up_end.is_none() {
            if let Some(tls) = &mut self.tls
                && !self.silent
                && self.random.chance(500)
            {
                tls.send_close_notify();
                tls.write_tls(&mut line.up).expect("memory takes it");
            }
            line.up_end = Some(if self.random.chance(700) { End::Finished } else { End::Reset });
        }
    }

    /// How many requests the server had no room for.
    pub fn refused(&self) -> usize {
        match &self.speaker {
            Speaker::Http1(_) => 0,
            Speaker::Http2(http2) => http2.refused,
        }
    }

    /// For who waits for it in vain.
    pub fn state(&self, line: &Line) -> String {
        let asks: Vec<String> = match &self.speaker {
            Speaker::Http1(_) => Vec::new(),
            Speaker::Http2(http2) => http2.asks.iter().map(Ask::state).collect(),
        };
        let (up, down) = (line.up.len(), line.down.len());
        format!("{}, disturbed {}: {up} up, {down} down, {asks:?}", self.name, self.is_disturbed())
    }

    /// What it has to complain about. `exact`: nobody and nothing has come between.
    pub fn complaints(&self, exact: bool) -> Vec<String> {
        let exact = exact && !self.is_disturbed();
        let mut found = Vec::new();
        match &self.speaker {
            Speaker::Http1(http1) => {
                if self.is_true() && http1.wrong > 0 && exact {
                    found.push(format!("{} wrong answers", http1.wrong));
                }
                if exact && !http1.has_all() {
                    found.push("answers are missing".to_string());
                }
            }
            Speaker::Http2(http2) => {
                for ask in &http2.asks {
                    let wrong = self.is_true() && ask.end == Some(Outcome::Whole { right: false });
                    let whole = ask.end == Some(Outcome::Whole { right: true });
                    if wrong && ask.must_be_whole() || exact && ask.must_be_whole() && !whole {
                        found.push(format!("{:?} came to {:?}, {:?}", ask.wanted, ask.end, http2.error));
                    }
                }
            }
        }
        if let (false, Speaker::Http2(http2)) = (found.is_empty(), &self.speaker) {
            found.extend(http2.asks.iter().map(Ask::state));
        }
        let who = format!("{}, broken {}, quiet for {}", self.name, self.broken, self.quiet);
        found.into_iter().map(|what| format!("{who}: {what}")).collect()
    }
}
