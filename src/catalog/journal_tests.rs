//! The journal on a disk that fails at every operation.

use super::change::Change;
use super::decide_tests::random_change;
use super::entry::{Place, decode_snapshot, encode_changes, encode_snapshot};
use super::journal::{Catalog, Event, Settings};
use super::state::State;
use crate::io::buffers::Buffers;
use crate::io::clock::{Mono, Wall};
use crate::io::op::{Completion, Errno, FileName, Op, OpenHow, Spare};
use crate::log::LiveSegment;
use crate::log::memory_disk::{ENOSPC, MemoryDisk, Random, buffers};
use std::collections::VecDeque;

pub(super) const SETTINGS: Settings = Settings { owner: 2, block: 4096, directory: 0xd1ec, journal_bytes: 5 * 4096 };

/// A machine, its memory, and operations left before the power fails.
pub(super) struct Node {
    pub(super) catalog: Catalog,
    pub(super) buffers: Buffers,
    pub(super) ops: Vec<Op>,
    fuse: Option<u64>,
    /// Operations on spares left before one fails for want of room.
    denied: Option<u64>,
    seconds: u64,
    is_dead: bool,
}

impl Node {
    pub(super) fn start(is_new: bool, fuse: Option<u64>) -> Node {
        let (mut buffers, mut ops) = (buffers(), Vec::new());
        let mut catalog = Catalog::new(SETTINGS, &mut buffers).expect("a slot");
        catalog.recover(is_new, &mut buffers, &mut ops);
        Node { catalog, buffers, ops, fuse, denied: None, seconds: 0, is_dead: false }
    }

    pub(super) fn propose(&mut self, change: Change) -> u64 {
        self.catalog.propose(change, &mut self.buffers, &mut self.ops)
    }

    /// Lets as much time pass as lies between two tries.
    pub(super) fn look_for_room(&mut self) {
        for _ in 0..2 {
            self.catalog.look_for_room(Mono(self.seconds * 1_000_000_000), &mut self.buffers, &mut self.ops);
            self.seconds += 10;
        }
    }

    /// Whether there is no room for this operation, though the disk has some.
    fn is_denied(&mut self, op: &Op) -> bool {
        let is_spare = matches!(op.file(), Some(FileName::Spare(_) | FileName::SpareDraft(_)));
        let takes = matches!(
            op,
            Op::Open { how: OpenHow::Create { .. }, .. } | Op::WriteAt { .. } | Op::Fsync { .. } | Op::Rename { .. }
        );
        let becomes_journal = matches!(op, Op::Rename { to: FileName::Journal { .. }, .. });
        match &mut self.denied {
            Some(left) if is_spare && takes && !becomes_journal => {
                let is_denied = *left == 0;
                self.denied = left.checked_sub(1);
                is_denied
            }
            _ => false,
        }
    }

    /// Drives to the next event; `None` when all is done or the power failed.
    pub(super) fn event(&mut self, disk: &mut MemoryDisk, random: &mut Random) -> Option<Event> {
        loop {
            if let Some(event) = self.catalog.event() {
                return Some(event);
            }
            assert!(self.ops.len() <= 1, "one operation in flight");
            let op = self.ops.pop()?;
            if disk.fails(&op, &mut self.buffers, &mut self.fuse, random) {
                self.is_dead = true;
                return None;
            }
            let completion = match (self.is_denied(&op), op.token()) {
                (true, Some(token)) => Completion::Done { token, result: Err(ENOSPC) },
                _ => disk.run(&op, &mut self.buffers),
            };
            self.complete(completion);
        }
    }

    pub(super) fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Done { token, result } => {
                assert!(self.catalog.owns(token) && token.0 >> 56 == 2);
                self.catalog.on_done(token, result, &mut self.buffers, &mut self.ops);
            }
            Completion::Listed { token, result } => {
                self.catalog.on_listed(token, result, &mut self.buffers, &mut self.ops)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What was asked for over the lives of a directory.
#[derive(Default)]
pub(super) struct History {
    changes: Vec<Change>,
    pub(super) durable: usize,
    rotated: bool,
    has_recovered: bool,
    /// The operation on spares that has no room, in each life.
    pub(super) denied: Option<u64>,
    /// How often changes have waited for room.
    pub(super) waited: usize,
}

impl History {
    /// One life: recovers, checks, proposes until `proposals` are durable or the power fails. Whether it ended without a crash.
    pub(super) fn live(
        &mut self,
        disk: &mut MemoryDisk,
        fuse: Option<u64>,
        proposals: usize,
        random: &mut Random,
    ) -> bool {
        let mut node = Node::start(!self.has_recovered, fuse);
        match node.event(disk, random) {
            None => return false,
            Some(Event::Recovered { .. }) => {}
            Some(other) => panic!("{other:?}"),
        }
        (self.has_recovered, node.denied) = (true, self.denied);
        let found = node.catalog.state().applied as usize;
        assert!(
            (self.durable..=self.changes.len()).contains(&found),
            "{} durable, {found} found, {} proposed",
            self.durable,
            self.changes.len()
        );
        self.changes.truncate(found);
        self.durable = found;
        assert_eq!(node.catalog.state(), &replay(&self.changes));
        assert_eq!(node.catalog.ahead(), node.catalog.state());
        let end = found + proposals;
        while self.durable < end {
            for _ in 0..1 + random.below(3) {
                let now = Wall(1_700_000_000_000_000 + random.below(5_000_000));
                let change =
                    random_change(node.catalog.ahead(), random, now).unwrap_or(Change::RetentionClock { wall: now });
                self.changes.push(change.clone());
                assert_eq!(node.propose(change), self.changes.len() as u64);
            }
            loop {
                match node.event(disk, random) {
                    Some(Event::Durable(number, change)) => {
                        assert_eq!((number as usize, &change), (self.durable + 1, &self.changes[self.durable]));
                        self.durable += 1;
                        assert_eq!(node.catalog.state().applied, node.catalog.state().applied.max(number));
                    }
                    Some(Event::Room { .. }) => {}
                    Some(other) => panic!("{other:?}"),
                    None if node.catalog.is_idle() => break,
                    None if node.catalog.waits_for_room() && !node.is_dead => {
                        self.waited += 1;
                        disk.full = false;
                        node.look_for_room();
                    }
                    None => return false,
                }
            }
        }
        self.rotated |= disk.files().keys().any(|file| matches!(file, FileName::Snapshot { .. }));
        true
    }
}

fn replay(changes: &[Change]) -> State {
    let mut state = State::default();
    (1..).zip(changes).for_each(|(number, change)| state.apply(number, change));
    state
}

#[test]
fn a_crash_at_any_operation_loses_no_durable_change() {
    for at in 0..250 {
        for seed in 0..5 {
            let (mut disk, mut random) = (MemoryDisk::default(), Random(seed * 1000 + at));
            let mut history = History::default();
            history.live(&mut disk, Some(at), 20, &mut random);
            // During recovery too, then a whole life, then what is there.
            let again = random.below(80);
            history.live(&mut disk, Some(again), 20, &mut random);
            assert!(history.live(&mut disk, None, 12, &mut random));
            assert!(history.live(&mut disk, None, 0, &mut random));
        }
    }
}

#[test]
fn a_journal_that_is_full_becomes_a_snapshot_and_older_files_become_spares() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(7));
    let mut history = History::default();
    assert!(history.live(&mut disk, None, 60, &mut random));
    assert!(history.rotated);
    let files: Vec<FileName> = disk.files().into_keys().collect();
    let [
        FileName::Journal { number: journal },
        FileName::Snapshot { number: snapshot },
        FileName::Spare(Spare::Snapshot),
        FileName::Spare(Spare::Journal),
    ] = files[..]
    else {
        panic!("{files:?}")
    };
    assert_eq!(journal, snapshot);
    assert!(history.live(&mut disk, None, 0, &mut random));
}

/// A directory whose journal, behind a snapshot, holds some entries.
fn journal() -> (MemoryDisk, FileName, History) {
    for seed in 0..50 {
        let (mut disk, mut random, mut history) = (MemoryDisk::default(), Random(seed), History::default());
        assert!(history.live(&mut disk, None, 1, &mut random));
        let file = FileName::Journal { number: history.durable as u64 };
        assert!(history.live(&mut disk, None, 4, &mut random));
        // Random changes may be so large that there is another journal already.
        let is_there = |bytes: &Vec<u8>| bytes[4096..].iter().any(|byte| *byte != 0);
        if history.rotated && disk.files().get(&file).is_some_and(is_there) {
            return (disk, file, history);
        }
    }
    panic!("no history leaves a journal with entries behind its snapshot");
}

/// A node whose directory has its spares, and that has nothing to do.
pub(super) fn ready(disk: &mut MemoryDisk, random: &mut Random) -> Node {
    let mut history = History::default();
    assert!(history.live(disk, None, 1, random));
    let mut node = Node::start(false, None);
    assert!(matches!(node.event(disk, random), Some(Event::Recovered { torn: None })));
    node.look_for_room();
    assert_eq!(node.event(disk, random), None);
    assert!(node.catalog.is_idle());
    node
}

fn refusal(disk: &mut MemoryDisk) -> String {
    let before = disk.files();
    let mut node = Node::start(false, None);
    let Some(Event::Refused { why }) = node.event(disk, &mut Random(0)) else { panic!("refused") };
    assert!(node.ops.is_empty());
    assert_eq!(disk.files(), before, "nothing is touched on damage");
    why
}

#[test]
fn damage_before_the_last_entry_is_refused_by_name() {
    let (disk, file, _) = journal();
    let FileName::Journal { number } = file else { panic!("a journal") };
    for at in [0, 30, 61, 70] {
        let mut disk = disk.clone();
        disk.overwrite(file, |bytes| bytes[at] ^= 0x40);
        let why = refusal(&mut disk);
        let first = number + 1;
        assert!(why.contains(&format!("{file} at byte 0: the entry of change {first} is damaged")), "{why}");
    }
}

#[test]
fn a_broken_last_entry_is_cut_and_written_over() {
    let (mut disk, file, mut history) = journal();
    disk.overwrite(file, |bytes| {
        let last = bytes.chunks(4096).rposition(|block| block.iter().any(|byte| *byte != 0)).expect("not empty");
        bytes[last * 4096 + 65] ^= 1;
    });
    let mut node = Node::start(false, None);
    let event = node.event(&mut disk, &mut Random(0));
    assert_eq!(event, Some(Event::Recovered { torn: Some(file) }));
    let found = node.catalog.state().applied as usize;
    assert!(found < history.durable);
    history.durable = found;
    assert!(history.live(&mut disk, None, 5, &mut Random(9)));
    assert!(history.live(&mut disk, None, 0, &mut Random(9)));
}

#[test]
fn a_missing_or_damaged_file_is_refused_by_name() {
    let (mut disk, file, _) = journal();
    disk.remove(file);
    assert!(refusal(&mut disk).contains(&format!("{file} is missing")));

    let (mut disk, mut history) = (MemoryDisk::default(), History::default());
    assert!(history.live(&mut disk, None, 60, &mut Random(7)));
    let [journal, snapshot, ..] = disk.files().into_keys().collect::<Vec<_>>()[..] else { panic!("two files") };
    let mut damaged = disk.clone();
    damaged.overwrite(snapshot, |bytes| bytes[80] ^= 1);
    assert!(refusal(&mut damaged).contains(&format!("{snapshot} at byte 0: the checksum of its body is wrong")));
    let mut foreign = disk.clone();
    foreign.remove(snapshot);
    assert!(refusal(&mut foreign).contains(&format!("{snapshot} is missing")));
    disk.remove(journal);
    assert!(refusal(&mut disk).contains(&format!("{journal} is missing")));
}

#[test]
fn changes_larger_than_a_slot_or_a_journal_are_written_in_pieces() {
    let (mut disk, mut random, mut history) = (MemoryDisk::default(), Random(5), History::default());
    assert!(history.live(&mut disk, None, 2, &mut random));
    let mut node = Node::start(false, None);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { .. })));
    let live: Vec<LiveSegment> = (0..20_000).map(|incarnation| LiveSegment { incarnation, end: 4096 }).collect();
    let change = Change::LiveSegments { log: 0, live: live.clone(), resume: Vec::new() };
    node.propose(change.clone());
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Durable(..))));
    let mut node = Node::start(false, None);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
    assert_eq!(node.catalog.state().live[&0], live);
}

#[test]
fn a_write_error_is_final() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = ready(&mut disk, &mut random);
    let durable = node.catalog.state().applied;
    node.propose(Change::Logs { logs: 1 });
    node.propose(Change::Logs { logs: 2 });
    let Some(Op::WriteAt { file, token, .. }) = node.ops.pop() else { panic!("a write") };
    node.complete(Completion::Done { token, result: Err(Errno(5)) });
    let Some(Event::Failed { what, errno }) = node.catalog.event() else { panic!("failed") };
    assert_eq!((what, errno), (format!("writing catalog/journal-{durable:012}"), Errno(5)));
    assert_eq!(file, FileName::Journal { number: durable });
    node.propose(Change::Logs { logs: 3 });
    assert!(node.ops.is_empty(), "nothing is written behind a failure");
    assert_eq!((node.catalog.event(), node.catalog.state().applied), (None, durable));
}

#[test]
fn changes_that_wait_share_an_entry() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = ready(&mut disk, &mut random);
    let durable = node.catalog.state().applied;
    let change = |number| Change::RetentionClock { wall: Wall(number) };
    (1..=10).for_each(|number| assert_eq!(node.propose(change(number)), durable + number));
    let mut writes = VecDeque::new();
    while let Some(op) = node.ops.pop() {
        writes.push_back(matches!(op, Op::WriteAt { .. }));
        let completion = disk.run(&op, &mut node.buffers);
        node.complete(completion);
    }
    assert_eq!(writes, [true, true], "the first alone, the nine behind it together");
    assert_eq!(node.catalog.state().applied, durable + 10);
}

#[test]
fn a_snapshot_gives_the_state_back() {
    let place = Place { block: 4096, directory: 1, file: 40 };
    let (mut state, mut random) = (State::default(), Random(11));
    while state.applied < 40 {
        let now = Wall(1_700_000_000_000_000 + random.below(5_000_000));
        if let Some(change) = random_change(&state, &mut random, now) {
            state.apply(state.applied + 1, &change);
        }
    }
    let encoded = encode_snapshot(place, &state);
    assert_eq!(decode_snapshot(place, &encoded.bytes), Ok((state, encoded.crc)));
    let other = Place { directory: 2, ..place };
    assert!(decode_snapshot(other, &encoded.bytes).is_err_and(|damage| damage.why.contains("another data directory")));
}

#[test]
fn its_bytes_do_not_change() {
    let place = Place { block: 4096, directory: 0x0123_4567_89ab_cdef, file: 5 };
    let changes = vec![
        Change::Retention { stream: 3, hours: 48 },
        Change::LiveSegments {
            log: 1,
            live: vec![LiveSegment { incarnation: 7, end: 8192 }, LiveSegment { incarnation: 9, end: 0 }],
            resume: vec![],
        },
    ];
    let bytes = encode_changes(place, 0xaabb_ccdd, 6, &changes).bytes;
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("not all zero") + 1;
    let hex: String = bytes[..end].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_ENTRY);
}

const GOLDEN_ENTRY: &str = "70436174010100007c000000020000000600000000000000efcdab89674523010500000000000000ddccbbaa000000000000\
    00000000000041a1e7ae41048ef0070000000020000009000000000000000303000000300000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000701000000b9ffffff02000000c1ffffff000000\
    0000000000000000000000000000000000000000000000000000000000009cffffff02";
