//! What the server takes of memory, against what its bounds add up to: as it starts, and when everything has been used at once.

use crate::client::{Connection, request};
use crate::extent::{Extent, show};
use crate::load::{create, delete, plain, put_records, round_by};
use crate::server::Server;
use penstock::limits::Limits;
use std::process::{Command, Stdio};
use std::time::Duration;

const STREAM: &str = "bench";

/// Requests of each size class of buffers, as many at once as there are buffers; connections; clients in bulk. Again and again, as the second time
/// nothing new may be needed.
pub fn run(extent: &Extent) {
    let server = Server::start_native("2G", &["--when-full", "trim", "--cores", "1"]);
    create(server.port, STREAM, 4);
    let limits = Limits::standard();
    let most = (limits.memory() + penstock::limits::PROGRAM) as f64 / (1 << 20) as f64;
    show("memory: what the bounds add up to, for one worker", "MB", vec![most]);
    show("  as it starts", "MB", vec![server.resident_mb()]);
    let (idle, time, passes) = extent
        .pick((limits.connections as usize - 600, Duration::from_secs(4), 3), (64, Duration::from_millis(500), 1));
    let list = request("ListStreams", "{}");
    let mut connections: Vec<Connection> = (0..idle).map(|_| Connection::open(server.port)).collect();
    for connection in &mut connections {
        connection.ask(&list);
    }
    show(&format!("  with {idle} connections"), "MB", vec![server.resident_mb()]);
    let mut resident = Vec::new();
    for _ in 0..passes {
        // Of some 60 KB, 0.9 MB and 13 MB each.
        for (connections, records, bytes) in
            extent.pick([(300, 100, 400), (200, 100, 6_500), (24, 500, 19_000)], [(4, 100, 400); 3])
        {
            round_by(&plain(server.port), connections, &put_records(STREAM, records, bytes, 4), time);
        }
        bulk(&server, time);
        resident.push(server.resident_mb());
    }
    let highest = resident.iter().copied().fold(0.0, f64::max);
    show("  after everything was used at once", "MB", resident);
    show("  the most of it against what the bounds add up to", "%", vec![highest / most * 100.0]);
    delete(server.port, STREAM);
}

/// Batches in bulk, by the load generator.
fn bulk(server: &Server, time: Duration) {
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let ended = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(["load", "run", "--wire", "native", "--prebuilt", "--no-verify", "--bulk", "--stream", STREAM])
        .args(["--endpoint", &endpoint, "--native", &format!("127.0.0.1:{}", server.native)])
        .args([
            "--connections",
            "32",
            "--closed",
            "4",
            "--window",
            "4",
            "--batch",
            "256",
            "--size",
            "1024",
            "--warm-up",
            "0s",
        ])
        .args(["--for", &format!("{}ms", time.as_millis())])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the generator starts");
    // As well when it was the slower of the two.
    assert!(matches!(ended.code(), Some(0 | 4)), "the generator has failed: {ended}");
}
