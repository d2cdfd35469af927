//! How checks are mended: which files of the kernel get which values, what makes that last, and what is left to a person, with the reason.
//! Nothing here writes, and nothing here weakens the host's security: such checks are left to a person throughout.

mod cpu;
mod devices;
mod driver;

use super::check::{self, Host};

/// What mending a check comes to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Mend {
    pub knobs: Vec<Knob>,
    /// What holds from the next start of the host, or of a unit.
    pub later: Vec<Later>,
    /// What cannot be done, and why.
    pub left: Vec<String>,
}

/// A file of the kernel, and what it should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knob {
    pub path: String,
    pub value: String,
    pub form: Form,
    pub lasts: Lasts,
    /// Numbers of interrupts are given anew at each start of the host, so it is known by its name.
    pub interrupt: Option<String>,
}

/// How values of a file are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Words with blanks between them; of several with one in brackets that one.
    Words,
    /// A mask of cores, of which zeros at the front say nothing.
    Mask,
}

/// What sets a knob again when the host has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    Sysctl,
    /// A rule for the drive.
    Udev,
    /// A script that a unit runs.
    Boot,
    /// Nothing: it is tried only.
    Never,
}

/// What holds later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Later {
    /// A line for the section `[Service]` of penstock's unit: its key and value.
    Limit(&'static str, &'static str),
    /// An argument of the kernel: its name and value.
    Argument(&'static str, String),
    /// A unit that must not start.
    Mask(&'static str),
}

/// How a check is mended.
pub enum Remedy {
    /// A value in a file below /proc/sys.
    Sysctl(&'static str, &'static str),
    Of(fn(&Host) -> Mend),
    /// Only when it is asked for by name, and why.
    Asked(fn(&Host) -> Mend, &'static str),
    /// By a person, and why.
    Person(&'static str),
}

const SECURITY: &str = "it weakens what guards this host, which is for a person to weigh";
const HARDWARE: &str = "it is a matter of hardware or firmware";
const DATA: &str = "it concerns what is stored";
const OTHERS: &str = "it concerns what else runs here";

const REMEDIES: &[(&str, Remedy)] = &[
    ("governor", Remedy::Of(cpu::governor)),
    ("energy-preference", Remedy::Of(cpu::energy_preference)),
    ("clock-floor", Remedy::Of(cpu::clock_floor)),
    ("turbo", Remedy::Of(cpu::turbo)),
    ("sleep-states", Remedy::Of(cpu::sleep_states)),
    (
        "sleep-limit",
        Remedy::Asked(cpu::sleep_limit, "it costs heat and turbo of every core, and sleep-states does nearly the same"),
    ),
    ("isolation", Remedy::Asked(cpu::isolation, "nothing else may use these cores afterwards")),
    ("workqueues", Remedy::Of(cpu::workqueues)),
    ("clock-source", Remedy::Of(cpu::clock_source)),
    ("time-sync", Remedy::Person("which program keeps the clock is a matter of the network it is in")),
    ("clock-error", Remedy::Person("which servers are near is a matter of the network it is in")),
    ("hard-lockup-watchdog", Remedy::Sysctl("kernel/nmi_watchdog", "0")),
    ("timer-migration", Remedy::Sysctl("kernel/timer_migration", "0")),
    ("statistics-interval", Remedy::Sysctl("vm/stat_interval", "10")),
    ("worker-cores", Remedy::Person("the server has put them there, and somebody else has moved them")),
    ("cpu-quota", Remedy::Person("whoever set the quota meant it")),
    ("cpu-throttled", Remedy::Person("it counts what has been; cpu-quota is its cause")),
    ("stolen-time", Remedy::Person(HARDWARE)),
    ("machine", Remedy::Person(HARDWARE)),
    ("other-load", Remedy::Person(OTHERS)),
    ("sha-instructions", Remedy::Person(HARDWARE)),
    ("overheated", Remedy::Person(HARDWARE)),
    ("mitigations", Remedy::Person(SECURITY)),
    ("nic-node", Remedy::Person("cores are chosen with --cores of penstock serve")),
    ("drive-node", Remedy::Person(HARDWARE)),
    ("numa-balancing", Remedy::Sysctl("kernel/numa_balancing", "0")),
    ("far-memory", Remedy::Person("it counts what has been")),
    ("zone-reclaim", Remedy::Sysctl("vm/zone_reclaim_mode", "0")),
    ("pcie-link", Remedy::Person(HARDWARE)),
    ("pcie-power-saving", Remedy::Of(devices::pcie_power_saving)),
    ("iommu", Remedy::Person(SECURITY)),
    ("memory-errors", Remedy::Person(HARDWARE)),
    ("transparent-hugepages", Remedy::Of(devices::hugepages)),
    ("hugepage-defragmentation", Remedy::Of(devices::defragmentation)),
    ("locked-memory", Remedy::Of(|_| limit("LimitMEMLOCK", "infinity"))),
    ("open-files", Remedy::Of(|_| limit("LimitNOFILE", "1048576"))),
    ("swappiness", Remedy::Sysctl("vm/swappiness", "1")),
    ("swap-used", Remedy::Person(OTHERS)),
    ("io-uring", Remedy::Person(SECURITY)),
    ("system-call-filter", Remedy::Person(SECURITY)),
    ("memory-reserve", Remedy::Person("too much of it leaves none to work with, and large pages move it as well")),
    (
        "dirty-pages",
        Remedy::Person("the bound in bytes sets the ratio to 0, and the kernel does not take the 0 of the bytes back"),
    ),
    ("memory-killer", Remedy::Of(|_| limit("OOMScoreAdjust", "-900"))),
    ("core-dumps", Remedy::Asked(|_| limit("LimitCORE", "0"), "a crash leaves nothing to look at")),
    ("aio-requests", Remedy::Sysctl("fs/aio-max-nr", "1048576")),
    ("pressure", Remedy::Person(OTHERS)),
    ("scheduler", Remedy::Of(|host| devices::queues(host, "scheduler", "none"))),
    ("merging", Remedy::Of(|host| devices::queues(host, "nomerges", "2"))),
    ("write-cache", Remedy::Person("a drive's word on its cache is never overruled")),
    ("completion-core", Remedy::Of(|host| devices::queues(host, "rq_affinity", "2"))),
    ("write-throttling", Remedy::Of(|host| devices::queues(host, "wbt_lat_usec", "0"))),
    ("request-size", Remedy::Of(devices::request_size)),
    ("request-queue", Remedy::Of(devices::request_queue)),
    ("physical-block", Remedy::Person(DATA)),
    ("drive-state", Remedy::Person(HARDWARE)),
    ("drive-temperature", Remedy::Person(HARDWARE)),
    ("drive-wear", Remedy::Person(HARDWARE)),
    ("drive-queues", Remedy::Person(HARDWARE)),
    ("drive-interrupts", Remedy::Person("the kernel places these, and refuses what is written")),
    ("poll-queues", Remedy::Person("whoever set queues aside meant them for another program")),
    ("trimming", Remedy::Person("when a drive may be busy with it is for a person to say")),
    ("space", Remedy::Person(DATA)),
    ("file-system", Remedy::Person(DATA)),
    ("barriers", Remedy::Person(DATA)),
    ("mount-options", Remedy::Person("a mistake in /etc/fstab keeps a host from starting")),
    ("link", Remedy::Person(HARDWARE)),
    ("link-changes", Remedy::Person(HARDWARE)),
    ("mtu", Remedy::Person("every switch and peer on the way has to take it")),
    ("nic-losses", Remedy::Person("it counts what has been; the ring, the queues or the cores are its cause")),
    ("nic-queues", Remedy::Asked(driver::channels, "the link goes down for a moment")),
    ("nic-interrupts", Remedy::Of(devices::interrupts)),
    ("nic-interrupts-spread", Remedy::Of(devices::interrupts)),
    ("irqbalance", Remedy::Of(|_| Mend { later: vec![Later::Mask("irqbalance.service")], ..Mend::default() })),
    ("receive-steering", Remedy::Of(devices::receive_steering)),
    ("transmit-steering", Remedy::Of(devices::transmit_steering)),
    ("flow-steering", Remedy::Sysctl("net/core/rps_sock_flow_entries", "0")),
    ("packets-dropped", Remedy::Person("it counts what has been, and the cause may be any of several")),
    ("nic-rings", Remedy::Asked(driver::rings, "the queues are made anew, and packets may be lost meanwhile")),
    ("nic-coalescing", Remedy::Of(driver::coalescing)),
    ("nic-offloads", Remedy::Of(driver::offloads)),
    ("nic-spreading", Remedy::Person("whoever steers flows by hand has left queues out on purpose")),
    ("nic-filters", Remedy::Asked(driver::filters, "nothing steers flows yet")),
    ("nic-pause", Remedy::Person("the switch has to agree")),
    ("packet-backlog", Remedy::Sysctl("net/core/netdev_max_backlog", "4096")),
    ("accept-backlog", Remedy::Sysctl("net/core/somaxconn", "4096")),
    ("handshake-backlog", Remedy::Sysctl("net/ipv4/tcp_max_syn_backlog", "4096")),
    ("syn-cookies", Remedy::Sysctl("net/ipv4/tcp_syncookies", "1")),
    ("slow-start", Remedy::Sysctl("net/ipv4/tcp_slow_start_after_idle", "0")),
    ("socket-memory", Remedy::Person("the kernel has chosen it when it started, and somebody has overruled it")),
    ("socket-buffers", Remedy::Of(devices::socket_buffers)),
    ("socket-buffer-bounds", Remedy::Of(devices::socket_bounds)),
    ("unsent-bytes", Remedy::Sysctl("net/ipv4/tcp_notsent_lowat", "131072")),
    ("busy-polling", Remedy::Person(OTHERS)),
    ("deferred-interrupts", Remedy::Person("what was set of single queues is lost by it, and cannot be put back")),
    ("connection-tracking", Remedy::Person(SECURITY)),
    ("local-ports", Remedy::Sysctl("net/ipv4/ip_local_port_range", "1024 65535")),
    ("port-reuse", Remedy::Sysctl("net/ipv4/tcp_tw_reuse", "1")),
];

/// How a check is mended.
pub fn remedy(id: &str) -> &'static Remedy {
    let found = REMEDIES.iter().find(|(other, _)| *other == id);
    found.map_or(&Remedy::Person("nothing mends it by itself"), |(_, remedy)| remedy)
}

/// What the mend of a check comes to on this host; `asked`: it was asked for by name.
pub fn mend(id: &str, host: &Host, asked: bool) -> Mend {
    match remedy(id) {
        Remedy::Sysctl(name, value) => knobs([Knob::new(format!("/proc/sys/{name}"), *value, Lasts::Sysctl)]),
        Remedy::Of(mend) => mend(host),
        Remedy::Asked(mend, _) if asked => mend(host),
        Remedy::Asked(_, why) => left(format!("only with --with {id}: {why}")),
        Remedy::Person(why) => left(*why),
    }
}

impl Knob {
    fn new(path: impl Into<String>, value: impl Into<String>, lasts: Lasts) -> Knob {
        Knob { path: path.into(), value: value.into(), form: Form::Words, lasts, interrupt: None }
    }
}

impl Form {
    /// Whether two texts of a file say the same.
    pub fn same(self, one: &str, other: &str) -> bool {
        let words = |text: &str| check::chosen(text).split_whitespace().map(String::from).collect::<Vec<_>>();
        let mask = |text: &str| {
            let digits = text.trim().replace(',', "").to_ascii_lowercase();
            digits.trim_start_matches('0').to_string()
        };
        match self {
            Form::Words => words(one) == words(other),
            Form::Mask => mask(one) == mask(other),
        }
    }

    /// What is written to have the kernel show `text` again.
    pub fn value(self, text: &str) -> String {
        check::chosen(text).trim().to_string()
    }
}

fn knobs(knobs: impl IntoIterator<Item = Knob>) -> Mend {
    Mend { knobs: knobs.into_iter().collect(), ..Mend::default() }
}

fn left(why: impl Into<String>) -> Mend {
    Mend { left: vec![why.into()], ..Mend::default() }
}

fn limit(name: &'static str, value: &'static str) -> Mend {
    Mend { later: vec![Later::Limit(name, value)], ..Mend::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_one_remedy() {
        let checks: BTreeSet<&str> = check::all().map(|check| check.id).collect();
        let remedies: BTreeSet<&str> = REMEDIES.iter().map(|(id, _)| *id).collect();
        assert_eq!(checks, remedies);
        assert_eq!(REMEDIES.len(), remedies.len());
    }

    #[test]
    fn texts_of_one_value_are_the_same() {
        assert!(Form::Words.same("none\n", "[none] mq-deadline"));
        assert!(Form::Words.same("1024 65535", "1024\t65535\n"));
        assert!(!Form::Words.same("none [mq-deadline]", "none"));
        assert!(!Form::Words.same("0,2", "2"));
        assert!(Form::Mask.same("0", "00000000,00000000\n"));
        assert!(Form::Mask.same("FFF0", "00000000,0000fff0"));
        assert!(!Form::Mask.same("1,00000000", "1"));
        assert_eq!(Form::Words.value("none [mq-deadline] bfq\n"), "mq-deadline");
    }
}
