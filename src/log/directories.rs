//! Several data directories: which of those given to a start is which, and how space and logs spread over them.
//!
//! Each lies on a drive of its own. They are known by what they say of themselves (`identity.rs`), never by their path. Space is divided
//! by the room that each has. Logs spread evenly, each to a drive near its worker where there is a choice; a log stays where it was made.

use super::identity::{Found, Identity};
use super::superblock::{Directory, Superblock};

/// Data directories of one server: far above the drives of a machine.
pub const DIRECTORIES_MAX: usize = 64;
/// Least segments of a log.
pub const SEGMENTS_MIN: u64 = 8;
/// Least bytes of a segment that is not chosen by hand.
pub const SEGMENT_MIN: u64 = 64 << 20;

/// A data directory as the operator gave it to this start, and what is known of its drive. The first one is the home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// For messages, and to name it to a later start that misses it.
    pub path: String,
    /// Bytes that nobody uses on its file system; its part, where several directories share one.
    pub free: u64,
    /// Bytes of the files of its logs.
    pub used: u64,
    /// What its device writes without touching a neighbour, in bytes.
    pub block: u32,
    /// Whether commits are made durable by one flush for a group, instead of one by one (`RWF_DSYNC`).
    pub flush: bool,
    /// The NUMA node of its device, where the kernel tells it.
    pub node: Option<u32>,
    /// Random: its id if it becomes a further directory.
    pub id: u64,
    /// Logs are in it: without an identity or a superblock that fits, it is not taken for an empty one.
    pub has_logs: bool,
    /// A superblock is in it.
    pub has_superblock: bool,
}

impl Given {
    /// Bytes that its logs could have.
    fn room(&self) -> u64 {
        self.free.saturating_add(self.used)
    }
}

/// Who is who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// For each directory of the superblock, by its number: which of those given it is.
    pub listed: Vec<u8>,
    /// Those given that the superblock does not know yet.
    pub new: Vec<u8>,
}

/// Tells the directories of this start by what was found in them, or why the start must not go on; nothing has been changed then.
pub fn recognise(superblock: &Superblock, found: &[Found], given: &[Given]) -> Result<Recognised, String> {
    let home = &given[0].path;
    match &found[0] {
        Found::Nothing => {}
        Found::Unusable(why) => {
            return Err(format!(
                "{home} is no home: it has an identity, which cannot be used ({why}); name the home first"
            ));
        }
        Found::Identity(Identity { number, home_path, .. }) => {
            return Err(format!(
                "{home} is no home: it is directory {number} of the penstock whose home was {home_path} when it joined; name that home first, \
                 this one after it (--data HOME --data {home})"
            ));
        }
    }
    let mut listed: Vec<Option<u8>> = vec![None; superblock.directories.len()];
    let mut new = Vec::new();
    listed[0] = Some(0);
    for (at, (found, given)) in (0..).zip(found.iter().zip(given)).skip(1) {
        match known(superblock, found, given)? {
            None => new.push(at),
            Some(number) => {
                if let Some(twin) = listed[number].replace(at) {
                    return Err(twins(&superblock.directories[number], twin, at));
                }
            }
        }
    }
    let missing: Vec<String> = superblock
        .directories
        .iter()
        .zip(&listed)
        .enumerate()
        .filter(|(_, (_, given))| given.is_none())
        .map(|(number, (directory, _))| format!("directory {number} (last at {})", directory.path))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} of {home} is missing, and the records in it: nothing was changed; mount it and name it with --data, wherever it is now",
            missing.join(", ")
        ));
    }
    Ok(Recognised { listed: listed.into_iter().flatten().collect(), new })
}

/// The number of a further directory; `None`: it can be added.
fn known(superblock: &Superblock, found: &Found, given: &Given) -> Result<Option<usize>, String> {
    let path = &given.path;
    let identity = match found {
        Found::Unusable(why) => {
            return Err(format!(
                "{path}: its identity cannot be used ({why}): nothing was touched; restore the file `identity` from a copy"
            ));
        }
        Found::Nothing if given.has_logs || given.has_superblock => {
            return Err(format!(
                "{path} holds data of a penstock but no identity that says whose: nothing was touched; if it is a home, name it first or \
                 alone; to add a drive, name an empty directory"
            ));
        }
        Found::Nothing => return Ok(None),
        Found::Identity(identity) => identity,
    };
    if identity.home != superblock.directory {
        return Err(format!(
            "{path} belongs to another penstock: it is directory {} of the one whose home was {} when it joined; nothing was touched; start that \
             one with it, or name an empty directory",
            identity.number, identity.home_path
        ));
    }
    let number = superblock.directories.iter().position(|directory| directory.id == identity.id);
    match number {
        Some(number) if number as u32 == identity.number => Ok(Some(number)),
        Some(number) => Err(format!(
            "{path} calls itself directory {}, but the home has it as {number}: nothing was touched; restore the home from a copy",
            identity.number
        )),
        // An addition that did not end: the superblock has never named it, so nothing is in it.
        None if !given.has_logs => Ok(None),
        None => Err(format!(
            "{path} holds data of this home, but the home does not know it: the home is older than its directory; nothing was touched; \
             restore the newest copy of the home"
        )),
    }
}

fn twins(directory: &Directory, first: u8, second: u8) -> String {
    format!(
        "the --data numbers {} and {} are the same directory (last at {}), or one is a copy of the other: name the true one only",
        first + 1,
        second + 1,
        directory.path
    )
}

/// Enters the new directories into the superblock, with their space. Gives the identities to be written before it is.
pub fn add(superblock: &mut Superblock, recognised: &Recognised, given: &[Given]) -> Vec<(u8, Identity)> {
    for (directory, at) in superblock.directories.iter_mut().zip(&recognised.listed) {
        (directory.given, directory.path) = (*at, given[*at as usize].path.clone());
    }
    let mut identities = Vec::new();
    for at in &recognised.new {
        let Given { path, id, free, .. } = &given[*at as usize];
        let number = superblock.directories.len() as u32;
        let identity = Identity { home: superblock.directory, id: *id, number, home_path: given[0].path.clone() };
        identities.push((*at, identity));
        superblock.directories.push(Directory { id: *id, path: path.clone(), space: free / 2, given: *at });
    }
    identities
}

/// Settles what each directory may use. `asked`: bytes of all logs together. Where the operator asks for nothing, directories keep what
/// they have and a new one adds half of its free space; what is asked for is divided by the room of each, when it is another number than
/// before or there are new ones, so that equal starts divide alike. The error names the least.
pub fn settle_space(
    superblock: &mut Superblock,
    asked: Option<u64>,
    added: bool,
    given: &[Given],
) -> Result<(), String> {
    if let Some(disk) = asked.filter(|disk| added || *disk != superblock.disk) {
        let rooms: Vec<u64> = superblock.directories.iter().map(|d| given[d.given as usize].room()).collect();
        for (directory, space) in superblock.directories.iter_mut().zip(divide(disk, &rooms)) {
            directory.space = space;
        }
        superblock.disk = disk;
    } else if added {
        superblock.disk = superblock.directories.iter().map(|directory| directory.space).sum();
    }
    let wants = |number: u32| least_disk(superblock, number).map(|disk| (disk, number));
    match (0..superblock.directories.len() as u32).filter_map(wants).max() {
        Some((disk, number)) => Err(too_small(superblock, number, disk)),
        None => Ok(()),
    }
}

/// Bytes that the logs of directory `number` need.
fn least_space(superblock: &Superblock, number: u32) -> u64 {
    SEGMENTS_MIN * superblock.logs_in(number).max(1) as u64 * superblock.segment_size
}

/// MiB of all directories together that give directory `number` enough at its present part; `None`: it has enough.
fn least_disk(superblock: &Superblock, number: u32) -> Option<u64> {
    let space = superblock.directories[number as usize].space;
    let least = least_space(superblock, number);
    let disk = least as u128 * superblock.disk.max(1) as u128 / space.max(1) as u128;
    (space < least).then_some((disk >> 20) as u64 + 1)
}

fn too_small(superblock: &Superblock, number: u32, disk: u64) -> String {
    let Directory { space, path, .. } = &superblock.directories[number as usize];
    let part = match superblock.directories.len() {
        1 => "the log may use".to_string(),
        _ => format!("{path} would get"),
    };
    format!(
        "{part} {} MiB, but needs at least {} MiB: {} log(s) of {SEGMENTS_MIN} segments of {} MiB; give it more (--disk {disk}M)",
        space >> 20,
        least_space(superblock, number) >> 20,
        superblock.logs_in(number).max(1),
        superblock.segment_size >> 20
    )
}

/// `disk` bytes, divided by the room that each has; evenly where nothing has any.
pub fn divide(disk: u64, rooms: &[u64]) -> Vec<u64> {
    let all: u128 = rooms.iter().map(|room| *room as u128).sum();
    let part = |room: &u64| match all {
        0 => disk / rooms.len() as u64,
        all => (disk as u128 * *room as u128 / all) as u64,
    };
    rooms.iter().map(part).collect()
}

/// How many logs there should be: one for each worker at least, and as many on each drive as its part of the workers, one at least. Logs
/// that there are stay.
pub fn logs_wanted(logs: &[u32], directories: u32, workers: u32) -> u32 {
    let least = least_logs(directories, workers);
    let with = |number: u32| logs.iter().filter(|directory| **directory == number).count() as u32;
    let filled = (0..directories).map(|number| with(number).max(least)).sum::<u32>();
    filled.max(workers)
}

/// Logs that each directory should have.
fn least_logs(directories: u32, workers: u32) -> u32 {
    (workers / directories.max(1)).max(1)
}

/// Where the logs go that are wanted and not there: the directory of each, in the order of their numbers; fewer where there is no room.
/// `workers`: the NUMA node of each worker (log k belongs to worker k mod N); `nodes`: of each directory; `segments`: how many segments
/// each log holds. Logs of a directory share its space, so one more leaves each fewer files: none becomes fuller than three quarters.
pub fn spread(superblock: &Superblock, workers: &[Option<u32>], nodes: &[Option<u32>], segments: &[u32]) -> Vec<u32> {
    let directories = superblock.directories.len() as u32;
    let total = logs_wanted(&superblock.logs, directories, workers.len() as u32);
    let (least, most) = (least_logs(directories, workers.len() as u32), total.div_ceil(directories));
    let mut counts: Vec<u32> = (0..directories).map(|number| superblock.logs_in(number)).collect();
    let fullest = |number: u32| {
        let inside = superblock.logs.iter().zip(segments).filter(|(directory, _)| **directory == number);
        inside.map(|(_, segments)| *segments).max().unwrap_or(0)
    };
    let mut added = Vec::new();
    for log in superblock.log_count()..total {
        let near = workers[log as usize % workers.len()];
        let short: u32 = counts.iter().map(|count| least.saturating_sub(*count)).sum();
        let must_fill = total - log <= short;
        let fits = |number: &u32| {
            let files = superblock.files_with(*number, counts[*number as usize] + 1);
            files as u64 >= SEGMENTS_MIN && fullest(*number) as u64 * 4 <= files as u64 * 3
        };
        let rank = |number: &u32| {
            let count = counts[*number as usize];
            let is_near = near.is_some() && nodes[*number as usize] == near;
            (must_fill && count >= least, count >= most, !is_near, count, *number)
        };
        let Some(number) = (0..directories).filter(fits).min_by_key(rank) else { break };
        counts[number as usize] += 1;
        added.push(number);
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 64 << 20;

    fn superblock(spaces: &[u64], logs: &[u32]) -> Superblock {
        let directory = |(number, space): (usize, &u64)| Directory {
            id: 100 + number as u64,
            path: format!("/{number}"),
            space: space * SEGMENT,
            given: number as u8,
        };
        Superblock {
            directory: 7,
            epoch: 1,
            generation: 1,
            block: 4096,
            segment_size: SEGMENT,
            disk: spaces.iter().sum::<u64>() * SEGMENT,
            directories: spaces.iter().enumerate().map(directory).collect(),
            logs: logs.to_vec(),
            iterator_key: [0; 16],
            next_ids: 0,
            region: String::new(),
            account: String::new(),
            retention_hour: 3600,
            retention_wall: 0,
        }
    }

    fn given(count: usize) -> Vec<Given> {
        let one =
            |at| Given { path: format!("/given/{at}"), free: 64 * SEGMENT, id: 900 + at as u64, ..Given::default() };
        (0..count).map(one).collect()
    }

    fn identity(home: u64, id: u64, number: u32) -> Found {
        Found::Identity(Identity { home, id, number, home_path: "/old/home".into() })
    }

    #[test]
    fn directories_are_known_by_identity_in_any_order_and_strangers_are_added() {
        let sb = superblock(&[64; 3], &[0, 1, 2]);
        let found = [Found::Nothing, identity(7, 102, 2), Found::Nothing, identity(7, 101, 1)];
        let recognised = recognise(&sb, &found, &given(4)).expect("all are there");
        assert_eq!(recognised, Recognised { listed: vec![0, 3, 1], new: vec![2] });
        let mut sb = sb;
        let identities = add(&mut sb, &recognised, &given(4));
        assert_eq!(identities.len(), 1);
        assert_eq!((identities[0].0, identities[0].1.number, identities[0].1.id), (2, 3, 902));
        let at: Vec<_> = sb.directories.iter().map(|d| (d.path.as_str(), d.given)).collect();
        assert_eq!(at, [("/given/0", 0), ("/given/3", 3), ("/given/1", 1), ("/given/2", 2)]);
        // An addition that did not end is begun anew.
        let found = [Found::Nothing, identity(7, 555, 3), identity(7, 102, 2), identity(7, 101, 1)];
        let recognised = recognise(&superblock(&[64; 3], &[0, 1, 2]), &found, &given(4)).expect("all are there");
        assert_eq!(recognised.new, [1]);
    }

    #[test]
    fn what_is_missing_foreign_twice_damaged_or_no_home_is_refused_by_name() {
        let sb = superblock(&[64; 2], &[0, 1]);
        let refused = |found: &[Found], given: &[Given]| recognise(&sb, found, given).expect_err("it must not start");
        let mut two = given(2);
        let cases = [
            (refused(&[Found::Nothing], &given(1)), "directory 1 (last at /1) of /given/0 is missing"),
            (refused(&[Found::Nothing, identity(8, 101, 1)], &two), "/given/1 belongs to another penstock"),
            (refused(&[identity(7, 101, 1), Found::Nothing], &two), "/given/0 is no home"),
            (
                refused(&[Found::Nothing, Found::Unusable("torn".into())], &two),
                "/given/1: its identity cannot be used (torn)",
            ),
            (refused(&[Found::Nothing, identity(7, 101, 1), identity(7, 101, 1)], &given(3)), "numbers 2 and 3"),
            (refused(&[Found::Nothing, identity(7, 101, 2)], &two), "calls itself directory 2"),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said}");
        }
        two[1].has_logs = true;
        assert!(refused(&[Found::Nothing, Found::Nothing], &two).contains("no identity"));
        assert!(refused(&[Found::Nothing, identity(7, 555, 2)], &two).contains("older than its directory"));
        assert!(
            recognise(&sb, &[Found::Nothing, identity(7, 101, 1)], &two).is_ok(),
            "one that is known may hold logs"
        );
    }

    #[test]
    fn space_is_divided_by_room_and_kept_while_nothing_changes() {
        assert_eq!(divide(100, &[300, 100]), [75, 25]);
        assert_eq!(divide(100, &[0, 0]), [50, 50]);
        let mut two = given(2);
        (two[0].free, two[0].used) = (10 * SEGMENT, 110 * SEGMENT);
        two[1].free = 40 * SEGMENT;
        let mut sb = superblock(&[60, 20], &[0, 1]);
        let spaces = |sb: &Superblock| sb.directories.iter().map(|d| d.space / SEGMENT).collect::<Vec<_>>();
        settle_space(&mut sb, Some(80 * SEGMENT), false, &two).expect("as before");
        settle_space(&mut sb, None, false, &two).expect("as before");
        assert_eq!(spaces(&sb), [60, 20]);
        settle_space(&mut sb, Some(160 * SEGMENT), false, &two).expect("more");
        assert_eq!((spaces(&sb), sb.disk), (vec![120, 40], 160 * SEGMENT));
        // One that is added without a word brings half of what it has.
        let mut sb = superblock(&[60], &[0]);
        add(&mut sb, &Recognised { listed: vec![0], new: vec![1] }, &two);
        settle_space(&mut sb, None, true, &two).expect("enough");
        assert_eq!((spaces(&sb), sb.disk), (vec![60, 20], 80 * SEGMENT));
        let refused = settle_space(&mut sb, Some(16 * SEGMENT), false, &two).expect_err("4 segments are too few");
        assert!(refused.contains("/given/1 would get 256 MiB, but needs at least 512 MiB"), "{refused}");
        assert!(refused.contains("--disk 2049M"), "{refused}");
        settle_space(&mut sb, Some(2049 << 20), false, &two).expect("what it said is enough");
        // What is told is enough for all, not only for the first.
        let mut sb = superblock(&[60, 20, 30], &[0, 1, 2]);
        let mut three = given(3);
        three.iter_mut().zip([50, 10, 20]).for_each(|(given, room)| given.free = room * SEGMENT);
        let refused = settle_space(&mut sb, Some(7 * SEGMENT), false, &three).expect_err("none has enough");
        assert!(refused.contains("/1 would get 56 MiB") && refused.contains("--disk 4097M"), "{refused}");
    }

    #[test]
    fn logs_spread_evenly_and_near_their_workers() {
        let of = |logs: &[u32], directories: usize, workers: &[Option<u32>], nodes: &[Option<u32>]| {
            let sb = superblock(&vec![640; directories], logs);
            spread(&sb, workers, nodes, &vec![1; logs.len()])
        };
        let blind = |n: usize| vec![None; n];
        assert_eq!(of(&[], 1, &blind(3), &blind(1)), [0, 0, 0]);
        assert_eq!(of(&[], 2, &blind(4), &blind(2)), [0, 1, 0, 1]);
        assert_eq!(of(&[], 3, &blind(1), &blind(3)), [0, 1, 2], "every drive has a log, also with few workers");
        // Workers 0 and 3 are on node 1, 1 and 2 on node 0.
        let workers = [Some(1), Some(0), Some(0), Some(1)];
        assert_eq!(of(&[], 2, &workers, &[Some(0), Some(1)]), [1, 0, 0, 1]);
        // All on one node: no drive is left idle for that.
        assert_eq!(of(&[], 2, &[Some(0); 4], &[Some(0), Some(1)]), [0, 0, 1, 1]);
        assert_eq!(of(&[], 3, &[Some(0); 3], &[Some(0), Some(0), Some(1)]), [0, 1, 2]);
        // A drive that is added gets its part of the workers, though none is new.
        assert_eq!(of(&[0, 0, 0, 0], 2, &blind(4), &blind(2)), [1, 1]);
        assert_eq!(of(&[0], 2, &blind(1), &blind(2)), [1]);
        assert_eq!(of(&[0, 1], 2, &blind(5), &blind(2)), [0, 1, 0]);
        assert!(of(&[0, 1], 2, &blind(2), &blind(2)).is_empty());
    }

    #[test]
    fn logs_with_records_are_not_made_smaller_than_they_can_bear() {
        let blind = [None; 4];
        // 32 files: with four logs 8 each, of which 6 may be in use; the drive beside it takes what this one cannot.
        let fits = |segments: &[u32]| spread(&superblock(&[32, 640], &[0, 0, 1, 1]), &[None; 7], &blind, segments);
        assert_eq!(fits(&[6, 2, 1, 1]), [0, 1, 0]);
        assert_eq!(fits(&[9, 2, 1, 1]), [1, 1, 1]);
        assert_eq!(spread(&superblock(&[32], &[0, 0]), &[None; 3], &blind, &[9, 2]), [0u32; 0]);
        assert_eq!(spread(&superblock(&[23], &[0, 0]), &[None; 3], &blind, &[1, 1]), [0u32; 0], "7 files are too few");
    }
}
