//! `penstock tune ready`: which ways around copies, and around the kernel's network, this host could go, each found by trying.

use super::print;
use crate::io::buffers::Pool;
use crate::io::{ethtool, process, trial};
use crate::limits::Limits;
use crate::tune::check::Profile;
use crate::tune::discover;
use crate::tune::placement::place;
use crate::tune::root::Root;
use crate::tune::topology::{Nic, Topology};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::process::ExitCode;

/// The version of the JSON, as for `check`.
const SCHEMA: u32 = 1;
/// An index that no interface has, and a queue that no NIC has.
const NOWHERE: u32 = i32::MAX as u32;
const NO_QUEUE: u32 = 1 << 20;
const LARGE_PAGES: [(&str, usize); 2] = [("2 MiB", 2 << 20), ("1 GiB", 1 << 30)];

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The NIC to ask [default: the fastest that is up]
    #[arg(long, value_name = "NIC")]
    interface: Option<String>,
    /// Take this receive queue for a moment and give it back, which restarts it: only one that carries nothing
    #[arg(long, value_name = "QUEUE", value_parser = clap::value_parser!(u32).range(0..65_536))]
    take_queue: Option<u32>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// One way, and what it takes.
#[derive(Debug)]
struct Way {
    name: &'static str,
    /// The interface, where it is a matter of one.
    of: Option<String>,
    steps: Vec<Step>,
}

/// What has been tried, and what it said: as it should be, or what is in the way and what to do.
#[derive(Debug)]
struct Step {
    name: &'static str,
    said: Result<String, String>,
}

fn step(name: &'static str, said: Result<impl Into<String>, impl Into<String>>) -> Step {
    Step { name, said: said.map(Into::into).map_err(Into::into) }
}

impl Way {
    fn ready(&self) -> bool {
        self.steps.iter().all(|step| step.said.is_ok())
    }
}

pub fn run(root: &Root, args: &Args) -> Result<ExitCode, String> {
    let topology = discover::topology(root);
    let nic = match &args.interface {
        Some(name) => {
            let found = topology.nics.iter().find(|nic| nic.name == *name);
            Some(found.ok_or_else(|| format!("--interface {name}: there is no such interface"))?)
        }
        None => topology.main_nic(),
    };
    let ways = [receive(root, nic, args.take_queue), send(nic), buffers(&topology), pages(), xdp(root, nic)];
    print(&match args.json {
        true => format!("{:#}\n", as_json(&ways)),
        false => ways.iter().map(text).collect(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn no_nic(name: &'static str) -> Way {
    let why = "no NIC is up that has hardware behind it; name an interface with --interface";
    Way { name, of: None, steps: vec![step("interface", Err::<String, _>(why))] }
}

fn index(root: &Root, nic: &Nic) -> Result<u32, String> {
    let number = root.number(&format!("/sys/class/net/{}/ifindex", nic.name)).map_err(|why| why.to_string())?;
    u32::try_from(number).map_err(|_| format!("{number} is no index of an interface"))
}

/// What the driver says of one thing; `None`: it does not say it.
fn driver(nic: &Nic, group: &str, name: &str) -> Result<Option<String>, String> {
    match ethtool::ask(&nic.name, group) {
        Ok(said) => Ok(said.into_iter().find(|(other, _)| other == name).map(|(_, value)| value)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(format!("the driver of {} cannot be asked: {error}", nic.name)),
    }
}

fn receive(root: &Root, nic: Option<&Nic>, take: Option<u32>) -> Way {
    let name = "zero-copy-receive";
    let Some(nic) = nic else { return no_nic(name) };
    let kernel = receive_kernel(trial::zero_copy_receive(NOWHERE, 0));
    let asked = match (&kernel, index(root, nic)) {
        (Err(_), _) => Err("not tried: the kernel is in the way".to_string()),
        (_, Err(why)) => Err(why),
        (_, Ok(index)) => receive_driver(nic, trial::zero_copy_receive(index, NO_QUEUE)),
    };
    let takes = asked.is_ok();
    let mut steps = vec![
        step("kernel", kernel),
        step("driver", asked),
        step("header-split", header_split(nic)),
        step("flow-steering", flow_steering(nic)),
        step("queues", spare_queue(nic)),
    ];
    match (take, index(root, nic)) {
        (None, _) => {}
        (Some(_), Ok(_)) if !takes => steps.push(step("take", Err::<String, _>("not tried: the driver is in the way"))),
        (Some(queue), Ok(index)) => steps.push(step("take", taken(queue, trial::zero_copy_receive(index, queue)))),
        (Some(_), Err(why)) => steps.push(step("take", Err::<String, _>(why))),
    }
    Way { name, of: Some(nic.name.clone()), steps }
}

fn receive_kernel(tried: io::Result<()>) -> Result<String, String> {
    let error = tried.err().and_then(|error| error.raw_os_error());
    Err(match error {
        Some(libc::ENODEV) => return Ok("lets a ring have a queue of a NIC".to_string()),
        Some(libc::EPERM) => "it takes CAP_NET_ADMIN (EPERM): run this as root".to_string(),
        Some(libc::EOPNOTSUPP) => "this kernel is built without it (EOPNOTSUPP; CONFIG_IO_URING_ZCRX)".to_string(),
        Some(libc::EINVAL) => "this kernel does not know it (EINVAL); Linux 6.15 brought it".to_string(),
        Some(libc::ENOMEM) => "its memory may not be locked (ENOMEM): raise the limit, ulimit -l unlimited".to_string(),
        other => format!("an interface that is not there was refused as {}", errno(other)),
    })
}

fn receive_driver(nic: &Nic, tried: io::Result<()>) -> Result<String, String> {
    let driver = nic.driver.as_deref().unwrap_or("what is behind it");
    match tried.err().and_then(|error| error.raw_os_error()) {
        Some(libc::ERANGE) => Ok(format!("{driver} gives queues away")),
        Some(libc::EOPNOTSUPP) => Err(format!(
            "{driver} cannot restart a single queue with other memory (EOPNOTSUPP): it takes another NIC or driver"
        )),
        other => Err(format!("a queue beyond the last was refused as {}", errno(other))),
    }
}

fn taken(queue: u32, tried: io::Result<()>) -> Result<String, String> {
    let why = match tried {
        Ok(()) => return Ok(format!("queue {queue} was taken and given back")),
        Err(error) => error,
    };
    Err(match why.raw_os_error() {
        Some(libc::ERANGE) => format!("there is no queue {queue} (ERANGE)"),
        Some(libc::EEXIST) => format!("queue {queue} is lent already, or an XDP program is at the NIC (EEXIST)"),
        Some(libc::EBUSY) => format!("an AF_XDP socket has queue {queue} (EBUSY)"),
        Some(libc::EINVAL) => "header and data are not split, or not from the first byte on (EINVAL)".to_string(),
        other => format!("queue {queue} was refused as {}", errno(other)),
    })
}

fn errno(number: Option<i32>) -> String {
    number.map_or("nothing".to_string(), |number| format!("\"{}\"", io::Error::from_raw_os_error(number)))
}

fn header_split(nic: &Nic) -> Result<String, String> {
    let name = &nic.name;
    let least = driver(nic, "rings", "hds-thresh")?.unwrap_or_default();
    match driver(nic, "rings", "tcp-data-split")?.as_deref() {
        Some("on") if ["", "0"].contains(&least.as_str()) => Ok("on".to_string()),
        Some("on") => Err(format!("packets below {least} bytes are not split: ethtool -G {name} hds-thresh 0")),
        Some("off") => Err(format!("off: ethtool -G {name} tcp-data-split on")),
        Some(_) => Err(format!("the driver decides: ethtool -G {name} tcp-data-split on")),
        None => Err("the driver does not split header and data".to_string()),
    }
}

fn flow_steering(nic: &Nic) -> Result<String, String> {
    match driver(nic, "features", "rx-ntuple-filter")?.as_deref() {
        Some("on" | "fixed on") => Ok("on".to_string()),
        Some("off") => Err(format!("off: ethtool -K {} ntuple on", nic.name)),
        _ => Err("the NIC does not steer flows to a queue (rx-ntuple-filter)".to_string()),
    }
}

/// A queue that no flow is spread to, for those that are steered there.
fn spare_queue(nic: &Nic) -> Result<String, String> {
    let name = &nic.name;
    let number = |field| Ok::<_, String>(driver(nic, "channels", field)?.and_then(|text| text.parse::<u32>().ok()));
    let queues = match number("combined")?.unwrap_or(0) + number("rx")?.unwrap_or(0) {
        0 => nic.receive_queues as u32,
        queues => queues,
    };
    if queues < 2 {
        return Err(format!("it has {queues}: the one that is given away leaves none for all else"));
    }
    let table = driver(nic, "spreading", "table")?.ok_or("the driver does not say how flows are spread")?;
    let used: BTreeSet<u32> = table.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match (0..queues).rev().find(|queue| !used.contains(queue)) {
        Some(queue) => Ok(format!("no flow is spread to queue {queue} of {queues}")),
        None => {
            Err(format!("flows are spread to all {queues}: ethtool -X {name} equal {} spares the last", queues - 1))
        }
    }
}

fn send(nic: Option<&Nic>) -> Way {
    let kernel = match trial::zero_copy_send() {
        Ok(true) => Ok("it sends, and says that it copied, as always to a socket of the same host".to_string()),
        Ok(false) => Ok("it sends, and says that it did not copy".to_string()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err("this kernel does not know it (EINVAL); Linux 6.0 brought it, and 6.2 the word on copies".to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let mut steps = vec![step("kernel", kernel)];
    match nic {
        None => steps.push(step("gathers", Err::<String, _>("no NIC is up that has hardware behind it"))),
        Some(nic) => steps.push(step("gathers", gathers(nic))),
    }
    Way { name: "zero-copy-send", of: nic.map(|nic| nic.name.clone()), steps }
}

/// A NIC that takes a packet in one piece has every piece copied into one.
fn gathers(nic: &Nic) -> Result<String, String> {
    match driver(nic, "features", "tx-scatter-gather")?.as_deref() {
        Some("on" | "fixed on") => Ok("on: the NIC takes header and data from where they are".to_string()),
        Some("off") => Err(format!("off, so that the kernel copies: ethtool -K {} sg on", nic.name)),
        _ => Err("the NIC takes packets in one piece only, so the kernel copies".to_string()),
    }
}

/// Log memory is registered with each worker's ring.
fn buffers(topology: &Topology) -> Way {
    let (slots, size) = Limits::standard().layouts().0[Pool::Log as usize];
    let bytes = usize::from(slots) * size as usize;
    // The profile that has the most workers.
    let workers = place(topology, Profile::Throughput).workers.len().max(1) as u64;
    let (each, all) = (bytes as u64 >> 20, workers * bytes as u64);
    let remedy = "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited";
    let registered = match trial::registered(bytes) {
        Ok(()) => Ok(format!("{each} MiB, the log memory of a worker")),
        Err(error) => Err(format!("{each} MiB, the log memory of a worker: {error}: {remedy}")),
    };
    let limit = match process::raise_limits() {
        u64::MAX => Ok("none".to_string()),
        limit if limit >= all => Ok(format!("{} MiB, and {workers} workers take {}", limit >> 20, all >> 20)),
        limit => Err(format!("{} MiB, and {workers} workers take {}: {remedy}", limit >> 20, all >> 20)),
    };
    Way { name: "registered-buffers", of: None, steps: vec![step("register", registered), step("limit", limit)] }
}

fn pages() -> Way {
    let tried = |(name, bytes): (&'static str, usize)| {
        let kib = bytes >> 10;
        let pool = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
        let said = match trial::large_page(bytes) {
            Ok(()) => Ok("one was taken and given back".to_string()),
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::ENOMEM) => format!("none is free (ENOMEM): echo COUNT > {pool}"),
                Some(libc::EINVAL) => "this CPU or kernel has none of this size (EINVAL)".to_string(),
                _ => error.to_string(),
            }),
        };
        step(name, said)
    };
    Way { name: "hugepages", of: None, steps: LARGE_PAGES.map(tried).into() }
}

fn xdp(root: &Root, nic: Option<&Nic>) -> Way {
    let name = "af-xdp";
    let Some(nic) = nic else { return no_nic(name) };
    let index = index(root, nic);
    let asked = |ask: &dyn Fn(u32) -> Result<String, String>| index.clone().and_then(ask);
    let bound = asked(&|index| bound(nic, trial::xdp(index, 0)));
    let without = asked(&|index| match trial::xdp_without_copies(index) {
        Ok(true) => Ok("the driver says so; not tried, as it restarts the queue".to_string()),
        Ok(false) => Err("the driver says that it copies".to_string()),
        Err(error) => Err(format!("the driver cannot be asked: {error}")),
    });
    Way { name, of: Some(nic.name.clone()), steps: vec![step("bind", bound), step("without-copies", without)] }
}

fn bound(nic: &Nic, tried: io::Result<()>) -> Result<String, String> {
    let why = match tried {
        Ok(()) => return Ok(format!("a socket was bound to queue 0 of {} in the mode that copies", nic.name)),
        Err(error) => error,
    };
    Err(match why.raw_os_error() {
        Some(libc::EPERM) => "it takes CAP_NET_RAW (EPERM): run this as root".to_string(),
        Some(libc::EAFNOSUPPORT) => "this kernel is built without it, or a sandbox hides it (EAFNOSUPPORT)".to_string(),
        Some(libc::ENOBUFS | libc::ENOMEM) => "its memory may not be locked: ulimit -l unlimited".to_string(),
        Some(libc::EBUSY) => "another program has queue 0 (EBUSY)".to_string(),
        other => format!("queue 0 was refused as {}", errno(other)),
    })
}

fn text(way: &Way) -> String {
    let of = way.of.as_ref().map_or(String::new(), |of| format!(" of {of}"));
    let mut out = format!("{}{of}: {}\n", way.name, if way.ready() { "ready" } else { "not ready" });
    for Step { name, said } in &way.steps {
        let (sign, said) = match said {
            Ok(said) => ("ok", said),
            Err(why) => ("no", why),
        };
        out += &format!("  {sign}  {name:<14} {said}\n");
    }
    out
}

fn as_json(ways: &[Way]) -> Value {
    let step = |step: &Step| {
        let said = step.said.as_ref().map_or_else(String::clone, String::clone);
        json!({ "step": step.name, "ready": step.said.is_ok(), "said": said })
    };
    let way = |way: &Way| {
        let steps: Vec<Value> = way.steps.iter().map(step).collect();
        json!({ "way": way.name, "of": way.of, "ready": way.ready(), "steps": steps })
    };
    json!({ "schema": SCHEMA, "ways": ways.iter().map(way).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(number: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(number))
    }

    fn nic(driver: &str) -> Nic {
        Nic {
            name: "eth0".into(),
            driver: Some(driver.into()),
            address: None,
            node: None,
            megabits: None,
            up: true,
            receive_queues: 2,
            transmit_queues: 2,
            interrupts: Vec::new(),
            lower: Vec::new(),
        }
    }

    #[test]
    fn what_is_in_the_way_of_receiving_is_told_with_what_to_do() {
        assert!(receive_kernel(failed(libc::ENODEV)).is_ok());
        let why = |number| receive_kernel(failed(number)).expect_err("refused");
        assert!(why(libc::EPERM).contains("root") && why(libc::EOPNOTSUPP).contains("CONFIG_IO_URING_ZCRX"));
        assert!(why(libc::EINVAL).contains("6.15") && why(libc::ENOMEM).contains("ulimit"));
        // That an interface which is not there is taken is as strange as any other error.
        assert!(receive_kernel(Ok(())).is_err());
        assert!(receive_driver(&nic("mlx5_core"), failed(libc::ERANGE)).is_ok());
        let why = receive_driver(&nic("virtio_net"), failed(libc::EOPNOTSUPP)).expect_err("refused");
        assert!(why.starts_with("virtio_net cannot restart"), "{why}");
        assert!(taken(7, Ok(())).is_ok() && taken(7, failed(libc::EBUSY)).expect_err("refused").contains("AF_XDP"));
    }

    #[test]
    fn a_way_is_ready_when_all_of_it_is() {
        let way = |second: Result<&str, &str>| Way {
            name: "af-xdp",
            of: Some("eth0".into()),
            steps: vec![step("bind", Ok::<_, String>("bound")), step("without-copies", second)],
        };
        assert!(text(&way(Ok("so"))).starts_with("af-xdp of eth0: ready\n"));
        let told = text(&way(Err("copies")));
        assert!(
            told.starts_with("af-xdp of eth0: not ready\n") && told.contains("no  without-copies copies\n"),
            "{told}"
        );
        assert_eq!(as_json(&[way(Err("copies"))])["ways"][0]["steps"][1]["said"], "copies");
        assert!(bound(&nic("x"), failed(libc::EPERM)).expect_err("refused").contains("CAP_NET_RAW"));
    }
}
