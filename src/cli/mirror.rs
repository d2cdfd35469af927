//! The directories of a start and, where they are mirrored, the second half of each.

use super::directory;
use crate::io::device::Device;
use crate::io::op::FileName;
use crate::log::directories::Given;
use crate::log::superblock::Superblock;
use crate::mirror;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the operator says of mirrors.
#[derive(clap::Args, Debug)]
pub struct MirrorArgs {
    /// The second half of a data directory, on a drive of its own, in the order of --data: what is acknowledged is on both, and either may
    /// fail. Given for every data directory, or for none.
    #[arg(long, value_name = "DIR")]
    mirror: Vec<PathBuf>,
    /// Goes on with one half of a mirror though the other may hold what it has missed, or rebuilds an empty half.
    #[arg(long)]
    accept_degraded: bool,
    /// Most bytes a second that the rebuild of a half copies, for each core.
    #[arg(long, value_name = "SIZE", default_value = "100M", value_parser = super::size::parse)]
    rebuild_rate: u64,
}

/// All that a start is given, looked at and locked.
pub struct Gathered {
    /// First halves, the home first.
    pub data: Vec<PathBuf>,
    /// As many second halves, or none.
    pub seconds: Vec<PathBuf>,
    pub locks: Vec<Arc<File>>,
    /// Every half that there is, with its device.
    pub devices: Vec<(PathBuf, Device)>,
    /// What a pair of halves can be used as, by its place.
    pub given: Vec<Given>,
    /// Halves that cannot be used, and why.
    pub missing: Vec<String>,
    pub settings: Option<mirror::Settings>,
}

impl Gathered {
    /// The half of each pair that there is, the first one before the second.
    pub fn present(&self, place: usize) -> &Path {
        let halves = std::iter::once(&self.data[place]).chain(self.seconds.get(place));
        let is_there = |half: &&PathBuf| self.devices.iter().any(|(path, _)| path == *half);
        halves.clone().find(is_there).unwrap_or(&self.data[place])
    }

    /// The device of the half of each pair that there is.
    pub fn device(&self, place: usize) -> Device {
        let half = self.present(place);
        let (_, device) = self.devices.iter().find(|(path, _)| path == half).expect("one half of each pair is there");
        device.clone()
    }

    /// The superblock that knows most logs, for what has to be known before there are workers.
    pub fn superblock(&self) -> Option<Superblock> {
        let halves = std::iter::once(&self.data[0]).chain(self.seconds.first());
        halves.filter_map(|half| directory::superblock(half)).max_by_key(Superblock::log_count)
    }
}

/// Opens, locks and looks at all directories of a start. `random`: for the ids of marks that are made.
pub fn gather(data: &[PathBuf], args: &MirrorArgs, random: u64) -> Result<Gathered, String> {
    if args.mirror.is_empty() {
        let data = directory::open_all(data)?;
        if let Some(half) = data.iter().find(|path| path.join(FileName::Mark { given: 0 }.to_string()).exists()) {
            return Err(format!(
                "{0} is half of a mirror, and may have missed what the other half holds: name the other one with --mirror; or, to go on \
                 without it for good, start once with --mirror and look that {0} is whole, then remove the files named mirror from it",
                half.display()
            ));
        }
        let locks = data.iter().map(|data| directory::lock(data)).collect::<Result<_, _>>()?;
        let (devices, given): (Vec<Device>, Vec<Given>) = directory::survey(&data)?.into_iter().unzip();
        let devices = data.iter().cloned().zip(devices).collect();
        return Ok(Gathered { data, seconds: Vec::new(), locks, devices, given, missing: Vec::new(), settings: None });
    }
    let data = if data.is_empty() { vec![directory::default()?] } else { data.to_vec() };
    if data.len() != args.mirror.len() {
        return Err(format!(
            "--mirror names {} directories, and --data {}: each data directory has one mirror, in the same order",
            args.mirror.len(),
            data.len()
        ));
    }
    let mut missing = Vec::new();
    let mut halves = Vec::new();
    for path in data.iter().chain(&args.mirror) {
        halves.push(directory::open(path).map_err(|why| missing.push(why)).ok());
    }
    let named = |place: usize| data.iter().chain(&args.mirror).nth(place).expect("as many as halves").clone();
    let paths: Vec<PathBuf> = halves.iter().enumerate().map(|(at, half)| half.clone().unwrap_or(named(at))).collect();
    let (data, seconds) = paths.split_at(data.len());
    let there: Vec<PathBuf> = halves.iter().flatten().cloned().collect();
    directory::open_all(&there)?;
    let locks = there.iter().map(|half| directory::lock(half)).collect::<Result<_, _>>()?;
    let found = directory::survey(&there)?;
    let mut given = Vec::new();
    for (first, second) in data.iter().zip(seconds) {
        let of = |half: &PathBuf| there.iter().position(|path| path == half).map(|at| &found[at].1);
        let pair = match (of(first), of(second)) {
            (Some(first), Some(second)) => both(first, second),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => return Err(missing.join("; ")),
        };
        given.push(Given { path: first.display().to_string(), ..pair });
    }
    let settings = mirror::Settings {
        blocks: given.iter().map(|given| given.block).collect(),
        paths: data.iter().zip(seconds).map(|(a, b)| [a.display().to_string(), b.display().to_string()]).collect(),
        accept_degraded: args.accept_degraded,
        rebuild_rate: args.rebuild_rate,
        random,
        canary: false,
    };
    let (data, seconds) = (data.to_vec(), seconds.to_vec());
    let devices = there.into_iter().zip(found.into_iter().map(|(device, _)| device)).collect();
    Ok(Gathered { data, seconds, locks, devices, given, missing, settings: Some(settings) })
}

/// What two halves can do together.
fn both(first: &Given, second: &Given) -> Given {
    Given {
        path: first.path.clone(),
        free: first.free.min(second.free),
        used: first.used.max(second.used),
        block: first.block.max(second.block),
        flush: first.flush || second.flush,
        node: first.node.or(second.node),
        id: first.id,
        has_logs: first.has_logs || second.has_logs,
        has_superblock: first.has_superblock || second.has_superblock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_halves_do_what_the_weaker_one_can() {
        let first = Given { free: 10, used: 5, block: 4096, ..Given::default() };
        let second = Given { free: 7, used: 6, block: 16 << 10, flush: true, has_logs: true, ..Given::default() };
        let pair = both(&first, &second);
        assert_eq!((pair.free, pair.used, pair.block, pair.flush, pair.has_logs), (7, 6, 16 << 10, true, true));
    }
}
