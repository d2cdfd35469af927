//! `penstock load verify`: reads a stream that runs have left, and says whether their records are whole.

use super::endpoint::Endpoint;
use super::flags::{STREAM, Server, WireName, parse_stream};
use super::run::print;
use crate::client::{self, Credentials, Record, Scan, Tls};
use crate::load::audit::{Audit, Shown};
use crate::load::plan::Identity;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Something is there that must not be, or, of a run that was not refused anything, is not there.
const BAD: u8 = 5;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    server: Server,
    /// How records are read: the Kinesis API is asked in JSON for json and cbor alike
    #[arg(long, value_enum, default_value = "native")]
    wire: WireName,
    /// Stream that runs have left
    #[arg(long, value_name = "NAME", default_value = STREAM, value_parser = parse_stream)]
    stream: String,
    /// Nothing was refused in these runs: what is missing between records that are there is lost
    #[arg(long)]
    strict: bool,
    /// One object of JSON instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let mut audit = Audit::default();
    match args.wire {
        WireName::Native => read_natively(args, &mut audit)?,
        WireName::Json | WireName::Cbor => read_by_api(args, &mut audit)?,
    }
    let runs: Vec<(u64, Shown)> = audit.shown().collect();
    let bad = |shown: &Shown| shown.is_bad() || (args.strict && shown.missing > 0);
    let any = runs.iter().any(|(_, shown)| bad(shown));
    print(&match args.json {
        true => format!("{}\n", to_json(&runs, audit.others)),
        false => to_text(&runs, audit.others),
    })?;
    if runs.is_empty() {
        return Err(format!("stream {} has no records of a verified run", args.stream));
    }
    Ok(if any { ExitCode::from(BAD) } else { ExitCode::SUCCESS })
}

/// Parents come before their children, and have what was written before.
fn read_by_api(Args { server, stream, .. }: &Args, audit: &mut Audit) -> Result<(), String> {
    let identity = server.identity()?;
    let mut endpoint = Endpoint::new(&server.endpoint, server.ca.as_deref(), identity.as_ref())?;
    for shard in endpoint.all_shards(stream)? {
        endpoint.read(stream, &shard, &mut |data| audit.record(data))?;
    }
    Ok(())
}

/// The same over the native protocol, in TLS where the endpoint has it.
fn read_natively(Args { server, stream, .. }: &Args, audit: &mut Audit) -> Result<(), String> {
    let mut endpoint = client::Endpoint::at(&server.native);
    if let Some(Identity { key_id, secret, token, .. }) = server.identity()? {
        endpoint.credentials = Some(Credentials { key_id, secret, session_token: token.unwrap_or_default() });
    }
    if server.endpoint.starts_with("https://") {
        endpoint.tls = Some(match &server.ca {
            Some(file) => Tls::of_authorities(file)?,
            None => Tls::of_system()?,
        });
    }
    let mut scan = Scan::open(endpoint, stream).map_err(|error| error.to_string())?;
    for shard in scan.shards() {
        let mut failed = None;
        let take = |record: Record<'_>| {
            if failed.is_none() {
                failed = audit.record(record.data).err();
            }
        };
        scan.read(shard, take).map_err(|error| error.to_string())?;
        if let Some(why) = failed {
            return Err(why);
        }
    }
    Ok(())
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
