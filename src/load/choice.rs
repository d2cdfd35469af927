//! How large records are, and which keys they have.

use super::random::Random;
use std::str::FromStr;

/// Bytes of data of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    Fixed(u32),
    /// Every size from the first to the second is as likely.
    Uniform(u32, u32),
    /// A size twice as large is half as likely: every doubling has as many records.
    Zipf(u32, u32),
}

impl Sizes {
    pub fn draw(self, random: &mut Random) -> u32 {
        match self {
            Sizes::Fixed(size) => size,
            Sizes::Uniform(least, most) => least + random.below((most - least) as u64 + 1) as u32,
            Sizes::Zipf(least, most) => {
                // The inverse of the distribution whose density falls as 1/x.
                let (least, most) = (least as f64, most as f64);
                (least * (most / least).powf(random.unit())).min(most) as u32
            }
        }
    }

    pub fn least(self) -> u32 {
        match self {
            Sizes::Fixed(size) => size,
            Sizes::Uniform(least, _) | Sizes::Zipf(least, _) => least,
        }
    }

    pub fn most(self) -> u32 {
        match self {
            Sizes::Fixed(size) => size,
            Sizes::Uniform(_, most) | Sizes::Zipf(_, most) => most,
        }
    }

    /// From text whose numbers `parse` reads: `1K`, `uniform:100-2000`, `zipf:64-1M`.
    pub fn parse(text: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Sizes, String> {
        let number = |text: &str| {
            parse(text).and_then(|bytes| u32::try_from(bytes).map_err(|_| "a record is smaller than 4 GiB".into()))
        };
        let Some((name, range)) = text.split_once(':') else { return Ok(Sizes::Fixed(number(text)?)) };
        let (least, most) = range.split_once('-').ok_or("a range is two sizes with a hyphen between")?;
        let (least, most) = (number(least)?, number(most)?);
        match name {
            _ if least == 0 || least > most => Err("the sizes of a range are above 0 and rise".into()),
            "uniform" => Ok(Sizes::Uniform(least, most)),
            "zipf" => Ok(Sizes::Zipf(least, most)),
            _ => Err("it is a size, uniform:LEAST-MOST or zipf:LEAST-MOST".into()),
        }
    }
}

/// How often each key comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    Uniform,
    /// The n-th key's weight is 1/n to this power.
    Zipf(f64),
    /// The first key has this part of all records, the others share the rest.
    Hot(f64),
}

impl FromStr for Popularity {
    type Err = String;

    /// `uniform`, `zipf`, `zipf:1.2`, `hot:0.5`.
    fn from_str(text: &str) -> Result<Popularity, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let number: Option<f64> = if rest.is_empty() { None } else { rest.parse().ok() };
        match (name, number) {
            ("uniform", None) if rest.is_empty() => Ok(Popularity::Uniform),
            ("zipf", None) if rest.is_empty() => Ok(Popularity::Zipf(1.0)),
            ("zipf", Some(power)) if power > 0.0 && power <= 10.0 => Ok(Popularity::Zipf(power)),
            ("hot", Some(part)) if part > 0.0 && part < 1.0 => Ok(Popularity::Hot(part)),
            _ => Err("it is uniform, zipf, zipf:POWER or hot:PART, as in hot:0.5".into()),
        }
    }
}

impl Popularity {
    /// Weight of key `key` of `keys`; the sum over all is not 1.
    pub fn weight(self, key: u32, keys: u32) -> f64 {
        match self {
            Popularity::Uniform => 1.0,
            Popularity::Zipf(power) => (key as f64 + 1.0).powf(-power),
            Popularity::Hot(part) if key == 0 && keys > 1 => part / (1.0 - part) * (keys as f64 - 1.0),
            Popularity::Hot(_) => 1.0,
        }
    }
}

/// Draws indexes by weight in the same time however many there are: each column has one index, and one that fills its rest.
#[derive(Clone, Debug, Default)]
pub struct Alias {
    columns: Vec<(f64, u32)>,
}

impl Alias {
    /// Weights are above 0.
    pub fn new(weights: &[f64]) -> Alias {
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        let mut columns: Vec<(f64, u32)> = weights.iter().zip(0..).map(|(weight, at)| (weight / mean, at)).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|at| columns[*at as usize].0 < 1.0);
        while let (Some(short), Some(&long)) = (small.pop(), large.last()) {
            columns[short as usize].1 = long;
            let left = columns[long as usize].0 - (1.0 - columns[short as usize].0);
            columns[long as usize].0 = left;
            if left < 1.0 {
                large.pop();
                small.push(long);
            }
        }
        // What is left over is 1 but for rounding.
        small.into_iter().chain(large).for_each(|at| columns[at as usize].0 = 1.0);
        Alias { columns }
    }

    pub fn draw(&self, random: &mut Random) -> u32 {
        let at = random.below(self.columns.len() as u64) as usize;
        let (own, other) = self.columns[at];
        if random.unit() <= own { at as u32 } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    #[test]
    fn sizes_are_within_their_range_and_spread_as_they_say() {
        let parse = |text: &str| text.parse().map_err(|_| "no number".to_string());
        let sizes = |text: &str| Sizes::parse(text, parse).expect("sizes");
        let mut random = Random::new(11);
        let mut below = |sizes: Sizes, limit: u32| {
            let drawn: Vec<u32> = (0..DRAWS).map(|_| sizes.draw(&mut random)).collect();
            assert!(drawn.iter().all(|size| (sizes.least()..=sizes.most()).contains(size)), "{sizes:?}");
            drawn.iter().filter(|size| **size < limit).count() as f64 / DRAWS as f64
        };
        assert_eq!(below(sizes("100"), 101), 1.0);
        assert!((below(sizes("uniform:1-1000"), 251) - 0.25).abs() < 0.01);
        // 1 to 1024 has ten doublings, of which five end at 32.
        assert!((below(sizes("zipf:1-1024"), 32) - 0.5).abs() < 0.01);
        for text in ["", "uniform:5", "uniform:9-5", "zipf:0-5", "normal:1-2", "5000000000"] {
            assert!(Sizes::parse(text, parse).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_come_as_often_as_their_weights_say() {
        for (text, keys) in [("uniform", 7), ("zipf", 100), ("zipf:0.5", 3), ("hot:0.5", 50), ("hot:0.9", 1)] {
            let popularity: Popularity = text.parse().expect("a popularity");
            let weights: Vec<f64> = (0..keys).map(|key| popularity.weight(key, keys)).collect();
            let (alias, sum) = (Alias::new(&weights), weights.iter().sum::<f64>());
            let (mut random, mut counts) = (Random::new(5), vec![0u32; keys as usize]);
            (0..DRAWS).for_each(|_| counts[alias.draw(&mut random) as usize] += 1);
            for (key, (count, weight)) in counts.iter().zip(&weights).enumerate() {
                let (is, should) = (*count as f64 / DRAWS as f64, weight / sum);
                assert!((is - should).abs() < 0.005, "{text}, key {key}: {is} for {should}");
            }
        }
        let hot: Popularity = "hot:0.25".parse().expect("a popularity");
        let weights: Vec<f64> = (0..10).map(|key| hot.weight(key, 10)).collect();
        assert!((weights[0] / weights.iter().sum::<f64>() - 0.25).abs() < 1e-9);
        for text in ["", "hot", "hot:1", "zipf:0", "zipf:x", "uniform:1"] {
            assert!(text.parse::<Popularity>().is_err(), "{text}");
        }
    }
}
