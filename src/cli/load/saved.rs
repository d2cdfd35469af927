//! Runs that were written down: `penstock load compare` and `penstock load merge`.

use super::files::{LOG, REPORT};
use super::run::print;
use crate::load::compare::{Difference, Mean, SECONDS_MIN};
use crate::load::histogram_log::{head, line, read, table};
use crate::load::report::{MEMBERS, SCHEMA, percentiles, rounded, row};
use crate::load::tally::histogram;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// B is worse.
const WORSE: u8 = 3;

#[derive(clap::Args, Debug)]
pub struct CompareArgs {
    /// Directory (--out) of the run that is compared with
    a: PathBuf,
    /// Directory of the run that is compared
    b: PathBuf,
    /// Percent that B may be worse by
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    threshold: f64,
    /// One object of JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub struct MergeArgs {
    /// Directories (--out) of runs against one server at the same time
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Directory for the report and the histograms of all [default: nothing is written]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One object of JSON instead of text: what `run --json` prints, of all of them together
    #[arg(long)]
    json: bool,
}

fn report(run: &Path) -> Result<Value, String> {
    let path = run.join(REPORT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    match report["schema"].as_u64() {
        Some(schema) if schema == SCHEMA as u64 => Ok(report),
        Some(schema) => Err(format!("{}: its schema is {schema}; this program reads {SCHEMA}", path.display())),
        None => Err(format!("{}: it is no report of a run", path.display())),
    }
}

/// What is compared: member of a second of a report, its name, and whether more is worse.
const MEASURES: [(&str, &str, bool); 4] = [
    ("records", "records/s", false),
    ("p50_us", "p50 µs", true),
    ("p99_us", "p99 µs", true),
    ("mean_us", "mean µs", true),
];

pub fn compare(args: &CompareArgs) -> Result<ExitCode, String> {
    let (a, b) = (report(&args.a)?, report(&args.b)?);
    let (mut worse, mut lines, mut out) = (false, Vec::new(), String::new());
    for (member, name, more_is_worse) in MEASURES {
        let mean = |report: &Value, run: &Path| {
            let blocks = report["blocks"].as_array().into_iter().flatten();
            let seconds: Vec<f64> = blocks.filter_map(|block| block[member].as_f64()).collect();
            Mean::of(&seconds).ok_or_else(|| {
                format!(
                    "{} has {} whole seconds: {SECONDS_MIN} are the least to say anything of",
                    run.display(),
                    seconds.len()
                )
            })
        };
        let (a, b) = (mean(&a, &args.a)?, mean(&b, &args.b)?);
        let difference = Difference::of(&a, &b);
        let bad = if more_is_worse { difference.low } else { -difference.high };
        let is_worse = difference.is_significant() && bad * 100.0 > args.threshold;
        worse |= is_worse;
        let word = match (difference.is_significant(), is_worse) {
            (false, _) => "no difference can be seen",
            (true, true) => "worse",
            (true, false) if (difference.part > 0.0) != more_is_worse => "better",
            (true, false) => "worse, within what is allowed",
        };
        let Difference { a: was, b: is, part, low, high } = difference;
        out += &format!(
            "{name:<10} {was:>12.1} -> {is:>12.1}  {:+.2} % ({:+.2} .. {:+.2} %)  {word}\n",
            part * 100.0,
            low * 100.0,
            high * 100.0
        );
        lines.push(json!({
            "measure": member, "a": was, "b": is, "difference": part, "low": low, "high": high,
            "significant": difference.is_significant(), "worse": is_worse,
            "independent_seconds": [a.worth, b.worth],
        }));
    }
    let verdicts = [&a, &b].map(|report| report["verdict"].as_str().unwrap_or("?").to_string());
    // Figures that are not the server's prove nothing of it.
    if verdicts.iter().any(|verdict| verdict != "VALID") {
        out += &format!("A is {}, B is {}: what differs may not be the server\n", verdicts[0], verdicts[1]);
    }
    worse |= verdicts[1] == "INVALID" && verdicts[0] != "INVALID";
    print(&match args.json {
        true => format!("{}\n", json!({ "worse": worse, "verdicts": verdicts, "measures": lines })),
        false => out,
    })?;
    Ok(if worse { ExitCode::from(WORSE) } else { ExitCode::SUCCESS })
}

/// Counts that add up.
const SUMS: [&str; 16] = [
    "acked_records",
    "acked_bytes",
    "records_per_second",
    "bytes_per_second",
    "lost",
    "duplicated",
    "reordered",
    "unverified",
    "verified",
    "refused_records",
    "throttled_records",
    "unknown_records",
    "disconnects",
    "read_records",
    "threads",
    "connections",
];
/// From the best to the worst.
const VERDICTS: [&str; 4] = ["VALID", "OVERLOADED", "GENERATOR-BOUND", "INVALID"];
/// Tags of the log, and what a report calls their percentiles.
const TAGS: [(&str, &str); 4] =
    [("response", "latency_us"), ("service", "service_us"), ("lag", "lag_us"), ("put-to-get", "put_to_get_us")];

/// Histograms of runs, by tag and by the second in which they begin.
type Histograms = BTreeMap<(String, u64), Histogram<u64>>;

pub fn merge(args: &MergeArgs) -> Result<ExitCode, String> {
    let reports = args.runs.iter().map(|run| report(run)).collect::<Result<Vec<_>, _>>()?;
    let mut histograms = Histograms::new();
    for run in &args.runs {
        let path = run.join(LOG);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for (tag, begin, _, one) in read(&text).map_err(|why| format!("{}: {why}", path.display()))? {
            let sum = histograms.entry((tag, begin as u64)).or_insert_with(histogram);
            sum.add(&one).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let totals = TAGS.map(|(tag, _)| total(&histograms, tag));
    let merged = merged(&reports, &histograms, &totals);
    // What they come to is told also where it could not be written down.
    print(&match args.json {
        true => format!(
            "{}\n",
            Value::Object(MEMBERS.map(|name| (name.to_string(), merged[name].clone())).into_iter().collect())
        ),
        false => told(&merged, &totals),
    })?;
    if let Some(out) = &args.out {
        write(out, &merged, &histograms, &totals).map_err(|error| format!("--out {}: {error}", out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Of all seconds.
fn total(histograms: &Histograms, tag: &str) -> Histogram<u64> {
    let mut total = histogram();
    for (_, one) in histograms.iter().filter(|((of, _), _)| of == tag) {
        total.add(one).expect("all have the same bounds");
    }
    total
}

/// The report of all runs together.
fn merged(reports: &[Value], histograms: &Histograms, totals: &[Histogram<u64>; TAGS.len()]) -> Value {
    let mut merged = json!({ "schema": SCHEMA, "merged": reports.len() });
    for name in SUMS {
        let sum: f64 = reports.iter().filter_map(|report| report[name].as_f64()).sum();
        merged[name] = if sum.fract() == 0.0 { json!(sum as u64) } else { json!(rounded(sum)) };
    }
    let longest = reports.iter().filter_map(|report| report["seconds"].as_f64()).fold(0.0, f64::max);
    merged["seconds"] = longest.into();
    let place = |report: &Value| {
        VERDICTS.iter().position(|verdict| report["verdict"] == **verdict).unwrap_or(VERDICTS.len() - 1)
    };
    merged["verdict"] = VERDICTS[reports.iter().map(place).max().unwrap_or(0)].into();
    for ((_, member), total) in TAGS.iter().zip(totals) {
        merged[*member] = percentiles(total);
    }
    merged["blocks"] = blocks(reports, histograms);
    merged
}

fn told(merged: &Value, totals: &[Histogram<u64>; TAGS.len()]) -> String {
    let figure = |name: &str| merged[name].as_f64().unwrap_or(0.0);
    let mut out = format!(
        "{}  {} runs  {} records  {:.0} records/s  {:.1} MB/s  in {:.1} s\n",
        merged["verdict"].as_str().unwrap_or("?"),
        merged["merged"],
        merged["acked_records"],
        figure("records_per_second"),
        figure("bytes_per_second") / 1e6,
        figure("seconds")
    );
    out += &row("latency", &totals[0]);
    out += &row("service", &totals[1]);
    let [verified, lost, duplicated, reordered, unverified] =
        ["verified", "lost", "duplicated", "reordered", "unverified"].map(|name| &merged[name]);
    out + &format!(
        "  read back    {verified} verified, {lost} lost, {duplicated} duplicated, {reordered} reordered, {unverified} unverified\n"
    )
}

fn write(out: &Path, merged: &Value, histograms: &Histograms, totals: &[Histogram<u64>; TAGS.len()]) -> io::Result<()> {
    fs::create_dir_all(out)?;
    let mut log = head(0.0);
    for ((tag, _), total) in TAGS.iter().zip(totals) {
        for ((_, begin), one) in histograms.iter().filter(|((of, _), _)| of == tag) {
            log += &line(tag, *begin as f64, 1.0, one);
        }
        if !total.is_empty() {
            fs::write(out.join(format!("{tag}.hgrm")), table(total))?;
        }
    }
    fs::write(out.join(LOG), log)?;
    fs::write(out.join(REPORT), format!("{merged:#}\n"))
}

/// Seconds that all runs have: their counts added up, their percentiles from the histograms of all.
fn blocks(reports: &[Value], histograms: &Histograms) -> Value {
    let mut seconds: BTreeMap<u64, (usize, [u64; 3])> = BTreeMap::new();
    for block in reports.iter().filter_map(|report| report["blocks"].as_array()).flatten() {
        let Some(second) = block["second"].as_u64() else { continue };
        let (runs, counts) = seconds.entry(second).or_default();
        *runs += 1;
        let named = ["records", "bytes", "requests"];
        counts.iter_mut().zip(named).for_each(|(sum, name)| *sum += block[name].as_u64().unwrap_or(0));
    }
    let whole = seconds.into_iter().filter(|(_, (runs, _))| *runs == reports.len());
    let blocks = whole.filter_map(|(second, (_, [records, bytes, requests]))| {
        let response = histograms.get(&("response".to_string(), second))?;
        let at = |quantile| response.value_at_quantile(quantile) as f64 / 1e3;
        Some(json!({
            "second": second, "records": records, "bytes": bytes, "requests": requests,
            "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "mean_us": response.mean() / 1e3,
        }))
    });
    blocks.collect::<Vec<_>>().into()
}
