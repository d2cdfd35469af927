//! The data directory: where it is, and that only one server has it.

use crate::io::op::FileName;
use crate::io::process::is_root;
use crate::log::superblock::Superblock;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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

/// How many logs the directory has; 0: it is new, or cannot be read, which the start will tell.
pub fn logs(data: &Path) -> u32 {
    let copy = |number| std::fs::read(data.join(FileName::Superblock(number).to_string())).unwrap_or_default();
    Superblock::newest([&copy(0), &copy(1)]).map_or(0, |superblock| superblock.logs)
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
