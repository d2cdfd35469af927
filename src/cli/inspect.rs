//! `penstock inspect`: files of data directories, as a person can read them. It only reads.

use super::{directory, size};
use crate::io::op::FileName;
use crate::log::identity::Identity;
use crate::log::inspect::inspect_segment;
use crate::log::superblock::Superblock;
use clap::Subcommand;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Data directory, as of `serve`; again for each further one
    #[arg(long, value_name = "DIR", global = true)]
    data: Vec<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Prints the commits and frames of a segment, and its footer. The file may be in use: it is only read.
    Segment {
        /// As in DATA/log-000/segment-000000; with --data, log-000/segment-000000 is found in the directory that has it
        file: PathBuf,
        /// Commits only, without their frames
        #[arg(long)]
        commits: bool,
    },
    /// Prints which data directory is which, what lies in it, and what is missing.
    Directories,
}

pub fn run(args: Args) -> Result<(), String> {
    let mut out = Out(std::io::BufWriter::new(std::io::stdout().lock()));
    match args.what {
        What::Segment { file, commits } => {
            let file = find(file, &args.data);
            let mut open = File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            inspect_segment(&mut open, !commits, &mut out).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        What::Directories => {
            let written = out.0.write_all(directories(&args.data)?.as_bytes());
            written.map_err(|error| format!("standard output: {error}"))?;
        }
    }
    out.0.flush().map_err(|error| format!("standard output: {error}"))
}

/// A segment in the one of the directories that has it.
fn find(file: PathBuf, data: &[PathBuf]) -> PathBuf {
    data.iter().map(|directory| directory.join(&file)).find(|path| path.exists()).unwrap_or(file)
}

/// One line for each directory that was named, and one for each that the home knows and that was not.
fn directories(data: &[PathBuf]) -> Result<String, String> {
    let home = data.first().ok_or("name the data directories with --data, the home first")?;
    let superblock = directory::superblock(home)
        .ok_or_else(|| format!("{} has no superblock that this build can read: is it the home?", home.display()))?;
    let mut text = String::new();
    let mut found = vec![0];
    text += &format!("{}: {}\n", home.display(), share(&superblock, 0));
    for path in &data[1..] {
        let line = match further(&superblock, path) {
            Ok(number) => {
                found.push(number);
                share(&superblock, number)
            }
            Err(why) => why,
        };
        text += &format!("{}: {line}\n", path.display());
    }
    for (number, directory) in (0..).zip(&superblock.directories).filter(|(number, _)| !found.contains(number)) {
        text += &format!("not named: {}, last at {}\n", share(&superblock, number), directory.path);
    }
    Ok(text)
}

/// What lies in directory `number`.
fn share(superblock: &Superblock, number: u32) -> String {
    let logs = (0..).zip(&superblock.logs).filter(|(_, directory)| **directory == number);
    let logs: Vec<String> = logs.map(|(log, _): (u32, _)| log.to_string()).collect();
    let home = if number == 0 { " (the home)" } else { "" };
    let space = size::show(superblock.directories[number as usize].space);
    format!("directory {number}{home}; logs {}; {space}", logs.join(" "))
}

/// The number of a further directory, or what else it is.
fn further(superblock: &Superblock, path: &Path) -> Result<u32, String> {
    let file = path.join(FileName::Identity { given: 0 }.to_string());
    let bytes = std::fs::read(file).map_err(|error| format!("no identity ({error}): it belongs to nobody yet"))?;
    let identity = Identity::decode(&bytes).map_err(|why| format!("its identity cannot be used: {why}"))?;
    if identity.home != superblock.directory {
        let Identity { number, home_path, .. } = identity;
        return Err(format!("directory {number} of another penstock, whose home was {home_path} when it joined"));
    }
    let known = (0..).zip(&superblock.directories).find(|(_, directory)| directory.id == identity.id);
    known.map(|(number, _)| number).ok_or("its addition did not end: the home does not name it yet".to_string())
}

/// Text to a byte stream.
struct Out<W>(W);

impl<W: Write> fmt::Write for Out<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
