use super::http1::*;

const BOUNDS: Bounds = Bounds { head: 1024, body: 1000 };

/// A head as the Rust SDK sends it, with a body of 2 bytes.
const SDK: &str = "POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.1\r\nx-amz-target: Kinesis_20131202.ListStreams\r\n\
    content-length: 2\r\nhost: localhost:4567\r\nauthorization: AWS4-HMAC-SHA256 Credential=a/b\r\naccept-encoding: gzip\r\n\r\n{}";

fn status(input: &str) -> Option<u16> {
    match parse(input.as_bytes(), BOUNDS) {
        Parsed::Refused(refused) => Some(refused.status),
        _ => None,
    }
}

fn head(input: &str) -> (Request<'_>, usize, Body) {
    match parse(input.as_bytes(), BOUNDS) {
        Parsed::Head { request, head_len, body } => (request, head_len, body),
        other => panic!("{input:?} gave {other:?}"),
    }
}

#[test]
fn a_request_is_whole_at_its_last_byte_and_not_before() {
    let (request, head_len, body) = head(SDK);
    let expect = Request {
        method: "POST",
        path: "/",
        query: "",
        host: b"localhost:4567",
        target: Some(b"Kinesis_20131202.ListStreams"),
        content_type: Some(b"application/x-amz-json-1.1"),
        authorization: Some(b"AWS4-HMAC-SHA256 Credential=a/b"),
        dated: false,
        expects_continue: false,
        keep_alive: true,
    };
    assert_eq!((request, head_len, body), (expect, SDK.len() - 2, Body::Length(2)));
    for cut in 0..head_len {
        assert_eq!(parse(&SDK.as_bytes()[..cut], BOUNDS), Parsed::Incomplete, "cut at {cut}");
    }
    for cut in head_len..SDK.len() {
        assert_eq!(head(&SDK[..cut]), (expect, head_len, body), "cut at {cut}");
    }
}

#[test]
fn pipelined_requests_follow_each_other() {
    let pipeline = SDK.repeat(3);
    let mut rest = pipeline.as_str();
    for _ in 0..3 {
        let (_, head_len, body) = head(rest);
        let Body::Length(length) = body else { panic!("{body:?}") };
        rest = &rest[head_len + length..];
    }
    assert!(rest.is_empty());
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for (status_expected, lines) in [
        (400, "Content-Length: 5\r\nContent-Length: 6\r\n"),
        (400, "Content-Length: 5, 5\r\n"),
        (400, "Content-Length: +5\r\n"),
        (400, "Content-Length: -5\r\n"),
        (400, "Content-Length: 0x5\r\n"),
        (400, "Content-Length:\r\n"),
        (400, "Content-Length : 5\r\n"),
        (400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (501, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (501, "Transfer-Encoding: identity\r\n"),
        (501, "Transfer-Encoding:\r\n"),
        (501, "Transfer-Encoding: xchunked\r\n"),
        (400, "A: b\r\n folded\r\n"),
        (400, "A: b\n"),
        (400, "A: b\rC: d\r\n"),
        (400, "A: b\0\r\n"),
        (400, "A b: c\r\n"),
        (400, ": c\r\n"),
        (400, "Host: elsewhere\r\n"),
        (400, "X-Amz-Target: a\r\nX-Amz-Target: b\r\n"),
        (417, "Expect: something\r\n"),
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        assert_eq!(status(&input), Some(status_expected), "{input:?}");
    }
    for (status_expected, input) in [
        (400, "POST / HTTP/1.1\r\n\r\n"),
        (400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "POST / HTTP/1.1\nHost: localhost\n\n"),
        (400, "P(ST / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (505, "POST / HTTP/3.0\r\nHost: a\r\n\r\n"),
        (400, "\x16\x03\x01\x02\x00\x01\x00"),
    ] {
        assert_eq!(status(input), Some(status_expected), "{input:?}");
    }
}

#[test]
fn agreeing_lengths_and_chunked_are_taken() {
    let twice = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\ncontent-length: 007\r\n\r\n";
    assert_eq!(head(twice).2, Body::Length(7));
    assert_eq!(head("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n").2, Body::Chunked);
    assert_eq!(head("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").2, Body::Length(0));
}

#[test]
fn lengths_are_bounded() {
    let with_length = |n: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n");
    assert_eq!(head(&with_length("1000")).2, Body::Length(1000));
    assert_eq!(status(&with_length("1001")), Some(413));
    assert_eq!(status(&with_length("99999999999999999999999999")), Some(413));
    let padded = |n: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(n - 33));
    assert_eq!(padded(1024).len(), 1024);
    assert_eq!(head(&padded(1024)).1, 1024);
    assert_eq!(status(&padded(1025)), Some(431));
    assert_eq!(status(&padded(1025)[..1024]), Some(431), "a full buffer without an end will have none");
    assert_eq!(status(&format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(64))), Some(431));
}

#[test]
fn connection_and_expectation_are_understood() {
    let keep_alive =
        |version: &str, lines: &str| head(&format!("POST / {version}\r\nHost: a\r\n{lines}\r\n")).0.keep_alive;
    assert!(keep_alive("HTTP/1.1", ""));
    assert!(keep_alive("HTTP/1.1", "Connection: keep-alive, Upgrade\r\n"));
    assert!(!keep_alive("HTTP/1.1", "Connection: Upgrade, Close\r\n"));
    assert!(!keep_alive("HTTP/1.0", ""));
    assert!(head("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").0.expects_continue);
    assert!(!head("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").0.expects_continue);
}

#[test]
fn a_path_has_no_query_and_a_proxied_target_names_its_host() {
    for (target, path, host) in [
        ("/health", "/health", "a"),
        ("/metrics?x=/y", "/metrics", "a"),
        ("http://localhost:1/health?x", "/health", "localhost:1"),
        ("HTTP://example.org", "/", "example.org"),
        ("http://example.org?q=1", "/", "example.org"),
        ("*", "*", "a"),
    ] {
        let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (request, ..) = head(&input);
        assert_eq!((request.path, request.host), (path, host.as_bytes()), "{target}");
    }
}

#[test]
fn the_preface_of_http2_is_no_request() {
    let Parsed::Refused(refused) = parse(HTTP2_PREFACE, BOUNDS) else { panic!("another version of HTTP") };
    assert_eq!(refused.status, 505);
}

#[test]
fn only_loopback_names_are_allowed() {
    for good in [
        "localhost",
        "LocalHost:4567",
        "kinesis.localhost",
        "000000000000.data-kinesis.localhost:80",
        "127.0.0.1",
        "127.9.8.7:1",
        "[::1]",
        "[::1]:4567",
        "localhost:",
    ] {
        assert!(host_allowed(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        "example.org",
        "localhost.example.org",
        "notlocalhost",
        ".localhost",
        "128.0.0.1",
        "10.0.0.1",
        "127.0.0.1.example.org",
        "127.0.0.1:80:90",
        "localhost:x",
        "localhost@example.org",
        "[::2]",
        "[::1]x",
        "[::1",
        "0.0.0.0",
    ] {
        assert!(!host_allowed(bad.as_bytes()), "{bad}");
    }
    assert!(!host_allowed(b"\xff"));
}

#[test]
fn no_change_of_a_byte_makes_it_panic() {
    let mut bytes = SDK.as_bytes().to_vec();
    for at in 0..bytes.len() {
        let kept = bytes[at];
        for other in [0, b'\n', b'\r', b' ', b':', b'0', 0x7f, 0x80, 0xff] {
            bytes[at] = other;
            if let Parsed::Head { head_len, .. } = parse(&bytes, BOUNDS) {
                assert!(head_len <= bytes.len());
            }
        }
        bytes[at] = kept;
    }
}
