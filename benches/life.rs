//! What a log must keep up over its life, each as a part: `cargo bench --bench life -- [NAME...] [--minutes N] [--quick]`.
//!
//! One table: median, then minimum and maximum, of each figure, the bound that it has to keep, and whether it does. The parts are described
//! where they are; `--minutes` is how long `turn` and `memory` go on, and `--quick` makes everything so small that each part takes seconds: it
//! shows that the benchmark works, and nothing else. Figures that are missing or no numbers, and records that are not there, end the run.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "life/busy.rs"]
mod busy;
#[path = "canonical/client.rs"]
mod client;
#[path = "life/cold.rs"]
mod cold;
#[path = "life/index.rs"]
mod index;
#[path = "canonical/load.rs"]
mod load;
#[path = "life/lone.rs"]
mod lone;
#[path = "life/memory.rs"]
mod memory;
#[path = "life/paced.rs"]
mod paced;
#[path = "canonical/server.rs"]
mod server;
#[path = "life/simulated.rs"]
mod simulated;
#[path = "life/space.rs"]
mod space;
#[path = "life/table.rs"]
mod table;
#[path = "life/turn.rs"]
mod turn;

use table::Table;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Of the sustained load of `turn`, and of `memory`.
    pub minutes: f64,
    pub quick: bool,
}

impl Extent {
    /// One of two values, by how much is measured.
    pub fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

type Part = (&'static str, fn(&mut Table, &Extent));

const PARTS: &[Part] = &[
    ("turn", turn::run),
    ("lone", lone::run),
    ("space", space::run),
    ("preparing", busy::preparing),
    ("moving", busy::moving),
    ("scrubbing", busy::scrubbing),
    ("reading", busy::reading),
    ("cold", cold::run),
    ("index", index::run),
    ("memory", memory::run),
];

fn main() -> std::process::ExitCode {
    let (names, extent) = match arguments(std::env::args().skip(1)) {
        Ok(found) => found,
        Err(why) => {
            eprintln!("{why}; usage: life [NAME...] [--minutes N] [--quick]");
            return std::process::ExitCode::from(2);
        }
    };
    let mut table = Table::begin();
    for (name, run) in PARTS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        table.part(name);
        run(&mut table, &extent);
    }
    table.end();
    std::process::ExitCode::SUCCESS
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(Vec<String>, Extent), String> {
    let (mut names, mut minutes, mut quick) = (Vec::new(), None, false);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--quick" => quick = true,
            "--minutes" => {
                let number = given.next().and_then(|text| text.parse().ok()).filter(|n| (0.1..=1e4).contains(n));
                minutes = Some(number.ok_or("--minutes needs a number of 0.1 or more")?);
            }
            name if PARTS.iter().any(|(part, _)| *part == name) => names.push(argument),
            other => return Err(format!("{other} is no part of this benchmark")),
        }
    }
    let minutes = minutes.unwrap_or(if quick { 0.05 } else { 10.0 });
    Ok((names, Extent { minutes, quick }))
}
