//! What the operator sees when the server is ready.

use super::{cores, size};
use crate::io::device::Device;
use crate::limits::Limits;
use crate::worker::notice::Share;
use crate::worker::scrub::{RATE_MAX, rate_for, show_time};
use crate::worker::setup::WhenFull;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

const DAY: u64 = 86_400;

/// What is known before the log is open.
#[derive(Clone, Debug)]
pub struct Facts {
    pub endpoint: SocketAddr,
    /// Of the native protocol, if that is served.
    pub native: Option<SocketAddr>,
    pub tls: bool,
    pub cores: Vec<usize>,
    /// Of the companion of each worker.
    pub companions: Vec<usize>,
    /// Why the cores are these, a sentence each, and whether they are kept awake.
    pub reasons: Vec<String>,
    /// The data directories, the home first, and the device of each.
    pub data: Vec<PathBuf>,
    /// The second halves of all of them, or none.
    pub seconds: Vec<PathBuf>,
    pub devices: Vec<Device>,
    pub when_full: WhenFull,
    /// Nanoseconds within which every stored byte is verified; `None`: never.
    pub scrub: Option<u64>,
    /// What is said of the credentials, if there are any.
    pub signed: Option<String>,
}

/// What the log says: [`crate::worker::notice::Notice::Ready`].
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    pub new: bool,
    pub streams: usize,
    pub records: u64,
    /// Bytes that all logs together may use.
    pub disk: u64,
    pub logs: u32,
    pub segment: u64,
    /// What each directory has of it, by number.
    pub directories: &'a [Share],
    pub region: &'a str,
}

/// The text, for standard output.
pub fn text(facts: &Facts, opened: &Opened<'_>) -> String {
    let Facts { endpoint, data, .. } = facts;
    let scheme = if facts.tls { "https" } else { "http" };
    let region = opened.region;
    let state = match *opened {
        Opened { new: true, .. } => "new".to_string(),
        Opened { streams, records, .. } => format!("opened: {streams} streams, {records} records"),
    };
    let (disk, rate) = (size::show(opened.disk), size::show(opened.disk / DAY));
    let full = match facts.when_full {
        WhenFull::Reject => "when full, puts are refused and reads go on (--when-full trim recycles the oldest)",
        WhenFull::Trim => "when full, the oldest records make room",
    };
    let workers = facts.cores.len();
    let memory = Limits::standard().with_logs(opened.logs.div_ceil(workers.max(1) as u32)).memory();
    let native = facts.native.map_or("off".to_string(), |address| address.to_string());
    let ack = match facts.seconds.is_empty() {
        true => "the record is durable on this one machine; it is not replicated: if its disks die, the records die",
        false => "the record is durable on both halves of the mirror, in this one machine: one of them may die",
    };
    let signed = facts.signed.as_deref().unwrap_or("loopback only: signatures are not verified");
    let keys = if facts.signed.is_some() { "" } else { " AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any" };
    let mirror = facts.seconds.first().map_or(String::new(), |half| format!(" mirrored in {}", half.display()));
    let lines = [
        format!("penstock {}", env!("CARGO_PKG_VERSION")),
        format!("  endpoint  {scheme}://{endpoint} ({signed})"),
        format!("  native    {native}"),
        format!(
            "  cores     {} ({workers} worker{}; companions on {}): {}",
            each_once(&facts.cores),
            if workers == 1 { "" } else { "s" },
            each_once(&facts.companions),
            facts.reasons.join("; ")
        ),
        format!("  data      {}{mirror} ({state})", data[0].display()),
        format!(
            "  space     {disk}: 24 h at {rate}/s, in {} log(s) of {} segments; {full}",
            opened.logs,
            size::show(opened.segment)
        ),
        drives(facts, opened.directories),
        format!(
            "  memory    {} a worker at most, taken as it is used, and the indexes of its logs",
            size::show(memory)
        ),
        format!("  scrub     {}", scrub(facts, opened)),
        format!("  ack       {ack}"),
        String::new(),
        format!(
            "  export AWS_ENDPOINT_URL_KINESIS={scheme}://{endpoint} AWS_REGION={region} AWS_DEFAULT_REGION={region}{keys}"
        ),
        "  aws kinesis create-stream --stream-name flights --shard-count 1".to_string(),
        "  aws kinesis put-record --stream-name flights --partition-key N14228 --data aGVsbG8=".to_string(),
        "  aws kinesis get-records --shard-iterator $(aws kinesis get-shard-iterator --stream-name flights \
         --shard-id shardId-000000000000 --shard-iterator-type TRIM_HORIZON --query ShardIterator --output text)"
            .to_string(),
    ];
    lines.join("\n")
}

/// Cores that workers or companions run on, each once.
fn each_once(cores: &[usize]) -> String {
    let all: BTreeSet<usize> = cores.iter().copied().collect();
    cores::show(&all)
}

/// How often what is stored is verified, and whether that can be.
fn scrub(facts: &Facts, opened: &Opened<'_>) -> String {
    let Some(period) = facts.scrub else {
        return "off: what is stored is verified when it is read (--scrub-days)".to_string();
    };
    let often = format!("every stored byte is verified within {}", show_time(period));
    let share = opened.disk / facts.cores.len().max(1) as u64;
    if rate_for(share, period) <= RATE_MAX {
        return often;
    }
    let pass = share as u128 * 1_000_000_000 / RATE_MAX as u128;
    format!("{often}, as far as {} MiB/s a worker go; a full log takes {}", RATE_MAX >> 20, show_time(pass as u64))
}

/// One line for each device; with what lies on it, where there are several.
fn drives(facts: &Facts, shares: &[Share]) -> String {
    let line = |share: &Share| {
        let device = &facts.devices[share.given as usize];
        let how = if device.flush { "one flush for a group of commits" } else { "each commit a durable write" };
        let part = match shares.len() {
            1 => String::new(),
            _ => format!("{}: {} log(s), {}; ", share.path, share.logs, size::show(share.space)),
        };
        let Device { number, file_system, durability, write_ns, .. } = device;
        format!("  device    {part}{number} on {file_system}: {durability}; {how}, from {} µs", write_ns / 1000)
    };
    shares.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::device::Durability;

    #[test]
    fn the_banner_says_where_what_and_how_durable() {
        let device = Device {
            block: 4096,
            durability: Durability::WriteThrough,
            file_system: "ext4",
            tried: true,
            number: "259:1".to_string(),
            free: 1 << 40,
            flush: false,
            write_ns: 110_400,
        };
        let facts = Facts {
            endpoint: "127.0.0.1:4567".parse().expect("an address"),
            native: Some("127.0.0.1:4605".parse().expect("an address")),
            tls: false,
            cores: vec![0, 1],
            companions: vec![3, 2, 3],
            reasons: vec!["one for each physical core".to_string(), "eth0 is at node 0".to_string()],
            data: vec!["/var/lib/penstock".into(), "/mnt/b".into()],
            seconds: Vec::new(),
            devices: vec![device.clone(), Device { number: "259:2".to_string(), flush: true, ..device }],
            when_full: WhenFull::Reject,
            scrub: Some(14 * 86_400 * 1_000_000_000),
            signed: None,
        };
        let share = |path: &str, given, space| Share { path: path.to_string(), given, logs: 1, space };
        let directories = [share("/var/lib/penstock", 0, 24_000_000_000), share("/mnt/b", 1, 12_000_000_000)];
        let opened = Opened {
            new: false,
            streams: 3,
            records: 12,
            disk: 36_000_000_000,
            logs: 2,
            segment: 1 << 28,
            directories: &directories,
            region: "eu-central-1",
        };
        let alone = text(&facts, &Opened { directories: &directories[..1], ..opened });
        assert!(alone.contains("  device    259:1 on ext4: "), "{alone}");
        let text = text(&facts, &opened);
        for part in [
            "device    /var/lib/penstock: 1 log(s), 24 GB; 259:1 on ext4: volatile cache, passed by each commit (FUA); each commit a durable",
            "device    /mnt/b: 1 log(s), 12 GB; 259:2 on ext4: volatile cache, passed by each commit (FUA); one flush",
            "http://127.0.0.1:4567 ",
            "  native    127.0.0.1:4605\n",
            "0-1 (2 workers; companions on 2-3): one for each physical core; eth0 is at node 0\n",
            "/var/lib/penstock (opened: 3 streams, 12 records)",
            "36 GB: 24 h at 417 KB/s",
            "  memory    1.6 GB a worker at most",
            "(FUA)",
            "110 µs",
            "verified within 14 days",
            "not replicated",
            "AWS_REGION=eu-central-1",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("aws kinesis")).count(), 3);
    }
    #[test]
    fn a_period_that_cannot_be_held_is_said_and_so_is_none() {
        let line = |scrub, disk, workers: usize| {
            let device = Device {
                block: 4096,
                durability: Durability::WriteThrough,
                file_system: "ext4",
                tried: true,
                number: String::new(),
                free: 0,
                flush: false,
                write_ns: 0,
            };
            let (endpoint, cores) = ("127.0.0.1:1".parse().expect("an address"), (0..workers).collect());
            let facts = Facts {
                endpoint,
                native: None,
                tls: false,
                cores,
                companions: Vec::new(),
                reasons: Vec::new(),
                data: vec!["/d".into()],
                seconds: Vec::new(),
                devices: vec![device],
                when_full: WhenFull::Reject,
                scrub,
                signed: None,
            };
            let opened = Opened {
                new: true,
                streams: 0,
                records: 0,
                directories: &[],
                disk,
                logs: 1,
                segment: 1 << 30,
                region: "r",
            };
            super::scrub(&facts, &opened)
        };
        let day = 86_400 * 1_000_000_000;
        assert!(line(None, 1 << 40, 1).starts_with("off"));
        assert_eq!(line(Some(14 * day), 1 << 40, 1), "every stored byte is verified within 14 days");
        let late = line(Some(14 * day), 200 << 40, 1);
        assert!(late.contains("64 MiB/s") && late.contains("takes 37 days"), "{late}");
        assert!(!line(Some(14 * day), 200 << 40, 4).contains("takes"), "four workers can");
    }
}
