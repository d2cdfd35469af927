//! `penstock load verify`: reads a stream that runs have left, and says whether their records are whole.

use super::endpoint::Endpoint;
use super::flags::Target;
use super::run::print;
use crate::load::audit::{Audit, Shown};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Something is there that must not be, or, of a run that was not refused anything, is not there.
const BAD: u8 = 5;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Nothing was refused in these runs: what is missing between records that are there is lost
    #[arg(long)]
    strict: bool,
    /// One object of JSON instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let identity = args.target.identity()?;
    let mut endpoint = Endpoint::new(&args.target.endpoint, args.target.ca.as_deref(), identity.as_ref())?;
    let mut audit = Audit::default();
    // Parents are listed before their children, and have what came before.
    for shard in endpoint.all_shards(&args.target.stream)? {
        endpoint.read(&args.target.stream, &shard, &mut |data| audit.record(data))?;
    }
    let runs: Vec<(u64, Shown)> = audit.shown().collect();
    let bad = |shown: &Shown| shown.is_bad() || (args.strict && shown.missing > 0);
    let any = runs.iter().any(|(_, shown)| bad(shown));
    print(&match args.json {
        true => format!("{}\n", to_json(&runs, audit.others)),
        false => to_text(&runs, audit.others),
    })?;
    if runs.is_empty() {
        return Err(format!("stream {} has no records of a verified run", args.target.stream));
    }
    Ok(if any { ExitCode::from(BAD) } else { ExitCode::SUCCESS })
}

fn to_json(runs: &[(u64, Shown)], others: u64) -> Value {
    let runs = runs.iter().map(|(run, shown)| {
        json!({
            "run": format!("{run:016x}"), "records": shown.records, "keys": shown.keys, "before": shown.before,
            "missing": shown.missing, "duplicated": shown.duplicated, "reordered": shown.reordered, "damaged": shown.damaged,
        })
    });
    json!({ "runs": runs.collect::<Vec<_>>(), "others": others })
}

fn to_text(runs: &[(u64, Shown)], others: u64) -> String {
    let mut out = String::new();
    for (run, Shown { records, keys, before, missing, duplicated, reordered, damaged }) in runs {
        out += &format!(
            "run {run:016x}: {records} records of {keys} keys; {duplicated} duplicated, {reordered} reordered, {damaged} damaged; \
             {missing} missing between them (lost, unless they were refused), {before} before the first ones (expired or trimmed)\n"
        );
    }
    out + &format!("{others} records are of no run\n")
}
