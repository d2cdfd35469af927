//! `penstock load run`.

use super::counters::Counters;
use super::drive::{self, Show};
use super::files::Files;
use super::flags::{Output, Pacing, Prepared, Target, Work, prepare};
use super::thread::Baton;
use crate::io::probe;
use crate::io::process::{self, Signals};
use crate::load::plan::{Pace, Plan};
use crate::load::report::Report;
use crate::load::verdict::Verdict;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    pacing: Pacing,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let baton = begin()?;
    let Ended { plan, report, files } = against(&args.target, &args.work, args.pacing.pace(), &args.output, &baton)?;
    print(&match args.output.json {
        true => format!("{}\n", report.json()),
        false => report.text(&plan),
    })?;
    // What was measured is told also where it could not be written down.
    files?;
    Ok(code(report.verdict))
}

/// Limits are raised, the kernel is asked whether it can, and a signal that ends the process ends the run first.
pub fn begin() -> Result<Arc<Baton>, String> {
    process::raise_limits();
    probe::kernel().map_err(|missing| missing.to_string())?;
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let baton = Arc::new(Baton::default());
    let stopper = baton.clone();
    let watch = move || {
        signals.wait();
        stopper.stop();
    };
    let thread = thread::Builder::new().name("signals".to_string()).spawn(watch);
    thread.map_err(|error| format!("a thread cannot be started: {error}"))?;
    Ok(baton)
}

/// A run that has ended.
pub struct Ended {
    pub plan: Arc<Plan>,
    pub report: Report,
    /// Whether its files could be written.
    pub files: Result<(), String>,
}

/// One run, with its stream made before and deleted behind it.
pub fn against(target: &Target, work: &Work, pace: Pace, output: &Output, baton: &Arc<Baton>) -> Result<Ended, String> {
    let mut files = output.out.as_deref().map(Files::create).transpose()?;
    let Prepared { plan, shares, cores, mut endpoint, made } = prepare(target, work, pace)?;
    let plan = Arc::new(plan);
    if !output.quiet {
        let connections: usize = shares.iter().map(|share| share.connections.len()).sum();
        eprintln!(
            "{} to {}, stream {}: {} threads, {connections} connections, {} records a request",
            plan.wire.name(),
            plan.to,
            plan.stream,
            shares.len(),
            plan.batch
        );
    }
    let shown = !output.quiet || files.is_some();
    let counters = shown.then(|| Counters::new(endpoint.address, &endpoint.host, endpoint.trust.clone()));
    let show = Show {
        progress: !output.quiet,
        counters,
        trust: endpoint.trust.clone(),
        files: files.as_mut(),
        baton: baton.clone(),
    };
    let report = drive::run(&plan, &shares, &cores, show);
    if made && !target.keep {
        // A server that is gone has told of that already.
        if let Err(text) = endpoint.delete(&target.stream)
            && report.is_ok()
        {
            eprintln!("penstock: stream {} was not deleted: {text}", target.stream);
        }
    }
    let report = report?;
    let files = files.as_mut().map_or(Ok(()), |files| files.finish(&plan, &report, None));
    Ok(Ended { plan, report, files })
}

/// For scripts.
pub fn code(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::Valid => 0,
        Verdict::Overloaded => 3,
        Verdict::GeneratorBound => 4,
        Verdict::Invalid => 5,
    })
}

pub fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output: {error}"))
}
