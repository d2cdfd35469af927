//! The server under test: a process with a data directory under `target/`, which goes with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Writes of a device, bytes of them, and flushes of its cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceWork {
    #[allow(dead_code, reason = "most benchmarks have no use for it")]
    pub writes: u64,
    pub bytes: u64,
    pub flushes: u64,
}

pub struct Server {
    child: Child,
    pub data: PathBuf,
    flags: Vec<String>,
    pub port: u16,
    /// Of the native protocol; 0: not served.
    pub native: u16,
}

impl Server {
    pub fn start(disk: &str, flags: &[&str]) -> Server {
        Server::with(disk, flags, "off")
    }

    /// One that serves the native protocol, too.
    #[allow(dead_code, reason = "most benchmarks have no use for it")]
    pub fn start_native(disk: &str, flags: &[&str]) -> Server {
        Server::with(disk, flags, "127.0.0.1:0")
    }

    fn with(disk: &str, flags: &[&str], native: &str) -> Server {
        let target = Path::new(env!("CARGO_BIN_EXE_penstock")).parent().expect("a binary lies in a directory");
        let number = NEXT.fetch_add(1, Relaxed);
        let data = target.join(format!("bench-{}-{number}", std::process::id()));
        let flags =
            ["--disk", disk, "--native", native].into_iter().chain(flags.iter().copied()).map(str::to_string).collect();
        let (child, native, port) = launch(&data, &flags, 0);
        Server { child, data, flags, port, native }
    }

    fn end(&mut self, signal: &str) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs");
        self.child.wait().expect("the server ends");
    }

    /// Ends the server by `signal` and starts it again; the time until it is ready.
    pub fn restart(&mut self, signal: &str) -> Duration {
        self.end(signal);
        let began = Instant::now();
        (self.child, self.native, self.port) = launch(&self.data, &self.flags, self.port);
        began.elapsed()
    }

    pub fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("the kernel says it");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1024.0
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in parentheses").split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        Duration::from_millis(ticks * 10)
    }

    /// What the device below the data has done so far, for anybody.
    pub fn device(&self) -> DeviceWork {
        let device = std::fs::metadata(&self.data).expect("the data directory is there").dev();
        // As the C library's macros take it apart.
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
        let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap_or_default();
        let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let field = |number: usize| fields.get(number - 1).copied().unwrap_or(0);
        DeviceWork { writes: field(5), bytes: field(7) * 512, flushes: field(16) }
    }

    /// Bytes that the server has sent to the device itself: what others wrote, and the file system's journal, are not in it.
    pub fn written(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|bytes| bytes.parse().ok()).expect("the kernel says it")
    }

    pub fn metrics(&self) -> Metrics {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        // A server without credentials has no use for the token.
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                       Authorization: Bearer observer-of-the-benchmarks\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        Metrics(text)
    }

    /// The sum of a metric over the workers.
    pub fn gauge(&self, name: &str) -> f64 {
        self.metrics().sum(name)
    }
}

/// What `/metrics` said at one moment.
pub struct Metrics(String);

impl Metrics {
    /// One figure for each worker; none where the server does not have the metric.
    pub fn each(&self, name: &str) -> Vec<f64> {
        let start = format!("penstock_{name}{{");
        let lines = self.0.lines().filter(|line| line.starts_with(&start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    }

    pub fn sum(&self, name: &str) -> f64 {
        self.each(name).iter().sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("KILL");
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Starts the server; returns when it has said that it is ready.
fn launch(data: &Path, flags: &Vec<String>, port: u16) -> (Child, u16, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(data)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut native = 0;
    for line in lines.map_while(Result::ok) {
        if let Some((_, port)) = line.trim().strip_prefix("native").and_then(|rest| rest.rsplit_once(':')) {
            native = port.parse().unwrap_or(0);
        }
        let named =
            line.split_once("AWS_ENDPOINT_URL_KINESIS=http").and_then(|(_, rest)| rest.split_once("://127.0.0.1:"));
        if let Some((_, rest)) = named {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return (child, native, digits.parse().expect("a port"));
        }
    }
    panic!("the server did not start: {:?}", child.wait());
}
