//! Histograms as others read them: the log of HdrHistogram, version 1.3, and its table of percentiles.
//!
//! ```text
//! line        Tag=NAME,begin s,length s,longest ms,base64
//! base64 of   cookie u32 1c849314 | length u32 | zlib of the histogram                                       all big-endian
//! histogram   cookie u32 1c849313 | length of the counts u32 | shift u32 0 | digits u32 | lowest u64 | highest u64 | ratio f64 | counts
//! counts      ZigZag LEB128, at most nine bytes each: a count, or minus how many counts are 0
//! ```
//!
//! It loses nothing: histograms of several hosts are read back and added up.

use super::tally::{LONGEST_NS, histogram};
use crate::stdx::calendar::Civil;
use base64_simd::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::io::{Read, Write as _};

const COMPRESSED: u32 = 0x1c84_9314;
const COOKIE: u32 = 0x1c84_9313;
const DIGITS: u32 = 3;
/// Half of the sub-buckets of a bucket, as a power of two: what three digits need.
const HALF: u32 = 10;
/// Bytes in front of the counts.
const HEAD: usize = 40;
/// Of one histogram, decompressed: more than every count in its longest form.
const BYTES_MAX: u64 = 1 << 20;

/// The head of a log that begins at `seconds` since 1970.
pub fn head(seconds: f64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::from_seconds(seconds as u64);
    format!(
        "#[Histogram log format version 1.3]\n\
         #[StartTime: {seconds:.3} (seconds since epoch), {year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
    )
}

/// A line of a log: `histogram` of the `length` seconds from `begin` on, ns.
pub fn line(tag: &str, begin: f64, length: f64, histogram: &Histogram<u64>) -> String {
    let longest = histogram.max() as f64 / 1e6;
    format!("Tag={tag},{begin:.3},{length:.3},{longest:.3},{}\n", STANDARD.encode_to_string(compress(histogram)))
}

/// A line of a log: tag, begin and length in seconds, histogram.
pub type Line = (String, f64, f64, Histogram<u64>);

/// The lines of a log. The text says which line is none.
pub fn read(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.starts_with('"') || line.trim().is_empty() {
            continue;
        }
        let parsed = parse(line).ok_or_else(|| format!("line {}: no line of a histogram log", number + 1))?;
        lines.push(parsed);
    }
    Ok(lines)
}

fn parse(line: &str) -> Option<Line> {
    let (tag, rest) = line.strip_prefix("Tag=")?.split_once(',')?;
    let mut parts = rest.split(',');
    let (begin, length, _longest) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    let bytes = STANDARD.decode_to_vec(parts.next()?.trim()).ok()?;
    Some((tag.to_string(), begin, length, decompress(&bytes)?))
}

/// The place of a value among the counts.
fn place(value: u64) -> usize {
    let bucket = u64::BITS - (value | ((2 << HALF) - 1)).leading_zeros() - (HALF + 1);
    (((bucket + 1) as usize) << HALF) + (value >> bucket) as usize - (1 << HALF)
}

/// The lowest value that has this place.
fn value(place: usize) -> u64 {
    let (bucket, sub) = (place >> HALF, (place & ((1 << HALF) - 1)) as u64);
    if bucket == 0 { sub } else { (sub + (1 << HALF)) << (bucket - 1) }
}

fn compress(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut counts = Vec::new();
    let mut next = 0;
    for recorded in histogram.iter_recorded() {
        let place = place(recorded.value_iterated_to());
        match place - next {
            0 => {}
            skipped => put(&mut counts, -(skipped as i64)),
        }
        put(&mut counts, recorded.count_at_value() as i64);
        next = place + 1;
    }
    let mut bytes = Vec::with_capacity(HEAD + counts.len());
    for word in [COOKIE, counts.len() as u32, 0, DIGITS] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.extend_from_slice(&1u64.to_be_bytes());
    bytes.extend_from_slice(&LONGEST_NS.to_be_bytes());
    bytes.extend_from_slice(&1f64.to_be_bytes());
    bytes.extend_from_slice(&counts);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&bytes).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it");
    [&COMPRESSED.to_be_bytes()[..], &(packed.len() as u32).to_be_bytes(), &packed].concat()
}

fn decompress(bytes: &[u8]) -> Option<Histogram<u64>> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let packed = bytes.get(8..8 + word(bytes, 4)? as usize).filter(|_| word(bytes, 0) == Some(COMPRESSED))?;
    let mut plain = Vec::new();
    ZlibDecoder::new(packed).take(BYTES_MAX).read_to_end(&mut plain).ok()?;
    let (cookie, length, shift, digits) = (word(&plain, 0)?, word(&plain, 4)?, word(&plain, 8)?, word(&plain, 12)?);
    if (cookie, shift, digits) != (COOKIE, 0, DIGITS) || plain[16..24] != 1u64.to_be_bytes() {
        return None;
    }
    let mut counts = plain.get(HEAD..HEAD + length as usize)?;
    let mut histogram = histogram();
    let mut at = 0usize;
    while !counts.is_empty() {
        match take(&mut counts)? {
            skipped @ ..0 => at = at.checked_add(skipped.unsigned_abs() as usize)?,
            count => {
                // Beyond the longest value nothing is recorded.
                histogram.record_n(Some(value(at)).filter(|value| *value <= LONGEST_NS)?, count as u64).ok()?;
                at += 1;
            }
        }
    }
    Some(histogram)
}

fn put(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    for _ in 0..8 {
        if rest < 0x80 {
            break;
        }
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for at in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        // The ninth byte has eight bits.
        let more = at < 8 && byte & 0x80 != 0;
        zigzag |= ((if at < 8 { byte & 0x7f } else { *byte }) as u64) << (7 * at);
        if !more {
            break;
        }
    }
    Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

/// A table of percentiles, in µs, as plotters of HdrHistogram read it.
pub fn table(histogram: &Histogram<u64>) -> String {
    let mut out = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
        let _ = match quantile < 1.0 {
            true => writeln!(out, "{value:12.3} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(out, "{value:12.3} {quantile:2.12} {count:10}"),
        };
    }
    let (mean, deviation, longest) = (histogram.mean() / 1e3, histogram.stdev() / 1e3, histogram.max() as f64 / 1e3);
    let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(out, "#[Max     = {longest:12.3}, Total count    = {:12}]", histogram.len());
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2 << HALF);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::Random;

    #[test]
    fn a_histogram_is_read_back_as_it_was_count_for_count() {
        let mut random = Random::new(4);
        for size in [0, 1, 10, 10_000] {
            let mut written = histogram();
            for _ in 0..size {
                let bits = 1 + random.below(41);
                written.saturating_record(1 + random.below(1 << bits));
            }
            if size > 1 {
                written.record_n(5_000, 1 << 40).expect("in range");
            }
            let text = head(1_700_000_000.5) + &line("response", 0.0, 1.0, &written) + "\n";
            let read = read(&text).expect("a log");
            let [(tag, begin, length, back)] = &read[..] else { panic!("{} lines", read.len()) };
            assert_eq!((tag.as_str(), *begin, *length), ("response", 0.0, 1.0));
            assert_eq!((back.len(), back.max(), back.min()), (written.len(), written.max(), written.min()));
            let counts = |of: &Histogram<u64>| -> Vec<(u64, u64)> {
                of.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
            };
            assert_eq!(counts(back), counts(&written));
        }
    }

    #[test]
    fn places_follow_each_other() {
        for at in 0..30_000 {
            assert_eq!(place(value(at)), at);
            assert!(value(at + 1) > value(at));
            assert_eq!(place(value(at + 1) - 1), at);
        }
    }

    #[test]
    fn a_line_of_another_implementation_is_read() {
        // Made by hand from the format's description: one value of 7, one of 9, uncompressed blocks of zlib.
        let counts = [0x0d, 0x02, 0x01, 0x02];
        let mut plain = Vec::new();
        [COOKIE, 4, 0, 3].iter().for_each(|word| plain.extend_from_slice(&word.to_be_bytes()));
        plain.extend_from_slice(&1u64.to_be_bytes());
        plain.extend_from_slice(&3_600_000_000_000u64.to_be_bytes());
        plain.extend_from_slice(&1f64.to_be_bytes());
        plain.extend_from_slice(&counts);
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::none());
        packed.write_all(&plain).expect("memory");
        let packed = packed.finish().expect("memory");
        let bytes = [&COMPRESSED.to_be_bytes()[..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
        let back = decompress(&bytes).expect("a histogram");
        assert_eq!((back.count_at(7), back.count_at(9), back.len()), (1, 1, 2));
    }

    #[test]
    fn what_is_cut_or_changed_is_refused_or_read_as_something_but_never_fails() {
        let mut written = histogram();
        (1..2000).for_each(|value| written.record(value * 1000).expect("in range"));
        let bytes = compress(&written);
        for len in 0..bytes.len() {
            assert!(decompress(&bytes[..len]).is_none(), "{len}");
        }
        let mut random = Random::new(8);
        for _ in 0..2000 {
            let mut changed = bytes.clone();
            let at = random.below(changed.len() as u64) as usize;
            changed[at] ^= 1 << random.below(8);
            let _ = decompress(&changed);
        }
        assert!(read("Tag=a,1,2,3,!!").is_err() && read("nonsense").is_err());
    }

    #[test]
    fn the_table_ends_with_the_longest_value_and_the_count() {
        let mut written = histogram();
        (1..=1000).for_each(|value| written.record(value * 1000).expect("in range"));
        let table = table(&written);
        assert!(table.contains("0.500000000000") && table.contains("Total count    =         1000]"), "{table}");
        assert!(table.lines().any(|line| line.trim_start().starts_with("1000.") && line.contains("1.000000000000")));
    }
}
