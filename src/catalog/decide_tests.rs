//! What is decided, applied over many random histories; and the texts.

use super::change::{Change, ClosedShard, LOGS_MAX};
use super::consumer::CONSUMERS_MAX;
use super::decide::{Decide, NewStream};
use super::identity::Identity;
use super::moving::FORMERS_MAX;
use super::place::LogPlace;
use super::state::{HashRange, Resume, Scrubs, Shard, ShardState, State, Stream, StreamMode, StreamStatus, Unverified};
use crate::io::clock::Wall;
use crate::kinesis::error::{Error, Kind};
use crate::log::LiveSegment;
use crate::log::format::ShardKey;
use crate::log::memory_disk::Random;
use crate::tables::state::{Definition, Index, KeyPart, Projection, Scalar, TableChange};
use std::collections::BTreeSet;

/// Four logs in one directory.
const LOGS: [LogPlace; 4] = [LogPlace { directory: 0, failed: false }; 4];

pub(super) fn identity() -> Identity {
    Identity { region: "us-east-1".into(), account: "123456789012".into() }
}

pub(super) fn new_stream(name: &str, shards: u32) -> NewStream {
    NewStream { name: name.into(), shard_count: Some(shards), ..NewStream::default() }
}

fn live(incarnations: &[u32]) -> Vec<LiveSegment> {
    incarnations.iter().map(|&incarnation| LiveSegment { incarnation, end: 8192 }).collect()
}

/// A change that fits the state more often than not: a request that was accepted, or word of an owner.
pub(super) fn random_change(state: &State, random: &mut Random, now: Wall) -> Option<Change> {
    let identity = identity();
    let decide = Decide { state, identity: &identity, logs: &LOGS };
    let name = format!("stream-{}", random.below(4));
    let stream = state.stream(&name);
    let shard = |random: &mut Random| stream.map_or(0, |s| random.below(s.next_shard as u64 + 1) as u32);
    match random.below(23) {
        0 | 1 => decide.create_stream(&new_stream(&name, 1 + random.below(20) as u32), now).ok(),
        2 if random.below(3) == 0 => decide.delete_stream(&name, true).ok(),
        3 => Some(Change::StreamGone { stream: random.below(state.next_stream as u64 + 1) as u32 }),
        4 => decide.increase_retention(&name, 24 + random.below(100) as i64).ok(),
        5 | 6 => {
            let shard = shard(random);
            let range = stream?.shards.get(&shard)?.range;
            let start = range.first + (range.last - range.first) / (2 + random.below(5) as u128);
            decide.split(&name, shard, start, now).ok()
        }
        7 => {
            let open: Vec<&Shard> = stream?.open().collect();
            let lower = open[random.below(open.len() as u64) as usize];
            let upper = open.iter().find(|s| Some(s.range.first) == lower.range.last.checked_add(1))?;
            decide.merge(&name, lower.number, upper.number, now).ok()
        }
        8 | 9 => {
            let resharding = stream?.resharding.as_ref()?;
            let arrival = Wall(now.0 - 2_500_000 + random.below(5_000_000));
            let failed = resharding.parents[0].filter(|_| random.below(4) == 0);
            stream?.end_of_resharding(|parent| Some((failed != Some(parent)).then_some((5, arrival))), now)
        }
        10 | 11 => decide.move_shard(&name, shard(random), random.below(5) as u32, random.below(300)).ok(),
        12 | 13 => {
            let moving = stream?.moving?;
            let key = ShardKey::new(stream?.number, moving.shard);
            let held = state.resume.get(&key).copied().unwrap_or(Resume { next: 1, arrival: 0 });
            let drained = (held.next - 1 + random.below(3), Wall(held.arrival + random.below(100)));
            stream?.end_of_move(drained, random.below(4) == 0, random.below(300), &LOGS)
        }
        15 => stream?.forget_formers(random.below(300)),
        16 if random.below(2) == 0 => stream?.end_of_stranded_move(random.below(300)),
        18 => decide.register_consumer(&name, &format!("c{}", random.below(30)), [].into(), now).ok(),
        19 => {
            let consumer = stream?.next_consumer.checked_sub(1 + random.below(5) as u32)?;
            Some(Change::DeregisterConsumer { stream: stream?.number, consumer })
        }
        14 => Some(Change::ShardsExpired { stream: stream?.number, shards: vec![shard(random)] }),
        20 => decide.put_policy(&arn_of(&name), policy(random.below(3))).ok(),
        21 => decide.delete_policy(&arn_of(&name)).ok(),
        17 => {
            let segments =
                vec![Unverified { incarnation: 1 + random.below(9) as u32, since: Wall(random.below(1000)) }];
            Some(Change::Scrubbed { log: random.below(3) as u32, scrubs: Scrubs { at: now, segments } })
        }
        22 => Some(Change::Tables(random_table_changes(random))),
        _ => {
            let key = ShardKey::new(random.below(8) as u32, shard(random));
            let resume = Resume { next: 1 + random.below(100), arrival: random.below(1000) };
            Some(Change::LiveSegments { log: random.below(3) as u32, live: live(&[1, 2]), resume: vec![(key, resume)] })
        }
    }
}

fn arn_of(stream: &str) -> String {
    format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}")
}

/// One of several policies.
fn policy(number: u64) -> String {
    let statement =
        format!(r#"{{"Effect":"Allow","Principal":"*","Action":"kinesis:Get*","Resource":"*","Sid":"s{number}"}}"#);
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

#[test]
fn a_policy_goes_with_its_stream_and_is_no_heir() {
    let (mut state, identity, now) = (State::default(), identity(), Wall(1_700_000_000_000_000));
    let decide = |state: &State, how: &dyn Fn(&Decide<'_>) -> Result<Change, Error>| {
        how(&Decide { state, identity: &identity, logs: &LOGS }).map_err(|error| error.to_string())
    };
    let put: &dyn Fn(&Decide<'_>) -> Result<Change, Error> = &|d| d.put_policy(&arn_of("a"), policy(1));
    let delete: &dyn Fn(&Decide<'_>) -> Result<Change, Error> = &|d| d.delete_policy(&arn_of("a"));
    let missing = format!("ResourceNotFoundException: Resource {} not found.", arn_of("a"));
    assert_eq!(decide(&state, put), Err(missing.clone()));
    let apply = |state: &mut State, change: Change| state.apply(state.applied + 1, &change);
    for name in ["a", "a-b"] {
        let create = decide(&state, &|d| d.create_stream(&new_stream(name, 1), now)).expect("it is new");
        apply(&mut state, create);
        let put = decide(&state, &|d| d.put_policy(&arn_of(name), policy(2))).expect("the stream is there");
        apply(&mut state, put);
    }
    let again = decide(&state, put).expect("it replaces the one before");
    apply(&mut state, again);
    assert_eq!(state.policy_text(&arn_of("a")), Ok(policy(1).as_str()));
    let gone = decide(&state, delete).expect("there is one");
    apply(&mut state, gone);
    assert_eq!(state.policy_text(&arn_of("a")), Ok("{}"));
    assert_eq!(
        decide(&state, delete),
        Err(format!("ResourceNotFoundException: No policy found for resource {}.", arn_of("a")))
    );
    let (again, deleted) = (decide(&state, put).expect("it is there"), state.streams["a"].number);
    apply(&mut state, again);
    apply(&mut state, Change::DeleteStream { stream: deleted });
    assert_eq!(decide(&state, put), Err(missing));
    apply(&mut state, Change::Policy { resource: "stream/a".into(), document: Some(policy(1)) });
    apply(&mut state, Change::StreamGone { stream: deleted });
    let anew = decide(&state, &|d| d.create_stream(&new_stream("a", 1), now)).expect("the name is free");
    apply(&mut state, anew);
    assert_eq!(state.policy_text(&arn_of("a")), Ok("{}"), "the next stream of the name has none");
    assert_eq!(state.policy_text(&arn_of("a-b")), Ok(policy(2).as_str()), "another stream keeps its own");
}

/// What requests on lease tables come to; also of tables that are not there.
fn random_table_changes(random: &mut Random) -> Vec<TableChange> {
    let mut change = || {
        let (table, key) = (format!("table-{}", random.below(3)), format!("{{\"S\":\"{}\"}}", random.below(4)));
        let owner = |name: &str| KeyPart { name: name.to_string(), kind: Scalar::S };
        let index = || Index { name: "owners".into(), hash: owner("o"), range: None, projection: Projection::KeysOnly };
        match random.below(8) {
            0 | 1 => {
                let indexes = (0..random.below(2)).map(|_| index()).collect();
                let (created, key, provisioned) = (Wall(random.below(9)), owner("k"), None);
                let definition =
                    Definition { created, key, indexes, provisioned, protected: random.coin(), backups: false };
                TableChange::Define { table, definition }
            }
            2 if random.coin() => TableChange::Drop { table },
            3 => TableChange::Remove { table, key },
            _ => {
                let item = format!("{{\"k\":{key},\"o\":{{\"S\":\"{}\"}}}}", random.below(3));
                TableChange::Put { table, key, item }
            }
        }
    };
    (0..3).map(|_| change()).collect()
}

fn check_ranges(stream: &Stream) {
    let mut open: Vec<HashRange> = stream.open().map(|shard| shard.range).collect();
    open.sort_by_key(|range| range.first);
    assert_eq!(open.first().map(|r| r.first), Some(0), "{}", stream.name);
    assert_eq!(open.last().map(|r| r.last), Some(u128::MAX), "{}", stream.name);
    for pair in open.windows(2) {
        assert_eq!(pair[0].last + 1, pair[1].first, "{}: a gap or an overlap", stream.name);
    }
    for range in open {
        for hash in [range.first, range.last, range.first + (range.last - range.first) / 2] {
            let linear = stream.open().find(|shard| shard.range.contains(hash));
            assert_eq!(stream.route(hash), linear);
        }
    }
}

fn check(state: &State, seen: &mut BTreeSet<(u32, u32)>, before: &State) {
    let mut loads = std::collections::BTreeMap::new();
    for stream in state.streams.values() {
        check_ranges(stream);
        assert_eq!(state.stream_by_number(stream.number), Some(stream));
        for shard in stream.shards.values() {
            let is_known = before.shard(ShardKey::new(stream.number, shard.number)).is_some();
            assert!(
                is_known || seen.insert((stream.number, shard.number)),
                "number used again: {} {}",
                stream.number,
                shard.number
            );
            let parents = shard.parents.iter().flatten().filter_map(|parent| stream.shards.get(parent));
            parents.for_each(|parent| assert!(shard.created > parent.created));
        }
        let numbers: BTreeSet<u32> = stream.consumers.values().map(|consumer| consumer.number).collect();
        assert!(numbers.len() == stream.consumers.len() && numbers.last().is_none_or(|n| *n < stream.next_consumer));
        assert!(numbers.len() <= CONSUMERS_MAX && (numbers.is_empty() || stream.status != StreamStatus::Deleting));
        for shard in stream.shards.values() {
            check_parts(state, stream, shard);
        }
        let moving = stream.shards.values().filter(|shard| shard.state == ShardState::Closing).count();
        assert!(stream.moving.is_none() || moving == 1 && stream.resharding.is_none());
        if stream.status != StreamStatus::Deleting {
            let children = stream.resharding.iter().flat_map(|r| &r.children);
            stream.open().chain(children).for_each(|shard| *loads.entry(shard.log).or_insert(0) += 1);
        }
    }
    let placed: std::collections::BTreeMap<u32, u32> =
        state.placed.clone().into_iter().filter(|(_, n)| *n > 0).collect();
    assert_eq!(placed, loads);
    assert!(state.resume.keys().all(|key| state.shard(*key).is_some()), "a resume without its shard");
}

/// Every number is in one part; what numbers go on from is above those of former parts.
fn check_parts(state: &State, stream: &Stream, shard: &Shard) {
    let parts: Vec<_> = shard.parts().collect();
    assert!(parts.len() <= FORMERS_MAX + 1 && parts[0].first == 0, "{parts:?}");
    assert!(parts.windows(2).all(|pair| pair[0].last + 1 == pair[1].first && pair[0].arrival <= pair[1].arrival));
    assert_eq!(parts.last().map(|part| (part.log, part.last)), Some((shard.log, u64::MAX)));
    if let Some(former) = shard.former.last() {
        let resume = state.resume[&ShardKey::new(stream.number, shard.number)];
        assert!(resume.next > former.last && resume.arrival >= former.arrival, "{resume:?} {former:?}");
    }
}

#[test]
fn random_histories_keep_ranges_whole_and_numbers_unused() {
    let mut kinds = BTreeSet::new();
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut state = State::default();
        let mut changes = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..150 {
            // The wall clock may step back.
            let now = Wall(1_700_000_000_000_000 + random.below(5_000_000));
            let Some(change) = random_change(&state, &mut random, now) else { continue };
            let before = state.clone();
            changes.push(change.clone());
            state.apply(changes.len() as u64, &change);
            kinds.insert(kind(&change));
            check(&state, &mut seen, &before);
        }
        let mut copy = State::default();
        for (number, change) in (1..).zip(&changes) {
            copy.apply(number, change);
            copy.apply(number, change);
        }
        assert_eq!(copy, state, "a copy that is told everything twice arrives at the same, seed {seed}");
    }
    assert_eq!(kinds.len(), 17, "every kind of change was met");
}

fn kind(change: &Change) -> u8 {
    match change {
        Change::CreateStream { .. } => 0,
        Change::DeleteStream { .. } => 1,
        Change::StreamGone { .. } => 2,
        Change::Retention { .. } => 3,
        Change::CloseShards { .. } => 4,
        Change::OpenChildren { .. } => 5,
        Change::ShardsExpired { .. } => 6,
        Change::LiveSegments { .. } => 7,
        Change::MoveShard { .. } => 9,
        Change::MovedShard { .. } => 10,
        Change::FormersExpired { .. } => 11,
        Change::ParentsStay { .. } => 12,
        Change::Scrubbed { .. } => 13,
        Change::RegisterConsumer { .. } => 14,
        Change::DeregisterConsumer { .. } => 15,
        Change::Tables(_) => 17,
        Change::Logs { .. } | Change::RetentionClock { .. } => 8,
        Change::Policy { .. } => 16,
    }
}

#[test]
fn ranges_at_creation_are_those_of_aws() {
    assert_eq!(HashRange::of(0, 1), HashRange { first: 0, last: u128::MAX });
    // DescribeStream of a stream of three shards.
    assert_eq!(HashRange::of(0, 3).last, 113427455640312821154458202477256070484);
    assert_eq!(HashRange::of(1, 3).first, 113427455640312821154458202477256070485);
    assert_eq!(HashRange::of(2, 3), HashRange { first: 226854911280625642308916404954512140970, last: u128::MAX });
    for count in [1, 2, 3, 4, 7, 8, 1000, 9_999, 10_000] {
        for i in 1..count {
            assert_eq!(HashRange::of(i - 1, count).last + 1, HashRange::of(i, count).first, "{i} of {count}");
        }
        assert_eq!(HashRange::of(count - 1, count).last, u128::MAX);
    }
}

fn state_with(shards: u32) -> State {
    let mut state = State::default();
    state.apply(1, &Change::Logs { logs: 4 });
    let identity = identity();
    let decide = Decide { state: &state, identity: &identity, logs: &LOGS };
    let change = decide.create_stream(&new_stream("s", shards), Wall(10_000_000)).expect("created");
    state.apply(2, &change);
    state
}

fn refused(what: Result<Change, crate::kinesis::error::Error>) -> (Kind, String) {
    let error = what.expect_err("refused");
    (error.kind, error.message)
}

#[test]
fn refusals_have_the_types_and_texts_of_aws() {
    let mut state = state_with(2);
    let identity = identity();
    fn decide<'a>(state: &'a State, identity: &'a Identity) -> Decide<'a> {
        Decide { state, identity, logs: &LOGS }
    }
    let now = Wall(20_000_000);
    let under = "under account 123456789012";
    let check = |what, kind, text: String| assert_eq!(refused(what), (kind, text));
    let d = decide(&state, &identity);
    check(d.create_stream(&new_stream("s", 1), now), Kind::ResourceInUse, format!("Stream s {under} already exists."));
    check(d.delete_stream("t", false), Kind::ResourceNotFound, format!("Stream t {under} not found."));
    check(d.split("t", 0, 5, now), Kind::ResourceNotFound, format!("Stream t {under} not found."));
    check(
        d.split("s", 9, 5, now),
        Kind::ResourceNotFound,
        format!("Could not find shard shardId-000000000009 in stream s {under}."),
    );
    let half = (1u128 << 127) - 1;
    for start in [0, 1, half, half + 5] {
        let text = format!(
            "NewStartingHashKey {start} used in SplitShard() on shard shardId-000000000000 in stream s {under} is not both greater than \
             one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey {half}."
        );
        check(d.split("s", 0, start, now), Kind::InvalidArgument, text);
    }
    check(
        d.merge("s", 1, 0, now),
        Kind::InvalidArgument,
        format!(
            "Shards shardId-000000000001 and shardId-000000000000 in stream s {under} are not an adjacent pair of shards eligible for \
             merging"
        ),
    );
    check(
        d.increase_retention("s", 23),
        Kind::InvalidArgument,
        "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.".into(),
    );
    check(
        d.decrease_retention("s", 25),
        Kind::InvalidArgument,
        "Requested retention period (25 hours) for stream s can not be longer than existing retention period (24 hours). Use \
         IncreaseRetentionPeriod API."
            .into(),
    );
    assert!(d.increase_retention("s", 24).is_ok(), "the present period is tolerated");
    assert_eq!(refused(d.create_stream(&new_stream("big", 10_001), now)).0, Kind::LimitExceeded);

    let split = d.split("s", 0, 2, now).expect("2 is the least start");
    state.apply(3, &split);
    let busy = (Kind::ResourceInUse, format!("Stream s {under} not ACTIVE, instead in state UPDATING"));
    assert_eq!(refused(decide(&state, &identity).split("s", 1, half + 9, now)), busy);
    assert_eq!(refused(decide(&state, &identity).increase_retention("s", 48)), busy);
    state.apply(4, &Change::OpenChildren { stream: 0, closed: vec![ClosedShard { number: 0, last: 7, at: now }] });
    check(
        decide(&state, &identity).merge("s", 0, 1, now),
        Kind::InvalidArgument,
        format!(
            "Shard shardId-000000000000 in stream s {under} has already been merged or split, and thus is not eligible for merging or \
             splitting."
        ),
    );
}

#[test]
fn a_split_closes_its_parent_and_opens_two_children() {
    let mut state = state_with(1);
    let identity = identity();
    // The clock has stepped back behind the parent's creation.
    let change = Decide { state: &state, identity: &identity, logs: &LOGS }
        .split("s", 0, 1 << 100, Wall(3_000_000))
        .expect("split");
    state.apply(3, &change);
    let stream = state.stream("s").expect("there");
    assert_eq!((stream.status, stream.shards[&0].state), (StreamStatus::Updating, ShardState::Closing));
    assert_eq!(
        stream.route(1 << 120).map(|s| s.number),
        Some(0),
        "puts go to the closing parent until the children open"
    );
    let at = Wall(30_000_000);
    state.apply(4, &Change::OpenChildren { stream: 0, closed: vec![ClosedShard { number: 0, last: 7, at }] });
    let stream = state.stream("s").expect("there");
    assert_eq!(stream.status, StreamStatus::Active);
    assert_eq!(stream.children(0).map(|s| (s.number, s.created, s.log)).collect::<Vec<_>>(), [(1, 11, 0), (2, 11, 1)]);
    assert_eq!(stream.route((1 << 100) - 1).map(|s| s.number), Some(1));
    assert_eq!(stream.route(1 << 100).map(|s| s.number), Some(2));
    let at = |time: u64| {
        stream.shards.values().filter(|shard| stream.took_at(shard, Wall(time))).map(|s| s.number).collect::<Vec<_>>()
    };
    assert_eq!((at(9_000_000), at(10_000_000), at(30_000_000)), (vec![], vec![0], vec![1, 2]));
}

#[test]
fn a_resharding_ends_when_every_parent_has_ended_and_where_it_began_when_a_log_has_failed() {
    let mut state = state_with(3);
    let identity = identity();
    let before = state.clone();
    let now = Wall(20_000_000);
    let merge = |state: &State| Decide { state, identity: &identity, logs: &LOGS }.merge("s", 0, 1, now);
    let begun = merge(&state).expect("merged");
    state.apply(3, &begun);
    let end = |state: &State, words: [Option<Option<(u64, Wall)>>; 2]| {
        state.stream("s").expect("there").end_of_resharding(|parent| words[parent as usize], now)
    };
    let durable = Some(Some((7, now)));
    assert_eq!(end(&state, [None, None]), None);
    assert_eq!(end(&state, [durable, None]), None, "the other one has not said how it ends");
    assert_eq!(
        end(&state, [None, Some(None)]),
        None,
        "its records may come to be durable after the resharding has ended"
    );
    assert!(matches!(end(&state, [durable, durable]), Some(Change::OpenChildren { .. })));
    for words in [[durable, Some(None)], [Some(None), durable], [Some(None), Some(None)]] {
        let mut state = state.clone();
        state.apply(4, &Change::ParentsStay { stream: 0, parents: vec![1] });
        assert_eq!(state.stream("s").map(|stream| stream.status), Some(StreamStatus::Updating), "another resharding's");
        state.apply(5, &end(&state, words).expect("both have ended"));
        let (stream, first) = (state.stream("s").expect("there"), before.stream("s").expect("there"));
        assert_eq!(
            (stream.status, &stream.shards, &state.placed),
            (StreamStatus::Active, &first.shards, &before.placed)
        );
        assert_eq!((&stream.routes, &stream.resharding), (&first.routes, &None));
        assert_eq!(end(&state, words), None);
        let Ok(Change::CloseShards { children, .. }) = merge(&state) else { panic!("they can be merged again") };
        assert_eq!(children[0].number, 4, "3 was the number of a child that never was");
    }
}

#[test]
fn a_stream_without_a_number_of_shards_is_on_demand_with_four() {
    let (state, identity) = (State::default(), identity());
    let request = NewStream { name: "s".into(), ..NewStream::default() };
    let change = Decide { state: &state, identity: &identity, logs: &LOGS }.create_stream(&request, Wall(0));
    assert!(matches!(change, Ok(Change::CreateStream { shards: 4, mode: StreamMode::OnDemand, .. })));
}

#[test]
fn a_new_stream_lies_on_one_log_for_every_eight_shards_least_loaded_first() {
    let mut state = state_with(9);
    let logs = |state: &State, shards| {
        let identity = identity();
        match (Decide { state, identity: &identity, logs: &LOGS }).create_stream(&new_stream("t", shards), Wall(0)) {
            Ok(Change::CreateStream { logs, .. }) => logs,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(state.placed.clone().into_iter().collect::<Vec<_>>(), [(0, 5), (1, 4), (2, 0), (3, 0)]);
    assert_eq!(logs(&state, 8), [2]);
    assert_eq!(logs(&state, 24), [2, 3, 1]);
    assert_eq!(logs(&state, 1000), [2, 3, 1, 0]);
    state.apply(3, &Change::DeleteStream { stream: 0 });
    assert_eq!(logs(&state, 8), [0], "a deleted stream loads no log");
}

#[test]
fn a_gone_stream_leaves_its_number_and_nothing_else() {
    let mut state = state_with(1);
    let resume = vec![(ShardKey::new(0, 0), Resume { next: 9, arrival: 9 })];
    state.apply(3, &Change::LiveSegments { log: 0, live: live(&[4, 5]), resume: resume.clone() });
    assert_eq!(state.resume.len(), 1);
    state.apply(4, &Change::StreamGone { stream: 0 });
    assert!(state.stream_by_number(0).is_some(), "only a deleted stream goes");
    state.apply(5, &Change::DeleteStream { stream: 0 });
    state.apply(6, &Change::StreamGone { stream: 0 });
    state.apply(7, &Change::LiveSegments { log: 0, live: live(&[5]), resume });
    assert!(state.stream_by_number(0).is_none() && state.resume.is_empty() && state.streams.is_empty());
    assert_eq!((state.next_stream, &state.live[&0]), (1, &live(&[5])));
}

#[test]
fn a_copy_of_all_files_has_not_been_verified() {
    let mut state = State::default();
    let segments = vec![Unverified { incarnation: 4, since: Wall(7) }, Unverified { incarnation: 6, since: Wall(3) }];
    let scrubs = Scrubs { at: Wall(9), segments };
    state.apply(1, &Change::Scrubbed { log: 2, scrubs: scrubs.clone() });
    // A log that cannot be is damage.
    state.apply(2, &Change::Scrubbed { log: LOGS_MAX, scrubs });
    assert_eq!(state.scrubs.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!([4, 5, 6, 7].map(|incarnation| state.scrubs[&2].since(incarnation)), [7, 9, 3, 9].map(Wall));
    assert_eq!(state.of_copy(), State { applied: 2, ..State::default() });
}
