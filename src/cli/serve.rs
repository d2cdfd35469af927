//! `penstock serve`: from arguments to running workers, and to their clean end.

use super::banner::{self, Facts, Opened};
use super::mirror::{self, Gathered};
use super::tls::TlsArgs;
use super::tune::Goal;
use super::{access, admin, cores, host, notify, size};
use crate::background::companion;
use crate::background::watchdog::Turning;
use crate::front::Spoken;
use crate::io::buffers::Buffers;
use crate::io::clock::{Clock, Mono};
use crate::io::device::{Device, Durability};
use crate::io::driver::{self, Event, Say};
use crate::io::op::DirName;
use crate::io::peers::Peers;
use crate::io::process::{self, Signals, timestamp};
use crate::io::{probe, socket};
use crate::limits::{Limits, WORKERS_ASKED_MAX};
use crate::log::Canary;
use crate::log::directories::logs_wanted;
use crate::observe::counter::Counters;
use crate::observe::expose;
use crate::tune::check::Profile;
use crate::worker::mailbox;
use crate::worker::notice::Notice;
use crate::worker::setup::{Options, Setup, WhenFull};
use clap::ValueEnum;
use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const DAY_NS: f64 = 86_400e9;
/// A period of more than ten years is a slip.
const SCRUB_DAYS_MAX: f64 = 3650.0;
/// How long a clean stop may take before the process ends without one; recovery then does what is left.
const STOP_SECONDS: u32 = 30;
/// Signals that follow the first one within this time belong to it.
const ECHO: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Full {
    /// Refuse puts; reads go on.
    Reject,
    /// Recycle the oldest records early.
    Trim,
}

impl Full {
    fn policy(self) -> WhenFull {
        match self {
            Full::Reject => WhenFull::Reject,
            Full::Trim => WhenFull::Trim,
        }
    }
}

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Data directory [default: $STATE_DIRECTORY, /var/lib/penstock as root, else the user's state directory]; again for each further
    /// drive: the first is the home, which knows the others, and every one holds logs
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    mirror: mirror::MirrorArgs,
    #[command(flatten)]
    access: access::AccessArgs,
    /// Address of the HTTP endpoint; outside loopback with --credentials only. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4567")]
    listen: SocketAddr,
    /// Address of the native protocol, or `off`; outside loopback with --credentials only, and TLS or --plaintext. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4605", value_parser = parse_native)]
    native: Native,
    #[command(flatten)]
    tls: TlsArgs,
    /// Cores for the workers, as 0,2-5 [default: each physical core, less one when there are more than four, or for latency one of eight]
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    cores: Option<Cores>,
    /// Number of workers [default: one for each core]; fewer take the first cores, more share them in turn, each with memory of its own
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=WORKERS_ASKED_MAX as i64))]
    workers: Option<u16>,
    /// What this host is for: `latency` keeps cores from deep sleep for as long as it serves (/dev/cpu_dma_latency), and leaves cores to interrupts;
    /// which checks are told of.
    /// The default takes nothing from other programs; `tune` readies a host for latency by default, so give --profile latency on one that it has
    #[arg(long, value_enum, default_value = "throughput")]
    profile: Goal,
    /// Space for records in all directories, as 512M or 4G; divided by the room of each [default: half of the free space of a new directory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    disk: Option<u64>,
    /// What a put finds when the space is used up
    #[arg(long, value_name = "WHAT", default_value = "reject")]
    when_full: Full,
    /// Region in ARNs; kept in the directory [default: as the directory says, us-east-1 in a new one]
    #[arg(long, value_parser = parse_region)]
    region: Option<String>,
    /// Account in ARNs, 12 digits; kept in the directory [default: as the directory says, 000000000000 in a new one]
    #[arg(long, value_parser = parse_account)]
    account: Option<String>,
    /// Hash the keys of native batches, and refuse those whose records belong to another shard than they name
    #[arg(long)]
    verify_keys: bool,
    /// Believe the wall clock at this start, also if nothing synchronises it or it has gone back: retention goes on from it
    #[arg(long)]
    accept_clock: bool,
    /// Days within which every stored byte is read and verified; 0: never
    #[arg(long, value_name = "DAYS", default_value = "14", value_parser = parse_days)]
    scrub_days: f64,
    /// Seconds that an hour of retention lasts, for tests; fixed when the directory is made
    #[arg(long, value_name = "SECONDS", hide = true, value_parser = clap::value_parser!(u32).range(1..=3600))]
    retention_hour: Option<u32>,
}

/// A list of cores: a type of its own, as clap takes a plain vector for a repeated flag.
#[derive(Clone, Debug)]
struct Cores(Vec<usize>);

fn parse_cores(text: &str) -> Result<Cores, String> {
    cores::parse(text).map(Cores)
}

/// Where native clients are served: a type of its own, as clap takes a plain option for a flag that may be left out.
#[derive(Clone, Copy, Debug)]
struct Native(Option<SocketAddr>);

impl Native {
    /// As many listeners as there are for HTTP, and their address.
    fn listen(self, http: Vec<TcpListener>) -> Result<(Option<SocketAddr>, Listeners), String> {
        let made = self.0.map(|address| listeners("--native", address, http.len())).transpose()?;
        Ok(match made {
            Some((address, native)) => (Some(address), Listeners { http, native }),
            None => (None, Listeners { http, native: Vec::new() }),
        })
    }
}

fn parse_native(text: &str) -> Result<Native, String> {
    match text {
        "off" => Ok(Native(None)),
        address => address
            .parse()
            .map(|address| Native(Some(address)))
            .map_err(|_| "an address with its port, as in 127.0.0.1:4605, or off".to_string()),
    }
}

fn parse_days(text: &str) -> Result<f64, String> {
    let days: f64 = text.parse().map_err(|_| "a number of days, as in 14 or 0.5".to_string())?;
    if (0.0..=SCRUB_DAYS_MAX).contains(&days) { Ok(days) } else { Err(format!("0 to {SCRUB_DAYS_MAX} days")) }
}

fn parse_account(text: &str) -> Result<String, String> {
    let good = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if good { Ok(text.to_string()) } else { Err("an account has 12 digits".to_string()) }
}

fn parse_region(text: &str) -> Result<String, String> {
    let good =
        !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good {
        Ok(text.to_string())
    } else {
        Err("a region has letters, digits and hyphens, as in us-east-1".to_string())
    }
}

impl Args {
    /// What is listened on: the flag, the address, whether there is TLS.
    fn addresses(&self) -> Vec<(&'static str, SocketAddr, bool)> {
        let native = self.native.0.map(|address| ("--native", address, self.tls.is_on()));
        [("--listen", self.listen, self.tls.is_on())].into_iter().chain(native).collect()
    }
}

/// Serves until a signal; the text says what cannot be and what to do.
pub fn run(args: Args) -> Result<(), String> {
    let credentials = args.access.open(&args.addresses())?;
    process::raise_limits();
    probe::kernel().map_err(|missing| missing.to_string())?;
    let profile = args.profile.profile();
    let asked = args.cores.as_ref().map(|cores| cores.0.clone());
    let chosen = cores::choose(asked, args.workers.map(usize::from), profile)?;
    let random = || process::random().map_err(|error| format!("no random bytes from the kernel: {error}"));
    let id = random()?;
    let id = u64::from_le_bytes(id[..8].try_into().expect("8 of 32 bytes")).max(1);
    let gathered = mirror::gather(&args.data, &args.mirror, id)?;
    let (endpoint, http) = listeners("--listen", args.listen, chosen.workers.len())?;
    let (native, listeners) = args.native.listen(http)?;
    warn(&gathered.devices);
    gathered.missing.iter().for_each(|why| log(&format!("WARNING: a half of a mirror is missing: {why}")));
    tell_captures(&gathered.data);
    let when_full = args.when_full.policy();
    let admin_key = admin::announce(gathered.present(0), endpoint, args.tls.is_on(), &random()?)?;
    let options = Options {
        disk: args.disk,
        given: gathered.given.clone(),
        nodes: chosen.nodes,
        when_full,
        region: args.region,
        account: args.account,
        retention_hour: args.retention_hour,
        segment: None,
        random: random()?,
        admin_key,
        verify_keys: args.verify_keys,
        clock_synchronised: process::clock_is_synchronised(),
        accept_clock: args.accept_clock,
        scrub: (args.scrub_days > 0.0).then_some((args.scrub_days * DAY_NS) as u64),
        mirror: gathered.settings.clone(),
        canary: Canary::default(),
        no_epoch_bump: false,
    };
    let mut reasons = chosen.reasons;
    let _awake = keep_awake(profile, &mut reasons);
    let facts = Facts {
        endpoint,
        native,
        tls: args.tls.is_on(),
        cores: chosen.workers,
        companions: chosen.companions,
        reasons,
        data: gathered.data.clone(),
        seconds: gathered.seconds.clone(),
        devices: (0..gathered.data.len()).map(|place| gathered.device(place)).collect(),
        when_full,
        scrub: options.scrub,
        signed: credentials.as_ref().map(access::Credentials::shown),
    };
    // Before the first thread, which would take the signals otherwise.
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let peers =
        Peers::new(facts.cores.len() as u16).map_err(|error| format!("no descriptor for an eventfd: {error}"))?;
    credentials.map(|credentials| watch_credentials(credentials, peers.clone())).transpose()?;
    let spoken = args.tls.spoken(gathered.present(0), endpoint, args.access.plaintext)?;
    let counters: Vec<_> = facts.cores.iter().map(|_| Counters::default()).collect();
    watch_over(profile, gathered.present(0).to_path_buf(), &counters)?;
    let began = Clock.now().mono;
    let threads = start(&facts, &gathered, options, &spoken, listeners, &peers, &counters)?;
    let stopper = peers.clone();
    thread::Builder::new().name("signals".to_string()).spawn(move || obey(&signals, &stopper)).map_err(no_thread)?;
    wait(threads)?;
    tell_summary(&counters, began);
    Ok(())
}

fn watch_credentials(credentials: access::Credentials, peers: Arc<Peers>) -> Result<(), String> {
    peers.set_access(credentials.access.clone());
    let hangup = Signals::block_hangup().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let watch = move || credentials.watch(&hangup, &peers, log);
    thread::Builder::new().name("credentials".to_string()).spawn(watch).map(|_| ()).map_err(no_thread)
}

/// What keeps cores awake, if the profile asks for it: that it does is one of the reasons that the banner gives.
fn keep_awake(profile: Profile, reasons: &mut Vec<String>) -> Option<File> {
    match host::keep_awake(profile) {
        Ok(held) => {
            reasons.extend(held.is_some().then(|| "kept from deep sleep".to_string()));
            held
        }
        Err(why) => {
            log(&format!("WARNING: {why}"));
            None
        }
    }
}

/// What is said of the host once, and what a supervisor is told for as long as the workers take turns; neither holds up the start.
fn watch_over(profile: Profile, data: PathBuf, counters: &[Counters]) -> Result<(), String> {
    let check = move || host::checks(profile, &data, &log);
    thread::Builder::new().name("checks".to_string()).spawn(check).map_err(no_thread)?;
    let Some(patience) = notify::watchdog() else { return Ok(()) };
    let turning = Turning::new(counters);
    let failed = |error: &io::Error| log(&format!("$NOTIFY_SOCKET cannot be told that all is well: {error}"));
    let feed = move || notify::feed(patience, turning, &failed);
    thread::Builder::new().name("alive".to_string()).spawn(feed).map(|_| ()).map_err(no_thread)
}

/// One of each for each worker; none for native clients where they are not served.
struct Listeners {
    http: Vec<TcpListener>,
    native: Vec<TcpListener>,
}

/// What has been done since the start, and how long it took; nothing where nothing was asked.
fn tell_summary(counters: &[Counters], since: Mono) {
    let seconds = (Clock.now().mono - since) as f64 / 1e9;
    for (what, text) in [
        ("what was done since the start", expose::totals(counters, seconds)),
        ("what took how long since the start", expose::summary(counters)),
    ] {
        if !text.is_empty() {
            log(&format!("{what}:\n{}", text.trim_end()));
        }
    }
}

/// What an earlier snapshot has left behind.
fn tell_captures(data: &[PathBuf]) {
    for capture in data.iter().map(|data| data.join(DirName::Capture(0).to_string())).filter(|left| left.exists()) {
        log(&format!(
            "{} is left of a snapshot that was not taken away, and holds the space of its segments: the next snapshot clears it, or remove it",
            capture.display()
        ));
    }
}

fn no_thread(error: io::Error) -> String {
    format!("a thread cannot be started: {error}")
}

/// First a bind that shares with nobody, else a second server would take half of the connections silently; then one listener a worker.
fn listeners(flag: &str, address: SocketAddr, count: usize) -> Result<(SocketAddr, Vec<TcpListener>), String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another process; name another address with {flag}")
        }
        _ => format!("{address} cannot be listened on: {error}"),
    };
    let claimed = claim(address).map_err(failed)?;
    let listeners = (0..count).map(|_| socket::listen(claimed)).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Ok((claimed, listeners))
}

fn warn(devices: &[(PathBuf, Device)]) {
    host::caches(devices).iter().for_each(|line| log(line));
    for (at, (path, device)) in devices.iter().enumerate() {
        let (path, system) = (path.display(), device.file_system);
        if device.durability == Durability::Memory {
            log(&format!("WARNING: {path} is {system}: what is acknowledged is lost with the machine's power"));
        } else if !device.tried {
            log(&format!(
                "WARNING: the log has not been tried on {system}, on which {path} lies; ext4 and xfs are known to keep what is durable"
            ));
        }
        if let Some(twin) = devices[..at].iter().find(|(_, other)| other.number == device.number) {
            log(&format!(
                "WARNING: {} and {path} lie on one device: together they are no faster than one, and fail together",
                twin.0.display()
            ));
        }
    }
}

/// One line on standard error, whole even when several threads have something to say.
pub(super) fn log(text: &str) {
    let line = format!("{} {text}\n", timestamp(Clock.now().wall));
    // Nobody is left to tell when standard error is closed.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

fn start(
    facts: &Facts,
    gathered: &Gathered,
    options: Options,
    spoken: &Spoken,
    listeners: Listeners,
    peers: &Arc<Peers>,
    counters: &[Counters],
) -> Result<Vec<JoinHandle<io::Result<()>>>, String> {
    let count = facts.cores.len() as u16;
    let logs = gathered.superblock().map_or(Vec::new(), |superblock| superblock.logs);
    let wanted = logs_wanted(&logs, facts.data.len() as u32, count as u32);
    let limits = Limits::standard().with_logs(wanted.div_ceil(count as u32));
    let memory: Vec<Buffers> = (0..count).map(|worker| Buffers::new(worker, limits.layouts())).collect();
    let loans: Vec<_> = memory.iter().map(Buffers::loans).collect();
    let mailboxes = mailbox::connect(count, limits.mailbox);
    let say = say(facts.clone());
    let all: Vec<PathBuf> = facts.data.iter().chain(&facts.seconds).cloned().collect();
    let mut threads = Vec::new();
    let mut native = listeners.native.into_iter();
    let workers = memory.into_iter().zip(mailboxes).zip(listeners.http).zip(facts.cores.iter().copied());
    for (worker, (((buffers, mailboxes), listener), core)) in (0..count).zip(workers) {
        let companion = companion::start(companion::Post {
            worker,
            data: all.clone(),
            core: facts.companions[worker as usize],
            peers: peers.clone(),
            counters: counters[worker as usize].clone(),
            say: Box::new(log),
        });
        let post = driver::Post {
            setup: Setup {
                worker,
                workers: count,
                limits,
                options: options.clone(),
                buffers,
                loans: loans.clone(),
                counters: counters.to_vec(),
                mailboxes,
            },
            core,
            data: all.clone(),
            listener,
            native: native.next(),
            locks: gathered.locks.clone(),
            peers: peers.clone(),
            companion: Some(companion.map_err(no_thread)?),
            spoken: spoken.clone(),
            say: say.clone(),
        };
        let thread = thread::Builder::new().name(format!("worker-{worker}"));
        threads.push(thread.spawn(move || run_worker(post)).map_err(no_thread)?);
    }
    Ok(threads)
}

/// A ring that fails cannot even answer: the process ends, and recovery finds what is durable.
fn run_worker(post: driver::Post) -> io::Result<()> {
    let number = post.setup.worker;
    let ended = driver::run(post);
    if let Err(error) = &ended {
        log(&format!("worker {number}: its ring has failed: {error}"));
        std::process::exit(1);
    }
    ended
}

fn say(facts: Facts) -> Say {
    Arc::new(move |event| match event {
        Event::Text(text) => log(text),
        Event::Notice(Notice::Refused { why }) => {
            log(why);
            std::process::exit(1);
        }
        Event::Notice(notice) => {
            if let Notice::Ready { new, streams, records, disk, logs, segment, directories, region, .. } = notice {
                let opened = Opened {
                    new: *new,
                    streams: *streams,
                    records: *records,
                    disk: *disk,
                    logs: *logs,
                    segment: *segment,
                    directories,
                    region,
                };
                let text = banner::text(&facts, &opened);
                let mut out = io::stdout().lock();
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
                supervisor_is_told(notify::READY);
            }
            log(&notice.to_string());
        }
    })
}

fn supervisor_is_told(state: &str) {
    if let Err(error) = notify::tell(state) {
        log(&format!("$NOTIFY_SOCKET cannot be told {state}: {error}"));
    }
}

/// The first signal stops cleanly; the second one, or a stop that takes too long, ends the process.
fn obey(signals: &Signals, peers: &Peers) {
    signals.wait();
    supervisor_is_told(notify::STOPPING);
    log("stopping: requests under way are answered, then the log is closed");
    peers.stop();
    // One order may come twice: to the process, and to its group.
    thread::sleep(ECHO);
    signals.clear();
    let again = signals.wait_for(STOP_SECONDS);
    log(if again { "stopped at once, by a second signal" } else { "the stop took too long: ended without it" });
    std::process::exit(1);
}

fn wait(threads: Vec<JoinHandle<io::Result<()>>>) -> Result<(), String> {
    for thread in threads {
        let ended = thread.join().map_err(|_| "a worker has panicked".to_string())?;
        ended.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Tries for [`CLAIM_TRIES`] steps: the kernel ends the rings of a killed server in the background, and its listeners with them, so a fast
/// restart can find its own address in use.
fn claim(address: SocketAddr) -> io::Result<SocketAddr> {
    for _ in 1..CLAIM_TRIES {
        match socket::claim(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(CLAIM_STEP),
            other => return other,
        }
    }
    socket::claim(address)
}

/// How often, and how far apart, an address in use is tried: 4 s in all.
const CLAIM_TRIES: u32 = 200;
const CLAIM_STEP: std::time::Duration = std::time::Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_regions_are_checked() {
        assert!(parse_account("123456789012").is_ok());
        assert!(parse_account("12345678901").is_err() && parse_account("12345678901x").is_err());
        assert!(parse_region("eu-central-1").is_ok());
        assert!(parse_region("").is_err() && parse_region("eu central").is_err());
    }

    #[test]
    fn a_port_that_another_server_shares_is_found_out() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (address, listeners) = listeners("--listen", any, 2).expect("free");
        assert_ne!(address.port(), 0);
        let refused = super::listeners("--listen", address, 1).expect_err("it is taken");
        assert!(refused.contains("in use"), "{refused}");
        drop(listeners);
    }
}
