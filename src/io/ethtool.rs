//! What the driver of a NIC says of its queues, rings and offloads, and what of that can be set: the kernel's generic netlink family `ethtool`,
//! whose numbers stand in its header `linux/ethtool_netlink.h`. To ask takes no privilege; to set takes `CAP_NET_ADMIN`.
//!
//! Values come as names and texts: those that the program ethtool takes on its command line, so that a person can do the same by hand.

use super::netlink::{Family, attribute, attributes, find, nested, terminated};
use std::io;

/// Every message has it first: which interface, and how to answer.
const DEVICE: u16 = 1;
const DEVICE_NAME: u16 = 2;
const DEVICE_FLAGS: u16 = 3;
/// A change answers with an acknowledgement only.
const OMIT_REPLY: u32 = 2;
/// Of a set of bits: the list of those that are named, one of them, and what is said of it.
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    /// `off` or `on`.
    Switch,
    /// `unknown`, `off` or `on`.
    Split,
    /// Queue numbers, one for each entry of the table.
    Table,
}

/// Things that are asked for, and set, in one message.
struct Group {
    name: &'static str,
    get: u8,
    set: Option<u8>,
    fields: &'static [(u16, &'static str, Kind)],
}

const FEATURES: &str = "features";
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HARDWARE: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;

const GROUPS: &[Group] = &[
    Group {
        name: "channels",
        get: 17,
        set: Some(18),
        fields: &[
            (2, "rx-max", Kind::Number),
            (3, "tx-max", Kind::Number),
            (5, "combined-max", Kind::Number),
            (6, "rx", Kind::Number),
            (7, "tx", Kind::Number),
            (9, "combined", Kind::Number),
        ],
    },
    Group {
        name: "rings",
        get: 15,
        set: Some(16),
        fields: &[
            (2, "rx-max", Kind::Number),
            (5, "tx-max", Kind::Number),
            (6, "rx", Kind::Number),
            (9, "tx", Kind::Number),
            (11, "tcp-data-split", Kind::Split),
            (17, "hds-thresh", Kind::Number),
        ],
    },
    Group {
        name: "coalesce",
        get: 19,
        set: Some(20),
        fields: &[
            (2, "rx-usecs", Kind::Number),
            (3, "rx-frames", Kind::Number),
            (6, "tx-usecs", Kind::Number),
            (7, "tx-frames", Kind::Number),
            (11, "adaptive-rx", Kind::Switch),
            (12, "adaptive-tx", Kind::Switch),
        ],
    },
    Group {
        name: "pause",
        get: 21,
        set: Some(22),
        fields: &[(2, "autoneg", Kind::Switch), (3, "rx", Kind::Switch), (4, "tx", Kind::Switch)],
    },
    Group { name: "spreading", get: 38, set: None, fields: &[(4, "table", Kind::Table)] },
];

/// What the driver of `nic` says of `group`: `channels`, `rings`, `coalesce`, `pause`, `spreading` or `features`. `EOPNOTSUPP`: it says nothing.
pub fn ask(nic: &str, group: &str) -> io::Result<Vec<(String, String)>> {
    let mut family = Family::open("ethtool")?;
    if group == FEATURES {
        return Ok(features(&family.ask(FEATURES_GET, &device(nic, 0))?));
    }
    let group = named(group)?;
    let answer = family.ask(group.get, &device(nic, 0))?;
    let fields = group.fields.iter();
    let said =
        fields.filter_map(|(number, name, kind)| Some((name.to_string(), text(find(&answer, *number)?, *kind)?)));
    Ok(said.collect())
}

/// Has the driver of `nic` set one value. What that interrupts is the driver's matter: rings and channels are made anew by most.
pub fn set(nic: &str, group: &str, name: &str, value: &str) -> io::Result<()> {
    let mut family = Family::open("ethtool")?;
    if group == FEATURES {
        let mut bit = Vec::new();
        attribute(&mut bit, BIT_NAME, &terminated(name));
        match value {
            "on" => attribute(&mut bit, BIT_VALUE, &[]),
            "off" => {}
            _ => return Err(unfit(format!("{name} is on or off, not {value}"))),
        }
        let wanted = nested(BITS, &nested(BIT, &bit));
        return change(&mut family, FEATURES_SET, nic, &nested(FEATURES_WANTED, &wanted));
    }
    let group = named(group)?;
    let field = group.fields.iter().find(|(_, other, _)| *other == name && !name.ends_with("-max"));
    let (Some((number, _, kind)), Some(command)) = (field, group.set) else {
        return Err(unfit(format!("{} {name} cannot be set", group.name)));
    };
    let mut what = Vec::new();
    attribute(&mut what, *number, &bytes(value, *kind)?);
    change(&mut family, command, nic, &what)
}

fn named(group: &str) -> io::Result<&'static Group> {
    let found = GROUPS.iter().find(|known| known.name == group);
    found.ok_or_else(|| unfit(format!("drivers are not asked for {group}")))
}

fn unfit(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn text(value: &[u8], kind: Kind) -> Option<String> {
    Some(match kind {
        Kind::Number => u32::from_ne_bytes(value.try_into().ok()?).to_string(),
        Kind::Switch => ["off", "on"].get(usize::from(*value.first()?)).copied()?.to_string(),
        Kind::Split => ["unknown", "off", "on"].get(usize::from(*value.first()?)).copied()?.to_string(),
        Kind::Table => {
            let (entries, _) = value.as_chunks::<4>();
            entries.iter().map(|entry| u32::from_ne_bytes(*entry).to_string()).collect::<Vec<_>>().join(" ")
        }
    })
}

fn bytes(value: &str, kind: Kind) -> io::Result<Vec<u8>> {
    let refused = || unfit(format!("{value} is no value for it"));
    let place = |words: &[&str]| words.iter().position(|word| *word == value).map(|place| vec![place as u8]);
    match kind {
        Kind::Number => Ok(value.parse::<u32>().map_err(|_| refused())?.to_ne_bytes().to_vec()),
        Kind::Switch => place(&["off", "on"]).ok_or_else(refused),
        Kind::Split => place(&["", "off", "on"]).ok_or_else(refused),
        Kind::Table => Err(refused()),
    }
}

/// Each feature with `on` or `off`, behind `fixed` where the driver lets nobody change it.
fn features(answer: &[u8]) -> Vec<(String, String)> {
    let bits = |set: u16| find(answer, set).and_then(|set| find(set, BITS)).unwrap_or_default();
    let name = |bit: &[u8]| {
        let name = find(bit, BIT_NAME)?;
        Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_string())
    };
    let active: Vec<String> = attributes(bits(FEATURES_ACTIVE)).filter_map(|(_, bit)| name(bit)).collect();
    let known = attributes(bits(FEATURES_HARDWARE)).filter_map(|(_, bit)| {
        let (name, free) = (name(bit)?, find(bit, BIT_VALUE).is_some());
        let state = if active.contains(&name) { "on" } else { "off" };
        Some((name, if free { state.to_string() } else { format!("fixed {state}") }))
    });
    known.collect()
}

/// Has something changed, and waits until it is.
fn change(family: &mut Family, command: u8, nic: &str, what: &[u8]) -> io::Result<()> {
    let mut message = device(nic, OMIT_REPLY);
    message.extend_from_slice(what);
    family.change(command, &message)
}

/// The attribute that names the interface.
fn device(nic: &str, flags: u32) -> Vec<u8> {
    let mut header = Vec::new();
    attribute(&mut header, DEVICE_NAME, &terminated(nic));
    if flags != 0 {
        attribute(&mut header, DEVICE_FLAGS, &flags.to_ne_bytes());
    }
    nested(DEVICE, &header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_words_of_ethtool() {
        for (kind, value) in [(Kind::Switch, "on"), (Kind::Split, "off"), (Kind::Split, "on"), (Kind::Number, "1024")] {
            assert_eq!(text(&bytes(value, kind).expect("a value"), kind).as_deref(), Some(value));
        }
        for (kind, value) in [(Kind::Switch, "yes"), (Kind::Split, ""), (Kind::Number, "-1"), (Kind::Table, "0")] {
            assert!(value.is_empty() || bytes(value, kind).is_err(), "{value}");
        }
        assert_eq!(text(&[0, 0, 0, 0, 1, 0, 0, 0], Kind::Table).as_deref(), Some("0 1"));
        assert_eq!((text(&[9], Kind::Switch), text(&[1, 2], Kind::Number)), (None, None));
    }

    /// What the test below runs in a network of its own, whose loopback device is nobody's.
    #[test]
    #[ignore = "changes the loopback device: run by another test where that harms nobody"]
    fn a_feature_goes_off_and_on_again() {
        let state = || {
            let said = ask("lo", FEATURES).expect("netlink is there");
            said.into_iter().find(|(name, _)| name == "rx-gro").map(|(_, state)| state)
        };
        for wanted in ["off", "on"] {
            set("lo", FEATURES, "rx-gro", wanted).expect("it can be set");
            assert_eq!(state().as_deref(), Some(wanted));
        }
        assert!(set("lo", FEATURES, "rx-gro", "perhaps").is_err());
        // The kernel has no such feature, and the loopback device has no rings.
        assert!(set("lo", FEATURES, "no-such-feature", "on").is_err());
        let refused = set("lo", "rings", "rx", "64").expect_err("it has none");
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn a_driver_has_values_set() {
        let name = "io::ethtool::tests::a_feature_goes_off_and_on_again";
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--net"]).arg(std::env::current_exe().expect("this is a program"));
        let output = match command.args(["--exact", name, "--ignored"]).output() {
            Ok(output) => output,
            Err(error) => return println!("SKIPPED: unshare: {error}"),
        };
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if told.contains("unshare failed") {
            return println!("SKIPPED: no network of its own: {told}");
        }
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }

    #[test]
    fn the_loopback_device_tells_its_features_and_no_rings() {
        let said = match ask("lo", FEATURES) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return println!("SKIPPED: {error}"),
            said => said.expect("netlink is there"),
        };
        let value = |name: &str| said.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!(value("loopback"), Some("fixed on"), "{said:?}");
        assert!(value("rx-gro").is_some(), "{said:?}");
        assert_eq!(ask("lo", "rings").expect_err("it has none").raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(ask("no-such-nic0", "rings").expect_err("none").raw_os_error(), Some(libc::ENODEV));
        assert!(ask("lo", "weather").is_err() && set("lo", "rings", "rx-max", "1").is_err());
    }
}
