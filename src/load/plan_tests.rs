//! A plan for tests, which change what they are about.

use super::choice::{Popularity, Sizes};
use super::plan::{Pace, Plan, Wire};
use super::schedule::Shape;

pub(super) fn plan() -> Plan {
    let address = "127.0.0.1:1".parse().expect("an address");
    Plan {
        seed: 1,
        run: 77,
        wire: Wire::Native,
        bulk: false,
        to: address,
        read: Some(address),
        host: "localhost:1".to_string(),
        tls: false,
        http2: false,
        stream: "flights".to_string(),
        identity: None,
        batch: 1,
        sizes: Sizes::Fixed(100),
        keys: 10,
        popularity: Popularity::Uniform,
        pace: Pace::Open { shape: Shape::Fixed, rate: 1000.0 },
        window: 16,
        warm_up: 0,
        end: 10_000_000_000,
        prebuilt: false,
        poll: 1_000_000,
    }
}
