//! The command line: one file per subcommand.

pub mod access;
mod admin;
pub mod banner;
pub mod cores;
pub mod directory;
pub mod export;
mod host;
pub mod inspect;
pub mod load;
pub mod mirror;
mod notify;
pub mod rebalance;
pub mod restore;
pub mod serve;
pub mod size;
pub mod snapshot;
mod tls;
pub mod tune;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Kinesis Data Streams of one's own, on this machine.
#[derive(Parser, Debug)]
#[command(name = "penstock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serves the Kinesis API from a data directory, until SIGTERM or SIGINT.
    Serve(serve::Args),
    /// Prints what is in data directories and their files.
    Inspect(inspect::Args),
    /// Writes the records of a stream as lines of JSON, from a snapshot or a stopped server's data.
    Export(export::Args),
    /// Moves shards of a running server between its drives and logs, so that all have the same number of open ones.
    Rebalance(rebalance::Args),
    /// Takes a snapshot of a running server into a new directory.
    Snapshot(snapshot::Args),
    /// Makes a data directory from a snapshot.
    Restore(restore::Args),
    /// Puts a server under load, and says what it has done and what that proves.
    Load(load::Args),
    /// Shows this host as penstock would use it, and checks what about it costs latency or throughput.
    Tune(tune::Args),
}

/// Runs what the arguments say. 0: done; 1: it could not be, and standard error says why; 2: the arguments are wrong; more: what `tune check`
/// has found.
pub fn run() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(args).map(done),
        Command::Inspect(args) => inspect::run(args).map(done),
        Command::Export(args) => export::run(&args).map(done),
        Command::Rebalance(args) => rebalance::run(&args).map(done),
        Command::Snapshot(args) => snapshot::run(&args).map(done),
        Command::Restore(args) => restore::run(&args).map(done),
        Command::Load(args) => load::run(args),
        Command::Tune(args) => tune::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(text) => {
            eprintln!("penstock: {text}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_of_all_commands_agree_with_each_other() {
        Cli::command().debug_assert();
    }
}
