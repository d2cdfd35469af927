//! `penstock load`: what a server does under load, measured so that it can be believed. `load/` has the pure parts.

mod counters;
mod drive;
mod endpoint;
mod files;
mod flags;
mod max;
mod own;
mod run;
mod saved;
mod secure;
mod selftest;
mod stub;
mod thread;
mod verify;

use clap::Subcommand;
use std::process::ExitCode;

const ALONE: &str = "Without a command it starts a server of its own, puts it under the canonical load (native, 1 KiB records), and prints how many \
    bytes a second are acknowledged, how long the slowest of 1,000 acknowledgements takes, and what that is worth. The options above are of \
    that; it ends as `run` does.";

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = ALONE)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    own: own::OwnArgs,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Puts a stream under load and reads back what was stored. Ends with 0 if the run is VALID, 3 if the server was OVERLOADED, 4 if the generator
    /// was the limit, 5 if the run is INVALID.
    Run(Box<run::Args>),
    /// Finds the highest rate at which a percentile of the latency keeps a promise, and tries it twice. Ends with 3 if there is none.
    Max(Box<max::Args>),
    /// Says whether two runs differ by more than chance. Ends with 3 if the second is worse.
    Compare(saved::CompareArgs),
    /// Puts the reports of several hosts together, histograms without loss.
    Merge(saved::MergeArgs),
    /// Reads a stream that runs have left (--keep), and says whether their records are whole. Ends with 5 if they are not.
    Verify(Box<verify::Args>),
    /// Measures servers whose pauses are known, and compares with theory. Ends with 6 if a percentile is more than 2 % off.
    Selftest(selftest::Args),
}

pub fn run(args: Args) -> Result<ExitCode, String> {
    match args.what {
        None => own::run(&args.own),
        Some(What::Run(args)) => run::run(&args),
        Some(What::Max(args)) => max::run(&args),
        Some(What::Compare(args)) => saved::compare(&args),
        Some(What::Merge(args)) => saved::merge(&args),
        Some(What::Verify(args)) => verify::run(&args),
        Some(What::Selftest(args)) => selftest::run(&args),
    }
}
