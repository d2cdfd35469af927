//! The unit and the filters of `tuning/`: that systemd takes them, and that the server runs with them.

use super::change::Scratch;
use penstock::io::clock::Clock;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn tuning(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name)
}

/// A server that says when it is ready; it is ended when this is dropped.
struct Server {
    child: Child,
    told: UnixDatagram,
    /// What it has complained of.
    err: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `before`: what is to run it, if anything.
    fn start(scratch: &Path, before: &[&str]) -> Server {
        Server::start_with(scratch, before, &[])
    }

    /// `more`: further flags.
    fn start_with(scratch: &Path, before: &[&str], more: &[&str]) -> Server {
        Server::start_on("0", scratch, before, more)
    }

    fn start_on(cores: &str, scratch: &Path, before: &[&str], more: &[&str]) -> Server {
        let socket = scratch.join("notify");
        let told = UnixDatagram::bind(&socket).expect("the path is free");
        told.set_read_timeout(Some(Duration::from_secs(1))).expect("a time");
        let program = env!("CARGO_BIN_EXE_penstock");
        let mut command = Command::new(before.first().unwrap_or(&program));
        command.args(before.iter().skip(1)).args(before.first().map(|_| program));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--native",
            "127.0.0.1:0",
            "--disk",
            "1G",
            "--cores",
            cores,
            "--data",
        ]);
        command.arg(scratch.join("data")).args(more).env("NOTIFY_SOCKET", &socket);
        let out = std::fs::File::create(scratch.join("out")).expect("it can be made");
        let err = std::fs::File::create(scratch.join("err")).expect("it can be made");
        let child = command.stdout(out).stderr(err).stdin(Stdio::null()).spawn().expect("it starts");
        Server { child, told, err: scratch.join("err") }
    }

    fn hear(&self) -> String {
        let mut bytes = [0; 64];
        let begin = Clock.now().mono;
        let late = || Duration::from_nanos(Clock.now().mono - begin) > PATIENCE;
        loop {
            match self.told.recv(&mut bytes) {
                Ok(length) => return String::from_utf8_lossy(&bytes[..length]).into_owned(),
                // What a call outside of a filter has ended says nothing any more.
                Err(_) if late() || self.is_over() => panic!("it says nothing: {}", self.state()),
                Err(_) => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.is_empty() || rest.starts_with('Z'))
    }

    /// What it is doing, thread by thread, and what it has said of itself.
    fn state(&self) -> String {
        let mut text = std::fs::read_to_string(&self.err).unwrap_or_default();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let state = read("stat").rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
            text += &format!("\n{} {state} {} {}", read("comm").trim(), read("syscall").trim(), read("stack").trim());
        }
        text
    }

    /// All that has been said and not been heard yet.
    fn pending(&self) -> Vec<String> {
        self.told.set_nonblocking(true).expect("a flag");
        let mut heard = Vec::new();
        let mut bytes = [0; 64];
        while let Ok(length) = self.told.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        self.told.set_nonblocking(false).expect("a flag");
        heard
    }

    fn terminate(&mut self) -> Option<i32> {
        let number = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &number]).status().expect("kill runs").success());
        self.child.wait().expect("it is ours").code()
    }
}

fn endpoint(scratch: &Path) -> String {
    let out = std::fs::read_to_string(scratch.join("out")).expect("it was made");
    let line = out.lines().find_map(|line| line.trim().strip_prefix("endpoint"));
    let address = line.and_then(|line| line.split("//").nth(1)).and_then(|rest| rest.split_whitespace().next());
    address.unwrap_or_else(|| panic!("no endpoint in\n{out}")).to_string()
}

fn ask(address: &str, operation: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let length = body.len();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Starts it, stores a record, reads the shard's beginning, and stops it.
fn it_serves(scratch: &Path, before: &[&str]) {
    let mut server = Server::start(scratch, before);
    assert_eq!(server.hear(), "READY=1");
    let address = endpoint(scratch);
    let good = |answer: String| {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    };
    good(ask(&address, "CreateStream", r#"{"StreamName":"s","ShardCount":1}"#));
    let put = r#"{"StreamName":"s","PartitionKey":"k","Data":"aGVsbG8="}"#;
    // The stream is made in a moment.
    let mut answer = ask(&address, "PutRecord", put);
    for _ in 0..200 {
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        answer = ask(&address, "PutRecord", put);
    }
    good(answer);
    let asked = r#"{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}"#;
    let answer = good(ask(&address, "GetShardIterator", asked));
    let token = answer.split("\"ShardIterator\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let answer = good(ask(&address, "GetRecords", &format!(r#"{{"ShardIterator":"{token}"}}"#)));
    assert!(answer.contains("aGVsbG8="), "{answer}");
    let ended = server.terminate();
    assert_eq!(server.hear(), "STOPPING=1");
    let err = std::fs::read_to_string(scratch.join("err")).expect("it was made");
    assert_eq!(ended, Some(0), "{err}");
    assert!(!err.contains("NOTIFY_SOCKET"), "{err}");
}

#[test]
fn a_supervisor_hears_when_it_is_ready_and_when_it_stops() {
    let scratch = Scratch::new("notify");
    it_serves(&scratch.0, &[]);
}

#[test]
fn a_watchdog_is_told_that_all_is_well_until_the_stop() {
    let scratch = Scratch::new("watchdog");
    let mut server = Server::start(&scratch.0, &["env", "WATCHDOG_USEC=2000000"]);
    // A look may come before it is ready.
    let mut heard: Vec<String> = Vec::new();
    while heard.iter().filter(|state| *state == "WATCHDOG=1").count() < 4 || !heard.contains(&"READY=1".to_string()) {
        heard.push(server.hear());
        assert!(heard.len() < 1000, "{heard:?}");
    }
    assert_eq!(server.terminate(), Some(0));
    heard.extend(std::iter::from_fn(|| Some(server.hear())).take_while(|state| state != "STOPPING=1").take(1000));
    assert!(heard.iter().all(|state| state == "WATCHDOG=1" || state == "READY=1"), "{heard:?}");
    // That of another process is not ours to feed.
    let scratch = Scratch::new("watchdog-other");
    let mut server = Server::start(&scratch.0, &["env", "WATCHDOG_USEC=200000", "WATCHDOG_PID=1"]);
    assert_eq!(server.hear(), "READY=1");
    std::thread::sleep(Duration::from_millis(500));
    server.terminate();
    assert_eq!(server.hear(), "STOPPING=1");
}

/// One thread of the server stands still, as a debugger would hold it; it goes on when this is dropped.
struct Held(Child);

impl Held {
    /// `None`: no python3, or it may not be done.
    fn new(process: u32, thread: &str) -> Option<Held> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune/held.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(process.to_string()).arg(thread).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut held = Held(command.spawn().ok()?);
        let mut said = String::new();
        let mut out = std::io::BufReader::new(held.0.stdout.take().expect("it was asked for"));
        std::io::BufRead::read_line(&mut out, &mut said).expect("a pipe");
        if said != "held\n" {
            let code = held.0.wait().expect("it is ours").code();
            assert_eq!(code, Some(77), "{thread} is not held");
            return None;
        }
        Some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// How long nothing is to be heard: a worker that has nothing to do takes a turn a second.
const SILENCE: Duration = Duration::from_secs(4);

#[test]
fn one_worker_that_hangs_silences_the_signs_of_life_until_it_goes_on() {
    let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    let (cores, last) = if several { ("0,1", "worker-1") } else { ("0", "worker-0") };
    let scratch = Scratch::new("watchdog-hung");
    let mut server = Server::start_on(cores, &scratch.0, &["env", "WATCHDOG_USEC=2000000"], &[]);
    let alive = |server: &Server| {
        let heard = (0..1000).map(|_| server.hear()).find(|state| state == "WATCHDOG=1");
        assert!(heard.is_some(), "no sign of life");
    };
    while server.hear() != "READY=1" {}
    alive(&server);
    for _ in 0..2 {
        let Some(held) = Held::new(server.child.id(), last) else {
            return println!("SKIPPED: no python3, or no thread may be held here");
        };
        server.pending();
        std::thread::sleep(SILENCE);
        // It may have taken a turn between the last look and the moment from which it stands, but no more.
        let heard = server.pending();
        assert!(heard.len() <= 1, "{heard:?}");
        drop(held);
        alive(&server);
        alive(&server);
    }
    assert_eq!(server.terminate(), Some(0));
}

/// The file says what holds for the whole host: the least that anybody asks for.
fn kept_awake_us() -> Option<i32> {
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/cpu_dma_latency").ok()?.read_exact(&mut bytes).ok()?;
    Some(i32::from_ne_bytes(bytes))
}

#[test]
fn cores_are_kept_awake_where_that_is_asked_for_and_the_banner_says_why_they_are_these() {
    let before = kept_awake_us();
    for profile in ["throughput", "latency"] {
        let scratch = Scratch::new(profile);
        let mut server = Server::start_with(&scratch.0, &[], &["--profile", profile]);
        assert_eq!(server.hear(), "READY=1");
        let out = std::fs::read_to_string(scratch.0.join("out")).expect("it was made");
        let line = out.lines().find(|line| line.trim().starts_with("cores")).expect("it is in the banner");
        assert!(line.contains("as --cores says") && line.contains("companions on "), "{line}");
        let err = std::fs::read_to_string(scratch.0.join("err")).expect("it was made");
        let kept = line.contains("kept from deep sleep");
        match (profile, before) {
            ("latency", Some(_)) if kept => assert!(kept_awake_us().is_some_and(|us| us <= 3)),
            ("latency", _) => assert!(!kept && err.contains("WARNING: /dev/cpu_dma_latency"), "{line}\n{err}"),
            _ => assert!(!kept && !err.contains("cpu_dma_latency"), "{line}\n{err}"),
        }
        assert_eq!(server.terminate(), Some(0));
    }
}

/// What the unit's filter lets through, one name a line; `None` where systemd does not say.
fn names_of_unit() -> Option<String> {
    let group = |name: &str| {
        let output = Command::new("systemd-analyze").args(["syscall-filter", name]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let lines = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Some(lines.map(String::from).collect::<Vec<String>>())
    };
    let all = |name: &str| {
        let (mut names, mut todo) = (Vec::new(), vec![name.to_string()]);
        while let Some(next) = todo.pop() {
            match next.starts_with('@') {
                true => todo.extend(group(&next)?),
                false => names.push(next),
            }
        }
        Some(names)
    };
    let unit = std::fs::read_to_string(tuning("penstock.service")).expect("it is there");
    let mut allowed: Vec<String> = Vec::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (refuse, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        for word in words.split_whitespace() {
            let names = all(word)?;
            match refuse {
                true => allowed.retain(|name| !names.contains(name)),
                false => allowed.extend(names),
            }
        }
    }
    Some(allowed.join("\n"))
}

/// Whether a program runs under the filter here at all: what numbers calls have is not known everywhere.
fn filters_work(filter: &Path) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune/filtered.py");
    let status = Command::new("python3").arg(script).arg(filter).arg("/bin/true").status();
    match status {
        Ok(status) if status.code() != Some(77) => true,
        _ => {
            println!("SKIPPED: no python3, or no header with the numbers of system calls");
            false
        }
    }
}

fn under(filter: &Path, scratch: &Path) {
    // What is called python3 may be a script that starts the real one, with a shell that calls what it likes.
    let real =
        Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("it ran before");
    let python = String::from_utf8(real.stdout).expect("text").trim().to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune/filtered.py");
    it_serves(scratch, &[&python, script.to_str().expect("text"), filter.to_str().expect("text")]);
}

/// Its first system call outside the profile would end it.
#[test]
fn the_server_runs_with_the_profile_for_containers() {
    let profile = tuning("seccomp.json");
    let scratch = Scratch::new("profile");
    if !filters_work(&profile) {
        return;
    }
    under(&profile, &scratch.0);
    // The filter bites: one that lacks a call which the server needs ends it.
    let text = std::fs::read_to_string(&profile).expect("it is there");
    let less = scratch.0.join("less.json");
    let fewer = text.replace("\"io_uring_setup\", ", "");
    assert_ne!(fewer, text);
    std::fs::write(&less, fewer).expect("it can be written");
    let scratch = Scratch::new("profile-less");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune/filtered.py");
    let mut server = Server::start(
        &scratch.0,
        &["/usr/bin/env", "python3", script.to_str().expect("text"), less.to_str().expect("text")],
    );
    assert_eq!(server.child.wait().expect("it is ours").code(), None, "a signal ends it");
}

#[test]
fn the_server_runs_with_the_filter_of_the_unit() {
    let Some(names) = names_of_unit() else { return println!("SKIPPED: no systemd-analyze") };
    for name in ["io_uring_setup", "adjtimex", "clock_adjtime", "sched_setaffinity"] {
        assert!(names.lines().any(|line| line == name), "{name} is refused");
    }
    for name in ["mount", "ptrace", "bpf", "setuid", "keyctl", "clock_settime", "init_module"] {
        assert!(!names.lines().any(|line| line == name), "{name} is let through");
    }
    let scratch = Scratch::new("unit-filter");
    let filter = scratch.0.join("names");
    std::fs::write(&filter, names).expect("it can be written");
    if filters_work(&filter) {
        under(&filter, &scratch.0);
    }
}

#[test]
fn systemd_takes_the_units_and_calls_them_safe() {
    let analyze = |args: &[&str], unit: &Path| {
        let output = Command::new("systemd-analyze").args(args).arg(unit).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Some((output.status.success(), text))
    };
    let scratch = Scratch::new("units");
    let text = std::fs::read_to_string(tuning("penstock.service")).expect("it is there");
    let unit = scratch.0.join("penstock.service");
    // What it starts has to be there.
    std::fs::write(&unit, text.replace("/usr/bin/penstock", env!("CARGO_BIN_EXE_penstock"))).expect("written");
    let Some((good, told)) = analyze(&["verify", "--man=no"], &unit) else {
        return println!("SKIPPED: no systemd-analyze");
    };
    assert!(good && !told.contains("penstock.service:"), "{told}");
    let (good, told) = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"], &unit).expect("it ran");
    assert!(good, "{told}");
    // A word that systemd does not know is a complaint, else this test says nothing.
    std::fs::write(&unit, text.replace("ProtectHome=yes", "ProtectHouse=yes")).expect("written");
    let (_, told) = analyze(&["verify", "--man=no"], &unit).expect("it ran");
    assert!(told.contains("ProtectHouse"), "{told}");

    let (made, drop_in) = super::change::units();
    let unit = scratch.0.join("penstock-tune.service");
    std::fs::write(&unit, made).expect("written");
    let (good, told) = analyze(&["verify", "--man=no"], &unit).expect("it ran");
    assert!(good && !told.contains("penstock-tune.service:"), "{told}");
    assert!(drop_in.contains("[Service]\nLimitMEMLOCK=infinity\n"), "{drop_in}");
}
