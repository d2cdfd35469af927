//! `penstock load`: what a server does under load, measured so that it can be believed. `load/` has the pure parts.

mod drive;
mod endpoint;
mod files;
mod flags;
mod run;
mod thread;

use clap::Subcommand;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Puts a stream under load and reads back what was stored. Ends with 0 if the run is VALID, 3 if the server was OVERLOADED, 4 if the generator
    /// was the limit, 5 if the run is INVALID.
    Run(Box<run::Args>),
}

pub fn run(args: Args) -> Result<ExitCode, String> {
    match args.what {
        What::Run(args) => run::run(&args),
    }
}
