//! The catalog on a file system that is full, fills up, or has room again.

use super::change::Change;
use super::decide_tests::random_change;
use super::entry::{Place, decode_journal, decode_snapshot, encode_changes, encode_snapshot};
use super::journal::Event;
use super::journal_tests::{History, Node, SETTINGS, ready};
use super::reserve::{Cover, need, shard_bytes, stream_bytes};
use super::state::{Resume, State, StreamMode};
use crate::io::clock::Wall;
use crate::io::op::{Completion, Errno, FileName, Op, OpenHow, Spare, Token};
use crate::log::LiveSegment;
use crate::log::format::ShardKey;
use crate::log::memory_disk::{MemoryDisk, Random};
use crate::tables::state::{Definition, Index, KeyPart, Projection, Scalar, TableChange};

const EIO: Errno = Errno(5);

fn create(number: u32, shards: u32) -> Change {
    Change::CreateStream {
        number,
        name: format!("stream-{number}"),
        created: Wall(1),
        mode: StreamMode::Provisioned,
        retention_hours: 24,
        max_record_kib: 1024,
        tags: [("key".to_string(), "value".to_string())].into(),
        shards,
        logs: vec![0, 1],
    }
}

/// What frees segments, as it comes again and again.
fn freed(number: u32) -> Change {
    let live = (0..40).map(|of| LiveSegment { incarnation: number + of, end: 4096 }).collect();
    Change::LiveSegments { log: number % 2, live, resume: Vec::new() }
}

/// Makes changes one after another: how many became durable, and what else was told.
fn make(node: &mut Node, disk: &mut MemoryDisk, changes: impl Iterator<Item = Change>) -> (usize, Vec<Event>) {
    let (mut durable, mut told) = (0, Vec::new());
    for change in changes {
        node.propose(change);
        while let Some(event) = node.event(disk, &mut Random(0)) {
            match event {
                Event::Durable(..) => durable += 1,
                other => told.push(other),
            }
        }
    }
    (durable, told)
}

/// Number of the journal in use.
fn journal(disk: &MemoryDisk) -> u64 {
    let numbers = disk.files().into_keys().filter_map(|file| match file {
        FileName::Journal { number } => Some(number),
        _ => None,
    });
    numbers.max().expect("there is a journal")
}

#[test]
fn a_crash_at_any_operation_where_room_comes_and_goes_loses_no_durable_change() {
    let mut waited = 0;
    for at in 0..250 {
        for seed in 0..4 {
            let (mut disk, mut random) = (MemoryDisk::default(), Random(seed * 1000 + at));
            let mut history = History::default();
            history.live(&mut disk, Some(at), 30, &mut random);
            // The very first start needs room.
            disk.full = history.durable > 0;
            let again = random.below(120);
            history.live(&mut disk, Some(again), 30, &mut random);
            disk.full = history.durable > 0 && random.coin();
            assert!(history.live(&mut disk, None, 30, &mut random));
            disk.full = random.coin();
            assert!(history.live(&mut disk, None, 0, &mut random));
            waited += history.waited;
        }
    }
    assert!(waited > 0, "changes have never waited for room");
}

#[test]
fn want_of_room_at_any_operation_on_a_spare_is_no_failure() {
    let mut waited = 0;
    for at in 0..120 {
        let (mut disk, mut random) = (MemoryDisk::default(), Random(at));
        let mut history = History::default();
        history.denied = Some(at);
        assert!(history.live(&mut disk, None, 40, &mut random));
        assert!(history.live(&mut disk, None, 10, &mut random));
        assert!(history.live(&mut disk, None, 0, &mut random));
        waited += history.waited;
    }
    assert!(waited > 0, "changes have never waited for room");
}

#[test]
fn with_its_spares_the_catalog_goes_on_in_a_full_file_system() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = ready(&mut disk, &mut random);
    make(&mut node, &mut disk, (0..10).map(freed));
    disk.full = true;
    let mut journals = vec![journal(&disk)];
    for number in 10..100 {
        assert_eq!(make(&mut node, &mut disk, std::iter::once(freed(number))), (1, Vec::new()));
        journals.push(journal(&disk));
    }
    journals.dedup();
    assert!(journals.len() > 10, "there were rotations: {journals:?}");
    assert!(matches!(Node::start(false, None).event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
}

#[test]
fn without_spares_changes_wait_for_room_and_go_on_by_themselves() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    drop(ready(&mut disk, &mut random));
    // As an earlier version left it.
    disk.remove(FileName::Spare(Spare::Snapshot));
    disk.remove(FileName::Spare(Spare::Journal));
    disk.full = true;
    let mut node = Node::start(false, None);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
    let (durable, told) = make(&mut node, &mut disk, (0..30).map(freed));
    assert!((3..10).contains(&durable), "{durable} fit into the journal");
    assert_eq!(told, [Event::Room { back: false }], "told once");
    assert!(node.catalog.waits_for_room());
    node.look_for_room();
    assert_eq!(node.event(&mut disk, &mut random), None, "still full");
    disk.full = false;
    node.look_for_room();
    let mut told = Vec::new();
    while let Some(event) = node.event(&mut disk, &mut random) {
        told.push(event);
    }
    let back = told.iter().filter(|event| **event == Event::Room { back: true }).count();
    assert_eq!((told.len() - back, back), (30 - durable, 1));
    assert!(node.catalog.is_idle() && !node.catalog.waits_for_room());
}

#[test]
fn what_is_covered_never_waits_for_room() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = ready(&mut disk, &mut random);
    make(&mut node, &mut disk, (0..10).map(freed));
    let tags = [("key".len(), "value".len())];
    let growth = stream_bytes("stream-9".len(), tags.into_iter()) + shard_bytes(500);
    let ask = |node: &mut Node| node.catalog.cover(growth, &mut node.buffers, &mut node.ops);
    disk.full = true;
    assert_eq!(ask(&mut node), Cover::Soon, "nobody knows yet");
    assert_eq!(node.event(&mut disk, &mut random), Some(Event::Room { back: false }));
    assert_eq!(ask(&mut node), Cover::Missing);
    // What takes nothing more goes on.
    assert_eq!(make(&mut node, &mut disk, (10..60).map(freed)), (50, Vec::new()));
    disk.full = false;
    node.look_for_room();
    assert_eq!(node.event(&mut disk, &mut random), Some(Event::Room { back: true }));
    assert_eq!(node.event(&mut disk, &mut random), None);
    assert_eq!(ask(&mut node), Cover::Given);
    disk.full = true;
    let next = node.catalog.ahead().next_stream;
    assert_eq!(make(&mut node, &mut disk, std::iter::once(create(next, 500))), (1, Vec::new()));
    let before = journal(&disk);
    assert_eq!(make(&mut node, &mut disk, (60..120).map(freed)), (60, Vec::new()));
    assert!(journal(&disk) > before + 20, "there were rotations");
}

#[test]
fn any_other_error_of_a_spare_is_final() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = Node::start(true, None);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { .. })));
    node.propose(Change::Logs { logs: 1 });
    let open = node.ops.pop().expect("a spare is made");
    assert!(matches!(open, Op::Open { file: FileName::SpareDraft(_), how: OpenHow::Create { .. }, .. }));
    let made = disk.run(&open, &mut node.buffers);
    node.complete(made);
    let Some(Op::WriteAt { token, .. }) = node.ops.pop() else { panic!("it is written") };
    node.complete(Completion::Done { token, result: Err(EIO) });
    assert!(matches!(node.catalog.event(), Some(Event::Failed { errno: EIO, .. })));
    assert!(node.ops.is_empty());
}

#[test]
fn an_empty_journal_that_is_too_small_is_replaced() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut history = History::default();
    assert!(history.live(&mut disk, None, 1, &mut random));
    // As a snapshot of the server has it.
    let file = FileName::Journal { number: journal(&disk) };
    disk.overwrite(file, |bytes| bytes.truncate(4096));
    let mut node = Node::start(false, None);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
    let live: Vec<LiveSegment> = (0..900).map(|incarnation| LiveSegment { incarnation, end: 0 }).collect();
    let change = Change::LiveSegments { log: 0, live: live.clone(), resume: Vec::new() };
    node.propose(change);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Durable(..))));
    assert!(disk.files()[&file].len() as u64 > SETTINGS.journal_bytes);
    let mut node = Node::start(false, None);
    assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
    assert_eq!(node.catalog.state().live[&0], live);
}

/// A directory without spares, as a crash may leave it between two rotations of an earlier version: older files are there.
fn with_older(random: &mut Random) -> MemoryDisk {
    let mut disk = MemoryDisk::default();
    let mut node = ready(&mut disk, random);
    let place = Place { block: 4096, directory: SETTINGS.directory, file: 0 };
    let (mut earlier, mut crc) = (Vec::new(), 0);
    for number in 1..=4 {
        let entry = encode_changes(place, crc, number, &vec![Change::Logs { logs: number as u32 }]);
        earlier.extend(entry.bytes);
        crc = entry.crc;
    }
    disk.overwrite(FileName::Spare(Spare::Journal), |bytes| bytes[..earlier.len()].copy_from_slice(&earlier));
    for (spare, to) in
        [(Spare::Journal, FileName::Journal { number: 0 }), (Spare::Snapshot, FileName::Snapshot { number: 0 })]
    {
        disk.run(&Op::Rename { from: FileName::Spare(spare), to, token: Token(0) }, &mut node.buffers);
    }
    disk.full = true;
    disk
}

#[test]
fn a_start_makes_spares_and_journal_of_older_files_without_room() {
    for is_missing in [false, true] {
        let mut random = Random(5);
        let mut disk = with_older(&mut random);
        let number = journal(&disk);
        if is_missing {
            disk.remove(FileName::Journal { number });
        }
        for from in [0, 1] {
            let mut node = Node::start(false, None);
            let event = node.event(&mut disk, &mut random);
            assert_eq!(event, Some(Event::Recovered { torn: None }), "journal missing: {is_missing}");
            assert_eq!(make(&mut node, &mut disk, std::iter::once(freed(from))).0, 1);
        }
        if !is_missing {
            let mut node = Node::start(false, None);
            assert!(matches!(node.event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
            assert_eq!(make(&mut node, &mut disk, (0..10).map(freed)).0, 10, "there is a journal to go on in");
        }
    }
}

#[test]
fn changes_that_share_an_entry_fit_into_a_journal() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = ready(&mut disk, &mut random);
    let durable = node.catalog.state().applied;
    for number in 0..128 {
        node.propose(freed(number));
    }
    let mut entry = 0;
    while let Some(op) = node.ops.pop() {
        if let Op::WriteAt { file: FileName::Journal { .. }, from, .. } = op {
            entry += from.len as u64;
        }
        let completion = disk.run(&op, &mut node.buffers);
        node.complete(completion);
        let events: Vec<Event> = std::iter::from_fn(|| node.catalog.event()).collect();
        if !events.is_empty() {
            assert!(entry <= SETTINGS.journal_bytes, "an entry of {entry} bytes");
            entry = 0;
        }
    }
    assert_eq!(node.catalog.state().applied, durable + 128);
}

#[test]
fn entries_of_an_earlier_journal_in_the_same_file_are_never_taken() {
    let place = |file| Place { block: 4096, directory: SETTINGS.directory, file };
    let changes = |logs| vec![Change::Logs { logs }];
    // Journal 7 had changes 8, 9 and 10. Snapshot 9 has the state up to 9; its journal lies in the file that journal 7 was in.
    let (mut earlier, mut crc) = (Vec::new(), 70);
    for number in 8..=10 {
        let entry = encode_changes(place(7), crc, number, &changes(number as u32));
        earlier.extend(entry.bytes);
        crc = entry.crc;
    }
    for previous in [0, 70, crc] {
        let damage = decode_journal(place(9), previous, &earlier).expect_err("nothing of it is journal 9's");
        assert!(damage.why.contains("another data directory or file"), "{damage:?}");
    }
    // Behind its first entry, and where a crash has left the zeros half written.
    let own = encode_changes(place(9), 90, 10, &changes(10));
    let mut both = earlier.clone();
    both[..4096].copy_from_slice(&own.bytes);
    assert!(decode_journal(place(9), 90, &both).is_err());
    both[4096..8192].fill(0);
    let found = decode_journal(place(9), 90, &both).expect("what is behind it is of no journal");
    assert_eq!((found.changes, found.end), (vec![(10, Change::Logs { logs: 10 })], 4096));
}

#[test]
fn what_a_state_needs_is_never_less_than_its_snapshot() {
    let place = Place { block: 4096, directory: 1, file: 0 };
    let fits = |state: &State, what: &str| {
        let (bytes, need) = (encode_snapshot(place, state).bytes.len() as u64, need(state).next_multiple_of(4096));
        assert!(bytes <= need, "{what}: {bytes} bytes, {need} foreseen");
    };
    let (mut state, mut random) = (State::default(), Random(11));
    for number in 0..300 {
        let now = Wall(1_700_000_000_000_000 + random.below(5_000_000));
        if let Some(change) = random_change(&state, &mut random, now) {
            state.apply(state.applied + 1, &change);
        }
        fits(&state, &format!("after {number} random changes"));
    }
    for (streams, shards) in [(0, 0), (2_000, 1), (300, 7), (20, 1_000)] {
        let mut state = State::default();
        (0..streams).for_each(|number| state.apply(state.applied + 1, &create(number, shards)));
        fits(&state, &format!("{streams} streams of {shards} shards"));
        let keys = (0..streams).flat_map(|stream| (0..shards).map(move |shard| ShardKey::new(stream, shard)));
        let resume: Vec<_> = keys.map(|key| (key, Resume { next: 1, arrival: 1 })).collect();
        let live = (0..5_000).map(|incarnation| LiveSegment { incarnation, end: 4096 }).collect();
        let change = Change::LiveSegments { log: 0, live, resume };
        state.apply(state.applied + 1, &change);
        let entry = encode_changes(place, 0, state.applied, &vec![change]).bytes.len() as u64;
        fits(&state, "with where all its shards go on");
        assert!(entry <= need(&state).next_multiple_of(4096), "a change of {entry} bytes");
    }
}

#[test]
fn what_tables_need_is_never_less_than_their_snapshot_and_a_journal_of_theirs_is_long() {
    let place = Place { block: 4096, directory: 1, file: 0 };
    let definition = |indexes: usize| Definition {
        created: Wall(1),
        key: KeyPart { name: "leaseKey".to_string(), kind: Scalar::S },
        indexes: vec![
            Index {
                name: "index".to_string(),
                hash: KeyPart { name: "leaseOwner".to_string(), kind: Scalar::S },
                range: Some(KeyPart { name: "leaseKey".to_string(), kind: Scalar::S }),
                projection: Projection::Include(vec!["name".to_string(); 20]),
            };
            indexes
        ],
        provisioned: Some((1, 1)),
        protected: false,
        backups: false,
    };
    for (tables, indexes, items, bytes) in
        [(0, 0, 0, 0), (200, 0, 0, 0), (200, 5, 1, 10), (1, 1, 5_000, 30), (3, 2, 7, 60_000)]
    {
        let mut state = State::default();
        for table in (0..tables).map(|number| format!("table-{number}")) {
            let define = TableChange::Define { table: table.clone(), definition: definition(indexes) };
            let put = |number: i32| TableChange::Put {
                table: table.clone(),
                key: format!("{{\"S\":\"{number}\"}}"),
                item: format!("{{\"leaseKey\":{{\"S\":\"{number}\"}},\"f\":{{\"S\":\"{}\"}}}}", "x".repeat(bytes)),
            };
            let changes = std::iter::once(define).chain((0..items).map(put)).collect();
            state.apply(state.applied + 1, &Change::Tables(changes));
        }
        let (encoded, need) = (encode_snapshot(place, &state).bytes, need(&state).next_multiple_of(4096));
        assert!(encoded.len() as u64 <= need, "{tables} tables: {} bytes, {need} foreseen", encoded.len());
        let (decoded, _) = decode_snapshot(Place { file: 0, ..place }, &encoded).expect("as it was encoded");
        assert_eq!(decoded, state, "with all that is derived");
    }
}

#[test]
fn a_large_state_is_written_anew_after_as_many_bytes_of_entries() {
    let (mut disk, mut random) = (MemoryDisk::default(), Random(5));
    let mut node = ready(&mut disk, &mut random);
    make(&mut node, &mut disk, (0..40).map(|number| create(number, 20)));
    let need = need(node.catalog.state());
    assert!(need > 4 * SETTINGS.journal_bytes, "the state is large: {need}");
    let mut journals = vec![journal(&disk)];
    let entries = 400;
    for number in 0..entries {
        make(&mut node, &mut disk, std::iter::once(freed(number)));
        journals.push(journal(&disk));
    }
    journals.dedup();
    let most = 2 + entries as u64 * 4096 / need;
    assert!((2..=most).contains(&(journals.len() as u64)), "{} journals, {most} at most", journals.len());
    let mut again = Node::start(false, None);
    assert!(matches!(again.event(&mut disk, &mut random), Some(Event::Recovered { torn: None })));
    assert_eq!(again.catalog.state(), node.catalog.state());
}
