//! The control plane of a Kinesis endpoint, one call after the other, before and after a run: makes the stream, lists its shards, deletes it.

use super::secure::Trust;
use crate::auth::sign::Signer;
use crate::cli::tls::{self, HTTP_1, HTTP_2};
use crate::io::clock::{Clock, Mono};
use crate::load::plan::{Identity, Range};
use base64_simd::STANDARD;
use rustls::StreamOwned;
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::thread;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
const REPLY: Duration = Duration::from_secs(60);
const REPLY_BYTES_MAX: usize = 16 << 20;
/// How often, and how many times, a stream is looked at until it is ACTIVE.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: u32 = 3000;
/// How often a call that comes too soon is made again, and how long before.
const THROTTLED_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(250);
/// Pages of a list of shards at most.
const PAGES_MAX: u32 = 1000;

pub struct Endpoint {
    pub address: SocketAddr,
    /// As requests name it.
    pub host: String,
    signer: Option<Signer>,
    /// Of an endpoint that speaks TLS.
    pub trust: Option<Trust>,
}

/// Why a call did not do what it should.
enum Failure {
    /// The service's name for it, and its words.
    Said(String, String),
    Other(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        match failure {
            Failure::Said(kind, text) => format!("the endpoint says: {kind}: {text}"),
            Failure::Other(text) => text,
        }
    }
}

impl Endpoint {
    /// Of `http://host:port`, `https://host`, or `host:port`. `ca`: whose certificates are trusted, else those of the system.
    pub fn new(url: &str, ca: Option<&Path>, identity: Option<&Identity>) -> Result<Endpoint, String> {
        let (secure, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://").unwrap_or(url)),
        };
        let host = rest.trim_end_matches('/').to_string();
        let ported = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let named = match ported {
            Some(_) => host.clone(),
            None => format!("{host}:{}", if secure { 443 } else { 80 }),
        };
        let name = ported.map_or(host.as_str(), |(name, _)| name);
        let trust =
            secure.then(|| Trust::new([tls::client(ca, HTTP_1)?, tls::client(ca, HTTP_2)?], name)).transpose()?;
        Ok(Endpoint { address: resolve("--endpoint", &named)?, host, signer: identity.map(Identity::signer), trust })
    }

    fn ask(&mut self, operation: &str, body: &Value) -> Result<Value, Failure> {
        let address = self.address;
        let failed = |error: std::io::Error| {
            Failure::Other(format!("{address} does not answer: {error}; is a server running there?"))
        };
        let body = body.to_string();
        let (kind, target) = ("application/x-amz-json-1.1", format!("Kinesis_20131202.{operation}"));
        let mut head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nX-Amz-Target: {target}\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.host,
            body.len()
        );
        if let Some(signer) = &mut self.signer {
            let mut headers = vec![0; signer.headers_max()];
            let now = Clock.now().wall.seconds();
            let len = signer.headers(&self.host, kind, &target, body.as_bytes(), now, &mut headers);
            head += &String::from_utf8_lossy(&headers[..len]);
        }
        let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(failed)?;
        stream.set_read_timeout(Some(REPLY)).and_then(|()| stream.set_write_timeout(Some(CONNECT))).map_err(failed)?;
        let (request, until) = (format!("{head}\r\n{body}"), deadline(REPLY));
        let reply = match &self.trust {
            Some(trust) => {
                exchange(StreamOwned::new(trust.session().map_err(Failure::Other)?, stream), &request, until)
            }
            None => exchange(stream, &request, until),
        };
        let reply = reply.map_err(failed)?;
        let reply = String::from_utf8_lossy(&reply);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let answer = serde_json::from_str::<Value>(body).unwrap_or(Value::Null);
        match head.split(' ').nth(1) {
            Some("200") => Ok(answer),
            Some(status) => {
                let kind = answer["__type"].as_str().map_or_else(|| format!("status {status}"), str::to_string);
                let text = answer["message"].as_str().or(answer["Message"].as_str()).unwrap_or(body.trim());
                Err(Failure::Said(kind, text.to_string()))
            }
            None => Err(Failure::Other(format!("{address} does not speak HTTP"))),
        }
    }

    /// Makes the stream if it is not there; gives whether it was made.
    pub fn create(&mut self, stream: &str, shards: u32) -> Result<bool, String> {
        let made = match self.ask("CreateStream", &json!({ "StreamName": stream, "ShardCount": shards })) {
            Ok(_) => true,
            Err(Failure::Said(kind, _)) if kind.contains("ResourceInUse") => false,
            Err(other) => return Err(other.into()),
        };
        for _ in 0..LOOKS {
            let answer = self.ask("DescribeStreamSummary", &json!({ "StreamName": stream }))?;
            match answer["StreamDescriptionSummary"]["StreamStatus"].as_str() {
                Some("ACTIVE" | "UPDATING") => return Ok(made),
                _ => thread::sleep(LOOK),
            }
        }
        Err(format!("stream {stream} did not become ACTIVE"))
    }

    /// The open shards of the stream.
    pub fn shards(&mut self, stream: &str) -> Result<Vec<Range>, String> {
        let listed = self.list(stream)?;
        let open = listed.iter().filter(|shard| shard["SequenceNumberRange"]["EndingSequenceNumber"].is_null());
        open.map(|shard| range(shard).ok_or_else(|| format!("a shard is described as {shard}"))).collect()
    }

    /// The ids of all shards of the stream, parents before their children.
    pub fn all_shards(&mut self, stream: &str) -> Result<Vec<String>, String> {
        let listed = self.list(stream)?;
        Ok(listed.iter().filter_map(|shard| shard["ShardId"].as_str()).map(str::to_string).collect())
    }

    /// Hands over the data of each record that a shard has now, in order.
    pub fn read(
        &mut self,
        stream: &str,
        shard: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let from = json!({ "StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
        let mut iterator = self.ask("GetShardIterator", &from)?["ShardIterator"].as_str().map(str::to_string);
        let mut throttled = 0;
        while let Some(token) = iterator {
            let answer = match self.ask("GetRecords", &json!({ "ShardIterator": token })) {
                Err(Failure::Said(kind, _)) if kind.contains("Throughput") && throttled < THROTTLED_MAX => {
                    throttled += 1;
                    thread::sleep(PAUSE);
                    iterator = Some(token);
                    continue;
                }
                answer => answer?,
            };
            throttled = 0;
            let records = answer["Records"].as_array().map_or(&[][..], Vec::as_slice);
            for record in records {
                let data = record["Data"].as_str().and_then(|text| STANDARD.decode_to_vec(text).ok());
                take(&data.ok_or("a record's data is not base64")?)?;
            }
            let is_last = records.is_empty() && answer["MillisBehindLatest"] == 0;
            iterator = answer["NextShardIterator"].as_str().filter(|_| !is_last).map(str::to_string);
        }
        Ok(())
    }

    fn list(&mut self, stream: &str) -> Result<Vec<Value>, String> {
        let (mut shards, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let body = match &token {
                Some(token) => json!({ "NextToken": token }),
                None => json!({ "StreamName": stream }),
            };
            let answer = self.ask("ListShards", &body)?;
            shards.extend(answer["Shards"].as_array().into_iter().flatten().cloned());
            token = answer["NextToken"].as_str().map(str::to_string);
            if token.is_none() {
                return Ok(shards);
            }
        }
        Err(format!("stream {stream} has more shards than can be listed"))
    }

    pub fn delete(&mut self, stream: &str) -> Result<(), String> {
        self.ask("DeleteStream", &json!({ "StreamName": stream, "EnforceConsumerDeletion": true }))?;
        Ok(())
    }
}

/// The moment after which nothing is waited for that may take so long.
pub(super) fn deadline(patience: Duration) -> Mono {
    Clock.now().mono + patience.as_nanos() as u64
}

/// Sends a request, and gives all that comes until the other side ends the connection; by `until` it has, as one that drips would otherwise be
/// listened to for ever.
pub(super) fn exchange(mut stream: impl Read + Write, request: &str, until: Mono) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let (mut reply, mut came) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut came) {
            Ok(0) => return Ok(reply),
            Ok(bytes) => reply.extend_from_slice(&came[..bytes]),
            // Not every server says farewell in TLS; whether the answer is whole shows by itself.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && !reply.is_empty() => return Ok(reply),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if reply.len() > REPLY_BYTES_MAX {
            return Err(io::Error::other("its answer is longer than any should be"));
        }
        if Clock.now().mono >= until {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

fn range(shard: &Value) -> Option<Range> {
    let number = shard["ShardId"].as_str()?.rsplit_once('-')?.1.parse().ok()?;
    let key = |name: &str| shard["HashKeyRange"][name].as_str()?.parse().ok();
    Some((number, key("StartingHashKey")?, key("EndingHashKey")?))
}

/// The first address that `host:port` has.
pub fn resolve(flag: &str, host: &str) -> Result<SocketAddr, String> {
    let found = host.to_socket_addrs().map_err(|error| format!("{flag} {host}: {error}"))?.next();
    found.ok_or_else(|| format!("{flag} {host}: it has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers a byte at a time, for ever.
    struct Drip;

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into[0] = b'x';
            Ok(1)
        }
    }

    impl Write for Drip {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_that_does_not_end_is_given_up_in_time_or_when_it_is_too_long() {
        let late = exchange(Drip, "GET", Clock.now().mono).expect_err("its time is over");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let long = exchange(Drip, "GET", deadline(Duration::from_secs(3600))).expect_err("it is too long");
        assert_eq!(long.kind(), ErrorKind::Other);
    }
}
