//! When requests are due: settled before the run begins, whatever the server does. A request that is sent late is late by its own latency.
//!
//! A shape is a rate over time. Let L(t) be how many requests it makes due up to t: the n-th is due where L(t) = n. That holds for a steady
//! rate as for a sine. For a Poisson process n is replaced by a sum of exponential steps of mean 1, which is what such a process is when
//! time is measured by L. Of several connections each has a share of the rate, and its own phase, so that they do not all send at once.

use super::random::Random;
use std::f64::consts::TAU;
use std::str::FromStr;

const NS: f64 = 1e9;
/// Halvings that find a time of a sine to well below a nanosecond.
const HALVINGS: usize = 60;

/// A rate over time. Rates are per second, times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Fixed,
    /// Independent of each other, with a steady mean rate.
    Poisson,
    /// From `from` times the rate to the rate, in `steps` equal steps of `every` seconds each.
    Step {
        from: f64,
        steps: u32,
        every: f64,
    },
    /// Around the rate, by `depth` times it, in `period` seconds.
    Sine {
        depth: f64,
        period: f64,
    },
    /// The rate, and `factor` times it for `length` seconds at the end of every `period`.
    Burst {
        factor: f64,
        period: f64,
        length: f64,
    },
}

impl FromStr for Shape {
    type Err = String;

    /// `fixed`, `poisson`, `step:0.1,10,5`, `sine:0.5,20`, `burst:4,10,1`: the numbers in the order of the fields.
    fn from_str(text: &str) -> Result<Shape, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let numbers = rest.split(',').filter(|part| !part.is_empty());
        let numbers: Vec<f64> = numbers
            .map(|part| part.parse().ok().filter(|number: &f64| number.is_finite()))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("{rest:?} is not a list of numbers"))?;
        let shape =
            match (name, &numbers[..]) {
                ("fixed", []) => Shape::Fixed,
                ("poisson", []) => Shape::Poisson,
                ("step", &[from, steps, every]) => Shape::Step { from, steps: steps as u32, every },
                ("sine", &[depth, period]) => Shape::Sine { depth, period },
                ("burst", &[factor, period, length]) => Shape::Burst { factor, period, length },
                _ => return Err(
                    "it is fixed, poisson, step:FROM,STEPS,SECONDS, sine:DEPTH,PERIOD or burst:FACTOR,PERIOD,LENGTH"
                        .into(),
                ),
            };
        let sound = match shape {
            Shape::Fixed | Shape::Poisson => true,
            Shape::Step { from, steps, every } => (0.0..=1.0).contains(&from) && steps > 0 && every > 0.0,
            Shape::Sine { depth, period } => (0.0..=1.0).contains(&depth) && period > 0.0,
            Shape::Burst { factor, period, length } => factor > 0.0 && length > 0.0 && period > length,
        };
        if sound { Ok(shape) } else { Err(format!("{text}: a number is out of its range")) }
    }
}

/// The times at which one connection's requests are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    shape: Shape,
    /// Requests a second.
    rate: f64,
    /// L at which the next one is due.
    target: f64,
    /// A time, and L there, that the next is not before: where a piece of a shape in pieces begins, or the last request.
    from: f64,
    reached: f64,
    random: Random,
    due: u64,
}

impl Schedule {
    /// `rate`: requests a second of this connection, above 0. `phase`: part of an interval, 0 to 1, that the first one waits.
    pub fn new(shape: Shape, rate: f64, phase: f64, random: Random) -> Schedule {
        let mut schedule = Schedule { shape, rate, target: phase, from: 0.0, reached: 0.0, random, due: 0 };
        if shape == Shape::Poisson {
            schedule.target = 0.0;
            schedule.advance();
        }
        schedule.due = schedule.time();
        schedule
    }

    /// When the next request is due: ns from the beginning of the run.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Takes the next request; gives when it is due.
    pub fn take(&mut self) -> u64 {
        let due = self.due;
        self.advance();
        self.due = self.time();
        due
    }

    fn advance(&mut self) {
        self.target += match self.shape {
            Shape::Poisson => -self.random.unit().ln(),
            _ => 1.0,
        };
    }

    fn time(&mut self) -> u64 {
        let seconds = match self.shape {
            Shape::Fixed | Shape::Poisson => self.target / self.rate,
            Shape::Sine { depth, period } => self.time_of_sine(depth, period),
            Shape::Step { .. } | Shape::Burst { .. } => self.time_of_pieces(),
        };
        // What lies beyond what can be counted is never due.
        (seconds * NS) as u64
    }

    fn time_of_sine(&mut self, depth: f64, period: f64) -> f64 {
        let l = |t: f64| self.rate * (t + depth * period / TAU * (1.0 - (TAU * t / period).cos()));
        // A whole period gains a whole period's worth, so the time lies within one of where the mean rate would have it.
        let (mut low, mut high) = (self.from, self.from + (self.target - self.reached).max(0.0) / self.rate + period);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if l(middle) < self.target { low = middle } else { high = middle }
        }
        (self.from, self.reached) = (high, self.target);
        high
    }

    fn time_of_pieces(&mut self) -> f64 {
        loop {
            let (rate, end) = self.piece(self.from);
            let gained = rate * (end - self.from);
            if self.reached + gained >= self.target {
                return self.from + (self.target - self.reached) / rate;
            }
            (self.from, self.reached) = (end, self.reached + gained);
        }
    }

    /// The rate in the piece that begins at or before `at`, and its end.
    fn piece(&self, at: f64) -> (f64, f64) {
        match self.shape {
            Shape::Step { from, steps, every } => {
                let step = (at / every + 0.5).floor() as u32;
                if step >= steps {
                    return (self.rate, f64::INFINITY);
                }
                let part = from + (1.0 - from) * step as f64 / steps as f64;
                // From nothing, the first step has nothing: a rate that never reaches the target within it.
                (self.rate * part, (step + 1) as f64 * every)
            }
            Shape::Burst { factor, period, length } => {
                let (turn, calm) = ((at / period + 1e-9).floor(), period - length);
                let (begin, into) = (turn * period, at - turn * period);
                match into + 1e-9 * period < calm {
                    true => (self.rate, begin + calm),
                    false => (self.rate * factor, begin + period),
                }
            }
            _ => (self.rate, f64::INFINITY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(shape: &str, rate: f64, seconds: f64) -> Vec<f64> {
        let shape = shape.parse().expect("a shape");
        let mut schedule = Schedule::new(shape, rate, 0.0, Random::new(3));
        let mut times = Vec::new();
        while (schedule.due() as f64) < seconds * NS {
            times.push(schedule.take() as f64 / NS);
        }
        assert!(times.is_sorted(), "{shape:?}");
        times
    }

    fn between(times: &[f64], from: f64, to: f64) -> usize {
        times.iter().filter(|time| (from..to).contains(*time)).count()
    }

    #[test]
    fn a_fixed_rate_has_equal_intervals_for_as_long_as_it_runs() {
        let times = times("fixed", 1000.0, 100.0);
        assert_eq!(times.len(), 100_000);
        for (n, time) in times.iter().enumerate() {
            assert!((time - n as f64 / 1000.0).abs() < 2e-9, "{n}: {time}");
        }
    }

    #[test]
    fn a_phase_moves_the_first_and_all_that_follow() {
        let mut schedule = Schedule::new(Shape::Fixed, 10.0, 0.5, Random::new(1));
        assert_eq!([schedule.take(), schedule.take()], [50_000_000, 150_000_000]);
    }

    #[test]
    fn poisson_has_the_mean_and_the_spread_of_its_kind() {
        let times = times("poisson", 1000.0, 100.0);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1e-3).abs() < 2e-5, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "the deviation of an exponential is its mean");
        // The part of gaps above the mean is 1/e.
        let above = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        assert!((above - (-1.0f64).exp()).abs() < 0.01, "{above}");
    }

    #[test]
    fn steps_rise_to_the_rate_and_stay() {
        let times = times("step:0.5,2,10", 100.0, 40.0);
        let counts =
            [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0)].map(|(from, to)| between(&times, from, to));
        assert!(counts.iter().zip([500, 750, 1000, 1000]).all(|(is, should)| is.abs_diff(should) <= 1), "{counts:?}");
        let from_nothing = self::times("step:0,2,1", 100.0, 2.0);
        assert_eq!(between(&from_nothing, 0.001, 1.0), 0);
        assert!(between(&from_nothing, 1.0, 2.0).abs_diff(50) <= 1);
    }

    #[test]
    fn a_sine_has_its_crest_and_its_trough_and_a_mean_between() {
        let times = times("sine:0.8,10", 1000.0, 100.0);
        assert!(times.len().abs_diff(100_000) <= 1, "{}", times.len());
        let (crest, trough) = (between(&times, 2.0, 3.0), between(&times, 7.0, 8.0));
        assert!(crest.abs_diff(1787) < 10 && trough.abs_diff(213) < 10, "{crest} {trough}");
    }

    #[test]
    fn bursts_come_at_the_end_of_every_period() {
        let times = times("burst:10,5,1", 100.0, 50.0);
        for turn in 0..10 {
            let begin = turn as f64 * 5.0;
            let (calm, burst) = (between(&times, begin, begin + 4.0), between(&times, begin + 4.0, begin + 5.0));
            assert!(calm.abs_diff(400) <= 1 && burst.abs_diff(1000) <= 1, "{turn}: {calm} {burst}");
        }
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        for text in ["", "fixed:1", "sine:2,10", "sine:0.5", "step:0.1,0,5", "burst:2,1,1", "burst:a,b,c", "square"] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
    }
}
