//! `penstock load` without more: a server of its own on a scratch directory, first under a load that is read back and proved, then as fast as it goes.

use super::counters::Counters;
use super::drive::{self, Show};
use super::files::Files;
use super::flags::{self, Cores, HttpName, Output, Prepared, Target, WireName, Work, parse_time, prepare};
use super::run::{begin, code, print};
use super::thread::Baton;
use crate::cli::size;
use crate::io::device;
use crate::load::choice::{Popularity, Sizes};
use crate::load::ledger::Findings;
use crate::load::plan::{Pace, Plan};
use crate::load::report::{Report, shown};
use crate::load::schedule::Shape;
use crate::load::verdict::Verdict;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// The canonical workload.
const RECORD: u32 = 1024;
const KEYS: u32 = 1000;
const SHARDS: u32 = 8;
/// Of the run that is read back: records a second, and of a request.
const VERIFIED_RATE: f64 = 10_000.0;
const VERIFIED_BATCH: u32 = 16;
const VERIFIED_CONNECTIONS: u32 = 8;
/// Of the run that is as fast as it goes.
const RATE_BATCH: u32 = 256;
const RATE_CONNECTIONS: u32 = 16;
const RATE_OUTSTANDING: u32 = 4;
/// How long the server may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How much of what it says is shown if it is not.
const TAIL: usize = 20;

#[derive(clap::Args, Debug)]
pub struct OwnArgs {
    /// Directory in which the server's data directory is made; it goes with the run
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,
    /// Space that the server may use
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = size::parse)]
    disk: u64,
    /// Cores for the server's workers [default: as for serve]
    #[arg(long, value_name = "LIST")]
    server_cores: Option<String>,
    /// How long each of the two parts is
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    length: Duration,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &OwnArgs) -> Result<ExitCode, String> {
    let baton = begin()?;
    let server = Own::start(args)?;
    let mut files = args.output.out.as_deref().map(Files::create).transpose()?;
    tell(args, &format!("a server of its own in {}: {}", server.data.display(), server.lies_on()));
    tell(args, "first a run that is read back:");
    let (plan, verified) = server.load(args, &verified(args), &baton, None)?;
    tell(args, "then requests made beforehand, as fast as they go:");
    let (rate_plan, rate) = match baton.stops() {
        true => return Err("stopped before its second part".to_string()),
        false => server.load(args, &fast(args), &baton, files.as_mut())?,
    };
    let written = files.as_mut().map_or(Ok(()), |files| {
        files.write("verified.json", &format!("{:#}\n", verified.whole(&plan)))?;
        files.finish(&rate_plan, &rate, Some(&server.data))
    });
    drop(server);
    let both = Both { verified: &verified, rate: &rate };
    print(&match args.output.json {
        true => format!("{}\n", both.json()),
        false => both.text(&plan, &rate_plan),
    })?;
    // What was measured is told also where it could not be written down.
    written?;
    Ok(code(both.verdict()))
}

fn tell(args: &OwnArgs, text: &str) {
    if !args.output.quiet {
        eprintln!("{text}");
    }
}

/// A part of the workload.
struct Part {
    work: Work,
    pace: Pace,
}

fn work(args: &OwnArgs) -> Work {
    Work {
        batch: VERIFIED_BATCH,
        size: Sizes::Fixed(RECORD),
        keys: KEYS,
        popularity: Popularity::Uniform,
        length: args.length,
        warm_up: args.length / 5,
        connections: VERIFIED_CONNECTIONS,
        threads: None,
        cores: None::<Cores>,
        window: 32,
        bulk: false,
        prebuilt: false,
        no_verify: false,
        poll: Duration::from_millis(10),
        seed: 1,
    }
}

fn verified(args: &OwnArgs) -> Part {
    Part { work: work(args), pace: Pace::Open { shape: Shape::Poisson, rate: VERIFIED_RATE } }
}

fn fast(args: &OwnArgs) -> Part {
    let work = Work { batch: RATE_BATCH, connections: RATE_CONNECTIONS, bulk: true, prebuilt: true, ..work(args) };
    Part { work, pace: Pace::Closed { outstanding: RATE_OUTSTANDING } }
}

/// A server that goes with this value, its data too.
struct Own {
    child: Child,
    data: PathBuf,
    endpoint: String,
    native: String,
}

impl Own {
    fn start(args: &OwnArgs) -> Result<Own, String> {
        let data = args.scratch.join(format!("penstock-load-{}", std::process::id()));
        let failed = |error| format!("--scratch {}: {error}", args.scratch.display());
        std::fs::create_dir_all(&data).map_err(failed)?;
        let said = data.join("said");
        let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--native", "127.0.0.1:0", "--when-full", "trim", "--disk"]);
        command.arg(args.disk.to_string()).arg("--data").arg(data.join("data"));
        if let Some(cores) = &args.server_cores {
            command.args(["--cores", cores]);
        }
        // Who interrupts the load from a terminal does not interrupt the server, which goes when the load has ended.
        command.process_group(0);
        let log = File::create(&said).map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let child = child.map_err(|error| format!("the server cannot be started: {error}"))?;
        // From here on it ends with this value, whatever happens.
        let mut own = Own { child, data, endpoint: String::new(), native: String::new() };
        match own.wait() {
            true => Ok(own),
            false => Err(format!("the server did not start; it said:\n{}", tail(&said))),
        }
    }

    /// Whether it has said where it is.
    fn wait(&mut self) -> bool {
        let Some(stdout) = self.child.stdout.take() else { return false };
        let (lines, heard) = mpsc::channel();
        // Read to its end, so that the server never waits for us.
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)));
        });
        while let Ok(line) = heard.recv_timeout(START) {
            let value = |name: &str| Some(line.trim_start().strip_prefix(name)?.split_whitespace().next()?.to_string());
            if let Some(endpoint) = value("endpoint ") {
                self.endpoint = endpoint;
            }
            if let Some(native) = value("native ") {
                self.native = native;
            }
            if line.contains("get-records") {
                return !self.endpoint.is_empty() && !self.native.is_empty();
            }
        }
        false
    }

    fn lies_on(&self) -> String {
        match device::examine(&self.data) {
            Ok(device) => format!("{}, durability {:?}", device.file_system, device.durability),
            Err(error) => format!("its device is not known: {error}"),
        }
    }

    fn load(
        &self,
        args: &OwnArgs,
        part: &Part,
        baton: &Arc<Baton>,
        files: Option<&mut Files>,
    ) -> Result<(Arc<Plan>, Report), String> {
        let target = Target {
            server: flags::Server {
                endpoint: self.endpoint.clone(),
                ca: None,
                native: self.native.clone(),
                key_id: None,
                secret: None,
                region: None,
                anonymous: true,
            },
            wire: WireName::Native,
            http: HttpName::One,
            stream: "canonical".to_string(),
            shards: SHARDS,
            keep: false,
        };
        let Prepared { plan, shares, cores, mut endpoint, .. } = prepare(&target, &part.work, part.pace)?;
        let plan = Arc::new(plan);
        let shown = !args.output.quiet || files.is_some();
        let counters = shown.then(|| Counters::new(endpoint.address, &endpoint.host, None));
        let show = Show { progress: !args.output.quiet, counters, trust: None, files, baton: baton.clone() };
        let report = drive::run(&plan, &shares, &cores, show)?;
        endpoint.delete(&target.stream)?;
        Ok((plan, report))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(error) = std::fs::remove_dir_all(&self.data) {
            eprintln!("penstock: {} is left: {error}", self.data.display());
        }
    }
}

fn tail(said: &Path) -> String {
    let text = std::fs::read_to_string(said).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// What the two parts come to: proof from the first, rates from the second.
struct Both<'b> {
    verified: &'b Report,
    rate: &'b Report,
}

impl Both<'_> {
    fn verdict(&self) -> Verdict {
        let weight = |verdict: Verdict| match verdict {
            Verdict::Valid => 0,
            Verdict::Overloaded => 1,
            Verdict::GeneratorBound => 2,
            Verdict::Invalid => 3,
        };
        let (first, second) = (self.verified.verdict, self.rate.verdict);
        if weight(first) > weight(second) { first } else { second }
    }

    fn json(&self) -> Value {
        let mut json = self.rate.json();
        let Findings { lost, duplicated, reordered, unverified, .. } = self.verified.findings;
        json["verdict"] = self.verdict().name().into();
        for (name, count) in
            [("lost", lost), ("duplicated", duplicated), ("reordered", reordered), ("unverified", unverified)]
        {
            json[name] = count.into();
        }
        json
    }

    fn text(&self, plan: &Plan, rate_plan: &Plan) -> String {
        let Both { verified, rate } = self;
        let p999 = shown(rate.total.response.value_at_quantile(0.999));
        let megabytes = rate.bytes_per_second() / 1e6;
        format!(
            "read back: {}as fast as it goes: {}\n{megabytes:.0} MB/s acknowledged, p99.9 of an acknowledgement {p999}: {}\n",
            verified.text(plan),
            rate.text(rate_plan),
            self.verdict().name()
        )
    }
}
