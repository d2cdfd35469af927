//! `penstock tune io`: what the drive under the data directory does.

use super::print;
use crate::cli::{directory, size};
use crate::io::device::{self, Device, Durability};
use crate::io::drive::{Atomic, DEPTHS, Depth, Drive, Rate, Space, Spread};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The version of the JSON, as for `check`.
const SCHEMA: u32 = 1;
/// What the trials take of the space, without the sustained writes.
const FREE_MIN: u64 = 1 << 30;
/// Sustained writes go over so many bytes at most, so that a cache of flash does not hold them all, and over this share of what is free.
const SUSTAINED_BYTES_MAX: u64 = 64 << 30;
const SUSTAINED_SHARE: u64 = 4;
/// Below this share of the first seconds the last ones have fallen.
const FALLEN_PERCENT: u64 = 70;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Data directory; it must be there, and no server may have it [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long to write without a pause; 0 leaves that out. A drive's cache of fast flash may last for more than ten minutes
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u64).range(0..=1440))]
    minutes: u64,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What has been found.
struct Found {
    device: Device,
    durable: Spread,
    flush: Spread,
    depths: Vec<Depth>,
    spaces: [(Space, Rate); 3],
    atomic: Atomic,
    sustained: Option<Sustained>,
    written: u64,
}

/// Of sustained writes: bytes in a second.
#[derive(Debug, PartialEq, Eq)]
struct Sustained {
    seconds: usize,
    median: u64,
    least: u64,
    /// Of the first tenth, and of the last.
    first: u64,
    last: u64,
    /// Seconds until everything was written for the second time or later; all of them if it never was.
    fresh: usize,
    latency: Spread,
}

pub fn run(args: &Args) -> Result<ExitCode, String> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => directory::default()?,
    };
    let failed = |error: std::io::Error| format!("{}: {error}", data.display());
    if !data.metadata().map_err(failed)?.is_dir() {
        return Err(format!("{} is no directory", data.display()));
    }
    // For as long as this is held no server begins to write beside it.
    let _rest = directory::at_rest(&data)?;
    let device = device::examine(&data).map_err(failed)?;
    if device.free < FREE_MIN {
        let (free, least) = (size::show(device.free), size::show(FREE_MIN));
        return Err(format!("{}: {free} are free, and trials take up to {least}; make room", data.display()));
    }
    let found = tried(&data, device, args.minutes * 60).map_err(failed)?;
    print(&match args.json {
        true => format!("{:#}\n", as_json(&found)),
        false => text(&data, &found),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn tried(data: &Path, device: Device, seconds: u64) -> std::io::Result<Found> {
    let mut drive = Drive::new(data, &device.number)?;
    drive.prepare()?;
    let durable = drive.durable()?;
    let flush = drive.flush()?;
    let depths = DEPTHS.iter().map(|depth| drive.small(*depth)).collect::<Result<_, _>>()?;
    let mut space = |space| drive.space(space).map(|rate| (space, rate));
    let spaces = [space(Space::Fresh)?, space(Space::Allocated)?, space(Space::Written)?];
    let atomic = drive.atomic();
    let sustained = match seconds {
        0 => None,
        seconds => {
            let bytes = (device.free / SUSTAINED_SHARE).min(SUSTAINED_BYTES_MAX);
            let mut each = Vec::new();
            let latency = drive.sustained(seconds, bytes, &mut |bytes, again| each.push((bytes, again)))?;
            summary(&each, latency)
        }
    };
    Ok(Found { device, durable, flush, depths, spaces, atomic, sustained, written: drive.written })
}

/// `each`: the bytes of each second, and whether all that was written in it had been written before.
fn summary(each: &[(u64, bool)], latency: Spread) -> Option<Sustained> {
    let mut sorted: Vec<u64> = each.iter().map(|(bytes, _)| *bytes).collect();
    sorted.sort_unstable();
    let tenth = each.len().div_ceil(10);
    let mean = |part: &[(u64, bool)]| part.iter().map(|(bytes, _)| bytes).sum::<u64>() / part.len().max(1) as u64;
    Some(Sustained {
        seconds: each.len(),
        median: *sorted.get(sorted.len() / 2)?,
        least: *sorted.first()?,
        first: mean(&each[..tenth]),
        last: mean(&each[each.len() - tenth..]),
        fresh: each.iter().position(|(_, again)| *again).unwrap_or(each.len()),
        latency,
    })
}

/// What a flush costs, as one letter.
fn class(flush: &Spread) -> &'static str {
    match flush.p50 {
        ..100_000 => "A (below 100 us)",
        100_000..1_000_000 => "B (below 1 ms)",
        _ => "C (1 ms or more: each ack waits for it)",
    }
}

fn text(data: &Path, found: &Found) -> String {
    let Device { number, file_system, durability, block, flush, .. } = &found.device;
    let way = if *flush { "one flush for a group of commits" } else { "each commit a durable write" };
    let mut out = format!("{}: device {number} on {file_system}, blocks of {block} bytes\n", data.display());
    out += &format!("  durability        {durability}; serve would take {way}\n");
    if *durability == Durability::Memory {
        out += "                    what follows is measured on memory and says nothing of a drive\n";
    }
    out += &format!("  durable 4 KiB     {}\n", quantiles(&found.durable));
    out += &format!("  flush             {}; class {}\n", quantiles(&found.flush), class(&found.flush));
    for Depth { depth, per_second, latency } in &found.depths {
        out += &format!("  4 KiB, {depth:>2} at once  {per_second}/s, {}\n", quantiles(latency));
    }
    let [.., (_, written)] = &found.spaces;
    for (space, rate) in &found.spaces {
        let name = match space {
            Space::Fresh => "behind the end",
            Space::Allocated => "allocated",
            Space::Written => "written before",
        };
        let times = written.bytes_per_second as f64 / rate.bytes_per_second.max(1) as f64;
        let against = match space {
            Space::Written => String::new(),
            _ => format!("; space that was written before takes {times:.1} times as much"),
        };
        out += &format!(
            "  64 KiB, {name:<14} {}, p50 {} us{against}\n",
            per_second(rate.bytes_per_second),
            rate.latency.p50 / 1000
        );
    }
    out += &format!("  never torn        {}\n", atomic(&found.atomic));
    match &found.sustained {
        Some(sustained) => out += &sustained_text(sustained),
        None => out += "  sustained         not tried (--minutes)\n",
    }
    out + &format!("  written           {} by these trials\n", size::show(found.written))
}

fn sustained_text(sustained: &Sustained) -> String {
    let Sustained { seconds, median, least, first, last, fresh, latency } = sustained;
    let (median, least) = (per_second(*median), per_second(*least));
    let mut out =
        format!("  sustained         {median} over {seconds} s, least second {least}; 1 MiB: {}\n", quantiles(latency));
    let again = match fresh {
        fresh if fresh == seconds => "all of it into space written for the first time".to_string(),
        0 => "all of it into space written before".to_string(),
        fresh => format!("the first {fresh} s into space written for the first time"),
    };
    let percent = last * 100 / (*first).max(1);
    let fallen = match percent < FALLEN_PERCENT {
        true => format!("FALLEN to {percent} % of the first: plan with {}", per_second(*last)),
        false => format!("{percent} % of the first"),
    };
    out += &format!("                    {again}; the last tenth {fallen}\n");
    out
}

fn atomic(atomic: &Atomic) -> String {
    let says = match atomic.most {
        0 => "the device says nothing of it".to_string(),
        most => format!("the device says {} to {most} bytes", atomic.least),
    };
    match atomic.taken {
        0 => format!("no write is sure not to be (RWF_ATOMIC is refused; {says})"),
        taken => format!("writes of up to {taken} bytes (RWF_ATOMIC; {says})"),
    }
}

fn per_second(bytes: u64) -> String {
    format!("{}/s", size::show(bytes))
}

fn quantiles(spread: &Spread) -> String {
    let us = |ns: u64| ns / 1000;
    let Spread { count, p50, p99, p999, max } = *spread;
    format!("p50 {} us, p99 {} us, p99.9 {} us, longest {} us of {count}", us(p50), us(p99), us(p999), us(max))
}

fn as_json(found: &Found) -> Value {
    let spread = |spread: &Spread| {
        let Spread { count, p50, p99, p999, max } = *spread;
        json!({ "count": count, "p50_ns": p50, "p99_ns": p99, "p999_ns": p999, "max_ns": max })
    };
    let depths = found.depths.iter().map(
        |depth| json!({ "depth": depth.depth, "per_second": depth.per_second, "latency": spread(&depth.latency) }),
    );
    let rate = |space: Space| {
        let rate = found.spaces.iter().find(|(other, _)| *other == space).map(|(_, rate)| rate);
        rate.map(|rate| json!({ "bytes_per_second": rate.bytes_per_second, "latency": spread(&rate.latency) }))
    };
    let sustained = found.sustained.as_ref().map(|sustained| {
        json!({
            "seconds": sustained.seconds,
            "median_bytes_per_second": sustained.median,
            "least_bytes_per_second": sustained.least,
            "first_tenth_bytes_per_second": sustained.first,
            "last_tenth_bytes_per_second": sustained.last,
            "seconds_into_fresh_space": sustained.fresh,
            "latency": spread(&sustained.latency),
        })
    });
    json!({
        "schema": SCHEMA,
        "device": found.device.number,
        "file_system": found.device.file_system,
        "block": found.device.block,
        "durability": found.device.durability.to_string(),
        "flush_for_groups": found.device.flush,
        "durable_4k": spread(&found.durable),
        "flush": spread(&found.flush),
        "flush_class": class(&found.flush).chars().next().map(String::from),
        "depths": depths.collect::<Vec<Value>>(),
        "space_fresh": rate(Space::Fresh),
        "space_allocated": rate(Space::Allocated),
        "space_written": rate(Space::Written),
        "atomic": { "least": found.atomic.least, "most": found.atomic.most, "taken": found.atomic.taken },
        "sustained": sustained,
        "written_bytes": found.written,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Spread = Spread { count: 1, p50: 1, p99: 1, p999: 1, max: 1 };

    #[test]
    fn a_drive_that_falls_is_told() {
        // Twelve seconds at a hundred, then eight at thirty.
        let each: Vec<(u64, bool)> = (0..20).map(|at| (if at < 12 { 100 << 20 } else { 30 << 20 }, at >= 5)).collect();
        let summed = summary(&each, LATENCY).expect("there are seconds");
        assert_eq!((summed.median, summed.least, summed.fresh), (100 << 20, 30 << 20, 5));
        assert_eq!((summed.first, summed.last), (100 << 20, 30 << 20));
        assert!(sustained_text(&summed).contains("FALLEN to 30 % of the first"));
        let steady = summary(&each[..12], LATENCY).expect("there are seconds");
        assert!(sustained_text(&steady).contains("100 % of the first"));
        assert_eq!(summary(&[], LATENCY), None);
    }

    #[test]
    fn classes_go_by_the_median_of_a_flush() {
        let letter = |p50: u64| &class(&Spread { p50, ..LATENCY })[..1];
        assert_eq!([letter(99_999), letter(100_000), letter(999_999), letter(1_000_000)], ["A", "B", "B", "C"]);
    }
}
