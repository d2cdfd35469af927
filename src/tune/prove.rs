//! Whether a knob has an effect: figures measured without it and with it, in turn, and what their differences say.
//!
//! Periods come in pairs, one without the knob and one with it, in changing order, so that what drifts meets both alike. The differences of the
//! pairs are the sample: Student's t for paired samples gives an interval for the mean difference. Where several figures are looked at, each
//! interval is wider (Bonferroni), so that all of them hold together at 95 %.

/// How a figure without the knob, and one with it, were measured: in the same pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    pub without: f64,
    pub with: f64,
}

/// What many pairs come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Means.
    pub without: f64,
    pub with: f64,
    /// The mean of the differences, with it less without it, and how far it may be off either way.
    pub difference: f64,
    pub margin: f64,
    /// The interval does not hold zero.
    pub effect: bool,
}

/// Fewer pairs say too little of how much they scatter.
pub const PAIRS_MIN: usize = 6;
pub const PAIRS_MAX: usize = 64;
/// Figures that are looked at together.
pub const FIGURES_MAX: usize = 2;
/// What a standard normal number stays within, either way: in 95 % of all cases, and in 97.5 %.
const NORMAL: [f64; FIGURES_MAX] = [1.959_963_985, 2.241_402_728];

/// What the pairs say, where so many `figures` are looked at together. `None`: they are too few, or no numbers.
pub fn verdict(pairs: &[Pair], figures: usize) -> Option<Verdict> {
    let normal = *NORMAL.get(figures.checked_sub(1)?)?;
    if !(PAIRS_MIN..=PAIRS_MAX).contains(&pairs.len()) {
        return None;
    }
    let count = pairs.len() as f64;
    let mean = |part: &dyn Fn(&Pair) -> f64| pairs.iter().map(part).sum::<f64>() / count;
    let difference = mean(&|pair| pair.with - pair.without);
    let squares: f64 = pairs.iter().map(|pair| (pair.with - pair.without - difference).powi(2)).sum();
    let margin = student(normal, count - 1.0) * (squares / (count - 1.0) / count).sqrt();
    let told = Verdict {
        without: mean(&|pair| pair.without),
        with: mean(&|pair| pair.with),
        difference,
        margin,
        effect: difference.abs() > margin,
    };
    (told.difference.is_finite() && told.margin.is_finite()).then_some(told)
}

/// The quantile of Student's distribution with so many degrees of freedom that stands where `z` stands in the normal one: the expansion in
/// powers of 1/degrees (Abramowitz and Stegun, 26.7.5), which is right to a thousandth from five degrees on.
fn student(z: f64, degrees: f64) -> f64 {
    let terms = [
        z,
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z) / 92_160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum / degrees + term)
}

/// Whether the pair with this number begins without the knob.
pub fn begins_without(pair: usize) -> bool {
    pair.is_multiple_of(2)
}

/// What is measured while a knob is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Durable writes of 4 KiB into the data directory, one after the other.
    Durable,
    /// Messages of 64 bytes to another thread of this host and back, over its loopback device and two rings.
    Loopback,
    /// A core that does nothing but look at the clock: what takes it away.
    Jitter,
}

/// What shows an effect of the knobs of a check, if it has one; `None`: nothing that runs on this host alone would.
pub fn probe(check: &str) -> Option<Probe> {
    Some(match check {
        "scheduler" | "merging" | "completion-core" | "write-throttling" | "pcie-power-saving" => Probe::Durable,
        "governor" | "energy-preference" | "clock-floor" | "turbo" | "sleep-states" | "clock-source" | "slow-start" => {
            Probe::Loopback
        }
        "workqueues"
        | "hard-lockup-watchdog"
        | "timer-migration"
        | "statistics-interval"
        | "numa-balancing"
        | "zone-reclaim"
        | "transparent-hugepages"
        | "hugepage-defragmentation"
        | "swappiness" => Probe::Jitter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(count: usize, mut pair: impl FnMut(usize) -> (f64, f64)) -> Vec<Pair> {
        (0..count).map(&mut pair).map(|(without, with)| Pair { without, with }).collect()
    }

    /// About normal, with mean 0 and deviation 1: the sum of twelve even ones.
    fn noise(state: &mut u64) -> f64 {
        let mut even = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(|_| even()).sum::<f64>() - 6.0
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, expected) in [(5.0, 2.5706), (9.0, 2.2622), (15.0, 2.1314), (30.0, 2.0423), (63.0, 1.9983)] {
            assert!(
                (student(NORMAL[0], degrees) - expected).abs() < 0.002,
                "{degrees}: {}",
                student(NORMAL[0], degrees)
            );
        }
        assert!((student(NORMAL[1], 9.0) - 2.6850).abs() < 0.003, "{}", student(NORMAL[1], 9.0));
    }

    #[test]
    fn what_is_always_the_same_is_told_at_once() {
        let same = verdict(&pairs(8, |_| (5.0, 5.0)), 1).expect("there are enough");
        assert!(!same.effect && same.difference == 0.0 && same.margin == 0.0);
        let less = verdict(&pairs(8, |_| (60.0, 1.0)), 2).expect("there are enough");
        assert!(less.effect && less.difference == -59.0 && less.without == 60.0 && less.with == 1.0);
        assert_eq!(verdict(&pairs(5, |_| (1.0, 2.0)), 1), None);
        assert_eq!(verdict(&pairs(8, |_| (1.0, f64::NAN)), 1), None);
        assert_eq!(verdict(&pairs(8, |_| (1.0, 2.0)), 3), None);
    }

    /// As often as it says, and not more, chance alone is taken for an effect.
    #[test]
    fn chance_is_an_effect_in_one_of_twenty() {
        let mut state = 1;
        let mut wrong = 0;
        for _ in 0..4000 {
            let run = pairs(8, |_| (100.0 + noise(&mut state), 100.0 + noise(&mut state)));
            wrong += usize::from(verdict(&run, 1).expect("there are enough").effect);
        }
        // 200 are expected, give or take 14.
        assert!((140..=260).contains(&wrong), "{wrong} of 4000");
    }

    /// What drifts meets both sides of each pair, in changing order.
    #[test]
    fn a_drift_is_no_effect_and_an_effect_is_seen_behind_it() {
        let mut state = 2;
        let mut seen = |effect: f64| {
            let run = pairs(16, |pair| {
                let (first, second) = (10.0 * pair as f64, 10.0 * pair as f64 + 5.0);
                let (without, with) = if begins_without(pair) { (first, second) } else { (second, first) };
                (without + noise(&mut state), with + effect + noise(&mut state))
            });
            verdict(&run, 2).expect("there are enough").effect
        };
        let drifted = (0..100).filter(|_| seen(0.0)).count();
        let effects = (0..100).filter(|_| seen(20.0)).count();
        assert!(drifted < 5 && effects > 95, "{drifted} {effects}");
    }
}
