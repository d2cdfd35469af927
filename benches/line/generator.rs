//! `penstock load` as the client: one thread on a core of its own sends prebuilt batches, so many at a time unanswered.

use crate::server::Server;
use serde_json::Value;
use std::process::{Command, Stdio};

/// What is sent.
#[derive(Clone, Copy)]
pub struct Shape {
    pub records: usize,
    /// Data of each.
    pub bytes: usize,
    pub connections: usize,
    /// Batches of a connection that may be without an answer.
    pub outstanding: usize,
    pub bulk: bool,
}

/// The client's core; the server has the other one.
const CORE: &str = "0";

/// What a run has shown: batches a second, and the latencies of their acks in µs.
pub struct Figures {
    pub rate: f64,
    pub median: f64,
    pub p99: f64,
    pub p999: f64,
}

/// A run of so many seconds. One that ends with anything but that its figures are the server's, or may be the generator's, ends the benchmark.
pub fn run(server: &Server, stream: &str, shape: &Shape, seconds: u64) -> Figures {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.args(["load", "run", "--wire", "native", "--prebuilt", "--no-verify", "--json"]);
    command.args(["--threads", "1", "--cores", CORE, "--warm-up", "0s", "--stream", stream]);
    let (endpoint, native) = (format!("http://127.0.0.1:{}", server.port), format!("127.0.0.1:{}", server.native));
    command.args(["--endpoint", &endpoint, "--native", &native, "--for", &format!("{seconds}s")]);
    let outstanding = shape.outstanding.to_string();
    command.args(["--closed", &outstanding, "--window", &outstanding]);
    command.args(["--connections", &shape.connections.to_string(), "--batch", &shape.records.to_string()]);
    command.args(["--size", &shape.bytes.to_string()]).args(shape.bulk.then_some("--bulk"));
    // The server asks nobody who they are.
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let output = command.stderr(Stdio::piped()).output().expect("the generator starts");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no report ({error}): {}", String::from_utf8_lossy(&output.stderr)));
    let verdict = report["verdict"].as_str().unwrap_or_default();
    assert!(["VALID", "GENERATOR-BOUND"].contains(&verdict), "{report:#}");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number is missing: {report:#}"));
    let latency = &report["latency_us"];
    Figures {
        rate: number(&report["records_per_second"]) / shape.records as f64,
        median: number(&latency["p50"]),
        p99: number(&latency["p99"]),
        p999: number(&latency["p999"]),
    }
}
