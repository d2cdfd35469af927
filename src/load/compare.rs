//! Whether two runs differ, or only seem to.
//!
//! A run is cut into seconds. What happens in one second depends on what happened in the one before (queues, segments, caches), so n seconds tell less
//! than n independent values would: with autocorrelations r(k) the variance of their mean is that of independent ones times
//! t = 1 + 2 Σ (1 - k/n) r(k). The sum ends where pairs of neighbours turn negative, as behind that there is only noise. With n/t for n, two means
//! differ as Welch's test has it.

/// A mean of seconds, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    pub value: f64,
    /// Variance of a second.
    variance: f64,
    /// So many independent seconds would tell as much.
    pub worth: f64,
}

/// The fewest seconds that anything is said of.
pub const SECONDS_MIN: usize = 8;

impl Mean {
    /// `None`: there are too few.
    pub fn of(seconds: &[f64]) -> Option<Mean> {
        let n = seconds.len();
        if n < SECONDS_MIN {
            return None;
        }
        let value = seconds.iter().sum::<f64>() / n as f64;
        let squares: f64 = seconds.iter().map(|second| (second - value).powi(2)).sum();
        let variance = squares / (n - 1) as f64;
        let correlation = |lag: usize| {
            let pairs = seconds.iter().zip(&seconds[lag..]);
            pairs.map(|(a, b)| (a - value) * (b - value)).sum::<f64>() / squares
        };
        let mut times = 1.0;
        if squares > 0.0 {
            // Pairs, as of a reversible process the sum of two neighbours is positive.
            for lag in (1..n / 2).step_by(2) {
                let pair = correlation(lag) + correlation(lag + 1);
                if pair <= 0.0 && lag > 1 || correlation(lag) <= 0.0 && lag == 1 {
                    break;
                }
                let part = |lag: usize| (1.0 - lag as f64 / n as f64) * correlation(lag);
                times += 2.0 * (part(lag) + part(lag + 1)).max(0.0);
            }
        }
        Some(Mean { value, variance, worth: (n as f64 / times).max(2.0) })
    }
}

/// How far B is from A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub a: f64,
    pub b: f64,
    /// B over A less 1, with the ends of the interval that holds the true one 95 times of 100.
    pub part: f64,
    pub low: f64,
    pub high: f64,
}

impl Difference {
    pub fn of(a: &Mean, b: &Mean) -> Difference {
        let (va, vb) = (a.variance / a.worth, b.variance / b.worth);
        let error = (va + vb).sqrt();
        // Welch and Satterthwaite: how many degrees of freedom the two have together.
        let freedom = match error > 0.0 {
            true => (va + vb).powi(2) / (va.powi(2) / (a.worth - 1.0) + vb.powi(2) / (b.worth - 1.0)),
            false => f64::INFINITY,
        };
        let reach = t95(freedom) * error;
        let part = |difference: f64| if a.value == 0.0 { 0.0 } else { difference / a.value };
        let difference = b.value - a.value;
        Difference {
            a: a.value,
            b: b.value,
            part: part(difference),
            low: part(difference - reach),
            high: part(difference + reach),
        }
    }

    /// Whether the interval leaves out 0.
    pub fn is_significant(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The 97.5th percentile of Student's distribution: a table, and between its lines the next one that is more careful.
fn t95(freedom: f64) -> f64 {
    const TABLE: [(f64, f64); 18] = [
        (1.0, 12.706),
        (2.0, 4.303),
        (3.0, 3.182),
        (4.0, 2.776),
        (5.0, 2.571),
        (6.0, 2.447),
        (7.0, 2.365),
        (8.0, 2.306),
        (9.0, 2.262),
        (10.0, 2.228),
        (12.0, 2.179),
        (15.0, 2.131),
        (20.0, 2.086),
        (30.0, 2.042),
        (60.0, 2.000),
        (120.0, 1.980),
        (1000.0, 1.962),
        (1e9, 1.960),
    ];
    TABLE.iter().rev().find(|(least, _)| freedom >= *least).map_or(TABLE[0].1, |(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::Random;

    /// Seconds around `mean`, each `memory` of the one before and the rest new.
    fn seconds(mean: f64, memory: f64, count: usize, random: &mut Random) -> Vec<f64> {
        let mut state = 0.0;
        let mut next = || {
            // Twelve uniform numbers add up to nearly a normal one.
            let normal = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
            state = memory * state + (1.0 - memory * memory).sqrt() * normal;
            mean + 10.0 * state
        };
        (0..count).map(|_| next()).collect()
    }

    /// How often two runs without a difference are said to differ.
    fn false_alarms(memory: f64, corrected: bool) -> f64 {
        let (mut random, mut alarms) = (Random::new(21), 0);
        for _ in 0..1000 {
            let mut run = || {
                let mean = Mean::of(&seconds(1000.0, memory, 60, &mut random)).expect("enough");
                if corrected { mean } else { Mean { worth: 60.0, ..mean } }
            };
            alarms += Difference::of(&run(), &run()).is_significant() as u32;
        }
        alarms as f64 / 1000.0
    }

    #[test]
    fn runs_that_do_not_differ_are_rarely_said_to() {
        assert!(false_alarms(0.0, true) < 0.08);
        assert!(false_alarms(0.7, false) > 0.2, "without the correction it would cry wolf");
        assert!(false_alarms(0.7, true) < 0.13, "{}", false_alarms(0.7, true));
    }

    #[test]
    fn a_difference_is_seen_and_lies_in_its_interval() {
        let (mut random, mut inside) = (Random::new(4), 0);
        for _ in 0..200 {
            let mut run = |mean| Mean::of(&seconds(mean, 0.3, 60, &mut random)).expect("enough");
            let difference = Difference::of(&run(1000.0), &run(1020.0));
            assert!(difference.is_significant(), "{difference:?}");
            inside += (difference.low..=difference.high).contains(&0.02) as u32;
        }
        assert!(inside > 175, "{inside} of 200");
    }

    #[test]
    fn too_few_seconds_say_nothing_and_equal_ones_are_equal() {
        assert_eq!(Mean::of(&[1.0; 7]), None);
        let mean = Mean::of(&[5.0; 20]).expect("enough");
        let difference = Difference::of(&mean, &mean);
        assert!(!difference.is_significant() && difference.part == 0.0);
        assert!(t95(0.5) > 12.0 && t95(11.0) == 2.228 && t95(f64::INFINITY) == 1.960);
    }
}
