//! `penstock tune`: shows this host and where penstock would run on it, checks what costs it latency or throughput, changes that, and puts it
//! back. Only `apply` and `revert` change the host; `io` writes into a file of the data directory.

mod change;
mod facts;
mod io;
mod prove;
mod ready;
mod watch;

use super::directory;
use crate::io::ethtool;
use crate::tune::check::{self, Host, Profile, Status};
use crate::tune::discover;
use crate::tune::drivers::Drivers;
use crate::tune::facts::Facts;
use crate::tune::map;
use crate::tune::placement::place;
use crate::tune::report;
use crate::tune::root::Root;
use crate::tune::svg;
use clap::{Subcommand, ValueEnum};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory that stands for /: a copy of another host's sys and proc, or where a host is mounted
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Shows nodes, cores, caches, NICs and drives with their queues and interrupts, and which thread of penstock would run where.
    Map {
        #[arg(long, value_enum, default_value = "latency", help = GOAL_HELP)]
        profile: Goal,
        /// Write it as a picture into this file as well
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Says what is not as it should be, why, and how to mend it. Ends with 0 if nothing is wrong, 3 if the worst is something that could not
    /// be read, 4 if it is a warning, 5 if it is a failure.
    Check {
        #[arg(long, value_enum, default_value = "latency", help = GOAL_HELP)]
        profile: Goal,
        /// For programs
        #[arg(long)]
        json: bool,
        /// Data directory, for the file system under it [default: as for serve]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Shows what `apply` would change: as a difference, or as a script. Nothing is written.
    Plan {
        #[command(flatten)]
        which: change::Which,
        /// As a script for a shell, which keeps no record of what was there before
        #[arg(long)]
        script: bool,
    },
    /// Prints facts of this host, where penstock would run on it, and the values that `plan` would set, as TOML: to tell others of it, or to compare.
    Describe {
        #[command(flatten)]
        which: change::Which,
    },
    /// Changes what checks complain of and can be changed without harm, now and for later starts of the host; keeps what was there before in a
    /// journal. Ends with 6 if something could not be changed.
    Apply {
        #[command(flatten)]
        which: change::Which,
        #[command(flatten)]
        kept: change::Kept,
    },
    /// Puts back what was there before `apply`, byte for byte. What somebody else has changed since is told and stays, and it ends with 6.
    Revert {
        #[command(flatten)]
        kept: change::Kept,
        #[command(flatten)]
        since: change::Since,
    },
    /// Tries the drive under the data directory: what makes a write durable, what that takes, how many it does at once, what it keeps up.
    Io(io::Args),
    /// Measures whether the values that one check wants have an effect here: in turn without them and with them, and what the differences say. What
    /// was there is put back, whatever ends it; after a crash by the next `prove`, `apply` or `revert`, which refuse while this is at work.
    Prove(prove::Args),
    /// Tries which ways around copies and around the kernel's network this host could go, and what is in the way of each. No packet is taken
    /// from whoever it is for, and nothing is changed; some of it takes root.
    Ready(ready::Args),
    /// Says whether what `apply` has changed still holds. Ends with 7 if something does not.
    Watch(watch::Args),
}

/// Of --profile: why its default is not that of `serve`.
const GOAL_HELP: &str = "What the host is for. By default it is readied for the shortest tail; `serve` by itself takes nothing from other programs of \
     its host, so its default is throughput: give it --profile latency on a host that was readied for that";

/// What a host is for, as the command line names it.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Goal {
    /// The shortest tail of acknowledgements, whatever the power costs
    Latency,
    /// The most bytes a second
    Throughput,
    /// Runs that can be compared with each other
    Ci,
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let root = match &args.root {
        Some(tree) => Root::recorded(tree)?,
        None => {
            let host = Root::host().with_drivers(Drivers { ask: ethtool::ask, set: ethtool::set });
            host.with_facts(Facts { space: facts::space, clock: facts::clock, health: facts::health })
        }
    };
    let here = args.root.is_none();
    match &args.what {
        What::Map { profile, svg } => {
            map(&root, profile.profile(), svg.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        What::Check { profile, json, data } => {
            // Whoever has no home and names none is told the rest all the same.
            let data = match (data, directory::default()) {
                (None, Err(_)) => String::new(),
                (data, _) => data_directory(data.as_deref(), here)?,
            };
            run_checks(&root, profile.profile(), *json, &data)
        }
        What::Plan { which, script } => change::plan(&root, which, here, *script),
        What::Describe { which } => change::describe(&root, which, here),
        What::Apply { which, kept } => change::apply(&root, which, here, kept),
        What::Io(_) if !here => Err("io tries a drive of this host: --root has no place there".to_string()),
        What::Io(args) => io::run(args),
        What::Prove(args) => prove::run(&root, args, here),
        What::Ready(_) if !here => Err("ready tries what this host does: --root has no place there".to_string()),
        What::Ready(args) => ready::run(&root, args),
        What::Watch(args) => watch::run(&root, args, here),
        What::Revert { kept, since } => change::revert(&root, kept, since),
    }
}

impl Goal {
    pub fn profile(self) -> Profile {
        match self {
            Goal::Latency => Profile::Latency,
            Goal::Throughput => Profile::Throughput,
            Goal::Ci => Profile::Ci,
        }
    }
}

fn map(root: &Root, profile: Profile, picture: Option<&Path>) -> Result<(), String> {
    let topology = discover::topology(root);
    let placement = place(&topology, profile);
    if let Some(file) = picture {
        let written = std::fs::write(file, svg::draw(&topology, &placement));
        written.map_err(|error| format!("--svg {}: {error}", file.display()))?;
    }
    print(&map::text(&topology, &placement))
}

fn run_checks(root: &Root, profile: Profile, json: bool, data: &str) -> Result<ExitCode, String> {
    let topology = discover::topology(root);
    let placement = place(&topology, profile);
    let outcomes = check::run(&Host { root, topology: &topology, placement: &placement, profile, data });
    print(&match json {
        true => format!("{:#}\n", report::json(profile, &outcomes)),
        false => report::text(profile, &outcomes),
    })?;
    Ok(match check::worst(&outcomes) {
        Status::Ok | Status::Absent | Status::Info => ExitCode::SUCCESS,
        Status::Unknown => ExitCode::from(3),
        Status::Warn => ExitCode::from(4),
        Status::Fail => ExitCode::from(5),
    })
}

/// The path as the mounts of the host know it: without links, as far as it is there.
fn data_directory(asked: Option<&Path>, here: bool) -> Result<String, String> {
    let path = match asked {
        Some(path) => path.to_path_buf(),
        None => directory::default()?,
    };
    let path = std::path::absolute(&path).map_err(|error| format!("--data {}: {error}", path.display()))?;
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let real = match there.filter(|_| here) {
        Some((part, real)) => real.join(path.strip_prefix(part).expect("it is one of the path's ancestors")),
        None => path.clone(),
    };
    let text = real.to_str().ok_or_else(|| format!("--data {}: a path of text is needed", path.display()))?;
    Ok(text.trim_end_matches('/').to_string())
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output: {error}"))
}
