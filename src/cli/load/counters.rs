//! What a penstock server counts meanwhile, for the line of each second. Of another endpoint, or one that does not show it, nothing is said.

use super::endpoint::{deadline, exchange};
use super::secure::Trust;
use rustls::StreamOwned;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A line must not wait for a busy server.
const PATIENCE: Duration = Duration::from_millis(150);
/// Metric, and how its rate is called.
const SHOWN: [(&str, &str); 3] = [
    ("penstock_commits_total", "commits/s"),
    ("penstock_log_full_total", "refused by a full log"),
    ("penstock_segments_trimmed_total", "segments trimmed"),
];

type Values = [f64; SHOWN.len()];

pub struct Counters {
    address: SocketAddr,
    host: String,
    trust: Option<Trust>,
    /// When the run began, and the last time that the server has answered. None: it is no penstock, or does not show them.
    first: Option<Values>,
    last: Values,
}

impl Counters {
    /// Of the server at `address`, which requests call `host`; `trust`: in TLS.
    pub fn new(address: SocketAddr, host: &str, trust: Option<Trust>) -> Counters {
        let mut counters = Counters { address, host: host.to_string(), trust, first: None, last: [0.0; SHOWN.len()] };
        counters.first = counters.read();
        counters.last = counters.first.unwrap_or_default();
        counters
    }

    /// What has happened since the last call, by metric. Nothing where the server did not say in time: the next time has that too.
    pub fn changes(&mut self) -> Vec<(&'static str, f64)> {
        if self.first.is_none() {
            return Vec::new();
        }
        let Some(now) = self.read() else { return Vec::new() };
        let last = std::mem::replace(&mut self.last, now);
        // A server that was started again counts from nothing.
        let change = |(now, last): (f64, f64)| if now < last { now } else { now - last };
        SHOWN.iter().zip(now.into_iter().zip(last).map(change)).map(|((name, _), change)| (*name, change)).collect()
    }

    fn read(&self) -> Option<Values> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).ok()?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host);
        let until = deadline(PATIENCE);
        let text = match &self.trust {
            Some(trust) => exchange(StreamOwned::new(trust.session().ok()?, stream), &request, until),
            None => exchange(stream, &request, until),
        };
        let text = String::from_utf8(text.ok()?).ok()?;
        text.starts_with("HTTP/1.1 200 ").then(|| SHOWN.map(|(name, _)| sum(&text, name)))
    }
}

/// As the line of a second has them: what did not happen is not said.
pub fn line(changes: &[(&str, f64)]) -> String {
    let called = |metric: &str| SHOWN.iter().find(|(name, _)| *name == metric).map_or("", |(_, called)| *called);
    let happened = changes.iter().filter(|(_, change)| *change > 0.0);
    happened.map(|(metric, change)| format!("  {change:.0} {}", called(metric))).collect()
}

/// Over all workers.
fn sum(text: &str, name: &str) -> f64 {
    let values = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_metric_is_added_up_over_its_workers_and_no_other_is_taken_for_it() {
        let text = "# HELP a_total x\na_total{worker=\"0\"} 3\na_total{worker=\"1\"} 4\na_total_more 9\n";
        assert_eq!(super::sum(text, "a_total"), 7.0);
        assert_eq!(super::sum("a_total 5\n", "a_total"), 5.0);
    }

    #[test]
    fn a_line_has_what_happened() {
        let changes = [("penstock_commits_total", 1200.4), ("penstock_log_full_total", 0.0)];
        assert_eq!(super::line(&changes), "  1200 commits/s");
    }
}
