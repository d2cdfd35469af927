//! The data directories: where they are, that only one server has them, and what their drives are like.

use super::restore::MANIFEST;
use super::snapshot::part;
use crate::io::device::{self, Device};
use crate::io::op::FileName;
use crate::io::process::{is_root, random};
use crate::log::directories::{DIRECTORIES_MAX, Given, recognise};
use crate::log::identity::{Found, Identity};
use crate::log::superblock::Superblock;
use crate::tune::discover;
use crate::tune::root::Root;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const LOCK: &str = "lock";

/// The directory when none is named; never the current one, as another one would be an empty server that acknowledges.
pub fn default() -> Result<PathBuf, String> {
    choose(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()), is_root())
}

fn choose(variable: &dyn Fn(&str) -> Option<String>, root: bool) -> Result<PathBuf, String> {
    // systemd gives several, with colons between, to a unit that asks for several.
    if let Some(state) = variable("STATE_DIRECTORY") {
        return Ok(state.split(':').next().unwrap_or_default().into());
    }
    if root {
        return Ok("/var/lib/penstock".into());
    }
    let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state = variable("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    state
        .map(|state| state.join("penstock"))
        .ok_or_else(|| "no place for the data: HOME is not set; name one with --data".to_string())
}

/// Opens all that were named, the home first, or the default; each only once.
pub fn open_all(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    if named.len() > DIRECTORIES_MAX {
        return Err(format!("{} data directories are too many: {DIRECTORIES_MAX} are the most", named.len()));
    }
    let mut paths = named.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        paths.push(open(&default()?)?);
    }
    let place = |path: &PathBuf| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    for (at, path) in paths.iter().enumerate() {
        if let Some(twin) = paths[..at].iter().find(|other| place(other) == place(path)) {
            return Err(format!("--data names one directory twice: {} and {}", twin.display(), path.display()));
        }
    }
    Ok(paths)
}

/// Makes the directory if it is not there, and gives its absolute path.
pub fn open(data: &Path) -> Result<PathBuf, String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    let path = made.and_then(|()| data.canonicalize());
    path.map_err(|error| {
        format!("the data directory {} cannot be used: {error}; name another one with --data", data.display())
    })
}

/// How often, and how far apart, a lock is tried whose process is gone: 10 s in all.
const TRIES: u32 = 2_000;
const STEP: Duration = Duration::from_millis(5);

/// Takes the directory for this process, or says which one has it. The lock is the open file: the process holds it, and each of its rings
/// does. When a server is killed its rings outlive it by moments, with writes under way: while they hold the lock, a new server waits, so
/// that it recovers from a log that nobody writes to.
pub fn lock(data: &Path) -> Result<Arc<File>, String> {
    let path = data.join(LOCK);
    let failed = |error: std::io::Error| format!("{} cannot be locked: {error}", path.display());
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    let taken = "one server has a data directory for itself; stop that one, or name another with --data";
    wait_for(&mut file, data, taken)?;
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed)?;
    Ok(Arc::new(file))
}

/// Makes sure that no server has the directory, without writing into it, for as long as what it gives is kept. A snapshot has no lock.
pub fn at_rest(data: &Path) -> Result<Option<File>, String> {
    let Ok(mut file) = File::open(data.join(LOCK)) else { return Ok(None) };
    wait_for(&mut file, data, "export from a snapshot of it (penstock snapshot), or stop it")?;
    Ok(Some(file))
}

/// Locks the file, or says which process has it, and what to do. One that has ended is waited for.
fn wait_for(file: &mut File, data: &Path, remedy: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be locked: {error}", data.join(LOCK).display());
    let mut tries = 1;
    while let Err(error) = file.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(failed(error));
        }
        let pid = owner(file).map_err(failed)?;
        let alive = pid.is_empty() || Path::new("/proc").join(&pid).exists();
        if alive || tries == TRIES {
            let state = if alive { "" } else { ", which has ended but whose last writes have not" };
            return Err(format!("{} is in use by process {pid}{state}: {remedy}", data.display()));
        }
        tries += 1;
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// The newest superblock of a home; `None`: it is new, or cannot be read, which the start will tell.
pub fn superblock(home: &Path) -> Option<Superblock> {
    let copy = |number| std::fs::read(home.join(FileName::Superblock(number).to_string())).unwrap_or_default();
    Superblock::newest([&copy(0), &copy(1)])
}

/// The directories of a server that is at rest, by their numbers: `named` has the home first and the others in any order; or it is a
/// snapshot alone, which has what belongs to it in itself.
pub fn known(superblock: &Superblock, named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let (home, count) = (&named[0], superblock.directories.len());
    if named.len() == 1 && (1..count).any(|number| home.join(part(number)).exists()) {
        if !home.join(MANIFEST).exists() {
            let home = home.display();
            return Err(format!(
                "{home} is no snapshot: it has no {MANIFEST}, which is written when all else is there"
            ));
        }
        return Ok([home.clone()].into_iter().chain((1..count).map(|number| home.join(part(number)))).collect());
    }
    let (mut found, mut given) = (Vec::new(), Vec::new());
    for path in named {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let (has_logs, _) = logs_in(path).map_err(failed)?;
        found.push(identity(path).map_err(failed)?);
        let has_superblock = self::superblock(path).is_some();
        given.push(Given { path: path.display().to_string(), has_logs, has_superblock, ..Given::default() });
    }
    let recognised = recognise(superblock, &found, &given)?;
    match recognised.new.first() {
        Some(new) => Err(format!(
            "{} is no data directory of the server whose home is {}: nothing was read; leave it out",
            given[*new as usize].path,
            home.display()
        )),
        None => Ok(recognised.listed.iter().map(|at| named[*at as usize].clone()).collect()),
    }
}

/// What a directory says of itself; it is only read.
fn identity(path: &Path) -> std::io::Result<Found> {
    match std::fs::read(path.join(FileName::Identity { given: 0 }.to_string())) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        read => Ok(match Identity::decode(&read?) {
            Ok(identity) => Found::Identity(identity),
            Err(why) => Found::Unusable(why.to_string()),
        }),
    }
}

/// Looks at the directories and their devices.
pub fn survey(paths: &[PathBuf]) -> Result<Vec<(Device, Given)>, String> {
    let mut found = Vec::new();
    for path in paths {
        let failed = |error: std::io::Error| format!("the data directory {} cannot be used: {error}", path.display());
        let device = device::examine(path).map_err(failed)?;
        let (has_logs, used) = logs_in(path).map_err(failed)?;
        let bytes = random().map_err(|error| format!("no random bytes from the kernel: {error}"))?;
        let given = Given {
            path: path.display().to_string(),
            free: device.free,
            used,
            block: device.block,
            flush: device.flush,
            node: discover::node_of_device(&Root::host(), &device.number).and_then(|node| node.try_into().ok()),
            id: u64::from_le_bytes(bytes[..8].try_into().expect("8 of 32 bytes")).max(1),
            has_logs,
            has_superblock: [0, 1].iter().any(|copy| path.join(FileName::Superblock(*copy).to_string()).exists()),
        };
        found.push((device, given));
    }
    share_free(&mut found);
    Ok(found)
}

/// What several directories find free on one device is the same space, though each may have read another number: they share the least.
fn share_free(found: &mut [(Device, Given)]) {
    let seen: Vec<(String, u64)> = found.iter().map(|(device, given)| (device.number.clone(), given.free)).collect();
    for (device, given) in found {
        let same = seen.iter().filter(|(number, _)| *number == device.number);
        let least = same.clone().map(|(_, free)| *free).min().unwrap_or(given.free);
        given.free = least / same.count() as u64;
    }
}

/// Whether the directory has logs, and the bytes of their files.
pub fn logs_in(path: &Path) -> std::io::Result<(bool, u64)> {
    let (mut has_logs, mut used) = (false, 0);
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("log-") || !entry.file_type()?.is_dir() {
            continue;
        }
        has_logs = true;
        for file in std::fs::read_dir(entry.path())? {
            used += file?.metadata()?.len();
        }
    }
    Ok((has_logs, used))
}

/// The process that took the lock last, as it wrote itself down.
fn owner(file: &mut File) -> std::io::Result<String> {
    let mut pid = String::new();
    file.rewind()?;
    file.read_to_string(&mut pid)?;
    Ok(pid.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_data_follows_the_environment_and_never_the_current_directory() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
        };
        let chosen = |pairs, root| choose(&env(pairs), root).map(|path| path.display().to_string());
        assert_eq!(chosen(&[("STATE_DIRECTORY", "/a:/b"), ("HOME", "/h")], true).as_deref(), Ok("/a"));
        assert_eq!(chosen(&[("HOME", "/h")], true).as_deref(), Ok("/var/lib/penstock"));
        assert_eq!(chosen(&[("HOME", "/h")], false).as_deref(), Ok("/h/.local/state/penstock"));
        assert_eq!(chosen(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")], false).as_deref(), Ok("/x/penstock"));
        assert!(chosen(&[], false).is_err());
    }

    #[test]
    fn directories_of_one_device_share_what_is_free() {
        let scratch = std::env::temp_dir().join(format!("penstock-share-{}", std::process::id()));
        let device = device::examine(&open(&scratch).expect("a directory")).expect("direct I/O works here");
        let one = |number: &str, free| {
            (Device { number: number.into(), ..device.clone() }, Given { free, ..Given::default() })
        };
        let mut found = [one("8:1", 1_000), one("8:2", 700), one("8:1", 998)];
        share_free(&mut found);
        assert_eq!(found.map(|(_, given)| given.free), [499, 700, 499]);
        std::fs::remove_dir_all(&scratch).expect("removed");
    }

    #[test]
    fn a_second_server_is_refused_with_the_first_one_s_process() {
        let data = std::env::temp_dir().join(format!("penstock-lock-{}", std::process::id()));
        let data = open(&data).expect("a directory");
        let first = lock(&data).expect("nobody has it");
        let refused = lock(&data).expect_err("it is taken");
        assert!(refused.contains(&format!("process {}:", std::process::id())), "{refused}");
        drop(first);
        lock(&data).expect("it is free again");
        std::fs::remove_dir_all(&data).expect("removed");
    }
}
