//! What the server is compared with, where it is installed: redis with `appendfsync always`, the peer of the rate; kinesalite, the peer of
//! the API, which keeps everything in memory; and the probes that tell what the machine itself can do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A peer's process; it ends with the value, and its directory behind it.
pub struct Peer {
    child: Child,
    _dir: Directory,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory below `target/`, on the file system that the server has its data on; it goes with the value, also where what it was for could not be started.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Option<Directory> {
        let below = Path::new(env!("CARGO_BIN_EXE_penstock")).parent()?;
        let dir = below.join(format!("bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok()?;
        Some(Directory(dir))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody had a moment ago: another run of the benchmark has its own peers.
fn free_port() -> Option<u16> {
    Some(TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?.port())
}

fn listens(port: u16) -> bool {
    (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
}

/// Starts the `cli.js` that `PENSTOCK_KINESALITE` names; the peer and its port.
pub fn kinesalite() -> Option<(Peer, u16)> {
    let script = std::env::var_os("PENSTOCK_KINESALITE")?;
    let (dir, port) = (Directory::new("kinesalite")?, free_port()?);
    let mut command = Command::new("node");
    command.arg(script).args(["--port", &port.to_string(), "--shardLimit", "100"]);
    command.args(["--createStreamMs", "1", "--deleteStreamMs", "1", "--updateStreamMs", "1"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let peer = Peer { child, _dir: dir };
    listens(port).then_some((peer, port))
}

/// Figure `name` of a run of the program that `PENSTOCK_LIMITS` names.
pub fn probe(arguments: &[&str], name: &str) -> Option<f64> {
    probes(arguments, &[name]).map(|figures| figures[0])
}

/// Several of them, of one run.
pub fn probes(arguments: &[&str], names: &[&str]) -> Option<Vec<f64>> {
    let program = std::env::var_os("PENSTOCK_LIMITS")?;
    let dir = Directory::new("probe")?;
    let ran = Command::new(program).args(arguments).current_dir(&dir.0).output();
    let text = String::from_utf8(ran.ok()?.stdout).ok()?;
    let figure = |name: &&str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.split(' ').next()?.parse().ok()
    };
    names.iter().map(figure).collect()
}

/// Records a second of `batch` XADDs a round trip over `clients` connections; `None` where there is no redis-server.
pub fn redis_records(batch: usize, bytes: usize, clients: usize, most: Duration) -> Option<f64> {
    let (dir, port) = (Directory::new("redis")?, free_port()?);
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port.to_string(),
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
        "--dir",
    ]);
    let child = command.arg(&dir.0).stdout(Stdio::null()).spawn().ok()?;
    let _peer = Peer { child, _dir: dir };
    if !listens(port) {
        return None;
    }
    let began = Instant::now();
    let threads: Vec<_> =
        (0..clients).map(|c| std::thread::spawn(move || client(port, c, batch, bytes, began, most))).collect();
    let records: usize = threads.into_iter().map(|thread| thread.join().expect("a client failed")).sum();
    Some(records as f64 / began.elapsed().as_secs_f64())
}

fn client(port: u16, number: usize, batch: usize, bytes: usize, began: Instant, most: Duration) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("redis listens");
    stream.set_nodelay(true).expect("a socket option");
    let data = vec![b'x'; bytes];
    let mut request = Vec::new();
    for _ in 0..batch {
        let key = format!("stream-{}", number % 8);
        for part in [&b"XADD"[..], key.as_bytes(), b"*", b"d", &data] {
            if part == b"XADD" {
                request.extend_from_slice(b"*5\r\n");
            }
            request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            request.extend_from_slice(part);
            request.extend_from_slice(b"\r\n");
        }
    }
    let mut records = 0;
    let mut buffer = vec![0; 1 << 16];
    while began.elapsed() < most {
        stream.write_all(&request).expect("redis takes it");
        let mut answers = 0;
        // Every answer is a bulk string: a `$` and then an id without one.
        while answers < batch {
            let n = stream.read(&mut buffer).expect("redis answers");
            assert!(n > 0, "redis closed the connection");
            answers += buffer[..n].iter().filter(|byte| **byte == b'$').count();
        }
        records += batch;
    }
    records
}
