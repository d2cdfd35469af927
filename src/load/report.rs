//! What a run has shown, for people and for programs.

use super::ledger::Findings;
use super::plan::{Pace, Plan};
use super::tally::Tally;
use super::verdict::Verdict;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version of `report.json`. Members may be added to it; one that goes or changes its meaning makes it the next.
pub const SCHEMA: u32 = 1;
/// The members that scripts rely on, of [`Report::json`].
pub const MEMBERS: [&str; 12] = [
    "verdict",
    "acked_records",
    "acked_bytes",
    "seconds",
    "records_per_second",
    "bytes_per_second",
    "latency_us",
    "service_us",
    "lost",
    "duplicated",
    "reordered",
    "unverified",
];
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// A second of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    pub second: u32,
    pub records: u64,
    pub bytes: u64,
    pub requests: u64,
    /// Of requests that were answered in it, µs.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub mean: f64,
    /// What the server has counted meanwhile, by metric; empty where it does not say.
    pub server: Vec<(&'static str, f64)>,
}

impl Block {
    pub fn of(second: u32, tally: &Tally) -> Block {
        let at = |quantile| tally.response.value_at_quantile(quantile) as f64 / 1e3;
        Block {
            second,
            records: tally.counts.acked_records,
            bytes: tally.counts.acked_bytes,
            requests: tally.counts.acked_requests,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            mean: tally.response.mean() / 1e3,
            server: Vec::new(),
        }
    }
}

pub struct Report {
    pub verdict: Verdict,
    pub reasons: Vec<String>,
    pub total: Tally,
    pub findings: Findings,
    /// From the end of the warm-up to the last answer, or to the end of the plan.
    pub seconds: f64,
    pub busy: f64,
    pub threads: u32,
    pub connections: u32,
    pub blocks: Vec<Block>,
    pub complaints: Vec<(String, u64)>,
}

impl Report {
    pub fn records_per_second(&self) -> f64 {
        self.total.counts.acked_records as f64 / self.seconds.max(1e-9)
    }

    pub fn bytes_per_second(&self) -> f64 {
        self.total.counts.acked_bytes as f64 / self.seconds.max(1e-9)
    }

    /// What scripts rely on.
    pub fn json(&self) -> Value {
        json!({
            "verdict": self.verdict.name(),
            "acked_records": self.total.counts.acked_records,
            "acked_bytes": self.total.counts.acked_bytes,
            "seconds": rounded(self.seconds),
            "records_per_second": rounded(self.records_per_second()),
            "bytes_per_second": rounded(self.bytes_per_second()),
            "latency_us": percentiles(&self.total.response),
            "service_us": percentiles(&self.total.service),
            "lost": self.findings.lost,
            "duplicated": self.findings.duplicated,
            "reordered": self.findings.reordered,
            "unverified": self.findings.unverified,
        })
    }

    /// `report.json`: the same and more.
    pub fn whole(&self, plan: &Plan) -> Value {
        let mut report = self.json();
        let counts = &self.total.counts;
        let more = json!({
            "schema": SCHEMA,
            "plan": described(plan),
            "threads": self.threads,
            "connections": self.connections,
            "reasons": self.reasons,
            "busy": rounded(self.busy),
            "requests": { "due": counts.due, "sent": counts.sent, "acked": counts.acked_requests },
            "refused_records": counts.refused_records,
            "throttled_records": counts.throttled_records,
            "unknown_records": counts.unknown_records,
            "disconnects": counts.disconnects,
            "read_records": counts.read_records,
            "verified": self.findings.verified,
            "damaged": self.findings.damaged,
            "stored_though_refused": self.findings.stored_though_refused,
            "unknown_stored": self.findings.unknown_stored,
            "lag_us": percentiles(&self.total.lag),
            "put_to_get_us": percentiles(&self.total.put_to_get),
            "complaints": self.complaints.iter().map(|(text, times)| json!({ "text": text, "times": times })).collect::<Vec<_>>(),
            "server": added_up(self.blocks.iter().flat_map(|block| &block.server)),
            "blocks": self.blocks.iter().map(block).collect::<Vec<_>>(),
        });
        if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
            report.extend(more);
        }
        report
    }

    /// For people.
    pub fn text(&self, plan: &Plan) -> String {
        let (records, megabytes) = (self.records_per_second(), self.bytes_per_second() / 1e6);
        let mut out = self.verdict.name().to_string();
        out += &format!("  {records:.0} records/s  {megabytes:.1} MB/s  in {:.1} s\n", self.seconds);
        out += &row("latency", &self.total.response);
        out += &row("service", &self.total.service);
        if matches!(plan.pace, Pace::Open { .. }) {
            out += &row("sent late", &self.total.lag);
        }
        out += &row("put to get", &self.total.put_to_get);
        out += &match plan.is_verified() {
            true => {
                let Findings { verified, lost, duplicated, reordered, unverified, .. } = self.findings;
                format!(
                    "  read back    {verified} verified, {lost} lost, {duplicated} duplicated, {reordered} reordered, {unverified} unverified\n"
                )
            }
            false => "  read back    nothing: this run proves no content\n".to_string(),
        };
        self.reasons.iter().for_each(|why| out += &format!("  {why}\n"));
        self.complaints.iter().for_each(|(text, times)| out += &format!("  {times} times: {text}\n"));
        out
    }
}

/// A line of the percentiles of a histogram of ns; empty if that is.
pub fn row(name: &str, histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return String::new();
    }
    let [p50, p90, p99, p999] = PERCENTILES.map(|(_, quantile)| shown(histogram.value_at_quantile(quantile)));
    let longest = shown(histogram.max());
    format!("  {name:<12} p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {longest}\n")
}

/// Nanoseconds as people read them.
pub fn shown(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// Three decimals are enough for anybody.
pub fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The percentiles of a histogram of ns, in µs.
pub fn percentiles(histogram: &Histogram<u64>) -> Value {
    let mut out = serde_json::Map::new();
    for (name, quantile) in PERCENTILES {
        out.insert(name.to_string(), rounded(histogram.value_at_quantile(quantile) as f64 / 1e3).into());
    }
    out.insert("max".to_string(), rounded(histogram.max() as f64 / 1e3).into());
    Value::Object(out)
}

fn block(block: &Block) -> Value {
    let &Block { second, records, bytes, requests, p50, p99, p999, mean, ref server } = block;
    let mut out = json!({
        "second": second, "records": records, "bytes": bytes, "requests": requests,
        "p50_us": rounded(p50), "p99_us": rounded(p99), "p999_us": rounded(p999), "mean_us": rounded(mean),
    });
    if !server.is_empty() {
        out["server"] = added_up(server.iter());
    }
    out
}

/// Changes of counters, each metric's together.
fn added_up<'c>(changes: impl Iterator<Item = &'c (&'static str, f64)>) -> Value {
    let mut out = BTreeMap::<&str, f64>::new();
    changes.for_each(|(metric, change)| *out.entry(metric).or_default() += change);
    json!(out)
}

/// What a plan has that changes its figures.
fn described(plan: &Plan) -> Value {
    let (pace, rate) = match plan.pace {
        Pace::Open { shape, rate } => (format!("open: {shape:?}"), Some(rate)),
        Pace::Closed { outstanding } => (format!("closed: {outstanding}"), None),
    };
    json!({
        "wire": plan.wire.name(),
        "http2": plan.http2,
        "tls": plan.tls,
        "to": plan.to.to_string(),
        "stream": plan.stream,
        "signed": plan.identity.is_some(),
        "seed": plan.seed,
        "pace": pace,
        "records_per_second": rate,
        "records_per_request": plan.batch,
        "sizes": format!("{:?}", plan.sizes),
        "keys": plan.keys,
        "popularity": format!("{:?}", plan.popularity),
        "window": plan.outstanding(),
        "warm_up_seconds": plan.warm_up as f64 / 1e9,
        "seconds": (plan.end - plan.warm_up) as f64 / 1e9,
        "bulk": plan.bulk,
        "prebuilt": plan.prebuilt,
        "verified": plan.is_verified(),
    })
}
