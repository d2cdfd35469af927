//! The built program as a server for clients, and the few calls of the Kinesis API that make and change streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_penstock");

/// A server with data of its own, which goes with it.
pub struct Server {
    data: PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
    http: String,
    /// Where native clients find it: the same after a restart.
    pub native: String,
}

impl Server {
    pub fn start(flags: &[&str]) -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("penstock-client-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let flags = flags.iter().map(|flag| flag.to_string()).collect();
        let nowhere = "127.0.0.1:0".to_owned();
        let mut server = Server { data, flags, child: None, http: nowhere.clone(), native: nowhere };
        server.run();
        server
    }

    /// Starts it, or starts it again.
    pub fn run(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--data"]).arg(&self.data).args(["--listen", &self.http, "--native", &self.native]);
        if !self.flags.iter().any(|flag| flag == "--disk") {
            command.args(["--disk", "1G"]);
        }
        let mut child =
            command.args(&self.flags).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut banner = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            banner.push(line.expect("text"));
            if banner.last().is_some_and(|line| line.contains("AWS_ENDPOINT_URL_KINESIS")) {
                break;
            }
        }
        let said = |what: &str| {
            let found = banner.iter().find_map(|line| line.trim_start().strip_prefix(what));
            let word = found.and_then(|rest| rest.split_whitespace().next());
            word.unwrap_or_else(|| panic!("no {what} in {banner:?}")).to_owned()
        };
        let endpoint = said("endpoint");
        let (_, http) = endpoint.split_once("://").expect("an address");
        (self.http, self.native) = (http.to_owned(), said("native"));
        self.child = Some(child);
    }

    /// Starts it again with these flags too. With TLS, [`Server::call`] does not reach it any more.
    pub fn run_with(&mut self, flags: &[&str]) {
        self.kill();
        self.flags.extend(flags.iter().map(|flag| flag.to_string()));
        self.run();
    }

    /// The certificate of the authority that `--tls-self-signed` makes.
    pub fn authority(&self) -> PathBuf {
        self.data.join("tls/authority.pem")
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// A call of the Kinesis API; its answer must be a success.
    pub fn call(&self, operation: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
             Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{operation} {body}: {answer}");
        answer
    }

    /// What a metric adds up to over all workers.
    pub fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.http).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let values =
            answer.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn create(&self, stream: &str, shards: u32) {
        self.call("CreateStream", &format!("{{\"StreamName\":\"{stream}\",\"ShardCount\":{shards}}}"));
        self.is_active(stream);
    }

    pub fn is_active(&self, stream: &str) {
        let body = format!("{{\"StreamName\":\"{stream}\"}}");
        eventually("the stream is active", || self.call("DescribeStreamSummary", &body).contains("\"ACTIVE\""));
    }

    pub fn split(&self, stream: &str, shard: u32, at: u128) {
        let body = format!(
            "{{\"StreamName\":\"{stream}\",\"ShardToSplit\":\"shardId-{shard:012}\",\"NewStartingHashKey\":\"{at}\"}}"
        );
        self.call("SplitShard", &body);
        self.is_active(stream);
    }

    pub fn merge(&self, stream: &str, shard: u32, with: u32) {
        let body = format!(
            "{{\"StreamName\":\"{stream}\",\"ShardToMerge\":\"shardId-{shard:012}\",\"AdjacentShardToMerge\":\"shardId-{with:012}\"}}"
        );
        self.call("MergeShards", &body);
        self.is_active(stream);
    }

    pub fn delete(&self, stream: &str) {
        self.call("DeleteStream", &format!("{{\"StreamName\":\"{stream}\"}}"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Waits for a condition; how long is a bound on a failure, and no measurement.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a test of real time")]
    let now = Instant::now;
    let until = now() + Duration::from_secs(60);
    while !holds() {
        assert!(now() < until, "in a minute it has not come to this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
