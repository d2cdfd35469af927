//! Whether a segment is still what was written: every commit by [`examine`], as recovery looks at it, each chained to the one before
//! it; every body; then the footer, where there must be one. Of a segment that is being written what is durable is verified. Pure: says which
//! bytes it wants and is given them, so that companion and simulator share it.
//!
//! After damage it goes on at the next block that claims to be a commit of this place in this segment. What lies between is one finding.

use super::footer::{check_runs, footer_room, read_footer};
use super::format::{Damage, HEADER, Position, Trailer, header_at, round_up};
use super::scanner::{Found, Place, claims, examine};
use crate::io::op::Errno;
use crate::io::scrub::{Finding, Report, Segment};

/// Findings of a segment that are told one by one.
const FINDINGS_MAX: usize = 16;
/// Larger than any commit that a server writes: what claims to be larger is damaged, and not waited for.
const COMMIT_MAX: u32 = 64 << 20;
/// What a damaged footer means.
const DERIVED: &str = "no record is lost by it, readers and the next start do without";

/// One pass over one segment.
pub struct Verifier {
    segment: Segment,
    /// Most bytes of a read.
    chunk: u32,
    stage: Stage,
    /// What has been read and not been judged; it begins at byte `at` of the file.
    window: Vec<u8>,
    at: u64,
    /// CRC and epoch of the commit before; `None` where that is not known.
    previous: Option<(u32, u32)>,
    lost: Option<Lost>,
    report: Report,
}

#[derive(Clone, Copy)]
enum Stage {
    Commits,
    Trailer,
    Footer(Trailer),
    Over,
}

/// Damage whose end has not been met.
struct Lost {
    /// Byte of the file where it begins.
    from: u64,
    why: String,
}

impl Verifier {
    /// `chunk`: most bytes of a read, in whole blocks.
    pub fn new(segment: Segment, chunk: u32) -> Verifier {
        let chunk = round_up(chunk as u64, segment.block as u64) as u32;
        let (window, report) = (Vec::new(), Report::default());
        Verifier { segment, chunk, stage: Stage::Commits, window, at: 0, previous: None, lost: None, report }
    }

    /// The next bytes of the file to be read, in whole blocks: (first byte, count). `None`: all is verified.
    pub fn wants(&self) -> Option<(u64, u32)> {
        let at = self.at + self.window.len() as u64;
        let until = match self.stage {
            Stage::Commits => self.segment.end as u64,
            Stage::Trailer => self.segment.size,
            Stage::Footer(_) => self.segment.size,
            Stage::Over => return None,
        };
        Some((at, (until - at).min(self.chunk as u64) as u32))
    }

    /// The bytes that it wanted. Fewer: the file ends there.
    pub fn read(&mut self, bytes: &[u8]) {
        let Some((at, wanted)) = self.wants() else { return };
        if bytes.len() < wanted as usize {
            return self.skip(at, wanted, format!("the file ends at byte {}", at + bytes.len() as u64));
        }
        self.report.bytes += wanted as u64;
        self.window.extend_from_slice(&bytes[..wanted as usize]);
        self.go_on();
    }

    /// The bytes that it wanted cannot be read.
    pub fn unreadable(&mut self, errno: Errno) {
        let Some((at, wanted)) = self.wants() else { return };
        self.skip(at, wanted, format!("the device does not give back {wanted} bytes at {at}: {errno}"));
    }

    /// The file cannot be opened: nothing of it is verified.
    pub fn unopened(&mut self, errno: Errno) {
        self.find(0, self.segment.end as u64, format!("the file cannot be opened: {errno}"));
        self.stage = Stage::Over;
    }

    /// CRC of the newest commit that was judged; `None`: there was none, or it is damaged.
    pub fn last_crc(&self) -> Option<u32> {
        self.previous.map(|(crc, _)| crc)
    }

    /// What was found, when it wants no more.
    pub fn report(self) -> Report {
        self.report
    }

    fn skip(&mut self, at: u64, len: u32, why: String) {
        if !matches!(self.stage, Stage::Commits) {
            self.find(at, len as u64, format!("footer: {why}; {DERIVED}"));
            self.stage = Stage::Over;
            return;
        }
        self.lost.get_or_insert(Lost { from: self.at, why });
        (self.at, self.previous) = (at + len as u64, None);
        self.window.clear();
        self.go_on();
    }

    fn go_on(&mut self) {
        let window = std::mem::take(&mut self.window);
        let used = match self.stage {
            Stage::Commits => self.commits(&window),
            Stage::Trailer => self.trailer(&window),
            Stage::Footer(trailer) if self.at + window.len() as u64 >= self.segment.size => {
                self.footer(&window, &trailer)
            }
            Stage::Footer(_) | Stage::Over => 0,
        };
        self.window = window;
        self.window.drain(..used);
        // A large commit is rare: its memory is not kept.
        self.window.shrink_to(self.chunk as usize * 4);
        if matches!(self.stage, Stage::Commits) && self.at >= self.segment.end as u64 {
            self.end_gap(self.segment.end as u64);
            self.stage = if self.segment.footer { Stage::Trailer } else { Stage::Over };
            self.at = self.segment.size - self.segment.block as u64;
        }
    }

    /// Judges commits as far as the window goes; gives the bytes that are done with.
    fn commits(&mut self, window: &[u8]) -> usize {
        let mut used = 0;
        while used < window.len() {
            let rest = &window[used..];
            let step = match &self.lost {
                Some(_) => self.search(rest),
                None => match self.judge(rest) {
                    Some(step) => step,
                    None => break,
                },
            };
            used += step;
            self.at += step as u64;
        }
        used
    }

    /// What stands at the start of `rest`, where a commit must be; `None`: more of it is needed.
    fn judge(&mut self, rest: &[u8]) -> Option<usize> {
        let why = match examine(rest, &self.place(), true) {
            Found::Commit { header, crc } => {
                let follows = |(before, epoch)| before == header.previous && epoch <= header.epoch;
                if !self.previous.is_none_or(follows) {
                    self.find(self.at, header.bytes as u64, "it does not follow the commit before it".to_owned());
                }
                self.previous = Some((crc, header.epoch));
                return Some(header.bytes as usize);
            }
            Found::Needs(bytes) if bytes <= COMMIT_MAX => return None,
            Found::Needs(_) => Damage::Field { what: "size of a commit" }.to_string(),
            Found::Nothing(damage) => damage.to_string(),
        };
        (self.lost, self.previous) = (Some(Lost { from: self.at, why }), None);
        Some(self.segment.block as usize)
    }

    /// Looks for the end of the damage.
    fn search(&mut self, rest: &[u8]) -> usize {
        if claims(rest, &self.place()).is_none() {
            return self.segment.block as usize;
        }
        self.end_gap(self.at);
        0
    }

    /// The damage, if there is any, ends before byte `end`.
    fn end_gap(&mut self, end: u64) {
        if let Some(Lost { from, why }) = self.lost.take() {
            self.find(from, end - from, why);
        }
    }

    fn place(&self) -> Place {
        let Segment { log, incarnation, directory, block, size, end, .. } = self.segment;
        let position = Position(incarnation as u64 * size + self.at);
        Place { directory, log, incarnation, position, block, room: end - self.at as u32 }
    }

    fn trailer(&mut self, window: &[u8]) -> usize {
        self.stage = Stage::Over;
        let Segment { log, incarnation, directory, size, .. } = self.segment;
        let last = header_at(window, window.len() - HEADER).expect("a block was read");
        let why = match Trailer::decode(last) {
            Ok(trailer) if (trailer.directory, trailer.log, trailer.incarnation) == (directory, log, incarnation) => {
                let rest = trailer.start.checked_add(trailer.length).is_some_and(|end| end <= size - HEADER as u64);
                if rest && trailer.start >= self.footer_from() {
                    self.stage = Stage::Footer(trailer);
                    self.at = self.footer_from();
                    return window.len();
                }
                Damage::Field { what: "place of the footer" }.to_string()
            }
            Ok(_) => "the trailer of another segment stands here".to_owned(),
            Err(damage) => damage.to_string(),
        };
        self.find(size - HEADER as u64, HEADER as u64, format!("{why}; {DERIVED}"));
        window.len()
    }

    /// Byte of the file before which no part of a footer lies.
    fn footer_from(&self) -> u64 {
        self.segment.size - footer_room(self.segment.size, self.segment.block)
    }

    fn footer(&mut self, window: &[u8], trailer: &Trailer) -> usize {
        self.stage = Stage::Over;
        let base = self.footer_from();
        let from = (trailer.start - base) as usize;
        let read = window.get(from..from + trailer.length as usize).ok_or(Damage::Short { what: "footer" });
        let damage = match read.and_then(|bytes| read_footer(bytes, trailer)) {
            Ok((summary, _)) => {
                let sound = check_runs(window, &summary, self.segment.size) == Some(true);
                (!sound).then_some(Damage::Field { what: "table of runs" })
            }
            Err(damage) => Some(damage),
        };
        if let Some(damage) = damage {
            self.find(base, window.len() as u64, format!("{damage}; {DERIVED}"));
        }
        window.len()
    }

    fn find(&mut self, at: u64, bytes: u64, why: String) {
        match self.report.findings.len() < FINDINGS_MAX {
            true => self.report.findings.push(Finding { at, bytes, why }),
            false => self.report.untold += 1,
        }
    }
}
