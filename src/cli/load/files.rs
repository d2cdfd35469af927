//! What a run leaves behind: `report.json`, a histogram log, tables of percentiles, and what the host is.

use crate::io::clock::Clock;
use crate::io::device;
use crate::load::histogram_log::{head, line, table};
use crate::load::plan::Plan;
use crate::load::report::Report;
use crate::load::tally::Tally;
use crate::tune::check::{self, Host, Profile};
use crate::tune::discover;
use crate::tune::placement::place;
use crate::tune::report;
use crate::tune::root::Root;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

pub const REPORT: &str = "report.json";
pub const LOG: &str = "histograms.hlog";

pub struct Files {
    directory: PathBuf,
    log: File,
    /// What could not be written. The run goes on without files, and says so at its end.
    failure: Option<String>,
}

/// The histograms of a tally, by the tags that they have in a log.
pub fn histograms(tally: &Tally) -> [(&'static str, &Histogram<u64>); 4] {
    [("response", &tally.response), ("service", &tally.service), ("lag", &tally.lag), ("put-to-get", &tally.put_to_get)]
}

impl Files {
    /// In `directory`, which is made if it is not there. What an earlier run has left there is written over.
    pub fn create(directory: &Path) -> Result<Files, String> {
        let failed = |error| format!("--out {}: {error}", directory.display());
        fs::create_dir_all(directory).map_err(failed)?;
        let log = File::create(directory.join(LOG)).map_err(failed)?;
        let mut files = Files { directory: directory.to_path_buf(), log, failure: None };
        files.append(&head(Clock.now().wall.0 as f64 / 1e6))?;
        Ok(files)
    }

    fn append(&mut self, text: &str) -> Result<(), String> {
        self.log.write_all(text.as_bytes()).map_err(|error| self.failed(LOG, &error))
    }

    fn failed(&self, name: &str, error: &std::io::Error) -> String {
        format!(
            "{} cannot be written: {error}: the run has no files from there on",
            self.directory.join(name).display()
        )
    }

    /// What was counted in a second of the run.
    pub fn second(&mut self, second: u32, tally: &Tally) {
        if self.failure.is_some() {
            return;
        }
        let lines: String = histograms(tally)
            .iter()
            .filter(|(_, histogram)| !histogram.is_empty())
            .map(|(tag, histogram)| line(tag, second as f64, 1.0, histogram))
            .collect();
        self.failure = self.append(&lines).err();
    }

    /// The run is over. `data`: of a server on this host, if its directory is known.
    pub fn finish(&mut self, plan: &Plan, report: &Report, data: Option<&Path>) -> Result<(), String> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.write(REPORT, &format!("{:#}\n", report.whole(plan)))?;
        for (tag, histogram) in histograms(&report.total) {
            if !histogram.is_empty() {
                self.write(&format!("{tag}.hgrm"), &table(histogram))?;
            }
        }
        self.write("env.json", &format!("{:#}\n", environment(data)))?;
        self.log.sync_all().map_err(|error| self.failed(LOG, &error))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.directory.join(name), text).map_err(|error| self.failed(name, &error))
    }
}

/// The host as `penstock tune` sees it.
fn environment(data: Option<&Path>) -> Value {
    let root = Root::host();
    let topology = discover::topology(&root);
    let placement = place(&topology, Profile::Latency);
    let shown = data.map(|data| data.display().to_string()).unwrap_or_else(|| "/".to_string());
    let outcomes = check::run(&Host {
        root: &root,
        topology: &topology,
        placement: &placement,
        profile: Profile::Latency,
        data: &shown,
    });
    let line = |path: &str, start: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find_map(|line| {
            line.strip_prefix(start).map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_string())
        });
        found.unwrap_or_else(|| text.lines().next().unwrap_or_default().to_string())
    };
    let nics = topology.nics.iter().map(|nic| json!({ "name": nic.name, "driver": nic.driver }));
    let device = data.and_then(|data| device::examine(data).ok());
    json!({
        "schema": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "debug_build": cfg!(debug_assertions),
        "kernel": line("/proc/sys/kernel/osrelease", ""),
        "command_line": line("/proc/cmdline", ""),
        "cpu": line("/proc/cpuinfo", "model name"),
        "cores": topology.physical_cores().len(),
        "threads": topology.threads.len(),
        "memory": line("/proc/meminfo", "MemTotal"),
        "nics": nics.collect::<Vec<_>>(),
        "drives": topology.drives.iter().map(|drive| drive.name.clone()).collect::<Vec<_>>(),
        "data_device": device.map(|device| json!({ "file_system": device.file_system, "durability": format!("{:?}", device.durability) })),
        "tuning": report::json(Profile::Latency, &outcomes),
    })
}
