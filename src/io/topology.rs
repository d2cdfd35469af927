//! Which NUMA node a block device belongs to, as `/sys` tells it. Whoever is not told works as well, only farther away.

use std::path::{Path, PathBuf};

/// How deep devices made of devices (device mapper, md) are followed.
const DEPTH_MAX: u32 = 4;

/// The node of the device with the number `major:minor`, where `sys` is sysfs; of a device made of several, the one that all of them are on.
pub fn node_of_device(sys: &Path, number: &str) -> Option<u32> {
    node_below(&sys.join("dev/block").join(number).canonicalize().ok()?, &sys.canonicalize().ok()?, DEPTH_MAX)
}

/// A disk's directory lies below that of its controller, which knows its node; a partition's below its disk's.
fn node_below(device: &Path, sys: &Path, depth: u32) -> Option<u32> {
    let parts = parts(device);
    if !parts.is_empty() {
        let nodes: Vec<Option<u32>> = match depth {
            0 => return None,
            _ => parts.iter().map(|part| node_below(part, sys, depth - 1)).collect(),
        };
        return nodes[0].filter(|_| nodes.iter().all(|node| *node == nodes[0]));
    }
    let above = device.ancestors().take_while(|path| path.starts_with(sys));
    // -1 where the machine has no nodes, or does not say.
    above.filter_map(|path| std::fs::read_to_string(path.join("numa_node")).ok()?.trim().parse().ok()).next()
}

/// The devices below a device that is made of others.
fn parts(device: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = entries.filter_map(|entry| entry.path().canonicalize().ok()).collect();
    parts.sort();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nodes_of_devices_are_read_and_what_is_not_told_is_none() {
        let sys = std::env::temp_dir().join(format!("penstock-sys-{}", std::process::id()));
        let made = |path: &str| {
            let path = sys.join(path);
            std::fs::create_dir_all(&path).expect("made");
            path
        };
        made("dev/block");
        let link = |number: &str, to: &Path| symlink(to, sys.join("dev/block").join(number)).expect("linked");
        let disk = |name: &str, node: &str| {
            let disk = made(&format!("devices/pci0000:00/{name}/nvme/{name}/{name}n1"));
            let controller = sys.join(format!("devices/pci0000:00/{name}/numa_node"));
            std::fs::write(controller, format!("{node}\n")).expect("written");
            disk
        };
        let (first, second, silent) = (disk("nvme0", "0"), disk("nvme1", "1"), disk("nvme2", "-1"));
        link("259:0", &first);
        link("259:1", &made("devices/pci0000:00/nvme1/nvme/nvme1/nvme1n1/nvme1n1p1"));
        link("259:2", &silent);
        for (number, parts) in [("253:0", vec![&second]), ("253:1", vec![&first, &second]), ("253:2", vec![])] {
            let slaves = made(&format!("devices/virtual/block/dm-{number}/slaves"));
            parts.iter().for_each(|part| symlink(part, slaves.join(part.file_name().expect("named"))).expect("linked"));
            link(number, slaves.parent().expect("it has one"));
        }
        let nodes = ["259:0", "259:1", "259:2", "253:0", "253:1", "253:2", "7:7"].map(|n| node_of_device(&sys, n));
        assert_eq!(nodes, [Some(0), Some(1), None, Some(1), None, None, None]);
        std::fs::remove_dir_all(&sys).expect("removed");
    }
}
