//! The flags of a run, and the plan that they make.

use super::endpoint::{Endpoint, resolve};
use crate::cli::{cores, size};
use crate::io::process;
use crate::load::choice::{Popularity, Sizes};
use crate::load::plan::{Identity, KEYS_MAX, Pace, Plan, Range, Share, Wire, deal};
use crate::load::schedule::Shape;
use crate::native::batch::{LARGEST, RECORDS_MAX};
use crate::tune::discover;
use crate::tune::root::Root;
use clap::ValueEnum;
use std::path::PathBuf;
use std::time::Duration;

/// Memory of a connection for its requests at most.
const OUTBOX_MAX: u64 = 1 << 30;
/// Of PutRecords.
const PUT_RECORDS_MAX: u32 = 500;
/// Connections of a run at most: a thread's sockets are counted by 16 bits.
const CONNECTIONS_MAX: u32 = 4096;

/// The stream that is written to where nobody names one.
pub const STREAM: &str = "penstock-load";

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum WireName {
    /// The native protocol
    Native,
    /// The Kinesis API in JSON
    Json,
    /// The Kinesis API in CBOR
    Cbor,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum HttpName {
    /// HTTP/1.1: one request after the other
    #[value(name = "1.1")]
    One,
    /// HTTP/2: each request is a stream
    #[value(name = "2")]
    Two,
}

/// Where the server is, and who asks.
#[derive(clap::Args, Clone, Debug)]
pub struct Server {
    /// The Kinesis endpoint
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4567")]
    pub endpoint: String,
    /// Certificates of authorities that an https:// endpoint is believed by, in PEM [default: those that this system trusts]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The server's port for native clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4605")]
    pub native: String,
    /// Id of an access key [default: $AWS_ACCESS_KEY_ID]; without one nothing is signed
    #[arg(long, value_name = "ID")]
    pub key_id: Option<String>,
    /// Its secret; seen by everybody on this host who lists processes [default: $AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "SECRET")]
    pub secret: Option<String>,
    /// Region that is signed for [default: $AWS_REGION, else us-east-1]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Nothing is signed, whatever the environment has.
    #[arg(skip)]
    pub anonymous: bool,
}

/// Where records are sent to, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    #[command(flatten)]
    pub server: Server,
    /// How records are sent, and read back
    #[arg(long, value_enum, default_value = "native")]
    pub wire: WireName,
    /// Version of HTTP that puts go over, with --wire json or cbor; without TLS the server must take HTTP/2 unasked
    #[arg(long, value_enum, value_name = "VERSION", default_value = "1.1")]
    pub http: HttpName,
    /// Stream to write to; made if it is not there, and then deleted at the end
    #[arg(long, value_name = "NAME", default_value = STREAM, value_parser = parse_stream)]
    pub stream: String,
    /// Shards of a stream that is made
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shards: u32,
    /// Leave the stream that was made
    #[arg(long)]
    pub keep: bool,
}

/// What is sent.
#[derive(clap::Args, Clone, Debug)]
pub struct Work {
    /// Records of a request; of the Kinesis API, 1 is PutRecord and more PutRecords
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub batch: u32,
    /// Bytes of a record: 1K, uniform:100-2000, or zipf:64-64K
    #[arg(long, value_name = "SIZES", default_value = "1K", value_parser = parse_sizes)]
    pub size: Sizes,
    /// Partition keys; each is written by one connection
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=KEYS_MAX as i64))]
    pub keys: u32,
    /// How often each key comes: uniform, zipf, zipf:POWER, or hot:PART of all records for one key
    #[arg(long, value_name = "HOW", default_value = "uniform")]
    pub popularity: Popularity,
    /// How long, behind the warm-up
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub length: Duration,
    /// How long before anything is counted
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_time)]
    pub warm_up: Duration,
    /// Connections that write, in all
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64))]
    pub connections: u32,
    /// Threads, each on a core of its own as far as there are [default: half of the physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Cores for the threads, as 2,4-7 [default: those with the highest numbers]
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    pub cores: Option<Cores>,
    /// Requests of a connection that may be unanswered: over HTTP/2 its streams, over HTTP/1.1 always one
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub window: u32,
    /// Native batches in whole blocks of 4 KiB, which the server writes from where it receives them: for batches of 64 KiB and more
    #[arg(long)]
    pub bulk: bool,
    /// Make requests once and send them again and again: the highest rate, and no proof of what is stored
    #[arg(long)]
    pub prebuilt: bool,
    /// Do not read records back
    #[arg(long)]
    pub no_verify: bool,
    /// How long a reader waits after it has caught up
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = parse_time)]
    pub poll: Duration,
    /// What is drawn follows from it
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

/// When it is sent.
#[derive(clap::Args, Clone, Debug)]
pub struct Pacing {
    /// Records a second, sent when they are due whatever the server does
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_rate)]
    pub rate: f64,
    /// How the rate changes: fixed, poisson, step:FROM,STEPS,SECONDS, sine:DEPTH,PERIOD, burst:FACTOR,PERIOD,LENGTH
    #[arg(long, value_name = "SHAPE", default_value = "fixed")]
    pub schedule: Shape,
    /// Instead of a rate: so many requests of each connection are unanswered at any time
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "schedule"], value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub closed: Option<u32>,
}

/// What is left of a run.
#[derive(clap::Args, Clone, Debug)]
pub struct Output {
    /// One object of JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Directory for report.json, the histograms, and what this host is; of max, for one such directory for each run
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// No line a second on standard error
    #[arg(long)]
    pub quiet: bool,
}

/// A list of cores: a type of its own, as clap takes a plain vector for a repeated flag.
#[derive(Clone, Debug)]
pub struct Cores(pub Vec<usize>);

fn parse_cores(text: &str) -> Result<Cores, String> {
    cores::parse(text).map(Cores)
}

fn parse_sizes(text: &str) -> Result<Sizes, String> {
    Sizes::parse(text, size::parse)
}

pub fn parse_stream(text: &str) -> Result<String, String> {
    let good = (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if good { Ok(text.to_string()) } else { Err("1 to 128 letters, digits, and of _ . -".to_string()) }
}

pub fn parse_rate(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(['k', 'K', 'M']);
    let factor = match &text[digits.len()..] {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        _ => return Err("a number, as in 5000, 20k or 1M".to_string()),
    };
    let number: f64 = digits.parse().map_err(|_| "a number, as in 5000, 20k or 1M".to_string())?;
    let rate = number * factor;
    if rate > 0.0 && rate <= 1e9 { Ok(rate) } else { Err("above 0, up to a billion".to_string()) }
}

pub fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == 'µ');
    let number: f64 = digits.parse().map_err(|_| "a time, as in 30s, 500ms or 2m".to_string())?;
    let unit = match &text[digits.len()..] {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time has a unit: us, ms, s, m or h".to_string()),
    };
    let seconds = number * unit;
    if (0.0..=1e6).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err("too long".to_string()) }
}

impl Server {
    /// Who signs, if anybody does.
    pub fn identity(&self) -> Result<Option<Identity>, String> {
        if self.anonymous {
            return Ok(None);
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let key_id = self.key_id.clone().or_else(|| variable("AWS_ACCESS_KEY_ID"));
        let secret = self.secret.clone().or_else(|| variable("AWS_SECRET_ACCESS_KEY"));
        let region = self.region.clone().or_else(|| variable("AWS_REGION"));
        match (key_id, secret) {
            (None, _) => Ok(None),
            (Some(_), None) => Err("a key id needs its secret: --secret, or AWS_SECRET_ACCESS_KEY".to_string()),
            (Some(key_id), Some(secret)) => {
                // A session's token belongs to the key of the environment.
                let token = if self.key_id.is_none() { variable("AWS_SESSION_TOKEN") } else { None };
                let region = region.unwrap_or_else(|| "us-east-1".to_string());
                if key_id.len() > 128 || token.as_ref().is_some_and(|token| token.len() > 4096) || region.len() > 64 {
                    return Err(
                        "an access key's id has at most 128 characters, its token 4,096, a region 64".to_string()
                    );
                }
                Ok(Some(Identity { key_id, secret, token, region }))
            }
        }
    }
}

/// What a run needs before it begins.
pub struct Prepared {
    pub plan: Plan,
    pub shares: Vec<Share>,
    pub cores: Vec<usize>,
    pub endpoint: Endpoint,
    /// The stream was made for this run.
    pub made: bool,
}

/// The plan that the flags make. The stream is there afterwards.
pub fn prepare(target: &Target, work: &Work, pace: Pace) -> Result<Prepared, String> {
    let identity = target.server.identity()?;
    let mut endpoint = Endpoint::new(&target.server.endpoint, target.server.ca.as_deref(), identity.as_ref())?;
    let wire = match target.wire {
        WireName::Native => Wire::Native,
        WireName::Json => Wire::Json,
        WireName::Cbor => Wire::Cbor,
    };
    let to = if wire == Wire::Native { resolve("--native", &target.server.native)? } else { endpoint.address };
    let random = process::random().map_err(|error| format!("no random bytes from the kernel: {error}"))?;
    let ns = |time: Duration| time.as_nanos() as u64;
    let plan = Plan {
        seed: work.seed,
        run: u64::from_le_bytes(random[..8].try_into().expect("8 of 32 bytes")),
        wire,
        bulk: work.bulk,
        to,
        read: (!work.no_verify && !work.prebuilt).then_some(to),
        host: endpoint.host.clone(),
        tls: endpoint.trust.is_some(),
        http2: target.http == HttpName::Two,
        stream: target.stream.clone(),
        identity,
        batch: work.batch,
        sizes: work.size,
        keys: work.keys,
        popularity: work.popularity,
        pace,
        window: work.window,
        warm_up: ns(work.warm_up),
        end: ns(work.warm_up) + ns(work.length),
        prebuilt: work.prebuilt,
        poll: ns(work.poll),
    };
    check(&plan)?;
    let made = endpoint.create(&target.stream, target.shards)?;
    let shards = endpoint.shards(&target.stream)?;
    let (shares, cores) = deal_out(&plan, work, &shards)?;
    Ok(Prepared { plan, shares, cores, endpoint, made })
}

/// What can be told without a server.
fn check(plan: &Plan) -> Result<(), String> {
    if plan.end == plan.warm_up {
        return Err("--for is how long the run is: more than nothing".to_string());
    }
    if plan.bulk && plan.wire != Wire::Native {
        return Err("--bulk is of the native protocol".to_string());
    }
    if plan.http2 && plan.wire == Wire::Native {
        return Err("--http is of the Kinesis API: --wire json or cbor".to_string());
    }
    if plan.is_verified() && (plan.sizes.least() as usize) < crate::load::chain::STAMP {
        return Err(format!(
            "--size: records that are read back have at least {} bytes, for what they say of themselves; --no-verify has none",
            crate::load::chain::STAMP
        ));
    }
    let records = if plan.wire == Wire::Native { RECORDS_MAX } else { PUT_RECORDS_MAX };
    if plan.batch > records {
        return Err(format!("--batch: a request over {} has at most {records} records", plan.wire.name()));
    }
    let largest = plan.batch as u64 * plan.sizes.most() as u64 * if plan.wire == Wire::Json { 2 } else { 1 };
    if largest > LARGEST as u64 || plan.request_max() > LARGEST {
        return Err("--batch and --size: a request would have more than 12 MB".to_string());
    }
    let outbox = plan.request_max() as u64 * plan.places() as u64;
    if outbox > OUTBOX_MAX {
        return Err(format!("--window: the requests of one connection would take {}", size::show(outbox)));
    }
    Ok(())
}

fn deal_out(plan: &Plan, work: &Work, shards: &[Range]) -> Result<(Vec<Share>, Vec<usize>), String> {
    if shards.is_empty() {
        return Err(format!("stream {} has no open shard", plan.stream));
    }
    let topology = discover::topology(&Root::host());
    let mut cores: Vec<usize> = match &work.cores {
        Some(Cores(cores)) => cores.clone(),
        None => topology.physical_cores().iter().filter_map(|threads| threads.first().copied()).rev().collect(),
    };
    let threads = work.threads.unwrap_or((cores.len() as u32 / 2).max(1));
    cores.truncate(threads.max(1) as usize);
    let shares = deal(plan.keys, shards, threads, work.connections);
    // A thread's pools are numbered by 16 bits.
    let most = shares.iter().map(|share| share.connections.len() + share.shards.len() + 32).max().unwrap_or(0);
    if most > u16::MAX as usize {
        return Err("one thread would have too many connections: more --threads are needed".to_string());
    }
    Ok((shares, cores))
}

impl Pacing {
    pub fn pace(&self) -> Pace {
        match self.closed {
            Some(outstanding) => Pace::Closed { outstanding },
            None => Pace::Open { shape: self.schedule, rate: self.rate },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read() {
        for (text, ms) in
            [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("0.5s", 500), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, rate) in [("5000", 5e3), ("20k", 2e4), ("1.5M", 1.5e6), ("0.5", 0.5)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "5", "s", "-1s", "5 s", "1e9s", "nans"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        for text in ["", "0", "-5", "k", "5G", "nan", "1e10"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
