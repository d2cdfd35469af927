//! The role that moves shards between logs, while others write, read, split, merge and delete.

use super::call::{Call, Kind, list, shard_id};
use super::client::{Shared, Wish};
use super::oracle::Life;
use super::random::Random;
use penstock::worker::WhenFull;
use serde_json::{Value, json};

/// Reasons for which a move is not made while nothing is wrong.
const CALM: &[&str] =
    &["is on log", "there is no log", "no open shard", "not ACTIVE", "not found", "former logs", "deleted"];

pub struct Mover;

impl Mover {
    /// Some open shards to any logs, or whatever evens them out.
    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let live: Vec<_> = shared.oracle.streams.iter().filter(|stream| stream.life == Life::Live).collect();
        let logs = shared.settings.workers.max(3) as u64 * shared.settings.drives_max as u64;
        let mut moves = Vec::new();
        for _ in 0..random.between(1, 4) {
            let Some(stream) = live.get(random.index(live.len().max(1))) else { break };
            let open: Vec<u32> =
                stream.shards.values().filter(|shard| shard.ending.is_none()).map(|shard| shard.number).collect();
            if !open.is_empty() {
                let (shard, to) = (shard_id(*random.pick(&open)), random.below(logs));
                moves.push(json!({ "stream": stream.name, "shard": shard, "to": to }));
            }
        }
        let body = match moves.is_empty() || random.chance(150) {
            true => json!({ "dry_run": random.chance(100) }),
            false => json!({ "moves": moves }),
        };
        shared.moves_asked += 1;
        Some(("Rebalance", body.to_string(), Kind::Move))
    }

    /// What was moved is told, and what was not, with a reason that holds.
    pub fn reply(&mut self, call: &Call, status: u16, value: &Value, shared: &mut Shared) {
        let disturbed = shared.lenient || shared.stopping || shared.settings.pauses;
        if status != 200 {
            // One whose connection was lost may still be under way.
            assert!(status == 503 && value["message"].is_string(), "moves were answered with {status}: {value}");
            return;
        }
        let moved = list(value, "moved");
        for told in moved {
            assert_ne!(told["from"], told["to"], "{value}");
        }
        for told in list(value, "not_moved") {
            let why = told["why"].as_str().unwrap_or_else(|| panic!("no reason: {value}"));
            // Where nothing is trimmed, or the other log knows as many producers as it can that have been active.
            let fills = shared.settings.when_full == WhenFull::Reject || shared.settings.natives.0 > 0;
            let full = why.contains(" is full, or knows") && fills;
            let right = disturbed || full || CALM.iter().any(|text| why.contains(text));
            assert!(right, "not moved: {why}: {}", call.body);
        }
        if !call.body.contains("\"dry_run\":true") {
            shared.moved += moved.len() as u64;
        }
    }
}
