//! What a benchmark is asked for, and how it shows a figure.

use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// So little that it ends in seconds: it shows that the benchmark works, and nothing about speed.
    pub quick: bool,
}

impl Extent {
    /// One of two values, by how much is measured.
    pub fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// How long a round takes, and how many there are.
    pub fn rounds(&self, rounds: usize, round: Duration) -> (usize, Duration) {
        self.pick((rounds, round), (1, Duration::from_millis(300)))
    }
}

/// The parts of `known` that are asked for, all where none is named, in the order of `known`. What is neither one of them nor `--quick` ends
/// the process with 2.
pub fn arguments<'k>(benchmark: &str, known: &[&'k str]) -> (Vec<&'k str>, Extent) {
    let (mut named, mut quick) = (Vec::new(), false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--quick" => quick = true,
            name if known.contains(&name) => named.push(argument),
            other => {
                eprintln!(
                    "{other} is no part of this benchmark; usage: {benchmark} [NAME...] [--quick], with names of {}",
                    known.join(" ")
                );
                std::process::exit(2);
            }
        }
    }
    let wanted = |name: &&&str| named.is_empty() || named.iter().any(|n| n == **name);
    (known.iter().filter(wanted).copied().collect(), Extent { quick })
}

/// A line: median, then minimum and maximum; gives the median. Figures that are no numbers end the run: something has not worked.
pub fn show(what: &str, unit: &str, mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let Some(median) = figures.get(figures.len() / 2) else { return 0.0 };
    let (least, most) = (figures[0], figures[figures.len() - 1]);
    assert!(least.is_finite() && most.is_finite(), "{what}: {figures:?}");
    // Figures below ten are shares and counts: one digit would hide them.
    let digits = if *median < 10.0 { 3 } else { 1 };
    println!("  {what:<48} {median:>12.digits$} {unit}   ({least:.digits$} .. {most:.digits$})");
    *median
}
