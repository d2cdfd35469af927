//! The program as its operator meets it: arguments, banner, refusals, signals, exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PROGRAM: &str = env!("CARGO_BIN_EXE_penstock");

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("penstock-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--cores", "0", "--disk", "1G", "--data"]).arg(data).args(more);
    if !more.contains(&"--native") {
        command.args(["--native", "127.0.0.1:0"]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(data: &Path, more: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = serve(data, more).output().expect("it runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// A server that has said that it is ready.
struct Server {
    child: Child,
    banner: Vec<String>,
    endpoint: String,
}

impl Server {
    fn start(data: &Path) -> Server {
        Server::start_with(data, &[])
    }

    fn start_with(data: &Path, more: &[&dyn AsRef<std::ffi::OsStr>]) -> Server {
        let more = more.iter().map(|flag| flag.as_ref().to_str().expect("text"));
        let flags: Vec<&str> = ["--listen", "127.0.0.1:0"].into_iter().chain(more).collect();
        let mut child = serve(data, &flags).spawn().expect("it starts");
        let mut banner = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            banner.push(line.expect("text"));
            if banner.last().is_some_and(|line| line.contains("get-records")) {
                break;
            }
        }
        let endpoint = banner.iter().find_map(|line| line.split_once("endpoint  http://")).map(|(_, rest)| rest);
        let endpoint =
            endpoint.and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("no endpoint in {banner:?}"));
        Server { endpoint: endpoint.to_string(), banner, child }
    }

    fn stop(mut self, signal: &str) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
        let status = self.child.wait().expect("it ends");
        let mut told = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
        (status, told)
    }
}

#[test]
fn a_server_says_where_it_is_takes_connections_and_stops_on_a_signal() {
    let scratch = Scratch::new();
    for (signal, state) in [("-TERM", "(new)"), ("-INT", "(opened: 0 streams, 0 records)")] {
        let server = Server::start(&scratch.0);
        assert!(server.banner.iter().any(|line| line.contains(state)), "{:?}", server.banner);
        TcpStream::connect(&server.endpoint).expect("it listens where it says");
        let (status, told) = server.stop(signal);
        assert_eq!(status.code(), Some(0), "{told}");
        assert!(told.contains("stopped: the log is closed"), "{told}");
    }
}

#[test]
fn several_workers_share_a_core_where_they_are_asked_for() {
    let scratch = Scratch::new();
    let server = Server::start_with(&scratch.0, &[&"--workers", &"2"]);
    let cores = server.banner.iter().find(|line| line.trim().starts_with("cores")).expect("it is told");
    assert!(cores.contains(" 0 (2 workers;") && cores.contains("as --workers says"), "{cores}");
    call(&server.endpoint, "CreateStream", r#"{"StreamName":"shared","ShardCount":16}"#);
    for key in 0..16 {
        let record = format!(r#"{{"StreamName":"shared","PartitionKey":"{key}","Data":"AA=="}}"#);
        call(&server.endpoint, "PutRecord", &record);
    }
    let (status, told) = server.stop("-TERM");
    assert_eq!(status.code(), Some(0), "{told}");
}

#[test]
fn a_directory_has_one_server_and_is_free_when_that_one_was_killed() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0);
    let (code, told) = refused(&scratch.0, &["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(told.contains(&format!("in use by process {}", server.child.id())), "{told}");
    server.stop("-KILL");
    let (status, told) = Server::start(&scratch.0).stop("-TERM");
    assert_eq!(status.code(), Some(0), "{told}");
}

#[test]
fn an_address_that_is_taken_or_not_loopback_is_refused() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let server = Server::start(&scratch.0);
    let (code, told) = refused(&other.0, &["--listen", &server.endpoint]);
    assert!(code == Some(1) && told.contains("in use by another process"), "{told}");
    let (code, told) = refused(&other.0, &["--listen", "0.0.0.0:0"]);
    assert!(code == Some(1) && told.contains("loopback"), "{told}");
    let native = server.banner.iter().find_map(|line| line.trim().strip_prefix("native")).expect("it is told").trim();
    TcpStream::connect(native).expect("it listens where it says");
    let (code, told) = refused(&other.0, &["--listen", "127.0.0.1:0", "--native", native]);
    assert!(code == Some(1) && told.contains("another address with --native"), "{told}");
    let (code, told) = refused(&other.0, &["--listen", "127.0.0.1:0", "--native", "0.0.0.0:0"]);
    assert!(code == Some(1) && told.contains("--native 0.0.0.0:0: only loopback"), "{told}");
    let (code, told) = refused(&other.0, &["--native", "on"]);
    assert!(code == Some(2) && told.contains("or off"), "{told}");
    server.stop("-KILL");
    let server = Server::start_with(&other.0, &[&"--native", &"off"]);
    assert!(server.banner.iter().any(|line| line.trim() == "native    off"), "{:?}", server.banner);
    server.stop("-KILL");
}

#[test]
fn what_has_several_directories_is_snapshotted_whole_and_not_exported_in_part() {
    let (home, further, other) = (Scratch::new(), Scratch::new(), Scratch::new());
    let server = Server::start_with(&home.0, &[&"--data", &further.0]);
    let target = other.0.join("snapshot");
    let (code, told) = run(&[&"snapshot", &target, &"--data", &home.0]);
    assert!(code == Some(0) && target.join("directory-1").is_dir(), "{told}");
    let (status, told) = server.stop("-TERM");
    assert_eq!(status.code(), Some(0), "{told}");
    let (code, told) = run(&[&"export", &home.0, &"--stream", &"s"]);
    assert!(code == Some(1) && told.contains(&further.0.display().to_string()), "{told}");
}

#[test]
fn wrong_arguments_are_told_apart_from_failures() {
    let scratch = Scratch::new();
    for wrong in [
        ["--cores", "x"],
        ["--workers", "0"],
        ["--workers", "129"],
        ["--disk", "4X"],
        ["--when-full", "explode"],
        ["--account", "12"],
        ["--retention-hour", "0"],
        ["--scrub-days", "NaN"],
        ["--scrub-days", "4000"],
    ] {
        let (code, told) = refused(&scratch.0, &wrong);
        assert!(code == Some(2) && told.contains(wrong[0]), "{told}");
    }
    let (code, told) = refused(Path::new("/proc/nowhere"), &[]);
    assert!(code == Some(1) && told.contains("--data"), "{told}");
    let help = Command::new(PROGRAM).args(["serve", "--help"]).output().expect("it runs");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("retention-hour"));
}

fn run(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(arguments).output().expect("it runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// One call of the API.
fn call(endpoint: &str, operation: &str, body: &str) {
    let mut stream = TcpStream::connect(endpoint).expect("it listens");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {endpoint}\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\nConnection: close\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("text");
    assert!(reply.starts_with("HTTP/1.1 200 "), "{operation}: {reply}");
}

/// Flips a bit of a file.
fn harm(file: &Path, byte: usize) {
    let mut bytes = std::fs::read(file).expect("it is there");
    bytes[byte] ^= 1;
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn a_snapshot_is_taken_restored_and_refused_where_it_must_be() {
    let (scratch, server) = (Scratch::new(), Scratch::new());
    let at = |name: &str| scratch.0.join(name);
    let (code, told) = run(&[&"snapshot", &at("none"), &"--data", &server.0]);
    assert!(code == Some(1) && told.contains("running server"), "{told}");
    let running = Server::start(&server.0);
    call(&running.endpoint, "CreateStream", r#"{"StreamName":"s","ShardCount":1}"#);
    call(&running.endpoint, "PutRecord", r#"{"StreamName":"s","PartitionKey":"k","Data":"aGVsbG8="}"#);
    let (code, told) = run(&[&"snapshot", &scratch.0, &"--data", &server.0]);
    assert_eq!(code, Some(0), "an empty directory is as good as a new one: {told}");
    std::fs::create_dir(at("more")).expect("a directory");
    let (code, told) = run(&[&"snapshot", &scratch.0, &"--data", &server.0]);
    assert!(code == Some(1) && told.contains("is not empty"), "{told}");
    std::fs::remove_dir(at("more")).expect("removed");
    running.stop("-TERM");
    let (code, told) = run(&[&"snapshot", &server.0.join("x"), &"--data", &server.0]);
    assert!(code == Some(1) && told.contains("is it running?"), "{told}");

    let target = Scratch::new();
    let (code, told) = run(&[&"restore", &scratch.0, &server.0]);
    assert!(code == Some(1) && told.contains("is not empty"), "{told}");
    let (code, told) = run(&[&"restore", &server.0, &target.0]);
    assert!(code == Some(1) && told.contains("is no snapshot"), "{told}");
    let segment = std::fs::read_dir(at("log-000")).expect("listed").next().expect("a segment").expect("listed").path();
    // In the body of the record's frame, behind two headers.
    harm(&segment, 130);
    let (code, told) = run(&[&"restore", &scratch.0, &target.0]);
    assert!(code == Some(1) && told.contains(&format!("{} is damaged at byte 0", segment.display())), "{told}");
    assert_eq!(std::fs::read_dir(&target.0).expect("listed").count(), 0, "nothing is left of it");
    harm(&segment, 130);
    harm(&at("superblock-0"), 4000);
    let (code, told) = run(&[&"restore", &scratch.0, &target.0]);
    assert!(code == Some(1) && told.contains("superblock-0 is not what it was"), "{told}");
    harm(&at("superblock-0"), 4000);
    let (code, told) = run(&[&"restore", &scratch.0, &target.0]);
    assert!(code == Some(0) && told.contains("1 segments") && told.contains("all verified"), "{told}");
    let restored = Server::start(&target.0);
    assert!(restored.banner.iter().any(|line| line.contains("1 streams, 1 records")), "{:?}", restored.banner);
    restored.stop("-TERM");
    std::fs::remove_file(at("manifest")).expect("removed");
    let (code, told) = run(&[&"restore", &scratch.0, &at("again")]);
    assert!(code == Some(1) && told.contains("has no manifest"), "{told}");
}
