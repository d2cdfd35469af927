//! Counters in the text format of Prometheus.

use super::counter::{COUNTERS, Counters};
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
    text
}
