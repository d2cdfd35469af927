//! `penstock snapshot`: has the running server take one under its own data directories, then takes it away: by renames, or to another file
//! system by a copy. What was in further directories becomes `directory-1`, `directory-2`, ... of the snapshot; the manifest comes last.

use super::admin::Server;
use super::{directory, size};
use crate::io::link::{duplicate, remove_tree};
use crate::io::op::{DirName, FileName, Piece};
use crate::log::superblock::Directory;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The snapshot: a new directory. On the file system of the data it takes hardly any space at first
    dir: PathBuf,
    /// Data directory of the running server; of several, the first one (home) [default: as for serve]
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
    let capture = data.join(DirName::Capture(0).to_string());
    let unmoved = |why: String| {
        format!(
            "the snapshot was taken, but cannot be moved from {} to {}: {why}; remove what is there of it, and take another one",
            capture.display(),
            args.dir.display()
        )
    };
    let further = further(&capture).map_err(unmoved)?;
    let moved = take_away(&capture, &further, &args.dir).map_err(|error| unmoved(error.to_string()))?;
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let shared = match (moved, number("reflinks"), number("links")) {
        (Moved::Copied, ..) => "copied to another file system",
        (_, reflinks, _) if reflinks > 0 => "shared with the server's (reflinks) until those are recycled",
        (_, _, links) if links > 0 => "shared with the server's (hard links) until those are replaced",
        _ => "copied",
    };
    let (segments, bytes) = (number("segments"), size::show(number("bytes")));
    println!("snapshot in {}: {segments} segments, {bytes} of commits; {shared}", args.dir.display());
    match further.len() {
        0 => println!("penstock restore {} DATA makes a data directory from it", args.dir.display()),
        more => println!("penstock restore {} makes {} data directories from it", args.dir.display(), more + 1),
    }
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

/// Where a snapshot has what lay in directory `number` of the server; not for the home's, which is at its top.
pub fn part(number: usize) -> String {
    format!("directory-{number}")
}

/// What the server has staged outside of its home, by the numbers of its directories, from 1.
fn further(capture: &Path) -> Result<Vec<PathBuf>, String> {
    let superblock = directory::superblock(capture).ok_or("its superblock cannot be read")?;
    let staged = |at: &Directory| Path::new(&at.path).join(DirName::Capture(0).to_string());
    Ok(superblock.directories.iter().skip(1).map(staged).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Renamed,
    Copied,
}

fn take_away(capture: &Path, further: &[PathBuf], dir: &Path) -> io::Result<Moved> {
    if further.is_empty() {
        match std::fs::rename(capture, dir) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
            renamed => {
                renamed?;
                sync_parent(dir)?;
                sync_parent(capture)?;
                return Ok(Moved::Renamed);
            }
        }
    }
    make_dir(dir)?;
    let mut moved = Moved::Renamed;
    let mut note = |how| moved = if how == Moved::Copied { how } else { moved };
    for (number, staged) in (1..).zip(further) {
        note(move_entry(staged, &dir.join(part(number)))?);
    }
    // The home's, whose manifest says that all is there, when it is.
    let manifest = FileName::Captured(Piece::Manifest).to_string();
    let manifest = Path::new(&manifest).file_name().expect("a name of ours");
    for entry in std::fs::read_dir(capture)? {
        let name = entry?.file_name();
        if name != manifest {
            note(move_entry(&capture.join(&name), &dir.join(&name))?);
        }
    }
    File::open(dir)?.sync_all()?;
    note(move_entry(&capture.join(manifest), &dir.join(manifest))?);
    File::open(dir)?.sync_all()?;
    sync_parent(dir)?;
    for staged in further.iter().map(PathBuf::as_path).chain([capture]) {
        remove_tree(staged)?;
        sync_parent(staged)?;
    }
    Ok(moved)
}

/// Moves a file or a directory by a rename, or makes a durable copy of it on another file system; the entry of `to` is not durable yet.
fn move_entry(from: &Path, to: &Path) -> io::Result<Moved> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(Moved::Renamed),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            copy_tree(from, to)?;
            Ok(Moved::Copied)
        }
        Err(error) => Err(error),
    }
}

/// A copy of a file, or of a directory and all that is in it; durable but for the entry of `to`.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return duplicate(from, to).map(|_| ());
    }
    make_dir(to)?;
    // No deeper than a log in a part: names are the server's.
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_tree(&from.join(&name), &to.join(&name))?;
    }
    File::open(to)?.sync_all()
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
