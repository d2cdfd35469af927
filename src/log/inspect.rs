//! Prints the commits and frames of a segment file, for a person: `penstock inspect segment`.
//!
//! It believes nothing: what is not right is said, and the next block tried. Blocking, over any source of bytes; the directory's secret
//! number is taken from the first whole commit, as the file is all there is.

use super::footer::read_footer;
use super::format::{CommitHeader, Damage, FrameHeader, HEADER, Trailer, header_at};
use std::fmt::{self, Write};
use std::io::{self, Read, Seek, SeekFrom};

/// The smallest block: places where a commit may begin.
const BLOCK: u64 = 4096;
/// Larger than any commit that a server writes.
const COMMIT_MAX: u32 = 64 << 20;

/// Prints what is in `file` to `out`; `frames`: each frame too, not only commits.
pub fn inspect_segment(file: &mut (impl Read + Seek), frames: bool, out: &mut impl Write) -> io::Result<()> {
    let said = |result: fmt::Result| result.map_err(|_| io::Error::other("the output takes no more"));
    let size = file.seek(SeekFrom::End(0))?;
    let mut found = Totals::default();
    let mut directory = None;
    let mut at = 0;
    while at + BLOCK <= size {
        match read_commit(file, at, size, directory)? {
            Some(commit) => {
                let header =
                    CommitHeader::peek(header_at(&commit, 0).expect("a commit has a header")).expect("peeked before");
                let continued = found.count(&header);
                let whole = CommitHeader::decode(&commit).is_ok();
                // One that is damaged may name any.
                directory = directory.or(whole.then_some(header.directory));
                said(print_commit(out, at, &commit, &header, continued, frames))?;
                found.damaged += !whole as u64;
                at += if whole { header.bytes as u64 } else { BLOCK };
            }
            None => at += BLOCK,
        }
    }
    said(writeln!(out, "{found}"))?;
    said(print_footer(out, file, size)?)
}

#[derive(Default)]
struct Totals {
    commits: u64,
    frames: u64,
    bytes: u64,
    damaged: u64,
    /// Position behind the last commit, and its incarnation and epoch.
    last: Option<(u64, u32, u32)>,
}

impl Totals {
    /// Whether the commit goes on where the one before it ended.
    fn count(&mut self, header: &CommitHeader) -> bool {
        let continued = self.last.is_none_or(|(end, incarnation, epoch)| {
            end == header.position.0 && incarnation == header.incarnation && epoch <= header.epoch
        });
        self.commits += 1;
        self.frames += header.frames as u64;
        self.bytes += header.bytes as u64;
        self.last = Some((header.end().0, header.incarnation, header.epoch));
        continued
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { commits, frames, bytes, damaged, .. } = self;
        write!(f, "{commits} commits, {frames} frames, {bytes} bytes, {damaged} commits damaged")
    }
}

/// The bytes of what claims to be a commit at byte `at`.
fn read_commit(
    file: &mut (impl Read + Seek),
    at: u64,
    size: u64,
    directory: Option<u64>,
) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEADER];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut head)?;
    let Ok(header) = CommitHeader::peek(&head) else { return Ok(None) };
    let blocks = header.bytes > 0 && (header.bytes as u64).is_multiple_of(BLOCK);
    let sized = blocks && header.bytes <= COMMIT_MAX && at + header.bytes as u64 <= size;
    if !sized || directory.is_some_and(|directory| directory != header.directory) {
        return Ok(None);
    }
    let mut commit = vec![0; header.bytes as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut commit)?;
    Ok(Some(commit))
}

fn print_commit(
    out: &mut impl Write,
    at: u64,
    commit: &[u8],
    header: &CommitHeader,
    continued: bool,
    frames: bool,
) -> fmt::Result {
    let kind = format!("{:?}", header.kind).to_lowercase();
    write!(
        out,
        "{at:#010x} {kind:<8} {:>8} bytes  incarnation {}  epoch {}  durable {:#x}  previous {:08x}  {} frames",
        header.bytes, header.incarnation, header.epoch, header.durable.0, header.previous, header.frames
    )?;
    match CommitHeader::decode(commit) {
        Ok(_) if continued => writeln!(out)?,
        Ok(_) => writeln!(out, "  (does not follow the one before)")?,
        Err(damage) => writeln!(out, "  DAMAGED: {damage}")?,
    }
    if !frames {
        return Ok(());
    }
    for frame in header.frames(commit) {
        match frame {
            Ok((place, frame)) => print_frame(out, at + place as u64, &frame, &commit[place + HEADER..])?,
            Err(damage) => return writeln!(out, "             frame DAMAGED: {damage}"),
        }
    }
    Ok(())
}

fn print_frame(out: &mut impl Write, at: u64, frame: &FrameHeader, rest: &[u8]) -> fmt::Result {
    let kind = format!("{:?}", frame.kind).to_lowercase();
    write!(
        out,
        "  {at:#010x} {kind:<8} stream {} shard {}  records {}..{}  arrival {} µs  body {} bytes",
        frame.shard.stream(),
        frame.shard.shard(),
        frame.sequence,
        frame.next(),
        frame.arrival,
        frame.body
    )?;
    match rest.get(..frame.body as usize).ok_or(Damage::Short { what: "body" }).and_then(|body| frame.check_body(body))
    {
        Ok(()) => writeln!(out),
        Err(damage) => writeln!(out, "  DAMAGED: {damage}"),
    }
}

fn print_footer(out: &mut impl Write, file: &mut (impl Read + Seek), size: u64) -> io::Result<fmt::Result> {
    let mut tail = [0; HEADER];
    if size < HEADER as u64 {
        return Ok(writeln!(out, "no footer: the file is shorter than one"));
    }
    file.seek(SeekFrom::Start(size - HEADER as u64))?;
    file.read_exact(&mut tail)?;
    let trailer = match Trailer::decode(&tail) {
        Ok(trailer) if trailer.start.checked_add(trailer.length).is_some_and(|end| end <= size) => trailer,
        Ok(_) => return Ok(writeln!(out, "no footer: its trailer points outside of the file")),
        Err(_) => return Ok(writeln!(out, "no footer: the segment was not sealed")),
    };
    let mut bytes = vec![0; trailer.length as usize];
    file.seek(SeekFrom::Start(trailer.start))?;
    file.read_exact(&mut bytes)?;
    Ok(match read_footer(&bytes, &trailer) {
        Ok((summary, entries)) => writeln!(
            out,
            "footer of incarnation {}: {} extents, {} runs, commits end at {:#x}, {} bytes",
            summary.incarnation,
            entries.len(),
            summary.runs,
            summary.end,
            trailer.length
        ),
        Err(damage) => writeln!(out, "footer DAMAGED: {damage}"),
    })
}
