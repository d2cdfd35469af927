//! `apply` and `revert` on a kernel of their own: a virtual machine with two NUMA nodes, an NVMe drive and a NIC at the second of them. It takes
//! qemu, a static busybox, and a kernel of the distribution in /boot; where one of them is missing it says so. Where the hardware does not support
//! machines, or does so badly, it is emulated.

use super::change::Scratch;
use penstock::io::clock::Clock;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Modules of the kernel for the machine's drive and NIC; what they need comes with them.
const MODULES: [&str; 2] = ["/nvme.ko", "/e1000e.ko"];
/// Until it must have begun, and ended: with the hardware's support, and emulated.
const UP_NS: [u64; 2] = [60_000_000_000, 240_000_000_000];
const OVER_NS: [u64; 2] = [300_000_000_000, 900_000_000_000];
const STEP: Duration = Duration::from_millis(100);

/// Values that the machine is told, among others.
const SET: &[&str] = &[
    "/proc/sys/vm/zone_reclaim_mode",
    "/proc/sys/kernel/numa_balancing",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/block/nvme0n1/queue/nomerges",
    "/sys/block/nvme0n1/queue/scheduler",
    "/sys/block/nvme0n1/queue/max_sectors_kb",
    "/proc/sys/net/ipv4/tcp_wmem",
    "/proc/sys/net/ipv4/tcp_notsent_lowat",
    "/proc/sys/fs/aio-max-nr",
    "/sys/block/nvme0n1/queue/nr_requests",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/netdev_max_backlog",
    "/proc/sys/net/ipv4/tcp_tw_reuse",
    "/sys/class/net/eth0/queues/rx-0/rps_cpus",
    "/ethtool/eth0/rings/rx",
];

/// An image and its modules' directory.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

fn kernel() -> Option<Kernel> {
    let images = std::fs::read_dir("/boot").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<Kernel> = images
        .filter_map(|name| {
            let modules = Path::new("/lib/modules").join(name.strip_prefix("vmlinuz-")?);
            Some(Kernel { image: Path::new("/boot").join(&name), modules })
        })
        .filter(|kernel| kernel.modules.join("modules.dep").exists())
        .collect();
    found.sort_by(|one, other| one.image.cmp(&other.image));
    found.pop()
}

/// Paths of modules below the kernel's directory, what others need first.
fn modules(kernel: &Kernel) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(kernel.modules.join("modules.dep")).ok()?;
    let mut all = Vec::new();
    for name in MODULES {
        let (path, needs) =
            text.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| path.ends_with(name))?;
        all.extend(needs.split_whitespace().rev().map(String::from));
        all.push(path.to_string());
    }
    let mut seen = BTreeSet::new();
    all.retain(|path| seen.insert(path.clone()));
    Some(all)
}

/// What a program is linked with.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().filter(|word| word.starts_with('/')).map(String::from).collect()
}

/// An archive that a kernel unpacks as its first file system: "newc" of cpio.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        for (at, _) in path.match_indices('/') {
            if self.directories.insert(path[..at].to_string()) {
                self.entry(&path[..at], 0o040755, &[]);
            }
        }
        self.entry(path, 0o100000 | mode, content);
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let (size, name) = (content.len(), path.len() + 1);
        let fields = [0, mode as usize, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        fields.iter().for_each(|field| self.bytes.extend_from_slice(format!("{field:08x}").as_bytes()));
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

fn first_files(kernel: &Kernel, modules: &[String]) -> Vec<u8> {
    let mut archive = Archive::default();
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    archive.add("init", 0o755, include_bytes!("machine.sh"));
    archive.add("bin/busybox", 0o755, &read(Path::new("/bin/busybox")));
    let program = Path::new(env!("CARGO_BIN_EXE_penstock"));
    archive.add("bin/penstock", 0o755, &read(program));
    for library in libraries(program) {
        archive.add(library.trim_start_matches('/'), 0o755, &read(Path::new(&library)));
    }
    let name = |path: &str| path.rsplit('/').next().expect("a path has a last part").to_string();
    for path in modules {
        archive.add(&format!("modules/{}", name(path)), 0o644, &read(&kernel.modules.join(path)));
    }
    let order: String = modules.iter().map(|path| name(path) + "\n").collect();
    archive.add("modules/order", 0o644, order.as_bytes());
    archive.end()
}

/// Runs the machine; gives what it printed. `None`: it has not begun in time.
fn run(scratch: &Path, kernel: &Kernel, hardware: bool) -> Option<String> {
    let (console, drive) = (scratch.join("console"), scratch.join("drive"));
    std::fs::File::create(&drive).and_then(|file| file.set_len(64 << 20)).expect("there is room");
    let mut qemu = Command::new("qemu-system-x86_64");
    let how = if hardware { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg,thread=single", "-cpu", "max"] };
    qemu.args(how).args(["-M", "q35", "-m", "1G", "-smp", "4,sockets=2,cores=2", "-no-reboot", "-display", "none"]);
    for node in 0..2 {
        let cores = format!("node,nodeid={node},cpus={}-{},memdev=m{node}", 2 * node, 2 * node + 1);
        qemu.args(["-object", &format!("memory-backend-ram,id=m{node},size=512M"), "-numa", &cores]);
    }
    // A bridge of the second node, with the drive and the NIC behind it.
    qemu.args(["-device", "pxb-pcie,id=second,bus_nr=32,numa_node=1,bus=pcie.0"]);
    for port in 0..2 {
        qemu.args(["-device", &format!("pcie-root-port,id=port{port},bus=second,slot={port},chassis={}", port + 1)]);
    }
    qemu.arg("-drive").arg(format!("file={},if=none,id=drive,format=raw", drive.display()));
    qemu.args(["-device", "nvme,serial=1,drive=drive,bus=port0", "-netdev", "user,id=net,restrict=on"]);
    qemu.args(["-device", "e1000e,netdev=net,bus=port1", "-append", "console=ttyS0 quiet loglevel=1 panic=-1"]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(scratch.join("first"));
    qemu.arg("-serial").arg(format!("file:{}", console.display())).stdin(Stdio::null());
    let mut child = qemu.spawn().expect("qemu starts");
    let begin = Clock.now().mono;
    let text = || String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).replace('\r', "");
    loop {
        let ended = child.try_wait().expect("it is ours").is_some();
        let took = Clock.now().mono - begin;
        let most = usize::from(!hardware);
        let late = took > OVER_NS[most] || took > UP_NS[most] && !text().contains("= up");
        if !ended && !late {
            std::thread::sleep(STEP);
            continue;
        }
        if !ended {
            child.kill().and_then(|()| child.wait()).expect("it is ours");
        }
        let text = text();
        return text.contains("= up").then_some(text);
    }
}

#[test]
fn a_machine_of_two_nodes_is_tuned_and_put_back() {
    let there = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there("qemu-system-x86_64") || !Path::new("/bin/busybox").exists() {
        return println!("SKIPPED: no qemu-system-x86_64, or no busybox");
    }
    let Some((kernel, modules)) = kernel().and_then(|kernel| modules(&kernel).map(|modules| (kernel, modules))) else {
        return println!("SKIPPED: no kernel in /boot with modules for NVMe and e1000e");
    };
    let scratch = Scratch::new("machine");
    let mut first = std::fs::File::create(scratch.0.join("first")).expect("it can be made");
    first.write_all(&first_files(&kernel, &modules)).expect("there is room");
    let hardware = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let said = if hardware { run(&scratch.0, &kernel, true) } else { None };
    let Some(said) = said.or_else(|| run(&scratch.0, &kernel, false)) else {
        return println!("SKIPPED: qemu starts no machine here");
    };
    for line in [
        "host: 2 nodes, 4 cores, 4 threads",
        "= map ended with 0",
        "= apply ended with 0",
        "= watch ended with 0",
        "= something has changed",
        "= revert ended with 0",
        "everything is as it was before",
        "= all is as before",
        "= all is as before a second time",
        "= all is as before again",
        "= over",
    ] {
        assert!(said.lines().any(|other| other == line), "{line} is missing in\n{said}");
    }
    for path in SET {
        for done in ["set", "put back"] {
            assert!(said.lines().any(|line| line == format!("{done} {path}")), "{done} {path}: no;\n{said}");
        }
    }
    // What the kernel moves with them is told, and goes back.
    for path in [
        "/proc/sys/vm/min_free_kbytes",
        "/sys/block/nvme0n1/queue/nr_requests",
        "/sys/block/nvme0n1/queue/iosched/async_depth",
    ] {
        let told =
            said.lines().any(|line| line.starts_with(&format!("note: {path}: changed by the kernel with this, from ")));
        assert!(told && said.lines().any(|line| line == format!("put back {path}")), "{path}: no;\n{said}");
    }
    let moved = said.lines().filter(|line| line.starts_with("set /proc/irq/")).count();
    assert!(moved > 0, "{said}");
    // The NIC is at the second node, so its cores come first; and its driver was told another ring, and the old one again.
    assert!(said.contains("worker 0") && said.contains("eth0 is at node 1, so its cores come first"), "{said}");
    assert!(said.lines().any(|line| line == "+\"rx\" = \"1024\""), "{said}");
    let killed = said.lines().filter(|line| line.starts_with("= revert after a kill")).collect::<Vec<_>>();
    assert!(killed.len() == 3 && killed.iter().all(|line| line.ends_with(" 0")), "{said}");
}
