//! Requests signed as the SDKs sign them (AWS Signature Version 4), once each: a server takes the same one for five minutes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SIGNED: &str = "content-type;host;x-amz-date;x-amz-target";

/// What a credentials file says with one user who may do everything, and an observer whose token `server::Server::metrics` shows.
pub fn users() -> String {
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let key = format!(r#"{{"id":"{KEY}","secret":"{SECRET}"}}"#);
    let users = format!(r#"{{"name":"bench","keys":[{key}],"policies":[{policy}]}}"#);
    format!(r#"{{"users":[{users}],"observers":["observer-of-the-benchmarks"]}}"#)
}

/// The path of such a file.
pub fn credentials() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_penstock")).parent().expect("a binary lies in a directory");
    let path = target.join(format!("bench-credentials-{}.json", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).expect("a file of our own");
    file.write_all(users().as_bytes()).expect("written");
    path
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Seconds since 1970 as `YYYYMMDD` and `YYYYMMDDTHHMMSSZ`.
fn date(seconds: u64) -> (String, String) {
    let civil = penstock::stdx::calendar::Civil::from_seconds(seconds);
    let day = format!("{:04}{:02}{:02}", civil.year, civil.month, civil.day);
    let moment = format!("{day}T{:02}{:02}{:02}Z", civil.hour, civil.minute, civil.second);
    (day, moment)
}

/// `operation` with `body`, signed now.
pub fn request(encoding: &str, operation: &str, body: &[u8]) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let (day, moment) = date(now.as_secs());
    let (kind, target) = (format!("application/x-amz-{encoding}-1.1"), format!("Kinesis_20131202.{operation}"));
    let headers = format!("content-type:{kind}\nhost:localhost\nx-amz-date:{moment}\nx-amz-target:{target}\n");
    let canonical = format!("POST\n/\n\n{headers}\n{SIGNED}\n{}", hex(&Sha256::digest(body)));
    let scope = format!("{day}/us-east-1/kinesis/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let parts = [day.as_str(), "us-east-1", "kinesis", "aws4_request"];
    let key = parts.iter().fold(format!("AWS4{SECRET}").into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {target}\r\nContent-Type: {kind}\r\nX-Amz-Date: {moment}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={SIGNED}, Signature={signature}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
