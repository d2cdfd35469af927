//! `penstock load` as its user meets it, against the real server: what it prints, what it leaves behind, how it ends.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_penstock");
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// VALID, OVERLOADED, GENERATOR-BOUND: a busy machine may have any of them. INVALID is 5.
const SOUND: [i32; 3] = [0, 3, 4];

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("penstock-load-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of text").to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that has said where it is.
struct Server {
    child: Child,
    endpoint: String,
    native: String,
}

impl Server {
    fn start(scratch: &Scratch, more: &[&str]) -> Server {
        Server::at(scratch, ("127.0.0.1:0", "127.0.0.1:0"), more)
    }

    fn at(scratch: &Scratch, (http, native): (&str, &str), more: &[&str]) -> Server {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--cores", "0", "--disk", "1G", "--listen", http, "--native", native, "--data"]);
        command.arg(scratch.path("data")).args(more).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let (mut endpoint, mut native) = (None, None);
        for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            let value = |name| Some(line.trim_start().strip_prefix(name)?.split_whitespace().next()?.to_string());
            endpoint = endpoint.or(value("endpoint "));
            native = native.or(value("native "));
            if line.contains("get-records") {
                break;
            }
        }
        let (endpoint, native) = (endpoint.expect("it says where it is"), native.expect("it says where it is"));
        Server { child, endpoint, native }
    }

    fn verify(&self, more: &[&str]) -> Command {
        let mut command = load();
        command.args(["verify", "--endpoint", &self.endpoint, "--native", &self.native]).args(more);
        command
    }

    fn load(&self, what: &str, more: &[&str]) -> Command {
        let mut command = load();
        command.args([what, "--endpoint", &self.endpoint, "--native", &self.native, "--quiet"]).args(more);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The generator, without what the environment of the tests says of keys.
fn load() -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("load").env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env_remove("AWS_SESSION_TOKEN").env_remove("AWS_REGION");
    command
}

/// Its exit code, the JSON that it prints, and what it says.
fn told(mut command: Command) -> (i32, Value, String) {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&stderr).into_owned();
    let json = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
    (status.code().expect("it is not killed"), json, text)
}

const SHORT: [&str; 5] = ["--for", "1s", "--warm-up", "300ms", "--json"];

/// Whether a verified run has found everything.
fn assert_all_there(code: i32, json: &Value, text: &str) {
    assert!(SOUND.contains(&code), "{code}: {json} {text}");
    for name in ["lost", "duplicated", "reordered", "unverified"] {
        assert_eq!(json[name], 0, "{name}: {json} {text}");
    }
    assert!(json["acked_records"].as_u64().expect("a count") > 0, "{json}");
}

fn names(json: &Value) -> Vec<&str> {
    json.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_verified_run_has_the_members_that_scripts_rely_on_and_leaves_its_files() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let out = scratch.path("out");
    let shapes = ["--schedule", "poisson", "--rate", "800", "--batch", "4", "--out", &out];
    let spread = ["--size", "zipf:64-2000", "--popularity", "hot:0.3", "--keys", "50"];
    let (code, json, text) = told(server.load("run", &[&SHORT[..], &shapes, &spread].concat()));
    assert_all_there(code, &json, &text);
    let mut expected = [
        "verdict",
        "acked_records",
        "acked_bytes",
        "seconds",
        "records_per_second",
        "bytes_per_second",
        "latency_us",
        "service_us",
        "lost",
        "duplicated",
        "reordered",
        "unverified",
    ];
    expected.sort();
    assert_eq!(names(&json), expected);
    for member in ["latency_us", "service_us"] {
        assert_eq!(names(&json[member]), ["max", "p50", "p90", "p99", "p999"]);
    }
    assert!(json["latency_us"]["p50"].as_f64() >= json["service_us"]["p50"].as_f64(), "{json}");
    let read = |name: &str| std::fs::read_to_string(scratch.0.join("out").join(name)).expect("it was written");
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!((&report["schema"], &report["verdict"]), (&json!(1), &json["verdict"]));
    assert!(report["verified"].as_u64() >= report["acked_records"].as_u64(), "the warm-up is verified too: {report}");
    assert!(report["put_to_get_us"]["p50"].as_f64() > Some(0.0));
    assert!(read("histograms.hlog").starts_with("#[Histogram log format version 1.3]\n"));
    assert!(read("response.hgrm").contains("1/(1-Percentile)"));
    let host: Value = serde_json::from_str(&read("env.json")).expect("JSON");
    assert!(host["kernel"].is_string() && host["tuning"]["checks"].is_array(), "{host}");
    // Two hosts that have measured the same are twice as many records, and no other latency.
    let both = scratch.path("both");
    let mut merge = load();
    merge.args(["merge", &out, &out, "--out", &both, "--json"]);
    let (code, printed, text) = told(merge);
    assert_eq!(code, 0, "{text}");
    assert_eq!(names(&printed), expected);
    let merged = std::fs::read_to_string(scratch.0.join("both/report.json")).expect("it was written");
    let merged: Value = serde_json::from_str(&merged).expect("JSON");
    assert_eq!(merged["acked_records"].as_u64(), report["acked_records"].as_u64().map(|count| 2 * count));
    for member in expected {
        assert_eq!(printed[member], merged[member], "{member}");
        let same = ["verdict", "seconds", "latency_us", "service_us"].contains(&member);
        let once = |value: &Value| value.as_f64().unwrap_or(0.0);
        match same {
            true => assert_eq!(printed[member], report[member], "{member}"),
            false => {
                assert!((once(&printed[member]) - 2.0 * once(&report[member])).abs() < 1e-2, "{member}: {printed}")
            }
        }
    }
    // Without a directory nothing is left, and people are told the same.
    let text = load().args(["merge", &out, &out]).output().expect("it runs").stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("2 runs") && text.contains("  latency ") && text.contains("0 lost"), "{text}");
    let (code, _, text) = told({
        let mut merge = load();
        merge.args(["merge", &out, &scratch.path("nothing")]);
        merge
    });
    assert!(code == 1 && text.contains("report.json"), "{text}");
}

#[test]
fn the_kinesis_api_is_spoken_in_both_encodings_signed_or_not_one_record_or_many() {
    let scratch = Scratch::new();
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let users = json!({"users": [{"name": "load", "keys": [{"id": KEY, "secret": SECRET}], "policies": [policy]}]});
    let path = scratch.path("credentials.json");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).expect("a file of our own");
    file.write_all(users.to_string().as_bytes()).expect("written");
    let server = Server::start(&scratch, &["--credentials", &path]);
    let pace = ["--rate", "200", "--connections", "3", "--shards", "2"];
    for (wire, batch) in [("json", "10"), ("cbor", "10"), ("json", "1"), ("cbor", "1"), ("native", "10")] {
        let mut command = server.load("run", &[&SHORT[..], &pace, &["--wire", wire, "--batch", batch]].concat());
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let (code, json, text) = told(command);
        assert_all_there(code, &json, &format!("{wire} {batch}: {text}"));
    }
    // Over HTTP/2: streams of few connections, bodies of several frames among them.
    for (wire, batch, size) in [("json", "10", "8K"), ("cbor", "1", "1K"), ("cbor", "20", "zipf:100-30K")] {
        let flags = ["--http", "2", "--connections", "2", "--wire", wire, "--batch", batch, "--size", size];
        let mut command = server.load("run", &[&SHORT[..], &["--rate", "400", "--shards", "2"], &flags].concat());
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let (code, json, text) = told(command);
        assert_all_there(code, &json, &format!("{wire} {batch}: {text}"));
    }
    let (code, _, text) = told(server.load("run", &SHORT));
    assert!(code == 1 && text.contains("the endpoint says"), "{code}: {text}");
    let wrong = server.load("run", &[&SHORT[..], &["--key-id", KEY, "--secret", "another"]].concat());
    let (code, _, text) = told(wrong);
    assert!(code == 1 && text.contains("Signature"), "{code}: {text}");
}

#[test]
fn an_endpoint_in_tls_is_spoken_to_if_its_certificate_is_believed() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &["--tls-self-signed"]);
    assert!(server.endpoint.starts_with("https://"), "{}", server.endpoint);
    let authority = scratch.path("data/tls/authority.pem");
    let pace = ["--rate", "300", "--batch", "20", "--size", "4K", "--connections", "3", "--shards", "2"];
    for wire in ["json", "cbor", "native"] {
        let flags = [&SHORT[..], &pace, &["--ca", &authority, "--wire", wire]].concat();
        let (code, json, text) = told(server.load("run", &flags));
        assert_all_there(code, &json, &text);
    }
    let flags = [&SHORT[..], &pace, &["--ca", &authority, "--wire", "cbor", "--http", "2"]].concat();
    let (code, json, text) = told(server.load("run", &flags));
    assert_all_there(code, &json, &text);
    // What the server counts is told there too, and the stream that was kept is read over the native port in TLS.
    let out = scratch.path("out");
    let flags = [&SHORT[..], &pace, &["--ca", &authority, "--keep", "--out", &out]].concat();
    let (code, json, text) = told(server.load("run", &flags));
    assert_all_there(code, &json, &text);
    let report = std::fs::read_to_string(scratch.0.join("out/report.json")).expect("it was written");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert!(report["server"]["penstock_commits_total"].as_f64() > Some(0.0), "{report}");
    let (code, json, text) = told(server.verify(&["--strict", "--json", "--ca", &authority]));
    assert!(code == 0 && json["runs"][0]["records"].as_u64() > Some(100), "{code}: {json} {text}");
    let (code, _, text) = told(server.verify(&[]));
    assert!(code == 1 && (text.contains("certificate") || text.contains("--ca")), "{code}: {text}");
    let (code, _, text) = told(server.load("run", &SHORT));
    assert!(code == 1 && (text.contains("certificate") || text.contains("--ca")), "{code}: {text}");
}

#[test]
fn a_closed_loop_of_prebuilt_requests_proves_nothing_and_says_so() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &["--when-full", "trim"]);
    for (wire, http) in [("native", "1.1"), ("json", "1.1"), ("json", "2")] {
        let flags = [
            "--for",
            "1s",
            "--warm-up",
            "200ms",
            "--prebuilt",
            "--closed",
            "2",
            "--batch",
            "50",
            "--wire",
            wire,
            "--http",
            http,
        ];
        let output = server.load("run", &flags).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(SOUND.contains(&output.status.code().expect("it ends")), "{output:?}");
        assert!(text.contains("proves no content") && !text.contains("sent late"), "{text}");
    }
}

#[test]
fn bulk_batches_come_back_as_they_were_written() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let bulk = ["--bulk", "--batch", "100", "--rate", "2000", "--size", "uniform:500-1500", "--connections", "4"];
    let (code, json, text) = told(server.load("run", &[&SHORT[..], &bulk].concat()));
    assert_all_there(code, &json, &text);
    let (code, _, text) = told(server.load("run", &["--bulk", "--wire", "json"]));
    assert!(code == 1 && text.contains("native"), "{code}: {text}");
}

/// A call of the API that must be answered well.
fn call(server: &Server, operation: &str, body: &Value) {
    let host = server.endpoint.strip_prefix("http://").expect("plain HTTP");
    let body = body.to_string();
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{operation}: {answer}");
}

#[test]
fn shards_that_two_threads_read_may_be_merged_and_split_and_nothing_is_found_wrong() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    for wire in ["native", "cbor"] {
        let out = scratch.path(wire);
        let pace =
            ["--for", "4s", "--warm-up", "0s", "--rate", "2000", "--batch", "5", "--keys", "40", "--stream", wire];
        let threads = ["--wire", wire, "--threads", "2", "--shards", "2", "--poll", "1ms", "--json", "--out", &out];
        let command = server.load("run", &[&pace[..], &threads].concat());
        let running = thread::spawn(move || told(command));
        // A second of the run has been told of: then its records come.
        let log = scratch.0.join(wire).join("histograms.hlog");
        let told = || std::fs::read_to_string(&log).unwrap_or_default().contains("Tag=");
        while !told() {
            assert!(!running.is_finished(), "it ended before its time: {:?}", running.join());
            thread::sleep(Duration::from_millis(20));
        }
        let id = |shard: u32| format!("shardId-{shard:012}");
        let merge = |a, b| json!({ "StreamName": wire, "ShardToMerge": id(a), "AdjacentShardToMerge": id(b) });
        call(&server, "MergeShards", &merge(0, 1));
        let half = (1u128 << 127).to_string();
        call(&server, "SplitShard", &json!({ "StreamName": wire, "ShardToSplit": id(2), "NewStartingHashKey": half }));
        call(&server, "MergeShards", &merge(3, 4));
        let (code, json, text) = running.join().expect("it ends");
        assert_all_there(code, &json, &format!("{wire}: {text}"));
        let report = std::fs::read_to_string(scratch.0.join(wire).join("report.json")).expect("it was written");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["threads"], 2, "{report}");
        // Each counts for the thread that wrote it.
        assert_eq!(report["read_records"], report["verified"], "{report}");
    }
}

/// An address that was free a moment ago.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

#[test]
fn a_server_that_is_killed_and_started_again_is_found_again_and_what_it_acknowledged_is_there() {
    let scratch = Scratch::new();
    let (http, native) = (free(), free());
    let server = Server::at(&scratch, (&http, &native), &[]);
    let out = scratch.path("out");
    let flags = ["--for", "5s", "--warm-up", "0s", "--rate", "1000", "--batch", "5", "--json", "--out", &out];
    let command = server.load("run", &flags);
    let running = thread::spawn(move || told(command));
    // The histogram log grows once a second: then it runs.
    let log = scratch.0.join("out/histograms.hlog");
    let lines =
        || std::fs::read_to_string(&log).unwrap_or_default().lines().filter(|line| line.starts_with("Tag=")).count();
    while lines() == 0 {
        assert!(!running.is_finished(), "it ended before its time: {:?}", running.join());
        thread::sleep(Duration::from_millis(20));
    }
    drop(server);
    let _server = Server::at(&scratch, (&http, &native), &[]);
    let (code, json, text) = running.join().expect("it ends");
    assert_all_there(code, &json, &text);
    let report = std::fs::read_to_string(scratch.0.join("out/report.json")).expect("it was written");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert!(report["disconnects"].as_u64() >= Some(1), "{report}");
    assert!(report["reasons"].to_string().contains("connections ended"), "{report}");
}

#[test]
fn without_arguments_it_has_a_server_of_its_own_and_both_are_gone_afterwards() {
    let scratch = Scratch::new();
    let own = ["--for", "1s", "--disk", "1G", "--server-cores", "0", "--json", "--quiet", "--scratch"];
    let mut command = load();
    command.args(own).arg(&scratch.0);
    let (code, json, text) = told(command);
    assert_all_there(code, &json, &text);
    assert!(json["bytes_per_second"].as_f64() > Some(1e6), "{json}");
    let left: Vec<_> = std::fs::read_dir(&scratch.0).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_help_says_what_it_does_alone_and_verify_has_no_flag_of_writing() {
    let help = |arguments: &[&str]| {
        let output = load().args(arguments).arg("--help").output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(help(&[]).contains("Without a command it starts a server of its own"));
    let (run, verify) = (help(&["run"]), help(&["verify"]));
    for flag in ["--shards <N>\n", " --keep\n", "--http <VERSION>\n"] {
        assert!(run.contains(flag) && !verify.contains(flag), "{flag}: {verify}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let scratch = Scratch::new();
    let nobody = free();
    let run = |more: &[&str]| {
        let mut command = load();
        command.args(["run", "--quiet", "--endpoint", &format!("http://{nobody}"), "--native", &nobody]).args(more);
        told(command)
    };
    let check = |more: &[&str], code: i32, word: &str| {
        let (is, _, text) = run(more);
        assert!(is == code && text.contains(word), "{more:?}: {is}: {text}");
    };
    check(&[], 1, "is a server running there?");
    check(&["--size", "20"], 1, "--no-verify");
    check(&["--wire", "json", "--batch", "501"], 1, "500 records");
    check(&["--batch", "60000", "--size", "10K"], 1, "12 MB");
    check(&["--http", "2"], 1, "--wire json");
    check(&["--key-id", KEY], 1, "--secret");
    check(&["--rate", "5", "--closed", "1"], 2, "cannot be used with");
    check(&["--schedule", "sine:2,1"], 2, "out of its range");
    check(&["--for", "5"], 2, "a time has a unit");
    let file = scratch.path("file");
    std::fs::write(&file, "").expect("written");
    check(&["--out", &file], 1, "--out");
}

#[test]
fn a_full_disk_under_its_files_is_told_and_a_stream_that_is_not_ours_stays() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let (code, json, text) = told(server.load("run", &[&SHORT[..], &["--keep", "--rate", "100"]].concat()));
    assert_all_there(code, &json, &text);
    std::fs::create_dir(scratch.0.join("out")).expect("made");
    // Writes there fail as on a full disk.
    symlink("/dev/full", scratch.0.join("out/histograms.hlog")).expect("linked");
    let out = scratch.path("out");
    let full = server.load("run", &[&SHORT[..], &["--out", &out, "--rate", "100"]].concat());
    let (code, _, text) = told(full);
    assert!(code == 1 && text.contains("histograms.hlog cannot be written"), "{code}: {text}");
    // Where a disk becomes full meanwhile, as files that may have a kilobyte do, what was measured is told all the same.
    let meanwhile = scratch.path("meanwhile");
    let flags = server.load("run", &[&SHORT[..], &["--out", &meanwhile, "--rate", "100"]].concat());
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\"", PROGRAM]).args(flags.get_args());
    let (code, json, text) = told(limited);
    assert!(code == 1 && text.contains("cannot be written"), "{code}: {text}");
    assert!(json["acked_records"].as_u64() > Some(50) && json["lost"] == 0, "{json}");
    // The stream is there, with the records of a run that is over: they are nobody's.
    for _ in 0..2 {
        let (code, json, text) = told(server.load("run", &[&SHORT[..], &["--rate", "100"]].concat()));
        assert_all_there(code, &json, &text);
    }
    // All of them can be read back later, over the native protocol as by the API.
    let (code, json, text) = told(server.verify(&["--strict", "--json"]));
    assert_eq!(code, 0, "{json} {text}");
    assert_eq!(told(server.verify(&["--strict", "--json", "--wire", "cbor"])), (0, json.clone(), String::new()));
    let runs = json["runs"].as_array().expect("a list");
    assert_eq!((runs.len(), &json["others"]), (4, &json!(0)), "{json}");
    for run in runs {
        let none = ["before", "missing", "duplicated", "reordered", "damaged"].map(|name| run[name].as_u64());
        assert_eq!(none, [Some(0); 5], "{run}");
        assert!(run["records"].as_u64() > Some(50), "{run}");
    }
    for (wire, word) in [("json", "the endpoint says"), ("native", "UnknownStream")] {
        let (code, _, text) = told(server.verify(&["--stream", "nothing", "--wire", wire]));
        assert!(code == 1 && text.contains(word), "{code}: {text}");
    }
}

#[test]
fn the_highest_rate_is_searched_for_and_a_promise_that_nobody_can_keep_is_told() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let short = ["--for", "500ms", "--warm-up", "100ms", "--json", "--batch", "2"];
    let flags = [&short[..], &["--slo", "max=0us", "--from", "100"]].concat();
    let (code, json, text) = told(server.load("max", &flags));
    assert!([3, 4].contains(&code) && json["records_per_second"].is_null(), "{code}: {json} {text}");
    assert!(json["slo"]["measured_us"].is_null() && json["slo"]["quantile"] == 1.0, "{json}");
    let (scratch, mut left) = (Scratch::new(), Vec::new());
    let out = scratch.path("out");
    let flags = [&short[..], &["--slo", "max=1h", "--from", "100", "--to", "100", "--out", &out]].concat();
    let (code, json, text) = told(server.load("max", &flags));
    assert!([0, 3, 4].contains(&code), "{code}: {json} {text}");
    if code == 0 {
        assert!(json["records_per_second"] == 100.0 && json["latency_us"]["p99"].as_f64() > Some(0.0), "{json}");
        assert!(json["verdict"] == "VALID" && json["lost"] == 0, "{json}");
        let runs = std::fs::read_dir(&out).expect("it was made").map(|entry| entry.expect("a directory"));
        left.extend(runs.map(|run| run.file_name().into_string().expect("text")));
        left.sort();
        assert_eq!(left, ["01-100", "02-100"], "one for the run that finds it, one for the run that confirms it");
        assert!(left.iter().all(|run| std::path::Path::new(&out).join(run).join("report.json").is_file()));
    }
    let (code, _, text) = told(server.load("max", &["--slo", "p98=1ms"]));
    assert!(code == 2 && text.contains("the percentile is"), "{code}: {text}");
}

#[test]
fn the_self_test_measures_no_less_than_the_theory() {
    let mut command = load();
    command.args(["selftest", "--json", "--attempts", "1"]);
    let (code, json, text) = told(command);
    assert!([0, 6].contains(&code), "{code}: {text}");
    let cases = json["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 5);
    for case in cases {
        for line in case["percentiles"].as_array().expect("a list") {
            let figure = |name: &str| line[name].as_f64().expect("a number");
            // A busy machine adds to it. Less would be time that the generator has hidden.
            assert!(figure("measured_us") >= 0.98 * figure("theory_us"), "{case}");
        }
    }
    assert_eq!(code == 0, json["within_2_percent"] == true);
}

#[test]
fn a_run_that_got_worse_is_told_from_one_that_only_varies() {
    let scratch = Scratch::new();
    let write = |name: &str, records: &dyn Fn(u64) -> u64| {
        let blocks = (0..30u64).map(|second| {
            // Noise of a few percent that repeats nothing.
            let noise = second.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
            json!({ "second": second, "records": records(noise), "bytes": 1, "requests": 1,
                    "p50_us": 100 + noise, "p99_us": 1000 + noise, "p999_us": 2000, "mean_us": 120 + noise })
        });
        let report = json!({ "schema": 1, "verdict": "VALID", "blocks": blocks.collect::<Vec<_>>() });
        std::fs::create_dir(scratch.0.join(name)).expect("made");
        std::fs::write(scratch.0.join(name).join("report.json"), report.to_string()).expect("written");
        scratch.path(name)
    };
    let usual = write("a", &|noise| 10_000 + noise);
    let slower = write("b", &|noise| 9_000 + noise);
    let other = write("c", &|noise| 10_064 - noise);
    let compare = |a: &str, b: &str, more: &[&str]| {
        let mut command = load();
        command.args(["compare", a, b, "--json"]).args(more);
        told(command)
    };
    assert_eq!(compare(&usual, &slower, &[]).0, 3);
    assert_eq!(compare(&slower, &usual, &[]).0, 0);
    assert_eq!(compare(&usual, &other, &[]).0, 0);
    assert_eq!(compare(&usual, &slower, &["--threshold", "20"]).0, 0);
    let (_, json, _) = compare(&usual, &slower, &[]);
    let difference = json["measures"][0]["difference"].as_f64().expect("a number");
    assert!((difference + 0.1).abs() < 0.01, "{json}");
    let (code, _, text) = compare(&usual, &scratch.path("nothing"), &[]);
    assert!(code == 1 && text.contains("report.json"), "{text}");
}
