//! Requests that are signed here, by a second implementation, and then altered.

use super::credentials::Access;
use super::presented::{SignedHead, to_hex};
use super::verify::{Check, DerivedKeys, Expected};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const NOW: u64 = 1_769_817_600; // 20260131T000000Z
const STAMP: &str = "20260131T000000Z";
const SCOPE: &str = "20260131/us-east-1/kinesis/aws4_request";

const FILE: &str = r#"{"users":[
    {"name":"app","keys":[{"id":"AKIAONE","secret":"first-secret-of-app"},{"id":"AKIATWO","secret":"second-secret-of-app"}]},
    {"name":"ops","keys":[
        {"id":"ASIATEMP","secret":"secret-for-a-while","session_token":"token/1","expires":"20260131T001000Z"},
        {"id":"AKIAOFF","secret":"secret-of-before-","active":false}]}]}"#;

/// A request before it is signed; the tests alter it before or after.
#[derive(Clone)]
struct Plain {
    key: &'static str,
    secret: &'static str,
    scope: &'static str,
    stamp: &'static str,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn plain() -> Plain {
    let headers = [("host", "localhost:4567"), ("x-amz-date", STAMP), ("x-amz-target", "Kinesis_20131202.ListStreams")];
    Plain {
        key: "AKIAONE",
        secret: "first-secret-of-app",
        scope: SCOPE,
        stamp: STAMP,
        query: String::new(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: b"{\"Limit\":10}".to_vec(),
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    String::from_utf8(to_hex(&Sha256::digest(bytes).into()).to_vec()).expect("digits")
}

impl Plain {
    fn with(mut self, name: &str, value: &str) -> Plain {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self.headers.sort();
        self
    }

    fn names(&self) -> String {
        self.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
    }

    fn signature(&self, query: &str) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("POST\n/\n{query}\n{headers}\n{}\n{}", self.names(), hash(&self.body));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", self.stamp, self.scope, hash(canonical.as_bytes()));
        let first = format!("AWS4{}", self.secret).into_bytes();
        let key = self.scope.split('/').fold(first, |key, part| mac(&key, part));
        let bytes: [u8; 32] = mac(&key, &text).try_into().expect("32 bytes");
        String::from_utf8(to_hex(&bytes).to_vec()).expect("digits")
    }

    /// Signed in its header.
    fn sign(mut self) -> Plain {
        let (names, signature) = (self.names(), self.signature(&self.query));
        let (key, scope) = (self.key, self.scope);
        let value = format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}");
        self.headers.push(("authorization".to_owned(), value));
        self
    }

    /// Signed in its query. Its parts are sorted as they stand.
    fn presign(mut self, expires: u64) -> Plain {
        self.headers.retain(|(name, _)| name != "x-amz-date");
        let (key, scope, names) = (self.key, self.scope.replace('/', "%2F"), self.names().replace(';', "%3B"));
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={key}%2F{scope}&X-Amz-Date={}&X-Amz-Expires={expires}&X-Amz-SignedHeaders={names}",
            self.stamp
        );
        self.query = format!("{query}&X-Amz-Signature={}", self.signature(&query));
        self
    }

    /// The user who has signed it, or why it is refused.
    fn verify_at(&self, now: u64) -> Result<String, String> {
        let access = Access::parse(FILE).expect("a good file");
        let headers: Vec<httparse::Header<'_>> =
            self.headers.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let head = SignedHead { method: "POST", path: "/", query: &self.query, headers: &headers };
        let expected = Expected { region: "us-east-1", service: "kinesis", now };
        let mut keys = DerivedKeys::new();
        let mut end = || {
            let mut check = Check::begin(&head, &access, &mut keys, &expected)?;
            self.body.chunks(5).for_each(|piece| check.feed(piece));
            check.end()
        };
        // The second time with a key that is remembered.
        let first = end();
        assert_eq!(first, end());
        first.map(|user| access.user(user).name.clone()).map_err(|refused| refused.error.to_string())
    }

    fn verify(&self) -> Result<String, String> {
        self.verify_at(NOW)
    }
}

const MISMATCH: &str = "InvalidSignatureException: The request signature we calculated does not match the signature you provided. Check \
                        your AWS Secret Access Key and signing method. Consult the service documentation for details.";

#[track_caller]
fn refused(request: Plain, text: &str) {
    assert_eq!(request.verify(), Err(text.to_owned()));
}

#[test]
fn who_signs_is_known() {
    assert_eq!(plain().sign().verify(), Ok("app".into()));
    assert_eq!(Plain { key: "AKIATWO", secret: "second-secret-of-app", ..plain() }.sign().verify(), Ok("app".into()));
    assert_eq!(plain().with("x-amz-content-sha256", &hash(&plain().body)).sign().verify(), Ok("app".into()));
    assert_eq!(plain().presign(60).verify(), Ok("app".into()));
    assert_eq!(plain().presign(3600).verify_at(NOW + 3599), Ok("app".into()));
    assert_eq!(Plain { body: Vec::new(), ..plain() }.sign().verify(), Ok("app".into()));
}

#[test]
fn whatever_is_altered_is_found_out() {
    refused(Plain { secret: "first-secret-of-apq", ..plain() }.sign(), MISMATCH);
    refused(Plain { body: b"{\"Limit\":11}".to_vec(), ..plain().sign() }, MISMATCH);
    refused(Plain { query: "a=1".into(), ..plain().sign() }, MISMATCH);
    let mut target = plain().sign();
    target.headers[2].1 = "Kinesis_20131202.DeleteStream".into();
    refused(target, MISMATCH);
    let mut host = plain().sign();
    host.headers[0].1 = "localhost:4568".into();
    refused(host, MISMATCH);
    for at in [0, 31, 63] {
        let mut signature = plain().sign();
        let (_, value) = signature.headers.last_mut().expect("authorization");
        let place = value.len() - 64 + at;
        let other = if &value[place..=place] == "0" { "1" } else { "0" };
        value.replace_range(place..=place, other);
        refused(signature, MISMATCH);
    }
    let mut query = plain().presign(60);
    query.query = query.query.replace("X-Amz-Expires=60", "X-Amz-Expires=600");
    refused(query, MISMATCH);
    refused(plain().with("x-amz-content-sha256", &hash(b"other")).sign(), MISMATCH);
}

#[test]
fn what_is_not_signed_as_it_must_be_is_told() {
    refused(plain(), "MissingAuthenticationTokenException: Missing Authentication Token");
    let mut late = plain().sign();
    late.headers.push(("x-amz-extra".into(), "1".into()));
    refused(
        late,
        "InvalidSignatureException: There were headers present in the request which were not signed: x-amz-extra",
    );
    refused(
        plain().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD").sign(),
        "InvalidSignatureException: X-Amz-Content-Sha256 must be the SHA-256 of the body in hexadecimal digits; 'UNSIGNED-PAYLOAD' is not \
         served here.",
    );
    let mut both = plain().sign();
    both.query = plain().presign(60).query;
    refused(
        both,
        "InvalidSignatureException: Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
    );
    refused(
        plain().presign(604_801),
        "IncompleteSignatureException: X-Amz-Expires must be a number of seconds from 1 to 604800.",
    );
    let mut other = plain().sign();
    other.headers.last_mut().expect("authorization").1.replace_range(5..9, "ECDS");
    refused(other, "IncompleteSignatureException: Unsupported AWS 'algorithm': 'AWS4-ECDS-SHA256'.");
    let mut date = plain().with("x-amz-date", "yesterday").sign();
    date.headers.sort();
    refused(
        date,
        "IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got 'yesterday'. See \
         http://en.wikipedia.org/wiki/ISO_8601",
    );
}

#[test]
fn keys_that_are_not_good_are_refused() {
    const UNKNOWN: &str = "UnrecognizedClientException: The security token included in the request is invalid.";
    refused(Plain { key: "AKIANONE", ..plain() }.sign(), UNKNOWN);
    refused(Plain { key: "AKIAOFF", secret: "secret-of-before-", ..plain() }.sign(), UNKNOWN);
    refused(plain().with("x-amz-security-token", "token/1").sign(), UNKNOWN);
    let temporary = Plain { key: "ASIATEMP", secret: "secret-for-a-while", ..plain() };
    refused(temporary.clone().sign(), UNKNOWN);
    refused(temporary.clone().with("x-amz-security-token", "token/2").sign(), UNKNOWN);
    let good = temporary.with("x-amz-security-token", "token/1").sign();
    assert_eq!(good.verify(), Ok("ops".into()));
    let text = "ExpiredTokenException: The security token included in the request is expired";
    assert_eq!(good.verify_at(NOW + 600), Err(text.into()));
}

#[test]
fn a_signature_is_for_one_place_and_time() {
    refused(
        Plain { scope: "20260131/us-east-1/dynamodb/aws4_request", ..plain() }.sign(),
        "InvalidSignatureException: Credential should be scoped to correct service: 'kinesis'. ",
    );
    refused(
        Plain { scope: "20260131/eu-west-1/kinesis/aws4_request", ..plain() }.sign(),
        "InvalidSignatureException: Credential should be scoped to a valid region, not 'eu-west-1'. ",
    );
    refused(
        Plain { scope: "20260130/us-east-1/kinesis/aws4_request", ..plain() }.sign(),
        "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20260130' \
         != '20260131', from '20260131T000000Z'.",
    );
    refused(
        Plain { scope: "20260131/us-east-1/kinesis/aws5_request", ..plain() }.sign(),
        "InvalidSignatureException: Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'.",
    );
    refused(
        Plain { scope: "20260131/us-east-1/aws4_request", ..plain() }.sign(),
        "IncompleteSignatureException: Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got \
         'AKIAONE/20260131/us-east-1/aws4_request'.",
    );
    assert_eq!(plain().sign().verify_at(NOW + 300), Ok("app".into()));
    for (now, beginning) in [(NOW + 301, "Signature expired"), (NOW - 301, "Signature not yet current")] {
        let told = plain().sign().verify_at(now).expect_err("refused");
        assert!(told.starts_with(&format!("InvalidSignatureException: {beginning}: {STAMP} is ")), "{told}");
    }
    assert!(plain().presign(60).verify_at(NOW + 61).expect_err("refused").contains("Signature expired"));
}

#[test]
fn many_keys_in_turn_are_all_right() {
    let users: Vec<String> = (0..100)
        .map(|n| format!(r#"{{"name":"u{n}","keys":[{{"id":"AKIA{n:04}","secret":"secret-number-{n:04}"}}]}}"#))
        .collect();
    let access = Access::parse(&format!("{{\"users\":[{}]}}", users.join(","))).expect("a good file");
    let mut keys = DerivedKeys::new();
    for n in (0..100).chain(0..100).chain([7, 7, 99, 7]) {
        let (id, secret) = (format!("AKIA{n:04}"), format!("secret-number-{n:04}"));
        let request = Plain { key: id.leak(), secret: secret.leak(), ..plain() }.sign();
        let headers: Vec<httparse::Header<'_>> =
            request.headers.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let head = SignedHead { method: "POST", path: "/", query: "", headers: &headers };
        let expected = Expected { region: "us-east-1", service: "kinesis", now: NOW };
        let mut check = Check::begin(&head, &access, &mut keys, &expected).expect("its key is known");
        check.feed(&request.body);
        assert_eq!(check.end().map(|user| access.user(user).name.clone()), Ok(format!("u{n}")));
    }
}
