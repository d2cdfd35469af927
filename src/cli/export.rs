//! `penstock export`: the records of a stream as lines of JSON, from a snapshot or from the data directory of a stopped server, which is only
//! read. The catalog and the logs are recovered by the code that a server starts with, over files that nothing is written to; records come
//! from the reader that serves GetRecords. What had expired when the directory was last in use is left out, as it was for consumers.

use super::directory;
use crate::catalog::journal::{self, Catalog, JOURNAL_BYTES};
use crate::catalog::moving::Part;
use crate::catalog::state::{Shard, State, Stream};
use crate::io::buffers::{Buffers, Layouts, Pool, Span};
use crate::io::clock::Wall;
use crate::io::op::{Completion, FileName, Op, Ops};
use crate::io::still::Still;
use crate::kinesis::export_line::{size_max, write_line};
use crate::kinesis::sequence::SequenceNumber;
use crate::kinesis::shard_id::ShardId;
use crate::limits::Limits;
use crate::log::format::{FrameHeader, FrameKind, ShardKey, records};
use crate::log::reader::{Reader, Step};
use crate::log::superblock::Superblock;
use crate::log::{self, Canary, Log};
use crate::observe::counter::Counters;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// A snapshot, or the data directory of a server that is not running; of several, the home
    #[arg(value_name = "DIR", required_unless_present = "data")]
    dir: Option<PathBuf>,
    /// A data directory of that server, behind those named before: repeated, in any order behind the home
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// The stream's name
    #[arg(long, value_name = "NAME")]
    stream: String,
    /// Only this shard, as shardId-000000000000
    #[arg(long, value_name = "ID")]
    shard: Option<String>,
    /// Only records of the shard above this sequence number: goes on where an earlier export ended
    #[arg(long, value_name = "NUMBER", requires = "shard")]
    after: Option<String>,
    /// A new file to write to [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Memory: the journal's block, reads of the largest commit, and what recovery reads into.
fn layouts() -> Layouts {
    let limits = Limits::standard();
    let commit = (1, limits.commit_bytes);
    Layouts([
        (1, 4096),
        (1, 4096),
        (1, 4096),
        (1, 4096),
        commit,
        (1, 3 * limits.commit_bytes),
        (0, 4096),
        (1, limits.block.1),
        (0, 4096),
    ])
}

pub fn run(args: &Args) -> Result<(), String> {
    let named: Vec<PathBuf> = args.dir.iter().chain(&args.data).cloned().collect();
    let _locks = named.iter().map(|dir| directory::at_rest(dir)).collect::<Result<Vec<_>, _>>()?;
    let mut source = Source::open(&named)?;
    let state = source.catalog()?;
    let stream = state.stream(&args.stream).ok_or_else(|| {
        let names: Vec<&str> = state.streams.values().map(|stream| stream.name.as_str()).collect();
        format!("{} has no stream {:?}; it has: {}", named[0].display(), args.stream, names.join(", "))
    })?;
    let (shards, after) = chosen(args, stream)?;
    let wall = source.superblock.retention_wall.max(state.retention_wall.0);
    let hour = source.superblock.retention_hour as u64 * 1_000_000;
    let floor = wall.saturating_sub(stream.retention_hours as u64 * hour);
    let mut out = Out::to(args.output.as_deref())?;
    let mut logs = BTreeMap::new();
    for shard in &shards {
        // A shard that was moved has its older records on other logs.
        for part in shard.parts().filter(|part| part.last > after && part.arrival >= floor) {
            let log = match logs.entry(part.log) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(source.log(part.log, &state)?),
            };
            source.part(log, stream.number, shard, part, Behind { number: after, floor }, &mut out)?;
        }
    }
    out.finish()?;
    eprintln!("penstock: {} records of {} shards", out.records, shards.len());
    Ok(())
}

/// The shards asked for, and the number behind which to begin.
fn chosen<'s>(args: &Args, stream: &'s Stream) -> Result<(Vec<&'s Shard>, u64), String> {
    let Some(id) = &args.shard else { return Ok((stream.shards.values().collect(), 0)) };
    let shard = ShardId::parse(id).and_then(|id| stream.shards.get(&id.0));
    let shard = shard.ok_or_else(|| format!("--shard: stream {} has no shard {id}", stream.name))?;
    let Some(text) = &args.after else { return Ok((vec![shard], 0)) };
    match SequenceNumber::parse(text.as_bytes()) {
        Some(number) if number.shard == shard.number && number.created == shard.created => {
            Ok((vec![shard], number.number))
        }
        _ => Err(format!("--after: {text} is no sequence number of {id}")),
    }
}

/// What is wanted of a shard: records above `number` that arrived at or after `floor` (µs).
#[derive(Clone, Copy)]
struct Behind {
    number: u64,
    floor: u64,
}

/// What is read: a snapshot, or the directories of a server.
struct Source {
    /// The snapshot, or the home.
    dir: PathBuf,
    still: Still,
    buffers: Buffers,
    superblock: Superblock,
    /// Segments whose runs readers do without: each is told once.
    footers_told: BTreeSet<FileName>,
}

impl Source {
    /// `named`: the home or the snapshot first.
    fn open(named: &[PathBuf]) -> Result<Source, String> {
        let dir = &named[0];
        let superblock = directory::superblock(dir).ok_or_else(|| {
            format!(
                "{} is no data directory or snapshot of this build: it has no superblock that can be used",
                dir.display()
            )
        })?;
        let logs = superblock.logs.iter().map(|number| *number as usize).collect();
        let still = Still::new(directory::known(&superblock, named)?, logs);
        Ok(Source {
            dir: dir.clone(),
            still,
            buffers: Buffers::new(0, layouts()),
            superblock,
            footers_told: BTreeSet::new(),
        })
    }

    /// Carries out operations, and those that follow from them, until there are none.
    fn drive(&mut self, ops: &mut Ops, mut told: impl FnMut(Completion, &mut Buffers, &mut Ops)) {
        while !ops.is_empty() {
            for op in std::mem::take(ops) {
                if let Some(completion) = self.still.carry(&op, &mut self.buffers) {
                    told(completion, &mut self.buffers, ops);
                }
            }
        }
    }

    fn catalog(&mut self) -> Result<State, String> {
        let settings = journal::Settings {
            owner: 1,
            block: self.superblock.block,
            directory: self.superblock.directory,
            journal_bytes: JOURNAL_BYTES,
        };
        let mut catalog = Catalog::new(settings, &mut self.buffers).expect("its block is free");
        let mut ops = Ops::new();
        catalog.recover(self.superblock.epoch == 0, &mut self.buffers, &mut ops);
        self.drive(&mut ops, |completion, buffers, ops| match completion {
            Completion::Done { token, result } => catalog.on_done(token, result, buffers, ops),
            Completion::Listed { token, result } => catalog.on_listed(token, result, buffers, ops),
            _ => {}
        });
        match catalog.event() {
            Some(journal::Event::Recovered { .. }) => Ok(catalog.state().clone()),
            Some(journal::Event::Refused { why }) => Err(why),
            Some(journal::Event::Failed { what, errno }) => Err(format!("{}: {what}: {errno}", self.dir.display())),
            _ => Err(format!("{}: the catalog cannot be read", self.dir.display())),
        }
    }

    /// The log of this number, recovered.
    fn log(&mut self, number: u32, state: &State) -> Result<Log, String> {
        let settings = log::Settings {
            number,
            block: self.superblock.block,
            segment_size: self.superblock.segment_size,
            files: self.superblock.files_of(number),
            directory: self.superblock.directory,
            epoch: self.superblock.epoch,
            commit_max: Limits::standard().commit_bytes,
            in_flight: 1,
            flush: false,
            memory: self.buffers.whole(Pool::Log, 0),
            mirrored: false,
            tokens: 0,
            canary: Canary::default(),
        };
        let mut log = Log::new(settings, Counters::default());
        let mut ops = Ops::new();
        log.recover(state.live.get(&number).map_or(&[][..], Vec::as_slice), settings.memory, &mut ops);
        self.drive(&mut ops, |completion, buffers, ops| match completion {
            Completion::Done { token, result } => log.on_done(Default::default(), token, result, buffers, ops),
            Completion::Listed { token, result } => log.on_listed(token, result, ops),
            _ => {}
        });
        let mut recovered = false;
        while let Some(event) = log.event() {
            match event {
                log::Event::Recovered { .. } => recovered = true,
                log::Event::Unreadable { file, why } => {
                    let file = file.map_or(format!("log {number}"), |file| file.to_string());
                    return Err(format!("{}: {file}: {why}", self.dir.display()));
                }
                log::Event::Damaged { file, position, why } => {
                    eprintln!("penstock: DAMAGE in {file} at position {}: {why}", position.0);
                }
                log::Event::Missing { position } => {
                    eprintln!("penstock: DAMAGE: the segment of log {number} at position {} is missing", position.0);
                }
                _ => {}
            }
        }
        if recovered { Ok(log) } else { Err(format!("{}: log {number} cannot be read", self.dir.display())) }
    }

    /// Writes the records of a part of a shard.
    fn part(
        &mut self,
        log: &Log,
        stream: u32,
        shard: &Shard,
        part: Part,
        behind: Behind,
        out: &mut Out,
    ) -> Result<(), String> {
        let from = part.first.max(behind.number + 1);
        let mut reader = Reader::new(ShardKey::new(stream, shard.number), from);
        let into = self.buffers.whole(Pool::Large, 0);
        loop {
            match reader.next(log, &self.buffers) {
                Step::End => return Ok(()),
                Step::Frame { header, .. } if header.sequence > part.last => return Ok(()),
                Step::Frame { header, body, .. } => self.frame(shard, &header, body, behind, out)?,
                Step::PassedOver { file, position, why } => {
                    if self.footers_told.insert(file) {
                        eprintln!(
                            "penstock: {file}: the places of records at position {}: {why}; the segment is searched instead",
                            position.0
                        );
                    }
                }
                Step::Damaged { file, position, why } => {
                    eprintln!("penstock: DAMAGE in {file} at position {}: {why}", position.0);
                }
                Step::Read { file, at, len } => {
                    let read = Op::ReadAt { file, at, into: into.first(len), token: crate::io::op::Token(0) };
                    match self.still.carry(&read, &mut self.buffers) {
                        Some(Completion::Done { result: Ok(bytes), .. }) => reader.filled(into.first(len), bytes),
                        Some(Completion::Done { result: Err(errno), .. }) if reader.failed(errno) => {}
                        Some(Completion::Done { result: Err(errno), .. }) => {
                            let path = self.still.top(file.dir()).join(file.to_string());
                            return Err(format!("{}: {errno}", path.display()));
                        }
                        _ => unreachable!("a read is answered"),
                    }
                }
            }
        }
    }

    fn frame(
        &self,
        shard: &Shard,
        header: &FrameHeader,
        body: Span,
        behind: Behind,
        out: &mut Out,
    ) -> Result<(), String> {
        if header.kind != FrameKind::Batch {
            return Err(format!("records from {} on are encrypted, and the key is not here", header.sequence));
        }
        let found = records(self.buffers.bytes(body), header.count).map_err(|damage| damage.to_string())?;
        for record in found {
            let (number, arrival) =
                (header.sequence + record.ordinal as u64, header.arrival + record.arrival_delta as u64);
            if number > behind.number && arrival >= behind.floor {
                let at = arrival / 1_000_000;
                let number = SequenceNumber { created: shard.created, shard: shard.number, number, at };
                out.record(&number, Wall(arrival), record.key, record.data)?;
            }
        }
        Ok(())
    }
}

/// Where lines go.
struct Out {
    to: BufWriter<Box<dyn Write>>,
    /// What is flushed to the disk at the end.
    file: Option<File>,
    line: Vec<u8>,
    records: u64,
}

fn failed(error: io::Error) -> String {
    format!("the output cannot be written: {error}")
}

impl Out {
    fn to(path: Option<&Path>) -> Result<Out, String> {
        let file = path.map(|path| {
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            made.map_err(|error| format!("{}: {error}", path.display()))
        });
        let file = file.transpose()?;
        let to: Box<dyn Write> = match &file {
            Some(file) => Box::new(file.try_clone().map_err(failed)?),
            None => Box::new(io::stdout().lock()),
        };
        Ok(Out { to: BufWriter::with_capacity(1 << 20, to), file, line: Vec::new(), records: 0 })
    }

    fn record(
        &mut self,
        number: &SequenceNumber,
        arrival: Wall,
        key: Option<&[u8]>,
        data: &[u8],
    ) -> Result<(), String> {
        let room = size_max(key.map_or(0, <[u8]>::len), data.len());
        self.line.resize(self.line.len().max(room), 0);
        let len = write_line(&mut self.line, number, arrival, key, data);
        self.records += 1;
        self.to.write_all(&self.line[..len]).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), String> {
        self.to.flush().map_err(failed)?;
        self.file.as_ref().map_or(Ok(()), |file| file.sync_all().map_err(failed))
    }
}
