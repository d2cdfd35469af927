//! `penstock restore`: data directories from a snapshot, as many as its server had. Everything is verified before it is copied, and the superblock comes last, so that a
//! home that was not restored to its end is none. No file is shared with the snapshot, but for extents that the file system unshares
//! when one of the two is written.

use super::snapshot::{make_dir, must_be_new, part, sync_parent};
use super::{directory, size};
use crate::io::clock::Wall;
use crate::io::link::duplicate;
use crate::io::op::{DirName, FileName, Linked};
use crate::io::process::timestamp;
use crate::io::scrub;
use crate::log::identity::Identity;
use crate::log::manifest::{BYTES_MAX, Manifest, Part, Small};
use crate::log::superblock::Superblock;
use crate::log::verify::Verifier;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Of a catalog's snapshot, or any other small file.
const SMALL_BYTES_MAX: u64 = 1 << 30;
/// Name of a snapshot's manifest.
pub const MANIFEST: &str = "manifest";
/// Bytes read at once.
const READ_BYTES: u32 = 8 << 20;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// A directory that penstock snapshot has made; it is only read
    snapshot: PathBuf,
    /// The data directory to make, which becomes the home where there are several
    #[arg(value_name = "DATA", required_unless_present = "data")]
    home: Option<PathBuf>,
    /// A data directory to make, behind those named before: repeated, as many as the server had, one on each drive
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Copies damaged segments too; the server then tells what is lost, and serves the rest
    #[arg(long)]
    accept_damage: bool,
}

pub fn run(args: &Args) -> Result<(), String> {
    let snapshot = Snapshot::open(&args.snapshot)?;
    let named: Vec<PathBuf> = args.home.iter().chain(&args.data).cloned().collect();
    as_many_as(&snapshot, &named)?;
    named.iter().try_for_each(|data| must_be_new(data, "a data directory"))?;
    let data = directory::open_all(&named)?;
    // Until they are whole, no server starts on them.
    let _locks = data.iter().map(|data| directory::lock(data)).collect::<Result<Vec<_>, _>>()?;
    let told = restore(&snapshot, &data, args.accept_damage);
    let copied = told.inspect_err(|_| data.iter().for_each(|data| discard(data)))?;
    let flags: Vec<String> = data.iter().map(|data| format!("--data {}", data.display())).collect();
    println!(
        "{} {} restored from the snapshot of {}: {} segments, {} of commits, {} {copied}",
        data.iter().map(|data| data.display().to_string()).collect::<Vec<_>>().join(", "),
        if data.len() == 1 { "is" } else { "are" },
        timestamp(Wall(snapshot.manifest.taken)),
        snapshot.manifest.segments.len(),
        size::show(snapshot.manifest.segments.iter().map(|part| part.held.end as u64).sum()),
        if args.accept_damage { "damage accepted," } else { "all verified," },
    );
    println!("penstock serve {} goes on from there, with the same streams and sequence numbers", flags.join(" "));
    println!(
        "do not let clients of the server that it was taken from use both: each would give the same numbers to other records"
    );
    Ok(())
}

/// Refuses another number of data directories than the snapshot has.
fn as_many_as(snapshot: &Snapshot, named: &[PathBuf]) -> Result<(), String> {
    let directories = &snapshot.superblock.directories;
    if named.len() == directories.len() {
        return Ok(());
    }
    let paths: Vec<&str> = directories.iter().map(|directory| directory.path.as_str()).collect();
    Err(format!(
        "{} wants as many data directories as its server had, {} ({}), and {} named: name new ones, the home first (--data HOME --data SECOND); \
         nothing was made",
        snapshot.dir.display(),
        directories.len(),
        paths.join(", "),
        if named.len() == 1 { "1 is".to_string() } else { format!("{} are", named.len()) },
    ))
}

/// A snapshot whose small files are whole.
pub struct Snapshot {
    dir: PathBuf,
    pub manifest: Manifest,
    pub superblock: Superblock,
    /// Content of the small files, in the manifest's order.
    small: Vec<Vec<u8>>,
}

impl Snapshot {
    pub fn open(dir: &Path) -> Result<Snapshot, String> {
        let bytes = read(&dir.join(MANIFEST), BYTES_MAX).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                format!(
                    "{} is no snapshot: it has no {MANIFEST}, which is written when all else is there",
                    dir.display()
                )
            }
            _ => format!("{}: {error}", dir.join(MANIFEST).display()),
        })?;
        let manifest = Manifest::decode(&bytes)
            .map_err(|why| format!("{} cannot be used: {why}", dir.join(MANIFEST).display()))?;
        let small = manifest.files.iter().map(|file| read_small(dir, file)).collect::<Result<Vec<_>, _>>()?;
        let copy = |number| {
            let path = FileName::Superblock(number).to_string();
            let at = manifest.files.iter().position(|file| file.path == path);
            at.map_or(&[][..], |at| &small[at])
        };
        let superblock = Superblock::newest([copy(0), copy(1)]).ok_or_else(|| {
            format!("the superblock of {} is of another build: use the build that took the snapshot", dir.display())
        })?;
        Ok(Snapshot { dir: dir.to_path_buf(), manifest, superblock, small })
    }
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The content of a small file, as it was when the snapshot was taken.
fn read_small(dir: &Path, file: &Small) -> Result<Vec<u8>, String> {
    let path = dir.join(&file.path);
    let known = [DirName::Top, DirName::Catalog].into_iter().any(|place| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        FileName::parse(place, name).is_some_and(|name| name.to_string() == file.path)
    });
    if !known {
        return Err(format!(
            "{} names {:?}, which is no file of a data directory",
            dir.join(MANIFEST).display(),
            file.path
        ));
    }
    // A server that runs on a snapshot changes these files, and gives them other names.
    let bytes = match read(&path, SMALL_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.map_err(|error| format!("{}: {error}", path.display()))?),
    };
    match bytes.filter(|bytes| Small::of(file.path.clone(), bytes) == *file) {
        Some(bytes) => Ok(bytes),
        None => Err(format!(
            "{} is not what it was when the snapshot was taken: it is damaged or gone, or a server has run on it; use another snapshot",
            path.display()
        )),
    }
}

/// Where a snapshot has what lay in directory `number` of the server.
fn place_of(snapshot: &Path, number: usize) -> PathBuf {
    if number == 0 { snapshot.to_path_buf() } else { snapshot.join(part(number)) }
}

/// Makes the directories; gives how segments were copied.
fn restore(snapshot: &Snapshot, data: &[PathBuf], accept_damage: bool) -> Result<&'static str, String> {
    let mut copied = "copied";
    for (log, number) in (0..).zip(&snapshot.superblock.logs) {
        let (place, data) = (place_of(&snapshot.dir, *number as usize), &data[*number as usize]);
        let failed = |error: io::Error| format!("{} cannot be made: {error}", data.display());
        let dir = data.join(DirName::Log(log).to_string());
        make_dir(&dir).map_err(failed)?;
        for part in snapshot.manifest.segments.iter().filter(|part| part.log == log) {
            let name = FileName::Segment { log, index: part.held.file }.to_string();
            let from = place.join(&name);
            let verified = verify(&from, part, &snapshot.superblock);
            match verified {
                Err(why) if accept_damage => eprintln!("penstock: {why}"),
                verified => verified?,
            }
            if duplicate(&from, &data.join(&name)).map_err(|error| format!("copying {}: {error}", from.display()))?
                == Linked::Reflink
            {
                copied = "extents shared until they are written to";
            }
        }
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    identify(&snapshot.superblock, data)?;
    restore_home(snapshot, &data[0])?;
    Ok(copied)
}

/// Each further directory says whose it is; durable with its logs when this returns.
fn identify(superblock: &Superblock, data: &[PathBuf]) -> Result<(), String> {
    for (number, (directory, path)) in (0..).zip(superblock.directories.iter().zip(data)).skip(1) {
        let home_path = data[0].display().to_string();
        let identity = Identity { home: superblock.directory, id: directory.id, number, home_path };
        let file = path.join(FileName::Identity { given: number as u8 }.to_string());
        let made = write(&file, &identity.encode(superblock.block));
        let made = made.and_then(|()| File::open(path)?.sync_all()).and_then(|()| sync_parent(path));
        made.map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
    }
    Ok(())
}

/// The catalog, then the superblock, without which nothing is there.
fn restore_home(snapshot: &Snapshot, data: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be made: {error}", data.display());
    make_dir(&data.join(DirName::Catalog.to_string())).map_err(failed)?;
    let is_superblock = |file: &Small| !file.path.contains('/');
    for last in [false, true] {
        let files = snapshot.manifest.files.iter().zip(&snapshot.small);
        for (file, bytes) in files.filter(|(file, _)| is_superblock(file) == last) {
            write(&data.join(&file.path), bytes).map_err(failed)?;
        }
        let dir = if last { data.to_path_buf() } else { data.join(DirName::Catalog.to_string()) };
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        // Also the directories, before the superblock says that they are there.
        File::open(data).and_then(|data| data.sync_all()).map_err(failed)?;
    }
    sync_parent(data).map_err(failed)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a segment as a scrub does, from its first commit to its last, which must be the one that the manifest names.
fn verify(from: &Path, part: &Part, superblock: &Superblock) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", from.display());
    let mut file = File::open(from).map_err(failed)?;
    let (bytes, size) = (file.metadata().map_err(failed)?.len(), superblock.segment_size);
    if bytes != size {
        return Err(format!("{} is damaged: it has {bytes} bytes instead of {size}", from.display()));
    }
    let segment = scrub::Segment {
        log: part.log,
        index: part.held.file,
        incarnation: part.held.incarnation,
        directory: superblock.directory,
        block: superblock.block,
        size,
        end: part.held.end,
        // Derived from the commits: where it is damaged, a start does without.
        footer: false,
    };
    let mut verifier = Verifier::new(segment, READ_BYTES);
    let mut read = vec![0; READ_BYTES as usize];
    while let Some((at, len)) = verifier.wants() {
        let bytes = &mut read[..len as usize];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(bytes)).map_err(failed)?;
        verifier.read(bytes);
    }
    let last = verifier.last_crc();
    let (at, why) = match verifier.report().findings.into_iter().next() {
        Some(finding) => (finding.at, finding.why),
        None if last == Some(part.held.last_crc) => return Ok(()),
        None => (segment.end as u64, "its last commit is another one than when the snapshot was taken".to_owned()),
    };
    Err(format!(
        "{} is damaged at byte {at}: {why}; use another snapshot, or --accept-damage for what else is in this one",
        from.display()
    ))
}

/// Takes away what a restore that failed has made in a directory that was empty.
fn discard(data: &Path) {
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let path = entry.path();
        // What cannot be removed is told by the next attempt, which finds the directory not empty.
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}
