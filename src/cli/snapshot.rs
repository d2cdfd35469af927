//! `penstock snapshot`: has the running server take one under its own data directory, then takes it away: by a rename, or to another file
//! system by a copy.

use super::admin::Server;
use super::{directory, size};
use crate::io::link::{duplicate, remove_tree};
use crate::io::op::{DirName, FileName, Piece};
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The snapshot: a new directory. On the file system of the data it takes hardly any space at first
    dir: PathBuf,
    /// Data directory of the running server [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), String> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => directory::default()?,
    };
    must_be_new(&args.dir, "the snapshot")?;
    let server = Server::of(&data)?;
    let answer = server.snapshot()?;
    let capture = data.join(DirName::Capture.to_string());
    let moved = take_away(&capture, &args.dir).map_err(|error| {
        format!(
            "the snapshot was taken, but cannot be moved from {} to {}: {error}; move it by hand, or ask for another one",
            capture.display(),
            args.dir.display()
        )
    })?;
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let shared = match (moved, number("reflinks"), number("links")) {
        (Moved::Copied, ..) => "copied to another file system",
        (_, reflinks, _) if reflinks > 0 => "shared with the server's (reflinks) until those are recycled",
        (_, _, links) if links > 0 => "shared with the server's (hard links) until those are replaced",
        _ => "copied",
    };
    let (segments, bytes) = (number("segments"), size::show(number("bytes")));
    println!("snapshot in {}: {segments} segments, {bytes} of commits; {shared}", args.dir.display());
    println!("penstock restore {} DATA makes a data directory from it", args.dir.display());
    Ok(())
}

/// Refuses a directory in which something is.
pub fn must_be_new(dir: &Path, what: &str) -> Result<(), String> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!("{} is not empty: {what} is made in a new directory", dir.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{}: {error}", dir.display())),
    }
}

enum Moved {
    Renamed,
    Copied,
}

fn take_away(capture: &Path, dir: &Path) -> io::Result<Moved> {
    match std::fs::rename(capture, dir) {
        Ok(()) => {
            sync_parent(dir)?;
            sync_parent(capture)?;
            Ok(Moved::Renamed)
        }
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            copy_tree(capture, dir)?;
            remove_tree(capture)?;
            Ok(Moved::Copied)
        }
        Err(error) => Err(error),
    }
}

/// Copies a snapshot, its manifest last; durable when it returns.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let manifest = FileName::Captured(Piece::Manifest).to_string();
    let manifest = Path::new(&manifest).file_name().expect("a name of ours");
    make_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            make_dir(&target)?;
            for file in std::fs::read_dir(entry.path())? {
                let file = file?;
                duplicate(&file.path(), &target.join(file.file_name()))?;
            }
            File::open(&target)?.sync_all()?;
        } else if entry.file_name() != manifest {
            duplicate(&entry.path(), &target)?;
        }
    }
    File::open(to)?.sync_all()?;
    duplicate(&from.join(manifest), &to.join(manifest))?;
    File::open(to)?.sync_all()?;
    sync_parent(to)
}

/// Makes a directory of data, if it is not there.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes the entry of `path` durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}
