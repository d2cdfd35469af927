//! What drivers of NICs say and can be told, as files: `/ethtool/NIC/GROUP/NAME` holds one value, in the words of the program ethtool, so that
//! checks, plans, the journal and recorded hosts treat it as any other value of the kernel. On a host these files are not there: [`Drivers`]
//! answers for them. In a recorded tree they are; a NIC whose directory is missing was not asked.

use std::collections::BTreeMap;
use std::io;

/// Where these files seem to be.
pub const TOP: &str = "/ethtool";
pub const GROUPS: [&str; 6] = ["channels", "rings", "coalesce", "pause", "spreading", "features"];
/// Of some sixty features those that bear on anything here.
pub const FEATURES: [&str; 8] = [
    "rx-gro",
    "rx-lro",
    "rx-hashing",
    "rx-ntuple-filter",
    "tx-generic-segmentation",
    "tx-scatter-gather",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
];

/// Names and values.
pub type Said = Vec<(String, String)>;

/// Who asks a host's drivers.
#[derive(Debug, Clone, Copy)]
pub struct Drivers {
    /// All that the driver of a NIC says of a group; `EOPNOTSUPP`: nothing.
    pub ask: fn(&str, &str) -> io::Result<Said>,
    /// Has the driver of a NIC set the value of this name in a group.
    pub set: fn(&str, &str, &str, &str) -> io::Result<()>,
}

/// One value: of which NIC, in which group, by which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub nic: &'a str,
    pub group: &'a str,
    pub name: &'a str,
}

impl<'a> Place<'a> {
    /// The place that a path names; `None`: it is no file of a driver.
    pub fn of(path: &'a str) -> Option<Place<'a>> {
        let mut parts = path.strip_prefix(TOP)?.strip_prefix('/')?.split('/');
        let place = Place { nic: parts.next()?, group: parts.next()?, name: parts.next()? };
        (parts.next().is_none() && !place.name.is_empty()).then_some(place)
    }

    pub fn path(&self) -> String {
        format!("{TOP}/{}/{}/{}", self.nic, self.group, self.name)
    }
}

impl Drivers {
    /// What the driver of `nic` says of `group`; nothing, where it says nothing.
    pub fn group(&self, nic: &str, group: &str) -> io::Result<BTreeMap<String, String>> {
        match (self.ask)(nic, group) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(BTreeMap::new()),
            said => Ok(said?.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_value() {
        let place = Place { nic: "eth0", group: "rings", name: "rx" };
        assert_eq!(
            (Place::of("/ethtool/eth0/rings/rx"), place.path().as_str()),
            (Some(place), "/ethtool/eth0/rings/rx")
        );
        for path in ["/ethtool/eth0/rings", "/ethtool/eth0/rings/", "/ethtool/a/b/c/d", "/ethtools/a/b/c", "/sys/a/b/c"]
        {
            assert_eq!(Place::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_driver_that_says_nothing_is_no_error() {
        let refuse = |number: i32| io::Error::from_raw_os_error(number);
        let set = |_: &str, _: &str, _: &str, _: &str| Ok(());
        let silent = Drivers { ask: |_, _| Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)), set };
        assert!(silent.group("eth0", "rings").expect("it is asked").is_empty());
        let gone = Drivers { ask: |_, _| Err(io::Error::from_raw_os_error(libc::ENODEV)), set };
        assert_eq!(gone.group("eth0", "rings").expect_err("gone").kind(), refuse(libc::ENODEV).kind());
    }
}
