//! Counters and latencies in the text format of Prometheus, and latencies in words.

use super::counter::{COUNTERS, Counter, Counters};
use super::latency::{Counted, Family, LATENCIES, Latency};
use std::fmt::Write;

/// One sample a worker for each counter.
pub fn metrics(workers: &[Counters]) -> String {
    let mut text = String::with_capacity(COUNTERS.len() * 160);
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(text, "# HELP penstock_build_info The program's version.\n# TYPE penstock_build_info gauge\n");
    let _ = writeln!(text, "penstock_build_info{{version=\"{version}\"}} 1");
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

/// The histograms of a family, over all workers. What has not happened yet is there with zeros: a series that begins with its first event hides
/// that event from whoever takes differences.
fn histograms(text: &mut String, workers: &[Counters], of: Family, label: &str, help: &str) {
    let name = format!("penstock_{label}_seconds");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    for (latency, _, value) in LATENCIES.iter().filter(|(_, family, _)| *family == of) {
        let counted = counted(workers, *latency);
        for exponent in SHOWN {
            let (bound, below) = (seconds(1 << exponent), counted.below(exponent));
            let _ = writeln!(text, "{name}_bucket{{{label}=\"{value}\",le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {}", counted.count);
        let _ = writeln!(text, "{name}_sum{{{label}=\"{value}\"}} {}", seconds(counted.sum_ns));
        let _ = writeln!(text, "{name}_count{{{label}=\"{value}\"}} {}", counted.count);
    }
}

/// What has been done in `seconds`, in words and numbers. Empty when nothing was asked.
pub fn totals(workers: &[Counters], seconds: f64) -> String {
    let sum = |counter| workers.iter().map(|counters| counters.get(counter)).sum::<u64>();
    let (records, bytes) = (sum(Counter::RecordsAcked), sum(Counter::BytesAcked));
    let (requests, batches) = (sum(Counter::Requests), sum(Counter::NativeBatches));
    if requests + batches == 0 {
        return String::new();
    }
    let second = |n: u64| n as f64 / seconds.max(1e-3);
    let written = sum(Counter::CommitBytes) + sum(Counter::MovedBytes);
    let mut text = format!(
        "  acknowledged {records} records, {} ({:.0} records/s, {}/s in {seconds:.1} s); refused {}\n",
        show_bytes(bytes as f64),
        second(records),
        show_bytes(second(bytes)),
        sum(Counter::RecordsRefused) + sum(Counter::NativeBatchesRefused),
    );
    let _ = writeln!(
        text,
        "  read {} records by calls, {} by subscriptions, {} by native clients",
        sum(Counter::RecordsRead),
        sum(Counter::SubscriptionRecords),
        sum(Counter::NativeRecordsRead),
    );
    let _ = writeln!(
        text,
        "  answered {requests} requests, {} with an error, and {batches} native batches",
        sum(Counter::RequestErrors)
    );
    let _ =
        write!(text, "  wrote {} commits, {} with what was moved", sum(Counter::Commits), show_bytes(written as f64));
    let _ = match bytes {
        0 => writeln!(text),
        _ => writeln!(text, ": {:.2} bytes for each of records", written as f64 / bytes as f64),
    };
    text
}

fn show_bytes(bytes: f64) -> String {
    let (unit, name) = match bytes {
        b if b >= 1e9 => (1e9, "GB"),
        b if b >= 1e6 => (1e6, "MB"),
        b if b >= 1e3 => (1e3, "kB"),
        _ => return format!("{bytes:.0} B"),
    };
    format!("{:.1} {name}", bytes / unit)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers that have taken three records of 1,000 bytes in two requests, and have written twice as much.
    fn busy() -> [Counters; 2] {
        let workers = [Counters::default(), Counters::default()];
        for (worker, records) in workers.iter().zip([1, 2]) {
            worker.add(Counter::Requests, 1);
            worker.add(Counter::RecordsAcked, records);
            worker.add(Counter::BytesAcked, records * 1000);
            worker.add(Counter::Commits, 1);
            worker.add(Counter::CommitBytes, records * 2000);
            worker.latencies.record(Latency::PutRecords, 1 << 20);
        }
        workers
    }

    #[test]
    fn totals_are_over_all_workers_and_the_time() {
        let text = totals(&busy(), 2.0);
        for line in [
            "  acknowledged 3 records, 3.0 kB (2 records/s, 1.5 kB/s in 2.0 s); refused 0",
            "  read 0 records by calls, 0 by subscriptions, 0 by native clients",
            "  answered 2 requests, 0 with an error, and 0 native batches",
            "  wrote 2 commits, 6.0 kB with what was moved: 2.00 bytes for each of records",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(totals(&[Counters::default()], 5.0), "", "nothing was asked");
        let reader = Counters::default();
        reader.add(Counter::Requests, 1);
        assert!(totals(&[reader], 0.0).ends_with("wrote 0 commits, 0 B with what was moved\n"));
    }

    #[test]
    fn every_latency_is_a_histogram_from_the_start_and_counts_what_was_timed() {
        for workers in [vec![Counters::default()], busy().to_vec()] {
            let text = metrics(&workers);
            for (latency, family, value) in LATENCIES {
                let label = if *family == Family::Stage { "stage" } else { "operation" };
                let count = if *latency == Latency::PutRecords && workers.len() == 2 { 2 } else { 0 };
                let name = format!("penstock_{label}_seconds");
                for line in [
                    format!("{name}_count{{{label}=\"{value}\"}} {count}"),
                    format!("{name}_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {count}"),
                ] {
                    assert!(text.lines().any(|found| found == line), "{line}");
                }
            }
            // Each metric is described once, before its samples.
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let name = line.split(['{', ' ']).next().expect("a name");
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let known = [Some(name), family].into_iter().flatten().any(|name| {
                    text.matches(&format!("# TYPE {name} ")).count() == 1
                        && text.matches(&format!("# HELP {name} ")).count() == 1
                });
                assert!(known, "{line}");
            }
        }
    }
}
