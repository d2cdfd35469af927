//! `penstock tune watch`: whether what was applied still holds.

use super::change::{Kept, journal};
use super::{GOAL_HELP, Goal, data_directory, print};
use crate::io::process::Signals;
use crate::tune::check::{self, Host};
use crate::tune::discover;
use crate::tune::drift::{Drift, drift, metrics, text};
use crate::tune::hands::Disk;
use crate::tune::placement::place;
use crate::tune::root::Root;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Something does not hold any more.
const DRIFTED: u8 = 7;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    kept: Kept,
    #[arg(long, value_enum, default_value = "latency", help = format!("For the checks among the metrics. {GOAL_HELP}"))]
    profile: Goal,
    /// Data directory, for the file system under it [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write metrics in Prometheus' text format into this file, whole at once; - is standard output, instead of the text
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Look again after so many seconds, until SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    every: Option<u32>,
}

pub fn run(root: &Root, args: &Args, here: bool) -> Result<ExitCode, String> {
    let directory = journal(&args.kept)?;
    let data = data_directory(args.data.as_deref(), here)?;
    let signals = args.every.map(|_| Signals::block()).transpose().map_err(|error| format!("signals: {error}"))?;
    let mut last: Option<Drift> = None;
    loop {
        let mut hands = Disk::new(root.clone()).map_err(|error| format!("{}: {error}", root.prefix().display()))?;
        let now = drift(&mut hands, &directory)?;
        if let Some(file) = &args.metrics {
            write(file, &measured(root, args, &data, &now))?;
        }
        // What is as it was is not told again.
        if args.metrics.as_deref() != Some(Path::new("-")) && last.as_ref() != Some(&now) {
            print(&text(&now))?;
        }
        let code = if now.drifted.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DRIFTED) };
        last = Some(now);
        match (&signals, args.every) {
            (Some(signals), Some(seconds)) if !signals.wait_for(seconds) => {}
            _ => return Ok(code),
        }
    }
}

fn measured(root: &Root, args: &Args, data: &str, now: &Drift) -> String {
    let topology = discover::topology(root);
    let profile = args.profile.profile();
    let placement = place(&topology, profile);
    metrics(now, &check::run(&Host { root, topology: &topology, placement: &placement, profile, data }))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    if file == Path::new("-") {
        return print(text);
    }
    let failed = |error: std::io::Error| format!("--metrics {}: {error}", file.display());
    let name = file.file_name().ok_or_else(|| format!("--metrics {}: it names no file", file.display()))?;
    // Whoever collects takes files that end in .prom, so the draft does not.
    let draft = file.with_file_name(format!(".{}.draft", name.to_string_lossy()));
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, file)).map_err(failed)
}
