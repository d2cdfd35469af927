//! The head of an HTTP/1.1 request, read in place.
//!
//! A connection calls [`parse`] with everything it has received and not used yet. Where two readers of a request could disagree on its end
//! (a proxy and this server), the request is refused: that is how one request is smuggled inside another.

use memchr::memchr_iter;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;

/// More headers than any SDK sends by a factor of three.
pub const HEADERS_MAX: usize = 64;

/// What an HTTP/2 client sends first, unasked.
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What may be received before a request is refused.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of request line and headers, with the empty line (431 beyond).
    pub head: usize,
    /// Bytes of body, decoded (413 beyond).
    pub body: usize,
}

/// How the length of the body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The request ends this many bytes after its head.
    Length(usize),
    /// The request ends where [`super::chunked::Decoder`] says.
    Chunked,
}

/// Request line and the few headers that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Without scheme, authority and query.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: &'a str,
    /// Name and port that the client called; empty only from HTTP/1.0.
    pub host: &'a [u8],
    /// `X-Amz-Target`.
    pub target: Option<&'a [u8]>,
    pub content_type: Option<&'a [u8]>,
    pub authorization: Option<&'a [u8]>,
    /// It has a `Date` or `X-Amz-Date`.
    pub dated: bool,
    /// The client waits for [`super::response::CONTINUE`] before it sends the body.
    pub expects_continue: bool,
    /// Another request may follow on the connection.
    pub keep_alive: bool,
}

/// A request that cannot be answered by the API: this status is sent, then the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    /// For the client's developer, as text/plain.
    pub why: &'static str,
}

impl Refused {
    pub(super) const fn new(status: u16, why: &'static str) -> Refused {
        Refused { status, why }
    }
}

/// What the received bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// More bytes are needed to say.
    Incomplete,
    /// A whole head of `head_len` bytes, followed by the body.
    Head { request: Request<'a>, head_len: usize, body: Body },
    /// Nothing more can be read from this connection.
    Refused(Refused),
}

/// Reads the head at the start of `bytes`. Does not allocate.
pub fn parse(bytes: &[u8], bounds: Bounds) -> Parsed<'_> {
    let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut []);
    let head_len = match raw.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(n)) if n <= bounds.head => n,
        Ok(httparse::Status::Partial) if bytes.len() < bounds.head => return Parsed::Incomplete,
        Ok(_) => return Parsed::Refused(Refused::new(431, "The request line and headers are too long.")),
        Err(error) => return Parsed::Refused(syntax(error)),
    };
    if has_bare_line_feed(&bytes[..head_len]) {
        return Parsed::Refused(Refused::new(400, "A line of the head does not end in CR LF."));
    }
    match interpret(&raw, bounds) {
        Ok((request, body)) => Parsed::Head { request, head_len, body },
        Err(refused) => Parsed::Refused(refused),
    }
}

fn syntax(error: httparse::Error) -> Refused {
    match error {
        httparse::Error::TooManyHeaders => Refused::new(431, "The request has too many headers."),
        httparse::Error::Version => Refused::new(505, "Only HTTP/1.0 and HTTP/1.1 are served here."),
        httparse::Error::HeaderName => Refused::new(400, "A header name is malformed."),
        httparse::Error::HeaderValue => Refused::new(400, "A header value is malformed."),
        _ => Refused::new(400, "The request line is malformed."),
    }
}

/// httparse takes a lone LF for a line end, other readers do not.
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// The headers that matter, as they were met.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    target: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    dated: bool,
    length: Option<usize>,
    chunked: bool,
    expects_continue: bool,
    close: bool,
}

fn interpret<'a>(raw: &httparse::Request<'_, 'a>, bounds: Bounds) -> Result<(Request<'a>, Body), Refused> {
    let mut seen = Seen::default();
    for header in raw.headers.iter() {
        take_header(&mut seen, header.name, header.value)?;
    }
    let modern = raw.version == Some(1);
    let (authority, path, query) = split_target(raw.path.unwrap_or("/"));
    let host = match (authority, seen.host) {
        (Some(authority), _) => authority.as_bytes(),
        (None, Some(host)) => host,
        (None, None) if modern => return Err(Refused::new(400, "An HTTP/1.1 request needs a Host header.")),
        (None, None) => b"",
    };
    let body = match (seen.chunked, seen.length) {
        (true, _) if !modern => return Err(Refused::new(400, "HTTP/1.0 has no Transfer-Encoding.")),
        (true, Some(_)) => return Err(Refused::new(400, "Content-Length and Transfer-Encoding exclude each other.")),
        (true, None) => Body::Chunked,
        (false, Some(length)) if length > bounds.body => return Err(TOO_LARGE),
        (false, length) => Body::Length(length.unwrap_or(0)),
    };
    let request = Request {
        method: raw.method.unwrap_or(""),
        path,
        query,
        host,
        target: seen.target,
        content_type: seen.content_type,
        authorization: seen.authorization,
        dated: seen.dated,
        expects_continue: seen.expects_continue && modern,
        keep_alive: modern && !seen.close,
    };
    Ok((request, body))
}

/// A body longer than the bound.
pub(super) const TOO_LARGE: Refused = Refused::new(413, "The request body is too long.");

/// `name` in lower case.
fn is(header: &str, name: &str) -> bool {
    header.eq_ignore_ascii_case(name)
}

fn take_header<'a>(seen: &mut Seen<'a>, name: &str, value: &'a [u8]) -> Result<(), Refused> {
    // By length first: most headers are skipped after one comparison of a number.
    match name.len() {
        4 if is(name, "host") => once(&mut seen.host, value),
        4 if is(name, "date") => {
            seen.dated = true;
            Ok(())
        }
        6 if is(name, "expect") => {
            seen.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            if seen.expects_continue { Ok(()) } else { Err(Refused::new(417, "Only 100-continue can be expected.")) }
        }
        10 if is(name, "connection") => {
            seen.close |= value.split(|&b| b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
            Ok(())
        }
        10 if is(name, "x-amz-date") => {
            seen.dated = true;
            Ok(())
        }
        12 if is(name, "content-type") => once(&mut seen.content_type, value),
        12 if is(name, "x-amz-target") => once(&mut seen.target, value),
        13 if is(name, "authorization") => once(&mut seen.authorization, value),
        14 if is(name, "content-length") => take_length(seen, value),
        17 if is(name, "transfer-encoding") => {
            if seen.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::new(501, "The only transfer coding served here is chunked, once."));
            }
            seen.chunked = true;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Refused> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refused::new(400, "A header that may come once came twice.")),
    }
}

fn take_length(seen: &mut Seen<'_>, value: &[u8]) -> Result<(), Refused> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refused::new(400, "Content-Length is not a number."));
    }
    // Too large for the type is too large for any bound.
    let length = value.iter().try_fold(0usize, |n, digit| n.checked_mul(10)?.checked_add((digit - b'0') as usize));
    let length = length.unwrap_or(usize::MAX);
    match seen.length.replace(length) {
        Some(other) if other != length => Err(Refused::new(400, "Content-Length came twice with different values.")),
        _ => Ok(()),
    }
}

/// Authority, path and query of a request target: `/path?query`, or `http://authority/path?query` as to a proxy.
pub fn split_target(target: &str) -> (Option<&str>, &str, &str) {
    let scheme_end = target.find("://").filter(|&at| is(&target[..at], "http") || is(&target[..at], "https"));
    let (authority, rest) = match scheme_end {
        Some(at) => {
            let rest = &target[at + 3..];
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, target),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (authority, if path.is_empty() { "/" } else { path }, query)
}

/// Whether `host` (with or without a port) names this machine's loopback. Anything else may be a web page that has pointed its own name at
/// 127.0.0.1 to drive the server from a visitor's browser.
pub fn host_allowed(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some(("::1", port)) => ("localhost", port),
            _ => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_well_formed = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    port_well_formed && is_loopback(name)
}

fn is_loopback(name: &str) -> bool {
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let name = name.as_bytes();
    let Some(start) = name.len().checked_sub(9) else { return false };
    name[start..].eq_ignore_ascii_case(b"localhost") && (start == 0 || (start > 1 && name[start - 1] == b'.'))
}
