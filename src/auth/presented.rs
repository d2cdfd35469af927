//! The signature that a request presents, in its parts: from its `Authorization` header, or from its query (presigned).

use super::percent;
use super::refusal::Refused;
use super::sigv4::{self, ALGORITHM, SCHEME, query_value};
use super::stamp::Stamp;

const HMAC_SHA256: &str = "AWS4-HMAC-SHA256";
/// Bytes that the parts of a presigned query may take when they are decoded: a session token may have two thousand.
const SCRATCH: usize = 8 << 10;
/// Seconds for which a presigned request may be good: a week.
const EXPIRES_MAX: u64 = 604_800;

/// A request's head as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct SignedHead<'h> {
    pub method: &'h str,
    pub path: &'h str,
    pub query: &'h str,
    pub headers: &'h [httparse::Header<'h>],
}

impl<'h> SignedHead<'h> {
    /// Values of the headers called `name`, in their order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    pub fn value(&self, name: &str) -> Option<&'h [u8]> {
        self.values(name).next()
    }
}

/// Room for decoded parts of a query.
pub struct Scratch([u8; SCRATCH]);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch([0; SCRATCH])
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

/// `KEY/20260131/REGION/SERVICE/aws4_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential<'p> {
    pub key: &'p str,
    pub day: &'p str,
    pub region: &'p str,
    pub service: &'p str,
    /// All but the key.
    pub scope: &'p str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented<'p> {
    pub in_query: bool,
    pub credential: Credential<'p>,
    /// Names, with semicolons between them.
    pub signed_headers: &'p str,
    pub signature: [u8; 32],
    pub stamp: Stamp,
    pub expires: Option<u64>,
    pub token: Option<&'p [u8]>,
}

impl<'p> Presented<'p> {
    /// `None`: the request has no signature.
    pub fn parse(head: &SignedHead<'p>, scratch: &'p mut Scratch) -> Result<Option<Presented<'p>>, Refused> {
        let authorization = head.value("authorization").map(<[u8]>::trim_ascii_start);
        let authorization = authorization.filter(|header| header.starts_with(SCHEME));
        let date = head.value("x-amz-date").or_else(|| head.value("date"));
        if let Err(error) = sigv4::check_form(authorization, head.query, date.is_some()) {
            return Err(Refused { reason: super::refusal::Reason::Incomplete, error });
        }
        match authorization {
            Some(header) => of_header(head, header, date.unwrap_or(b"")).map(Some),
            None if query_value(head.query, ALGORITHM).is_some() => of_query(head.query, scratch).map(Some),
            None => Ok(None),
        }
    }

    pub fn signs(&self, name: &str) -> bool {
        self.signed_headers.split(';').any(|signed| signed == name)
    }
}

fn of_header<'p>(head: &SignedHead<'p>, header: &'p [u8], date: &[u8]) -> Result<Presented<'p>, Refused> {
    let algorithm = header.split(|byte| *byte == b' ').next().unwrap_or(b"");
    check_algorithm(algorithm)?;
    let part = |name: &str| sigv4::part(header, name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok());
    Ok(Presented {
        in_query: false,
        credential: credential(part("Credential").unwrap_or(""))?,
        signed_headers: part("SignedHeaders").unwrap_or(""),
        signature: signature(part("Signature").unwrap_or("").as_bytes())?,
        stamp: stamp(date)?,
        expires: None,
        token: head.value("x-amz-security-token"),
    })
}

fn of_query<'p>(query: &'p str, scratch: &'p mut Scratch) -> Result<Presented<'p>, Refused> {
    let mut rest = &mut scratch.0[..];
    let mut decoded = |name: &str| -> Result<Option<&'p str>, Refused> {
        let Some(value) = query_value(query, name) else { return Ok(None) };
        let (text, left) = percent::decode_into(value, std::mem::take(&mut rest)).ok_or_else(|| {
            Refused::incomplete(format!("The query-string parameter '{name}' is malformed or too long."))
        })?;
        rest = left;
        Ok(Some(text))
    };
    check_algorithm(decoded(ALGORITHM)?.unwrap_or("").as_bytes())?;
    let expires = match decoded("X-Amz-Expires")? {
        None => None,
        Some(text) => match text.parse::<u64>() {
            Ok(seconds) if (1..=EXPIRES_MAX).contains(&seconds) => Some(seconds),
            _ => {
                return Err(Refused::incomplete(format!(
                    "X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_MAX}."
                )));
            }
        },
    };
    Ok(Presented {
        in_query: true,
        credential: credential(decoded("X-Amz-Credential")?.unwrap_or(""))?,
        signed_headers: decoded("X-Amz-SignedHeaders")?.unwrap_or(""),
        signature: signature(decoded("X-Amz-Signature")?.unwrap_or("").as_bytes())?,
        stamp: stamp(decoded("X-Amz-Date")?.unwrap_or("").as_bytes())?,
        expires,
        token: decoded("X-Amz-Security-Token")?.map(str::as_bytes),
    })
}

fn check_algorithm(algorithm: &[u8]) -> Result<(), Refused> {
    if algorithm == HMAC_SHA256.as_bytes() {
        return Ok(());
    }
    Err(Refused::incomplete(format!("Unsupported AWS 'algorithm': '{}'.", String::from_utf8_lossy(algorithm))))
}

fn credential(text: &str) -> Result<Credential<'_>, Refused> {
    let malformed = || {
        let rule = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term";
        Refused::incomplete(format!("{rule}, got '{text}'."))
    };
    let (key, scope) = text.split_once('/').ok_or_else(malformed)?;
    let mut parts = scope.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (Some(day), Some(region), Some(service), Some(end), None) = (next(), next(), next(), next(), next()) else {
        return Err(malformed());
    };
    if key.is_empty() || parts.next().is_some() {
        return Err(malformed());
    }
    if end != "aws4_request" {
        let text = format!("Credential should be scoped with a valid terminator: 'aws4_request', not '{end}'.");
        return Err(Refused::scope(text));
    }
    Ok(Credential { key, day, region, service, scope })
}

fn stamp(text: &[u8]) -> Result<Stamp, Refused> {
    Stamp::parse(text).ok_or_else(|| {
        let shown = String::from_utf8_lossy(text);
        Refused::incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{shown}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ))
    })
}

/// 32 bytes from hexadecimal digits. What is no signature at all does not match, as AWS says it.
fn signature(text: &[u8]) -> Result<[u8; 32], Refused> {
    of_hex(text).ok_or_else(Refused::mismatch)
}

/// 64 small hexadecimal digits as bytes.
pub(super) fn of_hex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Bytes as 64 small hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(bytes[at / 2] >> (4 - 4 * (at % 2)) & 15) as usize])
}
