//! The canonical request: the one text that both sides sign. It is given piece by piece to a sink, and never there as a whole.
//!
//! ```text
//!   METHOD \n /path, normalised, each part encoded \n query, sorted \n
//!   header:value \n ... \n signed;headers \n body's SHA-256
//! ```

use super::percent;
use super::presented::{Presented, SignedHead};
use super::refusal::{Reason, Refused};
use crate::http::http1::HEADERS_MAX;
use crate::kinesis::error::Kind;

/// Parts of a path, and parameters of a query. SDKs send none of either.
const PARTS_MAX: usize = 64;
const AUTHORITY: &str = ":authority";

/// Gives the canonical request to `sink`, up to where the hash of the body begins.
pub fn write(head: &SignedHead<'_>, presented: &Presented<'_>, sink: &mut impl FnMut(&[u8])) -> Result<(), Refused> {
    check_signed(head, presented)?;
    sink(head.method.as_bytes());
    sink(b"\n");
    path(head.path, sink)?;
    sink(b"\n");
    query(head.query, presented.in_query, sink)?;
    sink(b"\n");
    for name in presented.signed_headers.split(';') {
        sink(name.as_bytes());
        sink(b":");
        for (at, value) in head.values(called(name)).enumerate() {
            if at > 0 {
                sink(b",");
            }
            header(value, sink);
        }
        sink(b"\n");
    }
    sink(b"\n");
    sink(presented.signed_headers.as_bytes());
    sink(b"\n");
    Ok(())
}

/// The name under which the core has what a client has signed: over HTTP/2 some sign the host as it is called there.
fn called(name: &str) -> &str {
    if name == AUTHORITY { "host" } else { name }
}

/// What gives a request its meaning must be signed: the host, the date, and each header of AWS.
fn check_signed(head: &SignedHead<'_>, presented: &Presented<'_>) -> Result<(), Refused> {
    let unsigned = |text: String| Err(Refused::new(Reason::Signature, Kind::InvalidSignature, text));
    let must = |what: &str| unsigned(format!("{what} must be a 'SignedHeader' in the AWS Authorization."));
    if presented.signed_headers.split(';').count() > HEADERS_MAX {
        return unsigned(format!("More than {HEADERS_MAX} headers are named in 'SignedHeaders'."));
    }
    if !presented.signs("host") && !presented.signs(AUTHORITY) {
        return must("'Host' or ':authority'");
    }
    // A value that came twice is signed as both, but one of them would be used.
    for once in ["host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "authorization"] {
        if head.values(once).count() > 1 {
            return unsigned(format!("The header '{once}' came more than once."));
        }
    }
    let date = if head.value("x-amz-date").is_some() { "x-amz-date" } else { "date" };
    if !presented.in_query && !presented.signs(date) {
        return must("'X-Amz-Date' or 'Date'");
    }
    for header in head.headers {
        let is_aws = header.name.len() >= 6 && header.name.as_bytes()[..6].eq_ignore_ascii_case(b"x-amz-");
        // Nothing follows from the name of a client, and not every SDK signs it.
        let matters = is_aws && !header.name.eq_ignore_ascii_case("x-amz-user-agent");
        let signed = || presented.signed_headers.split(';').any(|name| name.eq_ignore_ascii_case(header.name));
        if matters && !signed() {
            let name = header.name.to_ascii_lowercase();
            return unsigned(format!("There were headers present in the request which were not signed: {name}"));
        }
    }
    Ok(())
}

/// Without `.`, `..` and empty parts. What is encoded is encoded once more, as every service but S3 has it.
fn path(path: &str, sink: &mut impl FnMut(&[u8])) -> Result<(), Refused> {
    let (mut kept, mut count) = ([""; PARTS_MAX], 0usize);
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => count = count.saturating_sub(1),
            _ if count == PARTS_MAX => return Err(Refused::mismatch()),
            _ => {
                kept[count] = part;
                count += 1;
            }
        }
    }
    for part in &kept[..count] {
        sink(b"/");
        percent::encode(part.as_bytes(), sink);
    }
    if count == 0 || path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        sink(b"/");
    }
    Ok(())
}

/// Sorted by name, then by value, both in their encoded form; the signature itself is not signed.
fn query(query: &str, in_query: bool, sink: &mut impl FnMut(&[u8])) -> Result<(), Refused> {
    let (mut pairs, mut count) = ([("", ""); PARTS_MAX], 0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if in_query && name == "X-Amz-Signature" {
            continue;
        }
        if count == PARTS_MAX {
            return Err(Refused::mismatch());
        }
        pairs[count] = (name, value);
        count += 1;
    }
    let pairs = &mut pairs[..count];
    pairs.sort_unstable_by(|a, b| {
        percent::canonical(a.0)
            .cmp(percent::canonical(b.0))
            .then_with(|| percent::canonical(a.1).cmp(percent::canonical(b.1)))
    });
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            sink(b"&");
        }
        percent::canonical(name).for_each(|byte| sink(&[byte]));
        sink(b"=");
        percent::canonical(value).for_each(|byte| sink(&[byte]));
    }
    Ok(())
}

/// Without blanks at its ends, runs of blanks as one.
fn header(value: &[u8], sink: &mut impl FnMut(&[u8])) {
    let words = value.split(|byte| *byte == b' ').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            sink(b" ");
        }
        sink(word);
    }
}

#[cfg(test)]
mod tests {
    use super::super::presented::Scratch;
    use super::*;

    const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=K/20260131/us-east-1/kinesis/aws4_request, Signature=\
                                 0000000000000000000000000000000000000000000000000000000000000000, SignedHeaders=";

    /// The canonical request of these headers, all of which but `Authorization` are signed.
    fn canonical(method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> Result<String, String> {
        let mut names: Vec<&str> =
            headers.iter().map(|(name, _)| *name).filter(|name| *name != "X-Amz-Unsigned").collect();
        names.sort();
        names.dedup();
        signed((method, path, query), headers, &names.join(";").to_lowercase())
    }

    /// The same, where `names` are signed.
    fn signed(line: (&str, &str, &str), headers: &[(&str, &str)], names: &str) -> Result<String, String> {
        let (method, path, query) = line;
        let authorization = format!("{AUTHORIZATION}{names}");
        let mut all: Vec<httparse::Header<'_>> =
            headers.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        all.push(httparse::Header { name: "Authorization", value: authorization.as_bytes() });
        let head = SignedHead { method, path, query, headers: &all };
        let (mut scratch, mut out) = (Scratch::new(), Vec::new());
        let presented =
            Presented::parse(&head, &mut scratch).map_err(|refused| refused.error.message)?.expect("signed");
        write(&head, &presented, &mut |piece: &[u8]| out.extend_from_slice(piece))
            .map_err(|refused| refused.error.message)?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    const DATE: (&str, &str) = ("X-Amz-Date", "20260131T000000Z");
    const HOST: (&str, &str) = ("Host", "localhost:4567");

    #[test]
    fn a_plain_request() {
        assert_eq!(
            canonical("POST", "/", "", &[HOST, DATE, ("X-Amz-Target", "  Kinesis_20131202.PutRecord ")])
                .expect("canonical"),
            "POST\n/\n\nhost:localhost:4567\nx-amz-date:20260131T000000Z\nx-amz-target:Kinesis_20131202.PutRecord\n\n\
             host;x-amz-date;x-amz-target\n"
        );
    }

    #[test]
    fn over_http2_the_host_may_be_signed_by_its_name_there() {
        // As the JavaScript client has it; the core is given what `:authority` says as the host.
        let names =
            ":authority;amz-sdk-request;content-length;content-type;x-amz-content-sha256;x-amz-date;x-amz-target";
        let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let headers = [
            HOST,
            DATE,
            ("amz-sdk-request", "attempt=1; max=3"),
            ("content-length", "2"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-content-sha256", hash),
            ("x-amz-target", "Kinesis_20131202.ListStreams"),
            ("x-amz-user-agent", "aws-sdk-js/3"),
        ];
        let text = signed(("POST", "/", ""), &headers, names).expect("canonical");
        assert_eq!(
            text,
            format!(
                "POST\n/\n\n:authority:localhost:4567\namz-sdk-request:attempt=1; max=3\ncontent-length:2\n\
                 content-type:application/x-amz-json-1.1\nx-amz-content-sha256:{hash}\nx-amz-date:20260131T000000Z\n\
                 x-amz-target:Kinesis_20131202.ListStreams\n\n{names}\n"
            )
        );
        let twice = [HOST, HOST, DATE];
        assert!(
            signed(("POST", "/", ""), &twice, ":authority;x-amz-date").expect_err("refused").contains("more than once")
        );
    }

    #[test]
    fn paths_are_normalised_and_queries_sorted() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("//a///b/", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a b/%20", "/a%20b/%2520"),
        ] {
            let text = canonical("GET", path, "", &[HOST, DATE]).expect("canonical");
            assert_eq!(text.lines().nth(1), Some(expected), "{path}");
        }
        for (query, expected) in [
            ("b=2&a=2&a=1", "a=1&a=2&b=2"),
            ("a", "a="),
            ("a-b=1&a=1", "a=1&a-b=1"),
            ("x=%2f%7E", "x=%2F~"),
            ("&&a=1&", "a=1"),
        ] {
            let text = canonical("GET", "/", query, &[HOST, DATE]).expect("canonical");
            assert_eq!(text.lines().nth(2), Some(expected), "{query}");
        }
    }

    #[test]
    fn values_of_one_name_are_joined_and_blanks_collapsed() {
        let text = canonical("GET", "/", "", &[HOST, DATE, ("My", " a   b "), ("My", "c")]).expect("canonical");
        assert!(text.contains("\nmy:a b,c\n"), "{text}");
    }

    #[test]
    fn what_must_be_signed_is_missed() {
        let told = |headers: &[(&str, &str)]| canonical("POST", "/", "", headers).expect_err("refused");
        assert_eq!(told(&[DATE]), "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.");
        assert_eq!(
            told(&[HOST, DATE, ("X-Amz-Unsigned", "x")]),
            "There were headers present in the request which were not signed: x-amz-unsigned"
        );
        assert!(told(&[HOST, DATE, DATE]).contains("more than once"));
        let many = "a/".repeat(PARTS_MAX + 1);
        assert!(canonical("GET", &many, "", &[HOST, DATE]).expect_err("refused").contains("does not match"));
        let many = "a=1&".repeat(PARTS_MAX + 1);
        assert!(canonical("GET", "/", &many, &[HOST, DATE]).expect_err("refused").contains("does not match"));
    }
}
