//! `penstock tune prove`: whether what a check wants has an effect on this host.

use super::change::{Kept, Which, hands, journal, with_plan};
use super::{GOAL_HELP, Goal, print};
use crate::cli::directory;
use crate::io::clock::Clock;
use crate::io::device;
use crate::io::drive::{Drive, Spread};
use crate::io::gauge::{PingPong, jitter};
use crate::io::process::Signals;
use crate::tune::apply::{self, Foreign, Report};
use crate::tune::hands::Disk;
use crate::tune::journal::Journal;
use crate::tune::plan::Plan;
use crate::tune::prove::{PAIRS_MAX, PAIRS_MIN, Pair, Probe, Verdict, begins_without, probe, verdict};
use crate::tune::root::{Root, brief};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The version of the JSON, as for `check`.
const SCHEMA: u32 = 1;
/// What a changed value is given to show, before it is measured.
const SETTLE: Duration = Duration::from_millis(100);
/// A command that has not ended by then is ended.
const COMMAND_NS_MAX: u64 = 600 * 1_000_000_000;
const OUTPUT_BYTES_MAX: usize = 64 << 10;
const STEP: Duration = Duration::from_millis(20);

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The check whose values are tried, as `check` names it
    check: String,
    #[command(flatten)]
    kept: Kept,
    #[arg(long, value_enum, default_value = "latency", help = GOAL_HELP)]
    profile: Goal,
    /// Data directory; durable writes are tried in it, and no server may have it then [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What is measured [default: what shows an effect of the check's values]
    #[arg(long, value_enum, conflicts_with = "command")]
    probe: Option<Kind>,
    /// Measure with this command of the shell instead, for as long as it takes: the last line that it prints begins with the figure
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// More of the command's figure is better
    #[arg(long, requires = "command")]
    more_is_better: bool,
    /// Pairs of a period without the values and one with them
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(PAIRS_MIN as u64..=PAIRS_MAX as u64))]
    pairs: u64,
    /// How long a period is
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Kind {
    /// Durable writes of 4 KiB into the data directory
    Durable,
    /// Messages to another thread and back over the loopback device
    Loopback,
    /// A core that only looks at the clock
    Jitter,
}

/// One thing that is measured, and in what.
struct Figure {
    name: &'static str,
    unit: &'static str,
}

/// Whatever measures.
enum Gauge {
    /// With the lock that keeps a server from the data directory meanwhile.
    Durable {
        drive: Box<Drive>,
        _rest: Option<File>,
    },
    Loopback(Box<PingPong>),
    Jitter,
    Command(String),
}

/// Where the journal of a trial is, beside that of what was applied.
pub fn tried(journal: &str) -> String {
    format!("{journal}-prove")
}

pub fn run(root: &Root, args: &Args, here: bool) -> Result<ExitCode, String> {
    let directory = tried(&journal(&args.kept)?);
    if !here && args.command.is_none() {
        return Err("prove measures this host: with --root only a --command has a place there".to_string());
    }
    put_back_tried(root, &directory)?;
    let which = Which::only(args.profile, args.data.clone(), &args.check);
    let (plan, cores) = with_plan(root, &which, here, &mut hands(root)?, |host, plan| (plan, host.worker_cores()))?;
    let plan = provable(&args.check, plan)?;
    let mut gauge = gauge(args, &cores)?;
    let signals = Signals::block().map_err(|error| format!("signals: {error}"))?;
    let stopped = Cell::new(false);
    let stop = || {
        stopped.set(stopped.get() || signals.wait_for(0));
        stopped.get()
    };
    let ns = args.seconds * 1_000_000_000;
    let mut knobs = Knobs::begin(root, &directory)?;
    let measured = knobs.measure(&plan, &mut gauge, (args.pairs, ns), &stop);
    // Whatever has ended it.
    knobs.end()?;
    let measured = measured?;
    if stop() {
        return Err("stopped by a signal; everything was put back".to_string());
    }
    print(&told(args, &plan, &gauge, &measured)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The plan, if there is something in it that can be tried now.
fn provable(check: &str, plan: Plan) -> Result<Plan, String> {
    if !plan.values.is_empty() {
        return Ok(plan.for_a_moment());
    }
    Err(match (plan.left.first(), plan.later.is_empty()) {
        (Some(left), _) => format!("{check} has nothing to try: {}", left.why),
        (None, false) => {
            format!("{check} holds from the next start of the host or of a unit only, so it cannot be tried")
        }
        (None, true) => format!("{check} is as it is wanted already: put it back first, to compare"),
    })
}

fn gauge(args: &Args, cores: &[usize]) -> Result<Gauge, String> {
    if let Some(command) = &args.command {
        return Ok(Gauge::Command(command.clone()));
    }
    let asked = args.probe.map(|kind| match kind {
        Kind::Durable => Probe::Durable,
        Kind::Loopback => Probe::Loopback,
        Kind::Jitter => Probe::Jitter,
    });
    let probe = asked.or_else(|| probe(&args.check)).ok_or_else(|| {
        format!(
            "no probe on this host alone shows an effect of {}: name one with --probe, or measure with --command, as a load from another host",
            args.check
        )
    })?;
    let core = cores.first().copied().unwrap_or(0);
    if probe != Probe::Durable {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
    }
    let failed = |error: std::io::Error| error.to_string();
    Ok(match probe {
        Probe::Jitter => Gauge::Jitter,
        Probe::Loopback => {
            let other = cores.get(1).copied().unwrap_or(core);
            Gauge::Loopback(Box::new(PingPong::new(other).map_err(failed)?))
        }
        Probe::Durable => {
            let data = args.data.clone().map_or_else(directory::default, Ok)?;
            let failed = |error: std::io::Error| format!("{}: {error}", data.display());
            let rest = directory::at_rest(&data)?;
            let found = device::examine(&data).map_err(failed)?;
            let mut drive = Drive::new(&data, &found.number).map_err(failed)?;
            drive.prepare().map_err(failed)?;
            Gauge::Durable { drive: Box::new(drive), _rest: rest }
        }
    })
}

/// Puts back what a trial has set that was interrupted, and says so. One that is under way is an error: what it has set for a moment is no value of
/// this host.
pub fn put_back_tried(root: &Root, directory: &str) -> Result<(), String> {
    let mut hands = hands(root)?;
    let Some(mut journal) = Journal::open(&mut hands, directory)? else { return Ok(()) };
    for path in put_back(&mut hands, &mut journal)? {
        eprintln!("penstock: an earlier prove was interrupted: {path} was put back");
    }
    journal.end(&mut hands)
}

/// Gives all values what they held; tells which that were.
fn put_back(hands: &mut Disk, journal: &mut Journal) -> Result<Vec<String>, String> {
    let Report { done, trouble, .. } = apply::put_all(hands, journal, Foreign::Tell)?;
    match trouble.first() {
        None => Ok(done),
        Some((path, trouble)) => Err(format!(
            "{path} was not put back: {trouble}; `penstock tune revert --overwrite` puts it back all the same, --keep leaves it"
        )),
    }
}

/// Values that come and go. Its journal is open, and locked, from the first to the last of them, so that nobody else takes what is set for a moment
/// for what was there before.
struct Knobs {
    hands: Disk,
    journal: Journal,
}

impl Knobs {
    fn begin(root: &Root, directory: &str) -> Result<Knobs, String> {
        let mut hands = hands(root)?;
        let journal = Journal::begin(&mut hands, directory)?;
        Ok(Knobs { hands, journal })
    }

    /// Gives them the values of the plan.
    fn set(&mut self, plan: &Plan) -> Result<(), String> {
        match apply::make_all(&mut self.hands, &mut self.journal, plan)?.trouble.first() {
            None => Ok(()),
            Some((path, why)) => Err(format!("{path} cannot be set: {why}")),
        }
    }

    fn put_back(&mut self) -> Result<(), String> {
        put_back(&mut self.hands, &mut self.journal)?;
        self.journal.shorten(&mut self.hands)
    }

    fn end(mut self) -> Result<(), String> {
        self.put_back()?;
        self.journal.end(&mut self.hands)
    }

    /// The pairs of each figure. What is set when this ends is in the journal.
    fn measure(
        &mut self,
        plan: &Plan,
        gauge: &mut Gauge,
        (count, ns): (u64, u64),
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<Pair>>, String> {
        let mut all = vec![Vec::new(); gauge.figures().len()];
        // What is measured first is measured cold.
        gauge.run(ns.min(1_000_000_000), stop)?;
        for pair in 0..count as usize {
            let mut seen = [Vec::new(), Vec::new()];
            for with in [!begins_without(pair), begins_without(pair)] {
                if stop() {
                    return Ok(all);
                }
                match with {
                    true => self.set(plan)?,
                    false => self.put_back()?,
                }
                std::thread::sleep(SETTLE);
                seen[usize::from(with)] = gauge.run(ns, stop)?;
            }
            for (figure, pairs) in all.iter_mut().enumerate() {
                pairs.push(Pair { without: seen[0][figure], with: seen[1][figure] });
            }
        }
        Ok(all)
    }
}

impl Gauge {
    fn name(&self) -> &str {
        match self {
            Gauge::Durable { .. } => "durable writes of 4 KiB",
            Gauge::Loopback(_) => "round trips over the loopback device",
            Gauge::Jitter => "what takes a core away",
            Gauge::Command(command) => command,
        }
    }

    fn figures(&self) -> &'static [Figure] {
        match self {
            Gauge::Durable { .. } | Gauge::Loopback(_) => {
                &[Figure { name: "p50", unit: "us" }, Figure { name: "p99", unit: "us" }]
            }
            Gauge::Jitter => {
                &[Figure { name: "taken away", unit: "us/s" }, Figure { name: "longest at once", unit: "us" }]
            }
            Gauge::Command(_) => &[Figure { name: "figure", unit: "" }],
        }
    }

    /// One period.
    fn run(&mut self, ns: u64, stop: &dyn Fn() -> bool) -> Result<Vec<f64>, String> {
        let quantiles = |seen: Spread| vec![seen.p50 as f64 / 1e3, seen.p99 as f64 / 1e3];
        match self {
            Gauge::Durable { drive, .. } => {
                drive.durable_for(ns, stop).map(quantiles).map_err(|error| format!("writes: {error}"))
            }
            Gauge::Loopback(pair) => pair.run(ns, stop).map(quantiles).map_err(|error| format!("loopback: {error}")),
            Gauge::Jitter => {
                let seen = jitter(ns, stop);
                Ok(vec![seen.taken as f64 * 1e6 / seen.ns.max(1) as f64, seen.longest as f64 / 1e3])
            }
            Gauge::Command(command) => Ok(vec![figure_of(command, stop)?]),
        }
    }
}

/// What a command prints last.
fn figure_of(command: &str, stop: &dyn Fn() -> bool) -> Result<f64, String> {
    let failed = |error: std::io::Error| format!("--command: {error}");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = shell.spawn().map_err(failed)?;
    let out = ended(child, stop)?;
    let text = String::from_utf8_lossy(&out);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let figure =
        last.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).filter(|figure| figure.is_finite());
    match figure {
        Some(figure) => Ok(figure),
        // It was stopped, which is told elsewhere.
        None if stop() => Ok(0.0),
        None => Err(format!("--command: its last line begins with no number: {}", brief(last))),
    }
}

/// Waits for a child; ends it when it is to stop, or takes too long.
fn ended(mut child: Child, stop: &dyn Fn() -> bool) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("--command: {error}");
    let mut pipe = child.stdout.take().expect("it was asked for");
    // A pipe that is full would hold the child up for ever.
    let reader = std::thread::spawn(move || {
        let (mut out, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = pipe.read(&mut part) {
            out.extend_from_slice(&part[..length]);
            // Its end is all that is looked at.
            let old = out.len().saturating_sub(OUTPUT_BYTES_MAX);
            out.drain(..old);
        }
        out
    });
    let begin = Clock.now().mono;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        let late = Clock.now().mono - begin > COMMAND_NS_MAX;
        if late || stop() {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            return if late { Err("--command: it took more than ten minutes".to_string()) } else { Ok(Vec::new()) };
        }
        std::thread::sleep(STEP);
    };
    let out = reader.join().map_err(|_| "--command: its output could not be read".to_string())?;
    if status.success() { Ok(out) } else { Err(format!("--command: it has failed: {status}")) }
}

fn told(args: &Args, plan: &Plan, gauge: &Gauge, measured: &[Vec<Pair>]) -> Result<String, String> {
    let figures = gauge.figures();
    let said =
        |pairs: &Vec<Pair>| verdict(pairs, figures.len()).ok_or("the figures are no numbers that can be compared");
    let verdicts = measured.iter().map(said).collect::<Result<Vec<Verdict>, _>>()?;
    let effect = verdicts.iter().any(|verdict| verdict.effect);
    let word = if effect { "effect" } else { "none" };
    if args.json {
        let each = figures.iter().zip(&verdicts).map(|(figure, verdict)| as_json(figure, verdict, args.more_is_better));
        let values = plan
            .values
            .iter()
            .map(|value| json!({ "path": value.knob.path, "without": value.old.trim(), "with": value.knob.value }));
        let all = json!({
            "schema": SCHEMA, "check": args.check, "probe": gauge.name(), "pairs": args.pairs, "verdict": word,
            "values": values.collect::<Vec<Value>>(), "figures": each.collect::<Vec<Value>>(),
        });
        return Ok(format!("{all:#}\n"));
    }
    let mut out = format!("{}: {}, {} pairs\n", args.check, gauge.name(), args.pairs);
    for value in &plan.values {
        out +=
            &format!("  {}: without {}, with {}\n", value.knob.path, brief(value.old.trim()), brief(&value.knob.value));
    }
    for (figure, verdict) in figures.iter().zip(&verdicts) {
        out += &line(figure, verdict, args.more_is_better);
    }
    Ok(out + &format!("verdict: {word} (Student's t of the paired differences; all intervals hold together at 95 %)\n"))
}

fn line(figure: &Figure, verdict: &Verdict, more_is_better: bool) -> String {
    let Verdict { without, with, difference, margin, .. } = *verdict;
    let percent = if without == 0.0 { String::new() } else { format!(", {:+.1} %", difference / without * 100.0) };
    let word = outcome(verdict, more_is_better);
    let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
    format!(
        "  {}: without {without:.2}{unit}, with {with:.2}{unit}: {difference:+.2} ± {margin:.2}{unit}{percent}: {word}\n",
        figure.name
    )
}

fn outcome(verdict: &Verdict, more_is_better: bool) -> &'static str {
    match (verdict.effect, (verdict.difference > 0.0) == more_is_better) {
        (false, _) => "none",
        (true, true) => "better",
        (true, false) => "worse",
    }
}

fn as_json(figure: &Figure, verdict: &Verdict, more_is_better: bool) -> Value {
    json!({
        "name": figure.name, "unit": figure.unit, "without": verdict.without, "with": verdict.with,
        "difference": verdict.difference, "margin": verdict.margin, "outcome": outcome(verdict, more_is_better),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_which_way_it_went() {
        let verdict = Verdict { without: 60.0, with: 45.0, difference: -15.0, margin: 2.0, effect: true };
        let figure = Figure { name: "p99", unit: "us" };
        assert_eq!(
            line(&figure, &verdict, false),
            "  p99: without 60.00 us, with 45.00 us: -15.00 ± 2.00 us, -25.0 %: better\n"
        );
        assert_eq!(outcome(&verdict, true), "worse");
        assert_eq!(outcome(&Verdict { effect: false, ..verdict }, true), "none");
    }

    #[test]
    fn the_last_line_of_a_command_is_its_figure() {
        let go_on = || false;
        assert_eq!(figure_of("echo a; echo '12.5 MB/s'; echo", &go_on), Ok(12.5));
        assert!(figure_of("echo none", &go_on).expect_err("no number").contains("no number"));
        assert!(figure_of("echo 5; exit 3", &go_on).expect_err("it fails").contains("failed"));
        assert_eq!(figure_of("sleep 60", &|| true), Ok(0.0));
        // More than a pipe holds.
        assert_eq!(figure_of("yes 7 | head -c 3000000; echo; echo 8", &go_on), Ok(8.0));
    }
}
