//! How other commands reach the server of a data directory: a file there names its address and a key. Who can read the data can read the
//! file; nobody else, no web page and no other user of the machine, can give orders.

use crate::worker::serve::{ADMIN_SCHEME, REBALANCE_PATH, SNAPSHOT_PATH};
use crate::worker::snapshot::SNAPSHOT_MS;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const ADMIN: &str = "admin";
/// Before the address of a server that speaks TLS.
const TLS: &str = "https://";
/// How long a connection may take, and a reply beyond what the server allows itself.
const CONNECT: Duration = Duration::from_secs(5);
const REPLY: Duration = Duration::from_millis(SNAPSHOT_MS + 10_000);
/// Of a reply.
const REPLY_BYTES_MAX: u64 = 4 << 20;

/// Writes down where the server of `data` is, and a new key for it.
pub fn announce(data: &Path, endpoint: SocketAddr, tls: bool, random: &[u8; 32]) -> Result<[u8; 16], String> {
    let path = data.join(ADMIN);
    let key: [u8; 16] = random[..16].try_into().expect("16 of 32 bytes");
    let scheme = if tls { TLS } else { "" };
    let text = format!("{scheme}{endpoint}\n{:032x}\n", u128::from_be_bytes(key));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(key)
}

/// The server of a data directory, for one command at a time.
pub struct Server {
    endpoint: SocketAddr,
    tls: bool,
    key: String,
    /// Locked for as long as this lives.
    _file: File,
}

impl Server {
    /// Finds the server of `data`.
    pub fn of(data: &Path) -> Result<Server, String> {
        let path = data.join(ADMIN);
        let mut file = File::open(&path).map_err(|error| {
            format!("{}: {error}; --data names the data directory of a running server", path.display())
        })?;
        file.try_lock().map_err(|_| format!("another command is busy with the server of {}", data.display()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or("");
        let tls = first.starts_with(TLS);
        let endpoint = first.strip_prefix(TLS).unwrap_or(first).parse().ok();
        match (endpoint, lines.next()) {
            (Some(endpoint), Some(key)) => Ok(Server { endpoint, tls, key: key.to_string(), _file: file }),
            _ => Err(format!("{} does not say where a server is: it is written when one starts", path.display())),
        }
    }

    /// Asks for a snapshot under `capture/`; gives the server's JSON when it is there.
    pub fn snapshot(&self) -> Result<serde_json::Value, String> {
        self.ask(SNAPSHOT_PATH, "").map_err(|why| format!("{why}: no snapshot was taken"))
    }

    /// Asks for moves of shards (`worker/rebalance.rs` has the body's form); gives the server's JSON when they have been made, or not.
    pub fn rebalance(&self, body: &serde_json::Value) -> Result<serde_json::Value, String> {
        self.ask(REBALANCE_PATH, &body.to_string())
    }

    fn ask(&self, path: &str, body: &str) -> Result<serde_json::Value, String> {
        let Server { endpoint, key, .. } = self;
        let failed =
            |error: std::io::Error| format!("the server at {endpoint} does not answer: {error}; is it running?");
        let stream = TcpStream::connect_timeout(endpoint, CONNECT).map_err(failed)?;
        stream.set_read_timeout(Some(REPLY)).and_then(|()| stream.set_write_timeout(Some(CONNECT))).map_err(failed)?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {endpoint}\r\nAuthorization: {ADMIN_SCHEME}{key}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let reply = match self.tls {
            true => exchange(super::tls::to_own_server(stream, endpoint.ip())?, &request),
            false => exchange(stream, &request),
        };
        let reply = reply.map_err(failed)?;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let answer = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
        match head.split(' ').nth(1) {
            Some("200") => Ok(answer),
            None => Err(format!(
                "the server at {endpoint} has ended the connection without an answer; its own output says why"
            )),
            Some("403") => {
                Err(format!("the server at {endpoint} is another one than the one that has this data directory"))
            }
            _ => {
                let why = answer["message"].as_str().unwrap_or(body.trim());
                Err(format!("the server at {endpoint} says: {why}"))
            }
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut reply = String::new();
    stream.take(REPLY_BYTES_MAX).read_to_string(&mut reply)?;
    Ok(reply)
}
