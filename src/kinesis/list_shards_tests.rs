//! The filters over lineages that a seed makes, whose clock may step back; paging; tokens.

use super::error::{Error, Kind};
use super::list_shards::decode;
use super::object::{self, Encoding};
use super::page::Page;
use super::request::Context;
use crate::catalog::change::Change;
use crate::catalog::decide::{Decide, NewStream};
use crate::catalog::identity::Identity;
use crate::catalog::place::LogPlace;
use crate::catalog::state::{Shard, State, Stream};
use crate::io::clock::{Mono, Now, Wall};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KEY: [u8; 16] = *b"0123456789abcdef";
const SECOND: u64 = 1_000_000;
const START: u64 = 1_700_000_000 * SECOND;
/// Retention of the stream, when an hour lasts a second.
const RETENTION: u64 = 24 * SECOND;

/// A small generator, so that a failure names a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % bound
    }
}

fn identity() -> Identity {
    Identity { region: "us-east-1".into(), account: "123456789012".into() }
}

/// One stream, and the time.
struct World {
    state: State,
    identity: Identity,
    now: u64,
}

impl World {
    fn new(shards: u32) -> World {
        let mut world = World { state: State::default(), identity: identity(), now: START };
        let stream = NewStream { name: "s".into(), shard_count: Some(shards), ..NewStream::default() };
        world.change(|decide, now| decide.create_stream(&stream, now));
        world
    }

    fn change(&mut self, decide: impl Fn(&Decide<'_>, Wall) -> Result<Change, Error>) {
        let change = decide(
            &Decide { state: &self.state, identity: &self.identity, logs: &[LogPlace::default(); 2] },
            Wall(self.now),
        );
        self.state.apply(self.state.applied + 1, &change.expect("a change that is allowed"));
    }

    fn stream(&self) -> &Stream {
        self.state.stream("s").expect("made at the start")
    }

    /// Splits or merges, and opens the children a little later.
    fn reshard(&mut self, draw: &mut Draw) {
        self.begin_resharding(draw);
        self.step_clock(draw);
        self.end_resharding(draw);
    }

    fn begin_resharding(&mut self, draw: &mut Draw) {
        let open: Vec<Shard> = self.stream().open().cloned().collect();
        let shard = &open[draw.below(open.len() as u64) as usize];
        let upper = open.iter().find(|s| Some(s.range.first) == shard.range.last.checked_add(1));
        match upper.filter(|_| draw.below(2) == 0) {
            Some(upper) => self.change(|decide, now| decide.merge("s", shard.number, upper.number, now)),
            None => {
                let middle = shard.range.first + (shard.range.last - shard.range.first) / 2;
                self.change(|decide, now| decide.split("s", shard.number, middle, now));
            }
        }
    }

    fn end_resharding(&mut self, draw: &mut Draw) {
        let arrival = Wall(self.now.saturating_sub(draw.below(SECOND)));
        let closed = self.stream().ends_of_parents(|_| Some((9, arrival)), Wall(self.now));
        self.change(|_, _| Ok(Change::OpenChildren { stream: 0, closed: closed.clone() }));
    }

    /// Forward, and one time in five back.
    fn step_clock(&mut self, draw: &mut Draw) {
        match draw.below(5) {
            0 => self.now = self.now.saturating_sub(draw.below(10 * SECOND)).max(START),
            _ => self.now += draw.below(5 * SECOND),
        }
    }

    fn ask(&self, request: &Value) -> Result<Value, Error> {
        let now = Now { wall: Wall(self.now), mono: Mono(self.now * 1000) };
        let (identity, key) = (&self.identity, &KEY);
        let context = Context { identity, now, retention_now: Wall(self.now), retention_hour: 1, key };
        let request = request.to_string();
        let body =
            decode(&object::parse(Encoding::Json, request.as_bytes())?, identity)?.answer(&self.state, &context)?;
        Ok(serde_json::from_slice(&body).expect("an answer is JSON"))
    }

    /// All pages of a listing, `MaxResults` at a time.
    fn listed(&self, mut request: Value, at_once: u32) -> Vec<Value> {
        let mut shards = Vec::new();
        loop {
            request["MaxResults"] = at_once.into();
            let answer = self.ask(&request).expect("a listing");
            let page = answer["Shards"].as_array().expect("a list").clone();
            assert!(page.len() <= at_once as usize);
            shards.extend(page);
            match answer.get("NextToken") {
                Some(token) => request = json!({ "NextToken": token }),
                None => return shards,
            }
        }
    }

    /// All pages of a listing, with the halves of reshardings and the passing of time between them, now and then.
    fn listed_meanwhile(&mut self, mut request: Value, draw: &mut Draw) -> Vec<Value> {
        let mut shards = Vec::new();
        request["MaxResults"] = (1 + draw.below(4)).into();
        loop {
            let answer = self.ask(&request).expect("a page");
            shards.extend(answer["Shards"].as_array().expect("a list").clone());
            let Some(token) = answer.get("NextToken") else { return shards };
            request = json!({ "NextToken": token, "MaxResults": 1 + draw.below(4) });
            match draw.below(4) {
                0 | 1 if self.stream().resharding.is_some() => self.end_resharding(draw),
                0 => self.begin_resharding(draw),
                1 => self.now += draw.below(RETENTION),
                _ => {}
            }
        }
    }

    fn filtered(&self, filter: Value, draw: &mut Draw) -> Vec<Value> {
        self.listed(json!({ "StreamName": "s", "ShardFilter": filter }), 1 + draw.below(12) as u32)
    }
}

fn hash_key(shard: &Value, end: &str) -> u128 {
    let text = shard["HashKeyRange"][end].as_str().expect("a string");
    text.parse().expect("a hash key")
}

fn ids(shards: &[Value]) -> BTreeSet<&str> {
    shards.iter().map(|shard| shard["ShardId"].as_str().expect("a string")).collect()
}

#[track_caller]
fn check_covers_once(shards: &[Value], what: &str) {
    let mut ranges: Vec<_> =
        shards.iter().map(|s| (hash_key(s, "StartingHashKey"), hash_key(s, "EndingHashKey"))).collect();
    ranges.sort();
    assert_eq!(ranges.first().map(|range| range.0), Some(0), "{what}");
    assert_eq!(ranges.last().map(|range| range.1), Some(u128::MAX), "{what}");
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1.checked_add(1), Some(pair[1].0), "{what}: a hole or an overlap");
    }
}

#[test]
fn what_was_open_at_one_time_covers_every_key_once() {
    for seed in 0..60 {
        let draw = &mut Draw(seed);
        let mut world = World::new(1 + draw.below(4) as u32);
        for _ in 0..12 {
            world.step_clock(draw);
            world.reshard(draw);
            let what = format!("seed {seed}");
            check_covers_once(&world.filtered(json!({"Type": "AT_LATEST"}), draw), &what);
            check_covers_once(&world.filtered(json!({"Type": "AT_TRIM_HORIZON"}), draw), &what);
            for _ in 0..5 {
                // From before the stream, and before the horizon, to the time to come.
                let at = (START - 5 * SECOND + draw.below(world.now + 10 * SECOND - START)) as f64 / 1e6;
                let then = world.filtered(json!({"Type": "AT_TIMESTAMP", "Timestamp": at}), draw);
                check_covers_once(&then, &format!("{what} at {at}"));
                let since = world.filtered(json!({"Type": "FROM_TIMESTAMP", "Timestamp": at}), draw);
                assert!(ids(&since).is_superset(&ids(&then)), "{what} from {at}");
            }
        }
    }
}

#[test]
fn a_listing_is_of_one_time_whatever_happens_between_its_pages() {
    for seed in 0..400 {
        let draw = &mut Draw(seed);
        let mut world = World::new(2 + draw.below(6) as u32);
        for _ in 0..6 {
            world.step_clock(draw);
            world.reshard(draw);
        }
        if draw.below(2) == 0 {
            world.begin_resharding(draw);
        }
        let at = (START + draw.below(world.now + 10 * SECOND - START)) as f64 / 1e6;
        let kind = ["AT_LATEST", "AT_TRIM_HORIZON", "AT_TIMESTAMP"][draw.below(3) as usize];
        let request = json!({"StreamName": "s", "ShardFilter": {"Type": kind, "Timestamp": at}});
        let at_once = world.listed(request.clone(), 1000);
        let in_pages = world.listed_meanwhile(request, draw);
        assert_eq!(ids(&in_pages), ids(&at_once), "seed {seed}: {kind}");
        check_covers_once(&in_pages, &format!("seed {seed}: {kind}"));
    }
}

#[test]
fn everything_held_is_listed_and_nothing_expired() {
    let draw = &mut Draw(1);
    let mut world = World::new(2);
    world.now += 10 * SECOND;
    world.change(|decide, now| decide.split("s", 0, 1 << 100, now));
    let closed = world.stream().ends_of_parents(|_| Some((9, Wall(START))), Wall(world.now));
    world.change(|_, _| Ok(Change::OpenChildren { stream: 0, closed: closed.clone() }));
    let closed_at = world.now;
    let first = "shardId-000000000000";
    for (now, held) in [(closed_at + RETENTION, true), (closed_at + RETENTION + 1, false)] {
        world.now = now;
        for kind in ["FROM_TRIM_HORIZON", "AT_TRIM_HORIZON"] {
            let listed = world.filtered(json!({ "Type": kind }), draw);
            // At its very end a shard is not open any more, but a record of that time is held.
            assert_eq!(ids(&listed).contains(first), held && kind == "FROM_TRIM_HORIZON", "{kind}");
        }
        assert_eq!(world.listed(json!({"StreamName": "s"}), 1000).len(), if held { 4 } else { 3 });
    }
}

#[test]
fn closed_shards_show_their_end_and_children_their_parents() {
    let mut world = World::new(2);
    world.now += SECOND;
    world.change(|decide, now| decide.merge("s", 0, 1, now));
    let closed = world.stream().ends_of_parents(|_| Some((9, Wall(START))), Wall(world.now));
    world.change(|_, _| Ok(Change::OpenChildren { stream: 0, closed: closed.clone() }));
    let listed = world.listed(json!({"StreamName": "s"}), 1000);
    let number = |shard: &Value, name: &str| shard["SequenceNumberRange"][name].as_str().map(str::to_owned);
    for parent in &listed[..2] {
        assert!(number(parent, "EndingSequenceNumber") > number(parent, "StartingSequenceNumber"));
        assert!(number(&listed[2], "StartingSequenceNumber") > number(parent, "EndingSequenceNumber"));
        assert!(parent.get("ParentShardId").is_none());
    }
    assert_eq!(listed[2]["ParentShardId"], "shardId-000000000000");
    assert_eq!(listed[2]["AdjacentParentShardId"], "shardId-000000000001");
    assert_eq!(number(&listed[2], "EndingSequenceNumber"), None);
}

#[test]
fn a_token_goes_on_with_its_filter_for_five_minutes() {
    let mut world = World::new(5);
    let after = json!({"StreamName": "s", "MaxResults": 2, "ExclusiveStartShardId": "shardId-000000000000"});
    let token = world.ask(&after).expect("a page")["NextToken"].clone();
    let go_on = json!({ "NextToken": token });
    world.now += 300 * SECOND;
    let rest = world.ask(&go_on).expect("the rest");
    assert_eq!(
        ids(rest["Shards"].as_array().expect("a list")),
        ["shardId-000000000003", "shardId-000000000004"].into()
    );
    world.now += SECOND;
    let error = world.ask(&go_on).expect_err("expired");
    assert_eq!(error.kind, Kind::ExpiredNextToken);
    let mut forged = token.as_str().expect("a string").to_owned().into_bytes();
    for at in 0..forged.len() {
        let kept = forged[at];
        forged[at] = if kept == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8_lossy(&forged);
        assert_eq!(world.ask(&json!({ "NextToken": text })), Err(Page::invalid()), "letter {at}");
        forged[at] = kept;
    }
}

#[test]
fn a_stream_made_again_is_another_one() {
    let world = World::new(1);
    let created = START as f64 / 1e6;
    let request = |created: f64| json!({"StreamName": "s", "StreamCreationTimestamp": created});
    assert!(world.ask(&request(created)).is_ok());
    let error = world.ask(&request(created + 1.0)).expect_err("another stream");
    assert_eq!(error.to_string(), "ResourceNotFoundException: Stream s under account 123456789012 not found.");
}

#[test]
fn a_stream_that_goes_is_not_listed() {
    let mut world = World::new(1);
    world.change(|decide, _| decide.delete_stream("s", false));
    let error = world.ask(&json!({"StreamName": "s"})).expect_err("deleting");
    let text = "ResourceInUseException: Stream s under account 123456789012 not ACTIVE, instead in state DELETING";
    assert_eq!(error.to_string(), text);
}
