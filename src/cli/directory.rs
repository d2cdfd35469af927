//! The data directory: where it is, and that only one server has it.

use crate::io::process::is_root;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// Held for as long as the server has the directory; the kernel gives it up when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// Takes the directory for this process, or says which one has it.
pub fn lock(data: &Path) -> Result<Lock, String> {
    let path = data.join(LOCK);
    let failed = |error: std::io::Error| format!("{} cannot be locked: {error}", path.display());
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(format!(
                "{} is in use by process {}: one server has a data directory for itself; stop that one, or name another with --data",
                data.display(),
                pid.trim()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed)?;
    Ok(Lock(file))
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
