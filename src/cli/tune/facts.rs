//! Asks this host for what takes a system call: the space under a data directory, and how right the clock is.

use crate::cli::directory::{logs_in, superblock};
use crate::io::op::{FileName, Spare};
use crate::io::process;
use crate::log::directories::{SEGMENT_MIN, SEGMENTS_MIN};
use crate::log::segment::AHEAD;
use crate::tune::drivers::Said;
use crate::tune::facts::{
    FREE_BYTES, MEDIA_ERRORS, MOST_ERROR_US, SPARE, SPARE_LEAST, SPARES, SYNCHRONISED, USED, WANTED_BYTES, WARNINGS,
};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is free under `data`, what should be, and whether the catalog has its spare files. A directory that is not there yet will lie where the
/// nearest one above it does. Nothing is written, and nothing is asked of a server that has it.
pub fn space(data: &str) -> io::Result<Said> {
    let data = Path::new(data);
    let mut said = vec![(FREE_BYTES.to_string(), process::free_bytes(&nearest(data)?)?.to_string())];
    let is_there = |name: FileName| match File::open(data.join(name.to_string())) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(io::Error::other("the directory is closed to this user; ask as root, or as the user of the service"))
        }
        Err(error) => Err(error),
    };
    // What may not be read is no new directory.
    let is_home = is_there(FileName::Superblock(0))? || is_there(FileName::Superblock(1))?;
    if !is_home {
        said.push((WANTED_BYTES.to_string(), (SEGMENTS_MIN * SEGMENT_MIN).to_string()));
        return Ok(said);
    }
    let damaged = || io::Error::other("none of its superblocks can be used");
    let superblock = superblock(data).ok_or_else(damaged)?;
    // What the logs here have not made yet of what they may: they write into the rest again and again.
    let grows = superblock.directories[0].space.saturating_sub(logs_in(data)?.1);
    let ahead = AHEAD as u64 * u64::from(superblock.logs_in(0).max(1)) * superblock.segment_size;
    said.push((WANTED_BYTES.to_string(), ahead.min(grows).to_string()));
    let mut missing = Vec::new();
    for spare in [Spare::Snapshot, Spare::Journal].map(FileName::Spare) {
        if !is_there(spare)? {
            missing.push(spare.to_string());
        }
    }
    let spares = if missing.is_empty() { "there".to_string() } else { format!("without {}", missing.join(" and ")) };
    said.push((SPARES.to_string(), spares));
    Ok(said)
}

/// The directory, or the nearest one above it that is there, without the right to read it.
fn nearest(data: &Path) -> io::Result<File> {
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    let mut place = data;
    loop {
        match (open(place), place.parent()) {
            (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => place = above,
            (opened, _) => return opened,
        }
    }
}

/// What the kernel holds of its clock.
pub fn clock() -> io::Result<Said> {
    let state = process::clock_state()?;
    let synchronised = if state.synchronised { "yes" } else { "no" };
    Ok(vec![
        (SYNCHRONISED.to_string(), synchronised.to_string()),
        (MOST_ERROR_US.to_string(), state.most_error_us.to_string()),
    ])
}

/// What the controller of a drive says of its health; only root may ask.
pub fn health(controller: &str) -> io::Result<Said> {
    let device = File::open(Path::new("/dev").join(controller))?;
    Ok(health_in(&process::nvme_health(&device)?))
}

/// Of the log page of health: NVM Express Base Specification, SMART / Health Information.
fn health_in(page: &[u8; process::HEALTH_BYTES]) -> Said {
    let errors = u128::from_le_bytes(*page[160..].first_chunk().expect("the page is longer"));
    [
        (WARNINGS, u128::from(page[0])),
        (SPARE, u128::from(page[3])),
        (SPARE_LEAST, u128::from(page[4])),
        (USED, u128::from(page[5])),
        (MEDIA_ERRORS, errors),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_health_is_read_where_the_specification_has_it() {
        let mut page = [0xee; process::HEALTH_BYTES];
        page[..6].copy_from_slice(&[0x10, 0x3a, 0x01, 97, 10, 104]);
        page[160..176].copy_from_slice(&300u128.to_le_bytes());
        let said: Vec<String> = health_in(&page).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(said, ["warnings 16", "spare 97", "spare_least 10", "used 104", "media_errors 300"]);
    }

    #[test]
    fn a_controller_that_is_none_is_not_asked() {
        assert_eq!(health("no-such-controller").expect_err("it is not there").kind(), io::ErrorKind::NotFound);
        // It takes no such command.
        health("null").expect_err("it is no controller");
    }
    use crate::log::superblock::{Directory, Superblock};
    use crate::tune::check::{self, Host, Profile, Status};
    use crate::tune::facts::Facts;
    use crate::tune::placement::place;
    use crate::tune::root::Root;
    use crate::tune::topology::Topology;

    const SEGMENT: u64 = 1 << 20;

    /// A home of two logs that may have `space` bytes and have four segments.
    fn home(name: &str, space: u64) -> std::path::PathBuf {
        let data = std::env::temp_dir().join(format!("penstock-space-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        for log in 0..2 {
            std::fs::create_dir_all(data.join(format!("log-{log:03}"))).expect("a directory");
            for index in 0..2 {
                let file = File::create(data.join(format!("log-{log:03}/segment-{index:06}"))).expect("a file");
                file.set_len(SEGMENT).expect("a size");
            }
        }
        std::fs::create_dir(data.join("catalog")).expect("a directory");
        let superblock = Superblock {
            directory: 1,
            epoch: 1,
            generation: 1,
            block: 4096,
            segment_size: SEGMENT,
            disk: space,
            directories: vec![Directory { id: 1, path: "/home".into(), space, given: 0 }],
            logs: vec![0, 0],
            iterator_key: [0; 16],
            next_ids: 0,
            region: "us-east-1".into(),
            account: "000000000000".into(),
            retention_hour: 3600,
            retention_wall: 0,
        };
        std::fs::write(data.join("superblock-0"), superblock.encode()).expect("written");
        data
    }

    fn said(data: &Path, name: &str) -> Option<String> {
        let said = space(data.to_str().expect("text")).expect("it is asked");
        said.into_iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    #[test]
    fn a_home_wants_what_its_logs_keep_ahead_until_they_have_grown() {
        for (space, wanted) in [(100 * SEGMENT, 4 * SEGMENT), (5 * SEGMENT, SEGMENT), (4 * SEGMENT, 0)] {
            let data = home("ahead", space);
            assert_eq!(said(&data, WANTED_BYTES), Some(wanted.to_string()), "{space}");
            assert!(said(&data, FREE_BYTES).is_some_and(|free| free.parse::<u64>().is_ok()));
            std::fs::remove_dir_all(&data).expect("removed");
        }
    }

    #[test]
    fn the_spares_of_the_catalog_are_looked_for() {
        let data = home("spares", 100 * SEGMENT);
        assert_eq!(said(&data, SPARES).as_deref(), Some("without catalog/snapshot.spare and catalog/journal.spare"));
        std::fs::write(data.join("catalog/snapshot.spare"), "0").expect("written");
        assert_eq!(said(&data, SPARES).as_deref(), Some("without catalog/journal.spare"));
        std::fs::write(data.join("catalog/journal.spare"), "0").expect("written");
        assert_eq!(said(&data, SPARES).as_deref(), Some("there"));
        std::fs::write(data.join("superblock-0"), "of something else").expect("written");
        assert!(space(data.to_str().expect("text")).expect_err("damaged").to_string().contains("superblocks"));
        std::fs::remove_dir_all(&data).expect("removed");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_what_the_one_above_has() {
        let above = std::env::temp_dir().join(format!("penstock-space-new-{}", std::process::id()));
        std::fs::create_dir_all(&above).expect("a directory");
        let data = above.join("not/yet");
        assert_eq!(said(&data, WANTED_BYTES), Some((512u64 << 20).to_string()));
        assert_eq!((said(&data, SPARES), data.exists()), (None, false));
        assert!(said(&data, FREE_BYTES).is_some());
        std::fs::remove_dir_all(&above).expect("removed");
    }

    /// The check takes these answers, and a refusal for what it is.
    #[test]
    fn the_check_of_the_space_takes_the_answer() {
        let topology = Topology::default();
        let placement = place(&topology, Profile::Latency);
        let status = |space: fn(&str) -> io::Result<Said>, data: &str| {
            let root = Root::host().with_facts(Facts { space, clock, health });
            let profile = Profile::Latency;
            let host = Host { root: &root, topology: &topology, placement: &placement, profile, data };
            let outcomes = check::run(&host);
            outcomes.into_iter().find(|outcome| outcome.check.id == "space").expect("there is one").status
        };
        let enough =
            |_: &str| Ok(vec![(FREE_BYTES.to_string(), "6".to_string()), (WANTED_BYTES.to_string(), "5".into())]);
        let short =
            |_: &str| Ok(vec![(FREE_BYTES.to_string(), "4".to_string()), (WANTED_BYTES.to_string(), "5".into())]);
        let refused = |_: &str| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!((status(enough, "/data"), status(short, "/data")), (Status::Ok, Status::Warn));
        assert_eq!((status(refused, "/data"), status(enough, "")), (Status::Unknown, Status::Unknown));
    }
}
