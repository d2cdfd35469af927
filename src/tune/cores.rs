//! Sets of cores, as the kernel and `--cores` write them.

use std::collections::BTreeSet;

/// The number that no core reaches.
pub const CORES_MAX: usize = 4096;

/// Cores of `0,2-5`, rising, each once.
pub fn parse(text: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| {
        text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no core; cores are written as in 0,2-5"))
    };
    let mut cores = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last > CORES_MAX {
            return Err(format!("{part:?} is no range of cores"));
        }
        cores.extend(first..=last);
    }
    Ok(cores.into_iter().collect())
}

/// Cores of a mask: groups of 32 bits in hexadecimal, the highest first, as in `ff,ffffffff`.
pub fn parse_mask(text: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for (group, digits) in text.trim().split(',').rev().enumerate() {
        let bits = u32::from_str_radix(digits, 16).map_err(|_| format!("{digits:?} is no mask of cores"))?;
        if group * 32 >= CORES_MAX {
            return Err("the mask is longer than any host has cores".to_string());
        }
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    Ok(cores)
}

/// The mask of cores: what [`parse_mask`] reads.
pub fn mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |highest| highest / 32 + 1);
    let mut bits = vec![0u32; groups];
    cores.iter().for_each(|core| bits[core / 32] |= 1 << (core % 32));
    bits.iter().rev().map(|group| format!("{group:08x}")).collect::<Vec<_>>().join(",")
}

/// `0-3,6`.
pub fn show<'a>(cores: impl IntoIterator<Item = &'a usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => ranges.push((*core, *core)),
        }
    }
    let range =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_and_shown() {
        assert_eq!(parse("0,2-5"), Ok(vec![0, 2, 3, 4, 5]));
        assert_eq!(parse("3,1,1-2"), Ok(vec![1, 2, 3]));
        for text in ["", "a", "5-2", "1,,2", "0-99999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(show(&[0, 1, 2, 6, 8, 9]), "0-2,6,8-9");
    }

    #[test]
    fn masks_have_the_highest_cores_first() {
        assert_eq!(parse_mask("5"), Ok(vec![0, 2]));
        assert_eq!(parse_mask("1,80000000"), Ok(vec![31, 32]));
        assert_eq!(parse_mask("0"), Ok(vec![]));
        assert_eq!((mask(&[31, 32]), mask(&[])), ("00000001,80000000".to_string(), "00000000".to_string()));
        assert_eq!(parse_mask(&mask(&[0, 63, 64])), Ok(vec![0, 63, 64]));
        for text in ["", "x", "1,,1", "123456789", &"0,".repeat(1000)] {
            assert!(parse_mask(text).is_err(), "{text}");
        }
    }
}
