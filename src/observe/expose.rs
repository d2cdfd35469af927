//! Counters and latencies in the text format of Prometheus, and latencies in words.

use super::counter::{COUNTERS, Counters};
use super::latency::{Counted, Family, LATENCIES, Latency};
use std::fmt::Write;

/// One sample a worker for each counter.
pub fn metrics(workers: &[Counters]) -> String {
    let mut text = String::with_capacity(COUNTERS.len() * 160);
    for (counter, name, help) in COUNTERS {
        let kind = if name.ends_with("_now") { "gauge" } else { "counter" };
        let _ = write!(text, "# HELP penstock_{name} {help}\n# TYPE penstock_{name} {kind}\n");
        for (worker, counters) in workers.iter().enumerate() {
            let _ = writeln!(text, "penstock_{name}{{worker=\"{worker}\"}} {}", counters.get(*counter));
        }
    }
    histograms(
        &mut text,
        workers,
        Family::Stage,
        "stage",
        "Time that a stage takes: of requests, or of the commits that acks wait for.",
    );
    histograms(&mut text, workers, Family::Operation, "operation", "Time from a whole request to its answer.");
    text
}

/// Bounds of the buckets that are shown, as powers of two of nanoseconds: 8.2 µs to 17 s.
const SHOWN: std::ops::RangeInclusive<u32> = 13..=34;

fn counted(workers: &[Counters], latency: Latency) -> Counted {
    Counted::of(workers.iter().map(|counters| &counters.latencies), latency)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The histograms of a family, over all workers; what has not happened is left out.
fn histograms(text: &mut String, workers: &[Counters], of: Family, label: &str, help: &str) {
    let name = format!("penstock_{label}_seconds");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    for (latency, _, value) in LATENCIES.iter().filter(|(_, family, _)| *family == of) {
        let counted = counted(workers, *latency);
        if counted.count == 0 {
            continue;
        }
        for exponent in SHOWN {
            let (bound, below) = (seconds(1 << exponent), counted.below(exponent));
            let _ = writeln!(text, "{name}_bucket{{{label}=\"{value}\",le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {}", counted.count);
        let _ = writeln!(text, "{name}_sum{{{label}=\"{value}\"}} {}", seconds(counted.sum_ns));
        let _ = writeln!(text, "{name}_count{{{label}=\"{value}\"}} {}", counted.count);
    }
}

/// A line for everything that has taken time: how often, and its quantiles. Empty when nothing has.
pub fn summary(workers: &[Counters]) -> String {
    let mut text = String::new();
    for (latency, _, name) in LATENCIES {
        let counted = counted(workers, *latency);
        if counted.count == 0 {
            continue;
        }
        let histogram = counted.histogram();
        let at = |quantile| show_us(histogram.value_at_quantile(quantile));
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), show_us(histogram.max()));
        let _ = writeln!(text, "  {name:<17} {:>12}  {p50:>10} {p99:>10} {p999:>10} {max:>10}", counted.count);
    }
    match text.is_empty() {
        true => text,
        false => {
            format!(
                "  {:<17} {:>12}  {:>10} {:>10} {:>10} {:>10}\n{text}",
                "latency, us", "count", "p50", "p99", "p99.9", "max"
            )
        }
    }
}

fn show_us(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}
