//! The other side of a signature: makes what [`super::verify`] verifies, of the same canonical request. For what speaks to a Kinesis endpoint
//! from here.

use super::canonical;
use super::presented::{Credential, Presented, SignedHead, to_hex};
use super::stamp::Stamp;
use super::verify::derive;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// An access key, and where it is used.
#[derive(Clone)]
pub struct Signer {
    key_id: String,
    secret: String,
    /// Of a key that has one.
    token: Option<String>,
    region: String,
    /// The key of a day: deriving one takes twice as long as using it.
    derived: ([u8; 8], [u8; 32]),
}

/// What is signed.
const NAMES: &str = "content-type;host;x-amz-date;x-amz-target";
const NAMES_WITH_TOKEN: &str = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
const SERVICE: &str = "kinesis";

impl Signer {
    pub fn new(key_id: String, secret: String, token: Option<String>, region: String) -> Signer {
        Signer { key_id, secret, token, region, derived: ([0; 8], [0; 32]) }
    }

    /// The most bytes that [`Signer::headers`] writes.
    pub fn headers_max(&self) -> usize {
        300 + self.key_id.len() + self.region.len() + self.token.as_ref().map_or(0, |token| token.len() + 30)
    }

    /// Writes the headers `X-Amz-Date`, `Authorization`, and the session's token, each with its line's end, for a POST to `/` of `host` at second
    /// `now`. Gives how long they are. Allocates nothing.
    pub fn headers(&mut self, host: &str, kind: &str, target: &str, body: &[u8], now: u64, out: &mut [u8]) -> usize {
        let stamp = Stamp::of_seconds(now);
        let day: [u8; 8] = stamp.text[..8].try_into().expect("a day has eight digits");
        if self.derived.0 != day {
            let secret = [b"AWS4", self.secret.as_bytes()].concat();
            self.derived = (day, derive(&secret, &day, &self.region, SERVICE));
        }
        let signature = self.signature(&stamp, host, kind, target, body);
        let mut at = 0;
        let mut put = |text: &[u8]| {
            out[at..at + text.len()].copy_from_slice(text);
            at += text.len();
        };
        put(b"X-Amz-Date: ");
        put(&stamp.text);
        if let Some(token) = &self.token {
            put(b"\r\nX-Amz-Security-Token: ");
            put(token.as_bytes());
        }
        put(b"\r\nAuthorization: AWS4-HMAC-SHA256 Credential=");
        put(self.key_id.as_bytes());
        self.scope(&stamp).into_iter().for_each(&mut put);
        put(b", SignedHeaders=");
        put(self.names().as_bytes());
        put(b", Signature=");
        put(&signature);
        put(b"\r\n");
        at
    }

    fn names(&self) -> &'static str {
        if self.token.is_some() { NAMES_WITH_TOKEN } else { NAMES }
    }

    /// Behind the key's id, with the slash before it.
    fn scope<'s>(&'s self, stamp: &'s Stamp) -> [&'s [u8]; 6] {
        [b"/", stamp.day(), b"/", self.region.as_bytes(), b"/kinesis", b"/aws4_request"]
    }

    fn signature(&self, stamp: &Stamp, host: &str, kind: &str, target: &str, body: &[u8]) -> [u8; 64] {
        let header = |name: &'static str, value| httparse::Header { name, value };
        let token = self.token.as_deref().unwrap_or_default().as_bytes();
        let headers = [
            header("content-type", kind.as_bytes()),
            header("host", host.as_bytes()),
            header("x-amz-date", &stamp.text),
            header("x-amz-target", target.as_bytes()),
            header("x-amz-security-token", token),
        ];
        let used = headers.len() - self.token.is_none() as usize;
        let head = SignedHead { method: "POST", path: "/", query: "", headers: &headers[..used] };
        let presented = Presented {
            in_query: false,
            credential: Credential { key: "", day: "", region: "", service: "", scope: "" },
            signed_headers: self.names(),
            signature: [0; 32],
            stamp: *stamp,
            expires: None,
            token: None,
        };
        let mut canonical = Sha256::new();
        let written = canonical::write(&head, &presented, &mut |piece: &[u8]| canonical.update(piece));
        written.unwrap_or_else(|_| unreachable!("all headers that must be signed are"));
        let hash: [u8; 32] = Sha256::digest(body).into();
        canonical.update(to_hex(&hash));
        let request: [u8; 32] = canonical.finalize().into();
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.derived.1).expect("a key may have any length");
        mac.update(b"AWS4-HMAC-SHA256\n");
        mac.update(&stamp.text);
        mac.update(b"\n");
        self.scope(stamp)[1..].iter().for_each(|part| mac.update(part));
        mac.update(b"\n");
        mac.update(&to_hex(&request));
        to_hex(&mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Access;
    use super::super::verify::{Check, DerivedKeys, Expected};
    use super::*;

    const ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const NOW: u64 = 1_769_817_599;

    /// Whether a server takes `body` with the headers that the signer has made for `signed`.
    fn taken(signed: &[u8], body: &[u8], region: &str) -> bool {
        let text = format!(
            r#"{{"users":[{{"name":"u","keys":[{{"id":"{ID}","secret":"{SECRET}"}}],"policies":[{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*"}}]}}]}}]}}"#
        );
        let access = Access::parse(&text).expect("credentials");
        let mut signer = Signer::new(ID.to_string(), SECRET.to_string(), None, region.to_string());
        let (kind, target) = ("application/x-amz-json-1.1", "Kinesis_20131202.PutRecord");
        let mut out = vec![0; signer.headers_max()];
        for now in [NOW - 86_400, NOW] {
            let len = signer.headers("localhost:4567", kind, target, signed, now, &mut out);
            out.truncate(len.max(signer.headers_max()));
            out[len..].fill(0);
        }
        let text = std::str::from_utf8(&out).expect("text").trim_end_matches('\0');
        let mut headers = vec![
            httparse::Header { name: "Content-Type", value: kind.as_bytes() },
            httparse::Header { name: "Host", value: b"localhost:4567" },
            httparse::Header { name: "X-Amz-Target", value: target.as_bytes() },
        ];
        for line in text.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push(httparse::Header { name, value: value.as_bytes() });
        }
        let head = SignedHead { method: "POST", path: "/", query: "", headers: &headers };
        let expected = Expected { region: "us-east-1", service: SERVICE, now: NOW };
        let Ok(mut check) = Check::begin(&head, &access, &mut DerivedKeys::new(), &expected) else { return false };
        check.feed(body);
        check.end().is_ok()
    }

    #[test]
    fn what_is_signed_here_is_taken_by_the_verifier_and_nothing_else() {
        assert!(taken(b"{}", b"{}", "us-east-1"));
        assert!(!taken(b"{}", b"{ }", "us-east-1"));
        assert!(!taken(b"{}", b"{}", "eu-west-1"));
    }

    #[test]
    fn a_session_s_token_is_sent_and_signed() {
        let mut signer = Signer::new(ID.into(), SECRET.into(), Some("a-token".into()), "us-east-1".into());
        let mut out = vec![0; signer.headers_max()];
        let len = signer.headers("h", "k", "t", b"", NOW, &mut out);
        let text = String::from_utf8_lossy(&out[..len]).into_owned();
        assert!(text.contains("X-Amz-Security-Token: a-token\r\n"), "{text}");
        assert!(text.contains(&format!("SignedHeaders={NAMES_WITH_TOKEN}, Signature=")), "{text}");
        let mut other = Signer { token: Some("b-token".into()), ..signer.clone() };
        let mut changed = vec![0; other.headers_max()];
        other.headers("h", "k", "t", b"", NOW, &mut changed);
        assert_ne!(out[len - 66..len], changed[len - 66..len], "the signature is of the token too");
    }
}
