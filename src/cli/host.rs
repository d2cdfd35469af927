//! What `serve` asks of the host it runs on: that cores stay awake, and a word on what stands against it.

use crate::io::device::{Device, Durability};
use crate::tune::check::{self, Host, Outcome, Profile, Status};
use crate::tune::discover;
use crate::tune::placement::place;
use crate::tune::root::Root;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whoever holds this file open with a number in it keeps cores from sleeping so deep that waking takes longer, microseconds.
const AWAKE: &str = "/dev/cpu_dma_latency";
const AWAKE_US: i32 = 3;
/// Checks of which a server says that they are not met, also where it is only a warning: what costs it most. The drive's cache is told of by
/// its durability, and space by the log, whenever there is none.
const MATTER: &[&str] = &[
    "clock-source",
    "cpu-quota",
    "drive-state",
    "drive-temperature",
    "link",
    "locked-memory",
    "memory-errors",
    "open-files",
    "pcie-link",
    "physical-block",
    "swap-used",
];
/// Those that a short tail is lost by, or that are for a host which serves and does nothing else: on any other the server may well be what goes
/// when memory runs out.
const MATTER_FOR_LATENCY: &[&str] =
    &["governor", "irqbalance", "memory-killer", "nic-interrupts", "nic-queues", "numa-balancing"];

/// Keeps cores awake for as long as the file is held; `None`: the profile does not ask for it. The text says why it cannot be, and what to do.
pub fn keep_awake(profile: Profile) -> Result<Option<File>, String> {
    match profile {
        Profile::Latency => hold(Path::new(AWAKE)).map(Some).map_err(|error| {
            format!(
                "{AWAKE}: {error}: cores may sleep deeper than {AWAKE_US} us; give the service's user write access to it (a udev rule) and, in its \
                 unit, PrivateDevices=no and DeviceAllow={AWAKE} w"
            )
        }),
        Profile::Throughput | Profile::Ci => Ok(None),
    }
}

fn hold(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(&AWAKE_US.to_ne_bytes())?;
    Ok(file)
}

/// A line for each device whose cache is lost with the power, with what that costs.
pub fn caches(devices: &[(PathBuf, Device)]) -> Vec<String> {
    let line = |(path, device): &(PathBuf, Device)| {
        let costs = match device.durability {
            Durability::WriteThrough => "each commit passes it",
            Durability::Flush => "each commit waits for a flush of it",
            Durability::Unknown => "nothing says whether it has one, so each commit waits for a flush",
            Durability::NoCache | Durability::Memory => return None,
        };
        let (path, number) = (path.display(), &device.number);
        Some(format!(
            "WARNING: the cache of device {number} under {path} does not say that it survives a power loss: {costs}, which decides the time of an \
             ack; `penstock tune io` says what it costs"
        ))
    };
    devices.iter().filter_map(line).collect()
}

/// Makes every check of this host, and says which of those that matter to a server are not met, a line each.
pub fn checks(profile: Profile, data: &Path, say: &dyn Fn(&str)) {
    let root = Root::host();
    let topology = discover::topology(&root);
    let placement = place(&topology, profile);
    let data = data.to_string_lossy();
    let host = Host { root: &root, topology: &topology, placement: &placement, profile, data: &data };
    check::run(&host).iter().filter(|outcome| matters(outcome, profile)).for_each(|outcome| say(&line(outcome)));
}

fn matters(outcome: &Outcome, profile: Profile) -> bool {
    let named = MATTER.contains(&outcome.check.id)
        || profile == Profile::Latency && MATTER_FOR_LATENCY.contains(&outcome.check.id);
    match outcome.status {
        Status::Fail => true,
        Status::Warn => named,
        Status::Ok | Status::Absent | Status::Info | Status::Unknown => false,
    }
}

fn line(outcome: &Outcome) -> String {
    let Outcome { check, found, wanted, .. } = outcome;
    format!("WARNING: {}: {found}; wanted: {wanted}: {} (`penstock tune check`)", check.id, check.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str, status: Status) -> Outcome {
        let check = check::all().find(|check| check.id == id).unwrap_or_else(|| panic!("there is no check {id}"));
        Outcome { check, status, found: "this".into(), wanted: "that".into() }
    }

    #[test]
    fn what_matters_is_told_and_the_rest_is_not() {
        for id in MATTER {
            assert!(matters(&outcome(id, Status::Warn), Profile::Throughput), "{id}");
            assert!(!matters(&outcome(id, Status::Unknown), Profile::Throughput), "{id}");
        }
        for id in MATTER_FOR_LATENCY {
            assert!(matters(&outcome(id, Status::Warn), Profile::Latency), "{id}");
            assert!(!matters(&outcome(id, Status::Warn), Profile::Throughput), "{id}");
        }
        assert!(matters(&outcome("barriers", Status::Fail), Profile::Ci));
        assert!(!matters(&outcome("swappiness", Status::Warn), Profile::Latency));
        let told = line(&outcome("open-files", Status::Warn));
        assert!(told.starts_with("WARNING: open-files: this; wanted: that: "), "{told}");
    }

    #[test]
    fn the_checks_know_the_largest_commit() {
        assert_eq!(check::COMMIT_KIB * 1024, i64::from(crate::limits::COMMIT_MAX));
    }

    #[test]
    fn only_the_profile_for_latency_keeps_cores_awake() {
        assert!(keep_awake(Profile::Throughput).is_ok_and(|held| held.is_none()));
        assert!(keep_awake(Profile::Ci).is_ok_and(|held| held.is_none()));
        match keep_awake(Profile::Latency) {
            Ok(held) => assert!(held.is_some()),
            Err(why) => assert!(why.contains("DeviceAllow"), "{why}"),
        }
        let file = std::env::temp_dir().join(format!("penstock-awake-{}", std::process::id()));
        std::fs::write(&file, "").expect("it can be written");
        hold(&file).expect("it is there");
        assert_eq!(std::fs::read(&file).expect("it is there"), 3i32.to_ne_bytes());
        std::fs::remove_file(&file).expect("it is there");
        assert!(hold(&file).is_err());
    }

    #[test]
    fn a_cache_that_is_lost_with_the_power_is_told_of() {
        let device = |durability| Device {
            block: 4096,
            durability,
            file_system: "ext4",
            tried: true,
            number: "259:1".to_string(),
            free: 1 << 40,
            flush: false,
            write_ns: 1,
        };
        let told = |durability| caches(&[("/d".into(), device(durability))]);
        assert!(told(Durability::NoCache).is_empty() && told(Durability::Memory).is_empty());
        assert!(told(Durability::Flush)[0].contains("waits for a flush of it"));
        assert!(told(Durability::WriteThrough)[0].contains("259:1 under /d"));
    }
}
