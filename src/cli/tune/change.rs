//! `penstock tune plan`, `describe`, `apply`, `revert`.

use super::prove::{put_back_tried, tried};
use super::{GOAL_HELP, Goal, data_directory, print};
use crate::tune::apply::{self, Foreign, Report};
use crate::tune::check::Host;
use crate::tune::hands::Disk;
use crate::tune::lasting::commands;
use crate::tune::placement::place;
use crate::tune::plan::{self, Choice, Plan};
use crate::tune::root::Root;
use crate::tune::show;
use crate::tune::{describe, discover};
use std::path::PathBuf;
use std::process::ExitCode;

/// Something could not be done, and has been told.
const TROUBLE: u8 = 6;

/// Which changes.
#[derive(clap::Args, Debug)]
pub struct Which {
    #[arg(long, value_enum, default_value = "latency", help = GOAL_HELP)]
    profile: Goal,
    /// Data directory, for the file system under it [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Mend these checks only; may be given several times
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// Mend these as well, though they weigh little or cost much, as isolation does
    #[arg(long, value_name = "CHECK")]
    with: Vec<String>,
    /// Do not mend these
    #[arg(long, value_name = "CHECK")]
    without: Vec<String>,
}

/// Where what was there before is kept.
#[derive(clap::Args, Debug)]
pub struct Kept {
    /// Directory of the journal, which has what was there before each change
    #[arg(long, value_name = "DIR", default_value = "/var/lib/penstock-tune")]
    journal: String,
}

/// What to do with what somebody else has changed since.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
pub struct Since {
    /// Put back what was there before also where somebody has changed it since
    #[arg(long)]
    overwrite: bool,
    /// Leave what somebody has changed since as it is, and forget what was there before
    #[arg(long)]
    keep: bool,
}

impl Which {
    /// What one check wants, though it weighs little.
    pub fn only(profile: Goal, data: Option<PathBuf>, check: &str) -> Which {
        let check = vec![check.to_string()];
        Which { profile, data, only: check.clone(), with: check, without: Vec::new() }
    }
}

pub fn plan(root: &Root, which: &Which, here: bool, script: bool) -> Result<ExitCode, String> {
    let mut hands = hands(root)?;
    let plan = made(root, which, here, &mut hands)?;
    let (lasting, refused) = plan.lasting(&mut hands);
    print(&match script {
        true => show::script(&plan, &lasting),
        false => show::diff(&plan, &lasting, &refused),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub fn describe(root: &Root, which: &Which, here: bool) -> Result<ExitCode, String> {
    let mut hands = hands(root)?;
    print(&with_plan(root, which, here, &mut hands, |host, plan| describe::text(host, &plan))?)?;
    Ok(ExitCode::SUCCESS)
}

pub fn apply(root: &Root, which: &Which, here: bool, kept: &Kept) -> Result<ExitCode, String> {
    let directory = journal(kept)?;
    put_back_tried(root, &tried(&directory))?;
    let mut hands = hands(root)?;
    let plan = made(root, which, here, &mut hands)?;
    let report = apply::apply(&mut hands, &directory, &plan)?;
    let mut text = told("set", &report);
    for left in &plan.left {
        text += &format!("left to you: {}: {}\n", left.check, left.why);
    }
    text += &afterwards(&report, false);
    text += &match report.done.len() {
        0 => "nothing was changed\n".to_string(),
        count => {
            format!("{count} changes; `penstock tune revert` puts back what was there before, kept in {directory}\n")
        }
    };
    print(&text)?;
    Ok(code(&report))
}

pub fn revert(root: &Root, kept: &Kept, since: &Since) -> Result<ExitCode, String> {
    let directory = journal(kept)?;
    let foreign = match (since.overwrite, since.keep) {
        (true, _) => Foreign::Overwrite,
        (_, true) => Foreign::Keep,
        _ => Foreign::Tell,
    };
    let mut hands = hands(root)?;
    // What a trial has set goes before what was there when it began.
    let tried = apply::revert(&mut hands, &tried(&directory), foreign)?;
    let applied = apply::revert(&mut hands, &directory, foreign)?;
    let Some(report) = both(tried, applied) else {
        print(&format!("nothing to put back: there is no journal in {directory}\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut text = told("put back", &report) + &afterwards(&report, true);
    text += &match report.trouble.len() {
        0 => "everything is as it was before\n".to_string(),
        count => format!(
            "{count} not put back, which the journal keeps: --overwrite puts them back all the same, --keep leaves and forgets them\n"
        ),
    };
    print(&text)?;
    Ok(code(&report))
}

fn both(first: Option<Report>, second: Option<Report>) -> Option<Report> {
    let (mut all, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (one, other) => return one.or(other),
    };
    all.done.extend(second.done);
    all.trouble.extend(second.trouble);
    all.notes.extend(second.notes);
    Some(all)
}

pub fn hands(root: &Root) -> Result<Disk, String> {
    Disk::new(root.clone()).map_err(|error| format!("{}: {error}", root.prefix().display()))
}

fn made(root: &Root, which: &Which, here: bool, hands: &mut Disk) -> Result<Plan, String> {
    with_plan(root, which, here, hands, |_, plan| plan)
}

/// What `then` makes of the host and its plan.
pub fn with_plan<T>(
    root: &Root,
    which: &Which,
    here: bool,
    hands: &mut Disk,
    then: impl FnOnce(&Host, Plan) -> T,
) -> Result<T, String> {
    let Which { profile, data, only, with, without } = which;
    let choice = Choice { only: only.clone(), with: with.clone(), without: without.clone() };
    if let Some(strange) = choice.strange().first() {
        return Err(format!("there is no check {strange}; `penstock tune check` lists all"));
    }
    let topology = discover::topology(root);
    let placement = place(&topology, profile.profile());
    let data = data_directory(data.as_deref(), here)?;
    let host = Host { root, topology: &topology, placement: &placement, profile: profile.profile(), data: &data };
    let plan = plan::plan(&host, hands, &choice);
    Ok(then(&host, plan))
}

pub fn journal(kept: &Kept) -> Result<String, String> {
    let directory = kept.journal.trim_end_matches('/');
    match directory.starts_with('/') && directory.split('/').all(|part| part != "." && part != "..") {
        true => Ok(directory.to_string()),
        false => Err(format!("--journal {directory}: an absolute path without dots is needed")),
    }
}

fn told(verb: &str, report: &Report) -> String {
    let mut text = String::new();
    report.done.iter().for_each(|path| text += &format!("{verb} {path}\n"));
    report.notes.iter().for_each(|note| text += &format!("note: {note}\n"));
    report.trouble.iter().for_each(|(path, why)| text += &format!("NOT {verb} {path}: {why}\n"));
    text
}

fn afterwards(report: &Report, reverting: bool) -> String {
    let paths: Vec<&str> = report.done.iter().map(String::as_str).collect();
    commands(&paths, reverting).iter().map(|command| format!("run afterwards: {command}\n")).collect()
}

fn code(report: &Report) -> ExitCode {
    if report.trouble.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) }
}
