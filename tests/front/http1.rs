//! A client of HTTP/1.1: one request after the other.

use crate::core::{Kind, Wanted};
use crate::pipe::Pipe;

pub struct Http1 {
    /// With the body of each.
    asks: Vec<(Wanted, Vec<u8>)>,
    at: usize,
    sent: bool,
    received: Vec<u8>,
    /// Answers that were not what they should be.
    pub wrong: usize,
    /// No more answers come.
    pub is_over: bool,
}

impl Http1 {
    pub fn new(asks: Vec<(Wanted, Vec<u8>)>) -> Http1 {
        Http1 { asks, at: 0, sent: false, received: Vec::new(), wrong: 0, is_over: false }
    }

    /// Whether all that must be answered has been.
    pub fn has_all(&self) -> bool {
        self.asks[self.at..].iter().all(|(wanted, _)| !matches!(wanted.kind, Kind::Sized | Kind::Chunked))
    }

    pub fn step(&mut self, pipe: &Pipe) {
        self.received.extend(pipe.read());
        let Some((wanted, body)) = self.asks.get(self.at) else {
            self.is_over = true;
            return;
        };
        if !self.sent {
            let head =
                format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", wanted.path(), body.len());
            pipe.put(head.as_bytes());
            pipe.put(body);
            self.sent = true;
        }
        if let Some((answer, len)) = answer(&self.received) {
            let must = matches!(wanted.kind, Kind::Sized | Kind::Chunked);
            self.wrong += (must && answer != Some(wanted.answer(body))) as usize;
            self.received.drain(..len);
            (self.at, self.sent) = (self.at + 1, false);
        } else if pipe.has_ended() {
            self.is_over = true;
        }
    }
}

/// The whole answer at the beginning of `text`, and its length; its body is `None` where it is none that is understood.
fn answer(text: &[u8]) -> Option<(Option<Vec<u8>>, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut headers);
    let at = match head.parse(text) {
        Ok(httparse::Status::Complete(at)) => at,
        Ok(httparse::Status::Partial) => return None,
        Err(_) => return Some((None, text.len())),
    };
    if head.code != Some(200) {
        return Some((None, text.len()));
    }
    let length = head.headers.iter().find(|header| header.name == "Content-Length");
    let Some(length) = length else {
        return crate::core::chunks(&text[at..]).map(|(body, len)| (Some(body), at + len));
    };
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    let body = text.get(at..at + length)?;
    Some((Some(body.to_vec()), at + length))
}
