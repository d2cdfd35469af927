//! The front between a ring and a core that this test plays, with clients that are made of other halves: `h2`'s and rustls' own.
//!
//! A seed decides what the clients ask, where their bytes are cut, how slow each side is, and what becomes of some of them on the way:
//! bits that flip, frames and records that are lost, repeated, exchanged, made up, ends and farewells anywhere. Whatever comes: no panic,
//! every operation is answered once and no span changes while the ring has it, memory is bounded, and when the connections are over
//! everything has been given back. Clients that nobody disturbs get every answer, byte by byte.
//!
//! `PENSTOCK_FRONT_FIRST` and `PENSTOCK_FRONT_SEEDS` say which seeds run. Keys of TLS are drawn anew in each run, so a seed repeats the
//! places, not the bytes.

mod client;
mod core;
#[path = "../allocation/counting.rs"]
mod counting;
mod harm;
mod http1;
mod http2;
mod pipe;
#[path = "../sim/random.rs"]
#[allow(dead_code, reason = "shared with the simulator")]
mod random;
mod ring;
mod secure;
mod world;

use secure::Secure;
use world::{Seen, World};

/// About two seconds.
const SEEDS: u64 = 150;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is needed"))
}

#[test]
fn whatever_comes_is_answered_once_and_given_back() {
    let first = from_environment("PENSTOCK_FRONT_FIRST", 0);
    let seeds = from_environment("PENSTOCK_FRONT_SEEDS", SEEDS);
    let secure = Secure::new();
    let mut seen = Seen::default();
    for seed in first..first + seeds {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| World::new(seed, &secure).run()));
        match run {
            Ok(run) => seen.add(&run),
            Err(panic) => {
                eprintln!("seed {seed}: PENSTOCK_FRONT_FIRST={seed} PENSTOCK_FRONT_SEEDS=1 cargo test --test front");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{seeds} seeds from {first}: {seen:?}");
    if seeds >= SEEDS {
        // What is never met is not tested.
        assert!(seen.clients > seeds && seen.struck > seeds / 3 && seen.exact > seeds / 3, "{seen:?}");
        assert!(seen.requests > seeds * 3, "{seen:?}");
    }
}
