//! The last hour of every metric, in minutes, and how `/metrics` shows it.

use super::request::Datum;
use crate::io::clock::Mono;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Metrics that are kept. A client library has some ten for each shard that it reads.
pub const METRICS_MAX: usize = 4096;
/// Bytes of all their labels: they are shown four times each.
pub const LABEL_BYTES_MAX: usize = 2 << 20;
/// Minutes that are kept of each.
const MINUTES: u64 = 60;
const MINUTE_NS: u64 = 60_000_000_000;

/// What makes a metric itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub namespace: String,
    pub metric: String,
    pub unit: String,
    /// Names and values, in order.
    pub dimensions: Vec<(String, String)>,
}

/// A statistic set of CloudWatch; the default one is of nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    pub count: f64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics { count: 0.0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Statistics {
    /// One value that was met so many times.
    pub fn of(value: f64, count: f64) -> Statistics {
        Statistics { count, sum: value * count, min: value, max: value }
    }

    pub fn add(&mut self, other: Statistics) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

struct Series {
    labels: String,
    /// Since it was first met.
    total: Statistics,
    /// (minute, what came in it), rising.
    minutes: VecDeque<(u64, Statistics)>,
}

/// Every metric that has come within the last hour.
#[derive(Default)]
pub struct Store {
    series: BTreeMap<Name, Series>,
    label_bytes: usize,
    /// Data of metrics for which there was no room.
    dropped: u64,
}

impl Store {
    /// Adds what came at `now`.
    pub fn add(&mut self, now: Mono, data: Vec<Datum>) {
        let minute = now.0 / MINUTE_NS;
        for Datum { name, statistics } in data {
            if !self.series.contains_key(&name) && !self.make_room(minute, &name) {
                self.dropped += 1;
                continue;
            }
            let series = self.series.entry(name).or_insert_with_key(|name| {
                let labels = labels(name);
                self.label_bytes += labels.len();
                Series { labels, total: Statistics::default(), minutes: VecDeque::new() }
            });
            series.total.add(statistics);
            match series.minutes.back_mut() {
                Some((last, held)) if *last == minute => held.add(statistics),
                _ => series.minutes.push_back((minute, statistics)),
            }
            series.forget(minute);
        }
    }

    /// Whether there is room for a metric, once those are gone that have had nothing for an hour.
    fn make_room(&mut self, minute: u64, name: &Name) -> bool {
        let needed = labels(name).len();
        let has_room =
            |store: &Store| store.series.len() < METRICS_MAX && store.label_bytes + needed <= LABEL_BYTES_MAX;
        if !has_room(self) {
            self.forget(minute);
        }
        has_room(self)
    }

    fn forget(&mut self, minute: u64) {
        self.series.retain(|_, series| {
            series.forget(minute);
            let is_old = series.minutes.is_empty();
            if is_old {
                self.label_bytes -= series.labels.len();
            }
            !is_old
        });
    }

    /// In the text format of Prometheus; of the last hour as of `now`.
    pub fn text(&mut self, now: Mono) -> String {
        self.forget(now.0 / MINUTE_NS);
        let mut text = String::new();
        let kinds = [
            (
                "sum_total",
                "counter",
                "Sum of what clients have sent to PutMetricData under this name since it was first met.",
            ),
            ("samples_total", "counter", "Samples of it."),
            ("min", "gauge", "Least of it within the last hour."),
            ("max", "gauge", "Most of it within the last hour."),
        ];
        for (kind, of, help) in kinds.iter().filter(|_| !self.series.is_empty()) {
            let _ = write!(
                text,
                "# HELP penstock_client_metric_{kind} {help}\n# TYPE penstock_client_metric_{kind} {of}\n"
            );
            for series in self.series.values() {
                let mut hour = Statistics::default();
                series.minutes.iter().for_each(|(_, statistics)| hour.add(*statistics));
                let value = match *kind {
                    "sum_total" => series.total.sum,
                    "samples_total" => series.total.count,
                    "min" => hour.min,
                    _ => hour.max,
                };
                let _ = writeln!(text, "penstock_client_metric_{kind}{{{}}} {value}", series.labels);
            }
        }
        let _ = write!(
            text,
            "# HELP penstock_client_metrics_dropped_total Data of clients' metrics that found no room.\n\
             # TYPE penstock_client_metrics_dropped_total counter\npenstock_client_metrics_dropped_total {}\n",
            self.dropped
        );
        text
    }
}

impl Series {
    fn forget(&mut self, minute: u64) {
        while self.minutes.front().is_some_and(|(held, _)| held + MINUTES <= minute) {
            self.minutes.pop_front();
        }
    }
}

/// The labels of a metric, as they are written.
fn labels(name: &Name) -> String {
    let mut text = String::new();
    let fixed = [("namespace", &name.namespace), ("metric", &name.metric), ("unit", &name.unit)];
    for (label, value) in fixed {
        let _ = write!(text, "{label}=\"{}\",", escaped(value));
    }
    let mut used: Vec<String> = Vec::new();
    for (dimension, value) in &name.dimensions {
        let mut label = label(dimension);
        // Two names may come to one label, and a label may stand there once.
        if used.contains(&label) {
            label = format!("{label}_{}", used.len());
        }
        let _ = write!(text, "{label}=\"{}\",", escaped(value));
        used.push(label);
    }
    text.pop();
    text
}

fn label(dimension: &str) -> String {
    let letters = dimension.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' });
    "dimension_".chars().chain(letters).collect()
}

/// A value between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
