//! `penstock inspect`: files of a data directory, as a person can read them.

use crate::log::inspect::inspect_segment;
use clap::Subcommand;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Prints the commits and frames of a segment, and its footer. The file may be in use: it is only read.
    Segment {
        /// As in DATA/log-000/segment-000000
        file: PathBuf,
        /// Commits only, without their frames
        #[arg(long)]
        commits: bool,
    },
}

pub fn run(args: Args) -> Result<(), String> {
    let What::Segment { file, commits } = args.what;
    let mut open = File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut out = Out(std::io::BufWriter::new(std::io::stdout().lock()));
    inspect_segment(&mut open, !commits, &mut out).map_err(|error| format!("{}: {error}", file.display()))?;
    out.0.flush().map_err(|error| format!("standard output: {error}"))
}

/// Text to a byte stream.
struct Out<W>(W);

impl<W: Write> fmt::Write for Out<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
