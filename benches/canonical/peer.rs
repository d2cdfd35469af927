//! Redis with `appendfsync always`: the peer of the rate, where it is installed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 16_379;

/// Records a second of `batch` XADDs a round trip over `clients` connections; `None` where there is no redis-server.
pub fn redis_records(batch: usize, bytes: usize, clients: usize, most: Duration) -> Option<f64> {
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_penstock")).parent()?.join("bench-redis");
    std::fs::create_dir_all(&dir).ok()?;
    let mut server = Command::new("redis-server")
        .args(["--port", &PORT.to_string(), "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir"])
        .arg(&dir)
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let up = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        TcpStream::connect(("127.0.0.1", PORT)).ok()
    });
    let rate = up.map(|_| {
        let began = Instant::now();
        let threads: Vec<_> =
            (0..clients).map(|c| std::thread::spawn(move || client(c, batch, bytes, began, most))).collect();
        let records: usize = threads.into_iter().map(|thread| thread.join().expect("a client failed")).sum();
        records as f64 / began.elapsed().as_secs_f64()
    });
    let _ = server.kill();
    let _ = server.wait();
    let _ = std::fs::remove_dir_all(&dir);
    rate
}

fn client(number: usize, batch: usize, bytes: usize, began: Instant, most: Duration) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).expect("redis listens");
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
