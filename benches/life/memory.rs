//! `memory`: what the server takes of memory does not grow, whatever is done, for as long as it is done.
//!
//! Passes for `--minutes`, each of every kind of work one after the other, by `penstock load`, which makes a stream, reads back what it has written, and deletes
//! it: so streams, connections, producers and subscriptions come and go in thousands. The log is small and trims, so it turns again and again. Behind each pass
//! the server has nothing to do for as long as the pass took, and then its resident memory is noted. Memory is taken as it is used, so the first third
//! of the passes may grow; behind that, the highest of the last third is compared with the highest of the second.

use crate::Extent;
use crate::server::Server;
use crate::table::{Bound, Table};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WORK: &[&[&str]] = &[
    &["--wire", "json", "--closed", "1", "--connections", "64", "--batch", "1"],
    &["--wire", "json", "--closed", "1", "--connections", "32", "--batch", "100", "--size", "zipf:64-20K"],
    &["--wire", "json", "--http", "2", "--closed", "8", "--connections", "8"],
    &["--wire", "cbor", "--closed", "1", "--connections", "16", "--batch", "20", "--size", "zipf:64-100K"],
    &["--wire", "native", "--closed", "8", "--connections", "64", "--batch", "1", "--shards", "16"],
    &["--wire", "native", "--closed", "4", "--connections", "16", "--batch", "20", "--size", "zipf:64-100K"],
    &["--wire", "native", "--closed", "4", "--connections", "16", "--batch", "256", "--bulk"],
];
const PASSES_MIN: usize = 3;

pub fn run(table: &mut Table, extent: &Extent) {
    let server = Server::start_native("2G", &["--when-full", "trim"]);
    let start = server.resident_mb();
    let time = Duration::from_secs_f64(extent.minutes * 60.0);
    let each = extent.pick("2s", "200ms");
    let (began, mut resident) = (Instant::now(), Vec::new());
    while resident.len() < PASSES_MIN || began.elapsed() < time {
        let pass = Instant::now();
        WORK.iter().for_each(|work| load(&server, work, each));
        std::thread::sleep(pass.elapsed());
        resident.push(server.resident_mb());
    }
    let third = resident.len() / 3;
    let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let growth = highest(&resident[2 * third..]) / highest(&resident[third..2 * third]);
    table.row("resident memory, as it starts", "MB", vec![start]);
    table.row("the same behind each pass of the first third", "MB", resident[..third].to_vec());
    table.row("behind each of the second", "MB", resident[third..2 * third].to_vec());
    table.row("behind each of the last", "MB", resident[2 * third..].to_vec());
    table.bounded("the highest of the last against that of the second", "", vec![growth], Bound::AtMost(1.01));
}

fn load(server: &Server, work: &[&str], time: &str) {
    let ended = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(["load", "run", "--endpoint", &format!("http://127.0.0.1:{}", server.port)])
        .args(["--native", &format!("127.0.0.1:{}", server.native), "--warm-up", "0s", "--for", time])
        .args(work)
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the generator starts");
    // As well when one of the two was too slow for the other.
    assert!(matches!(ended.code(), Some(0 | 3 | 4)), "the generator has failed: {work:?}: {ended}");
}
