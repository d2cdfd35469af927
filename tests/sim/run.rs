//! One run of one seed, with what a person needs to look into it when it fails.

use super::report::Report;
use super::scenario::{Canary, Settings};
use super::trace::Trace;
use super::world::World;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

pub struct Failure {
    pub message: String,
    settings: Settings,
    tail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.settings.seed;
        writeln!(f, "{}\n{:#?}", self.tail, self.settings)?;
        writeln!(f, "seed {seed:#x}: {}", self.message)?;
        write!(f, "again: PENSTOCK_SIM_SEED={seed:#x} cargo test --test sim even_seeds_hold -- --nocapture")
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic inside a run is kept as its result; any other is reported as always.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if RUNNING.get() {
                MESSAGE.set(info.to_string());
            } else {
                report(info);
            }
        }));
    });
}

/// Runs `seed`: what it has been through, or how it failed; and the hash of its trace.
pub fn run(seed: u64, canary: Option<Canary>) -> (Result<Report, Box<Failure>>, u64) {
    keep_panics();
    let settings = Settings::draw(seed, canary);
    let mut trace = Trace::default();
    RUNNING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(settings.clone(), &mut trace);
        world.run();
        world.report
    }));
    RUNNING.set(false);
    let result = result.map_err(|_| Box::new(Failure { message: MESSAGE.take(), settings, tail: trace.tail() }));
    (result, trace.hash())
}
