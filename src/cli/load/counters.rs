//! What a penstock server counts meanwhile, for the line of each second. Of another endpoint, or one that does not show it, nothing is said.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A line must not wait for a busy server.
const PATIENCE: Duration = Duration::from_millis(150);
const BYTES_MAX: u64 = 4 << 20;
/// Metric, and how its rate is called.
const SHOWN: [(&str, &str); 3] = [
    ("penstock_commits_total", "commits/s"),
    ("penstock_log_full_total", "refused by a full log"),
    ("penstock_segments_trimmed_total", "segments trimmed"),
];

pub struct Counters {
    address: SocketAddr,
    host: String,
    last: Option<[f64; SHOWN.len()]>,
}

impl Counters {
    pub fn new(address: SocketAddr, host: &str) -> Counters {
        let mut counters = Counters { address, host: host.to_string(), last: None };
        counters.last = counters.read();
        counters
    }

    /// What has happened since the last call; empty where nothing is known. After a failure nobody is asked again.
    pub fn line(&mut self) -> String {
        let Some(last) = self.last else { return String::new() };
        self.last = self.read();
        let Some(now) = self.last else { return String::new() };
        let changes = SHOWN.iter().zip(now.iter().zip(last)).filter(|(_, (now, last))| *now > last);
        changes.map(|((_, name), (now, last))| format!("  {:.0} {name}", now - last)).collect()
    }

    fn read(&self) -> Option<[f64; SHOWN.len()]> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).ok()?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host);
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.take(BYTES_MAX).read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200 ").then(|| SHOWN.map(|(name, _)| sum(&text, name)))
    }
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
}
