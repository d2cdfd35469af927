//! `penstock load max`: the highest rate at which a percentile keeps its promise.

use super::flags::{Output, Target, Work, parse_rate, parse_time};
use super::run::{Ended, against, begin, print};
use crate::load::plan::Pace;
use crate::load::report::{Report, shown};
use crate::load::schedule::Shape;
use crate::load::search::{Search, Step};
use crate::load::verdict::Verdict;
use serde_json::json;
use std::process::ExitCode;

/// No rate kept it.
const NONE: u8 = 3;
/// The generator could not go as far.
const BOUND: u8 = 4;
/// Something was lost.
const INVALID: u8 = 5;
/// The run that confirms is so many times as long.
const LONGER: u32 = 2;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The promise, as p99=2ms: p50, p90, p99, p99.9 or max of the latency from when a request was due
    #[arg(long, value_name = "PERCENTILE=TIME", value_parser = parse_slo)]
    slo: Slo,
    /// Records a second to begin with
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_rate)]
    from: f64,
    /// Records a second at most
    #[arg(long, value_name = "N", default_value = "100M", value_parser = parse_rate)]
    to: f64,
    /// How the rate changes, as in run
    #[arg(long, value_name = "SHAPE", default_value = "poisson")]
    schedule: Shape,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug)]
struct Slo {
    quantile: f64,
    ns: u64,
}

fn parse_slo(text: &str) -> Result<Slo, String> {
    let (name, time) = text.split_once('=').ok_or("a percentile and a time, as in p99=2ms")?;
    let quantile = match name {
        "p50" => 0.5,
        "p90" => 0.9,
        "p99" => 0.99,
        "p99.9" | "p999" => 0.999,
        "max" => 1.0,
        _ => return Err("the percentile is p50, p90, p99, p99.9 or max".to_string()),
    };
    Ok(Slo { quantile, ns: parse_time(time)?.as_nanos() as u64 })
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let baton = begin()?;
    let mut search = Search::new(args.from, args.to.max(args.from));
    let (mut best, mut bound, mut runs) = (None::<Report>, false, 0);
    let found = loop {
        let (rate, longer) = match search.step() {
            Step::Done(rate) => break rate,
            Step::Try(rate) => (rate, 1),
            Step::Confirm(rate) => (rate, LONGER),
        };
        let work = Work { length: args.work.length * longer, ..args.work.clone() };
        let pace = Pace::Open { shape: args.schedule, rate };
        runs += 1;
        let out = args.output.out.as_ref().map(|out| out.join(format!("{runs:02}-{rate:.0}")));
        let quiet = Output { quiet: true, out, ..args.output.clone() };
        let Ended { report, files, .. } = against(&args.target, &work, pace, &quiet, &baton)?;
        files?;
        if baton.stops() {
            return Err("stopped before a rate was found".to_string());
        }
        if report.verdict == Verdict::Invalid {
            tell(args, rate, &report, false);
            eprintln!("penstock: INVALID: {}", report.reasons.join("; "));
            return Ok(ExitCode::from(INVALID));
        }
        let latency = report.total.response.value_at_quantile(args.slo.quantile);
        let holds = report.verdict == Verdict::Valid && latency <= args.slo.ns;
        bound = !holds && report.verdict == Verdict::GeneratorBound;
        tell(args, rate, &report, holds);
        search.tell(holds);
        if holds {
            best = Some(report);
        }
    };
    conclude(args, found, best.as_ref(), bound)
}

fn tell(args: &Args, rate: f64, report: &Report, holds: bool) {
    if !args.output.quiet {
        let latency = shown(report.total.response.value_at_quantile(args.slo.quantile));
        let word = if holds { "holds" } else { "does not hold" };
        eprintln!("{rate:>12.0} records/s  {latency:>10}  {word}  {}", report.verdict.name());
    }
}

fn conclude(args: &Args, found: Option<f64>, best: Option<&Report>, bound: bool) -> Result<ExitCode, String> {
    let latency = best.map(|report| report.total.response.value_at_quantile(args.slo.quantile));
    let text = match (args.output.json, found) {
        (true, _) => {
            // The run that has confirmed it, with the rate that was asked for.
            let mut json = found.and(best).map_or_else(|| json!({}), Report::json);
            json["records_per_second"] = json!(found);
            json["generator_bound"] = bound.into();
            let measured = found.and(latency).map(|ns| ns as f64 / 1e3);
            json["slo"] =
                json!({ "quantile": args.slo.quantile, "us": args.slo.ns as f64 / 1e3, "measured_us": measured });
            format!("{json}\n")
        }
        (false, Some(rate)) => {
            let megabytes = best.map_or(0.0, |report| report.bytes_per_second() / 1e6);
            let end = if bound { "; above it the generator was the limit" } else { "" };
            format!(
                "{rate:.0} records/s ({megabytes:.1} MB/s) hold, confirmed with {}{end}\n",
                latency.map_or(String::new(), shown)
            )
        }
        (false, None) => format!("{:.0} records/s do not hold, and no lower rate was tried: see --from\n", args.from),
    };
    print(&text)?;
    Ok(match (found, bound) {
        (None, true) => ExitCode::from(BOUND),
        (None, false) => ExitCode::from(NONE),
        _ => ExitCode::SUCCESS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_read() {
        let slo = parse_slo("p99.9=2ms").expect("a promise");
        assert_eq!((slo.quantile, slo.ns), (0.999, 2_000_000));
        for text in ["", "p99", "p98=1ms", "p99=2", "=1ms"] {
            assert!(parse_slo(text).is_err(), "{text}");
        }
    }
}
