//! `penstock load selftest`: the generator against servers whose pauses are known. `load/selftest.rs` has the theory.

use super::drive::{self, Show};
use super::run::{begin, print};
use super::stub;
use super::thread::Baton;
use crate::load::choice::{Popularity, Sizes};
use crate::load::plan::{Pace, Plan, Share, Wire};
use crate::load::report::{Report, shown};
use crate::load::schedule::Shape;
use crate::load::selftest::{Service, theory};
use crate::load::tally::Tally;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

const MS: u64 = 1_000_000;
/// How far from the theory a percentile may be.
const PART: f64 = 0.02;
const PERCENTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
const SECONDS: u64 = 10;
/// The machine was not quiet enough, or the generator is wrong.
const APART: u8 = 6;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// How often a server is measured whose percentiles are not close, at most. A busy machine adds to them, now and then; a generator that is wrong is so
    /// each time
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// One object of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// A server and a schedule: what is rare is long, so that a percentile far from the theory is far by more than a thread's delay.
struct Case {
    name: &'static str,
    service: Service,
    shape: Shape,
    rate: f64,
}

fn cases() -> Vec<Case> {
    let usual = Service { usual: 20 * MS, ..Service::default() };
    // Nothing is rare here: the slowest of all is a thread that was late once, so each takes long.
    let steady = Service { usual: 100 * MS, ..Service::default() };
    let pauses = Service { every: 50, pause: 400 * MS, ..usual.clone() };
    let stalls = Service { every: 150, pause: 1000 * MS, ..usual.clone() };
    let slow = Service { slow_every: 7, slow: 120 * MS, ..usual.clone() };
    let case = |name, service, shape, rate| Case { name, service, shape, rate };
    vec![
        case("each takes 100 ms", steady, Shape::Fixed, 8.0),
        case("a pause of 400 ms each 50 requests", pauses, Shape::Fixed, 30.0),
        case("a stall of 1 s", stalls, Shape::Fixed, 25.0),
        case("one of seven takes 120 ms", slow, Shape::Fixed, 20.0),
        case("each takes 20 ms, arrivals at random", usual, Shape::Poisson, 35.0),
    ]
}

/// A percentile, as measured and as it must be, ns.
type Line = (f64, u64, u64);

/// What a case has shown: its percentiles, and how late requests were sent, at half of them and at the most.
struct Shown {
    lines: Vec<Line>,
    lag: [u64; 2],
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let baton = begin()?;
    // One after the other: what wakes at the same moment waits for a core, and that would be measured as well.
    let measured = cases().into_iter().map(|case| Ok((case.name, measure_again(&case, &baton, args.attempts)?)));
    let results = measured.collect::<Result<Vec<_>, String>>()?;
    let good = results.iter().all(|(_, shown)| shown.is_close());
    print(&match args.json {
        true => format!("{}\n", to_json(&results, good)),
        false => to_text(&results, good),
    })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(APART) })
}

/// Until all percentiles are close, or for the last time.
fn measure_again(case: &Case, baton: &Arc<Baton>, attempts: u32) -> Result<Shown, String> {
    let mut shown = measure(case, baton)?;
    for _ in 1..attempts {
        if shown.is_close() {
            break;
        }
        shown = measure(case, baton)?;
    }
    Ok(shown)
}

fn measure(case: &Case, baton: &Arc<Baton>) -> Result<Shown, String> {
    let to = stub::start(case.service.clone())?;
    let plan = Arc::new(Plan {
        seed: 1,
        run: 1,
        wire: Wire::Native,
        bulk: false,
        to,
        read: None,
        host: String::new(),
        tls: false,
        http2: false,
        stream: "selftest".to_string(),
        identity: None,
        batch: 1,
        sizes: Sizes::Fixed(100),
        keys: 1,
        popularity: Popularity::Uniform,
        pace: Pace::Open { shape: case.shape, rate: case.rate },
        window: 1024,
        warm_up: 0,
        end: SECONDS * 1000 * MS,
        prebuilt: false,
        poll: MS,
    });
    let share = Share { thread: 0, connections: vec![vec![0]], shards: vec![0] };
    // Each has a word of its own to begin; the word to stop is everybody's.
    let own = Arc::new(Baton::default());
    let Report { total, .. } = drive::run(
        &plan,
        &[share],
        &[],
        Show { progress: false, counters: None, trust: None, files: None, baton: own },
    )?;
    if baton.stops() {
        return Err("stopped before its end".to_string());
    }
    let lag = [0.5, 1.0].map(|quantile| total.lag.value_at_quantile(quantile));
    Ok(Shown { lines: lines(&total, &theory(&plan, &case.service)), lag })
}

impl Shown {
    fn is_close(&self) -> bool {
        self.lines.iter().all(is_close)
    }
}

fn lines(total: &Tally, theory: &Tally) -> Vec<Line> {
    let at = |tally: &Tally, quantile| tally.response.value_at_quantile(quantile);
    PERCENTILES.iter().map(|quantile| (*quantile, at(total, *quantile), at(theory, *quantile))).collect()
}

fn is_close((_, is, must): &Line) -> bool {
    is.abs_diff(*must) as f64 <= *must as f64 * PART
}

fn to_text(results: &[(&str, Shown)], good: bool) -> String {
    let mut out = String::new();
    for (name, Shown { lines, lag: [half, most] }) in results {
        out += &format!("{name}; sent late by {}, {} at most\n", shown(*half), shown(*most));
        for line @ (quantile, is, must) in lines {
            let apart = (*is as f64 / *must as f64 - 1.0) * 100.0;
            let mark = if is_close(line) { "" } else { "  <- more than 2 %" };
            out += &format!(
                "  p{:<5} {:>10}  theory {:>10}  {apart:+.2} %{mark}\n",
                quantile * 100.0,
                shown(*is),
                shown(*must)
            );
        }
    }
    out + if good {
        "all percentiles are within 2 % of theory\n"
    } else {
        "some percentile is not within 2 % of theory: this machine is too busy, or the generator is wrong\n"
    }
}

fn to_json(results: &[(&str, Shown)], good: bool) -> Value {
    let cases = results.iter().map(|(name, Shown { lines, lag: [half, most] })| {
        let lines = lines.iter().map(|(quantile, is, must)| {
            json!({ "quantile": quantile, "measured_us": *is as f64 / 1e3, "theory_us": *must as f64 / 1e3 })
        });
        let lag = json!({ "p50": *half as f64 / 1e3, "max": *most as f64 / 1e3 });
        json!({ "name": name, "percentiles": lines.collect::<Vec<_>>(), "lag_us": lag })
    });
    json!({ "within_2_percent": good, "cases": cases.collect::<Vec<_>>() })
}
