//! The highest rate at which a promise holds: doubled until it does not, halved between until it is known well enough, then tried once more for longer.

/// How well the rate is known at the end: the lowest that failed is at most so much above the highest that held.
const CLOSE: f64 = 1.05;
/// Runs at most.
const RUNS_MAX: u32 = 40;
/// After a rate that held once and not twice, the next one is so much of it.
const LESS: f64 = 0.93;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Try this rate.
    Try(f64),
    /// Try it for longer: it is the result if it holds.
    Confirm(f64),
    /// The highest rate that has held twice; `None`: none did.
    Done(Option<f64>),
}

#[derive(Clone, Debug)]
pub struct Search {
    held: Option<f64>,
    failed: Option<f64>,
    least: f64,
    most: f64,
    runs: u32,
    step: Step,
}

impl Search {
    /// Between `least` and `most` records a second.
    pub fn new(least: f64, most: f64) -> Search {
        Search { held: None, failed: None, least, most, runs: 0, step: Step::Try(least) }
    }

    pub fn step(&self) -> Step {
        self.step
    }

    /// What came of the step.
    pub fn tell(&mut self, holds: bool) {
        self.runs += 1;
        self.step = match (self.step, holds) {
            (Step::Try(rate), true) => {
                self.held = Some(rate);
                self.next()
            }
            (Step::Try(rate), false) => {
                self.failed = Some(rate);
                self.next()
            }
            (Step::Confirm(rate), true) => Step::Done(Some(rate)),
            (Step::Confirm(rate), false) if rate * LESS < self.least || self.runs >= RUNS_MAX => Step::Done(None),
            (Step::Confirm(rate), false) => Step::Confirm(rate * LESS),
            (done, _) => done,
        };
    }

    fn next(&self) -> Step {
        match (self.held, self.failed) {
            (None, Some(_)) => Step::Done(None),
            (Some(held), _) if self.runs >= RUNS_MAX => Step::Confirm(held),
            (Some(held), None) if held >= self.most => Step::Confirm(held),
            (Some(held), None) => Step::Try((held * 2.0).min(self.most)),
            (Some(held), Some(failed)) if failed <= held * CLOSE => Step::Confirm(held),
            // The middle of a scale of factors.
            (Some(held), Some(failed)) => Step::Try((held * failed).sqrt()),
            (None, None) => Step::Try(self.least),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result for a server of which `holds` says what it can, and the runs that it took.
    fn found(mut holds: impl FnMut(f64, bool) -> bool) -> (Option<f64>, u32) {
        let mut search = Search::new(1000.0, 1e9);
        for runs in 0..100 {
            let held = match search.step() {
                Step::Done(rate) => return (rate, runs),
                Step::Try(rate) => holds(rate, false),
                Step::Confirm(rate) => holds(rate, true),
            };
            search.tell(held);
        }
        panic!("it does not end");
    }

    #[test]
    fn the_limit_is_found_to_five_percent_in_few_runs() {
        for limit in [1000.0, 1500.0, 77_777.0, 3e6] {
            let (rate, runs) = found(|rate, _| rate <= limit);
            let rate = rate.expect("one holds");
            assert!(rate <= limit && rate * 1.051 >= limit, "{rate} for {limit}");
            assert!(runs < 25, "{runs}");
        }
        assert_eq!(found(|rate, _| rate < 1000.0).0, None);
        assert_eq!(found(|_, _| true).0, Some(1e9));
    }

    #[test]
    fn what_does_not_hold_twice_is_not_the_result() {
        let (rate, _) = found(|rate, confirms| rate <= if confirms { 40_000.0 } else { 50_000.0 });
        let rate = rate.expect("one holds");
        assert!(rate <= 40_000.0 && rate > 36_000.0, "{rate}");
        assert_eq!(found(|rate, confirms| !confirms && rate < 5000.0).0, None);
    }
}
