//! `penstock tune` on hosts that are not here: trees of `/sys` and `/proc`, what it says of them word for word, and trees full of rubbish.
//!
//! `PENSTOCK_GOLDEN=write` writes what is said now over what was expected; read the difference before it is committed.

mod alone;
mod asked;
mod beside;
mod change;
mod drive;
mod guide;
mod machine;
mod memory;
mod package;
mod prove;
mod ready;
mod service;
mod tree;

use penstock::tune::check::{self, Host, Profile, Status};
use penstock::tune::placement::place;
use penstock::tune::plan::Choice;
use penstock::tune::root::Root;
use penstock::tune::{discover, map, report, svg};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use tree::{Entry, Unfolded, read, unfold};

const HOSTS: &[&str] = &[
    "xeon-mlx5",
    "xeon-tuned",
    "epyc-nps4-bnxt",
    "bond-vlan",
    "smt-off",
    "offline-cores",
    "no-nvme",
    "ena",
    "virtio",
    "container",
    "cgroup-v1",
];
const DATA: &str = "/var/lib/penstock";
/// What files may hold.
const RUBBISH: &[(&str, &[u8])] = &[
    ("empty", b""),
    ("binary", &[0, 255, 254, 10, 27, 128]),
    ("control", b"\x1b[2J\x07 3"),
    ("negative", b"-9223372036854775808\n"),
    ("huge", b"99999999999999999999999999999999\n"),
    ("many", b"0-4095\n"),
    ("commas", b",,,,-,-:\n: - \n[\n]\n"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune")
}

fn load(name: &str) -> String {
    let file = folder().join(format!("{name}.tree"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn entries(host: &str) -> BTreeMap<String, Entry> {
    read(&load(host), &load)
}

/// What is said of a tree.
struct Said {
    map: String,
    svg: String,
    check: String,
    json: serde_json::Value,
    statuses: Vec<(&'static str, Status)>,
}

fn say(tree: &Unfolded, profile: Profile) -> Said {
    let root = Root::recorded(&tree.0).expect("it has been unfolded");
    let topology = discover::topology(&root);
    let placement = place(&topology, profile);
    let host = Host { root: &root, topology: &topology, placement: &placement, profile, data: DATA };
    let outcomes = check::run(&host);
    Said {
        map: map::text(&topology, &placement),
        svg: svg::draw(&topology, &placement),
        check: report::text(profile, &outcomes),
        json: report::json(profile, &outcomes),
        statuses: outcomes.iter().map(|outcome| (outcome.check.id, outcome.status)).collect(),
    }
}

fn must_be(file: &str, said: &str) {
    let path = folder().join(file);
    if std::env::var("PENSTOCK_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, said).expect("the folder of this test can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = expected.lines().zip(said.lines()).find(|(expected, said)| expected != said);
    assert!(expected == said, "{file} says otherwise, first {differing:?}; now:\n{said}");
}

#[test]
fn maps_and_checks_of_known_hosts_are_as_they_were() {
    for host in HOSTS {
        let said = say(&unfold(&entries(host), host), Profile::Latency);
        must_be(&format!("{host}.map"), &said.map);
        must_be(&format!("{host}.check"), &said.check);
    }
}

#[test]
fn the_picture_and_the_json_are_as_they_were() {
    let said = say(&unfold(&entries("virtio"), "picture"), Profile::Ci);
    must_be("virtio.svg", &said.svg);
    must_be("virtio.json", &format!("{:#}\n", said.json));
}

#[test]
fn every_check_is_met_on_some_host_and_not_on_another() {
    let mut met = BTreeSet::new();
    let mut unmet = BTreeSet::new();
    for host in HOSTS {
        let tree = unfold(&entries(host), &format!("both-{host}"));
        for profile in [Profile::Latency, Profile::Ci] {
            for (id, status) in say(&tree, profile).statuses {
                match status {
                    Status::Ok => _ = met.insert(id),
                    Status::Info | Status::Warn | Status::Fail => _ = unmet.insert(id),
                    Status::Absent | Status::Unknown => {}
                }
            }
        }
    }
    let all: BTreeSet<&str> = check::all().map(|check| check.id).collect();
    assert_eq!(all.len(), check::all().count(), "two checks have the same id");
    let never_met: Vec<_> = all.difference(&met).collect();
    let always_met: Vec<_> = all.difference(&unmet).collect();
    assert!(never_met.is_empty() && always_met.is_empty(), "never met: {never_met:?}, never unmet: {always_met:?}");
}

/// Whatever moves interrupts does no harm where it was told to leave those of the NIC alone.
#[test]
fn who_moves_interrupts_may_be_kept_off_them() {
    let status = |more: &str| {
        let mut entries = entries("ena");
        entries.extend(read(more, &load));
        let said = say(&unfold(&entries, "movers"), Profile::Latency);
        said.statuses.iter().find(|(id, _)| *id == "irqbalance").expect("there is one").1
    };
    let banned = |numbers: std::ops::RangeInclusive<u32>| {
        let words: Vec<String> = numbers.map(|number| format!("--banirq={number}")).collect();
        format!("etc/default/irqbalance = # none\\nIRQBALANCE_ARGS=\"--debug {}\"\n", words.join(" "))
    };
    assert_eq!(status(""), Status::Warn);
    assert_eq!(status(&banned(41..=48)), Status::Ok);
    assert_eq!(status(&banned(42..=48)), Status::Warn, "one of its interrupts is left out");
    let agent = "proc/914/comm = google_guest_ag\n";
    assert_eq!(status(&(banned(41..=48) + agent)), Status::Warn);
    let kept_off = "etc/default/instance_configs.cfg = [NetworkInterfaces]\\nset_multiqueue = false\n";
    assert_eq!(status(&(banned(41..=48) + agent + kept_off)), Status::Ok);
}

/// Where the kernel says so: a program that has reached no server keeps nothing right, and that of a container runs outside of it.
#[test]
fn the_kernel_s_word_on_its_clock_counts_more_than_who_runs() {
    let status = |more: &str| {
        let mut entries = entries("xeon-tuned");
        entries.extend(read(more, &load));
        entries.retain(|path, _| !more.contains(&format!("{path} ~")));
        let said = say(&unfold(&entries, "clock"), Profile::Latency);
        said.statuses.iter().find(|(id, _)| *id == "time-sync").expect("there is one").1
    };
    assert_eq!(status(""), Status::Ok);
    assert_eq!(status("clock/synchronised = no\n"), Status::Warn);
    assert_eq!(status("proc/812/comm = bash\n"), Status::Ok);
    assert_eq!(status("proc/812/comm = bash\nclock/synchronised ~\n"), Status::Warn);
}

/// What is not done to a core that is isolated: its tick goes on, or managed interrupts come.
#[test]
fn isolation_is_of_the_tick_and_of_managed_interrupts_as_well() {
    let status = |more: &str| {
        let mut entries = entries("xeon-tuned");
        entries.extend(read(more, &load));
        let said = say(&unfold(&entries, "isolation"), Profile::Latency);
        said.statuses.iter().find(|(id, _)| *id == "isolation").expect("there is one").1
    };
    assert_eq!(status(""), Status::Ok);
    assert_eq!(status("sys/devices/system/cpu/nohz_full = (null)\n"), Status::Warn);
    assert_eq!(status("sys/devices/system/cpu/nohz_full = 0-2,16-19\n"), Status::Warn);
    assert_eq!(status("proc/cmdline = ro isolcpus=domain,0-3 nohz_full=0-3\n"), Status::Warn);
}

/// What may not be read is not taken for good, and nothing that is read takes root.
#[test]
fn a_check_takes_no_root() {
    let program = env!("CARGO_BIN_EXE_penstock");
    let nobody = ["--reuid=65534", "--clear-groups", "--inh-caps=-all", "--"];
    let tried = Command::new("setpriv").args(nobody).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        return println!("SKIPPED: this cannot be run as somebody without privileges");
    }
    let scratch = change::Scratch::new("nobody");
    let data = scratch.0.join("data");
    std::fs::create_dir(&data).expect("a directory");
    std::fs::write(data.join("superblock-0"), "of root").expect("it can be written");
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it is ours");
    let check = |before: &[&str]| {
        let mut command = Command::new(before.first().unwrap_or(&program));
        command.args(before.iter().skip(1)).args(before.first().map(|_| program));
        let output = command.args(["tune", "check", "--json", "--data"]).arg(&data).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert!(output.status.code().is_some_and(|code| [0, 3, 4, 5].contains(&code)), "{told}");
        let checks = json["checks"].as_array().expect("a list").clone();
        let status = |check: &serde_json::Value| (check["id"].to_string(), check["status"].to_string());
        checks.iter().map(status).collect::<BTreeMap<_, _>>()
    };
    let (root, other) = (check(&[]), check(&[&["setpriv"][..], &nobody[..]].concat()));
    assert_eq!(other["\"space\""], "\"unknown\"", "the directory is closed to it");
    let all = check::all().count();
    assert_eq!((root.len(), other.len()), (all, all));
    // What it is told is what root is told, or that it is not known; what is of each run, or changes from one moment to the next, is left out.
    let own =
        ["locked-memory", "open-files", "core-dumps", "pressure", "other-load", "system-call-filter", "worker-cores"];
    let counts = ["packets-dropped", "nic-losses", "stolen-time", "cpu-throttled", "overheated", "swap-used"];
    let differing = other.iter().filter(|(id, status)| root[*id] != **status && *status != "\"unknown\"");
    let differing: Vec<_> =
        differing.filter(|(id, _)| !own.iter().chain(&counts).any(|own| id.trim_matches('"') == *own)).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// Map, picture, plan, description and checks have it from one placement.
#[test]
fn a_profile_decides_where_interrupts_go() {
    let tree = unfold(&entries("xeon-mlx5"), "interrupts");
    let program = |what: &str, profile: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        let output = command.args(["tune", what, "--profile", profile, "--root"]).arg(&tree.0).output();
        String::from_utf8(output.expect("it runs").stdout).expect("text")
    };
    let placed = |profile| {
        let plan =
            change::planned(&tree.0, profile, &Choice { only: vec!["nic-interrupts".into()], ..Choice::default() });
        let number = |path: &str| path.split('/').nth(3).and_then(|number| number.parse::<usize>().ok());
        let moved = plan.values.iter().map(|value| (number(&value.knob.path), value.knob.value.clone()));
        moved.collect::<Vec<_>>()
    };
    let on = |cores: [usize; 8]| (121..).map(Some).zip(cores.map(|core| core.to_string())).collect::<Vec<_>>();
    assert_eq!(placed(Profile::Latency), on([6, 7, 22, 23, 6, 7, 22, 23]));
    for profile in [Profile::Throughput, Profile::Ci] {
        assert_eq!(placed(profile), on([16, 17, 18, 19, 20, 21, 22, 23]));
    }
    let (latency, throughput) = (program("map", "latency"), program("map", "throughput"));
    assert!(
        latency.contains("\n  core 6 interrupts, 22 interrupts\n") && latency.contains("\n  interrupts: 6-7,22-23\n")
    );
    assert!(throughput.contains("\n  core 6 worker 6, 22 companion of 6\n"), "{throughput}");
    assert!(throughput.contains("\n  interrupts: beside workers\n"), "{throughput}");
    assert!(say(&tree, Profile::Latency).svg.contains(">22 interrupts<"));
    assert!(!say(&tree, Profile::Throughput).svg.contains(">22 interrupts<"));
    assert!(program("describe", "latency").contains("\ninterrupts = [6, 7, 22, 23]\n"));
    assert!(program("describe", "throughput").contains("\ninterrupts = []\n"));
    // Where packets arrive no core sleeps, as none does where they go.
    let awake = |profile| {
        let plan =
            change::planned(&tree.0, profile, &Choice { with: vec!["sleep-states".into()], ..Choice::default() });
        let core = |path: &str| path.contains("/cpu22/cpuidle/");
        plan.values.iter().any(|value| core(&value.knob.path))
    };
    assert!(awake(Profile::Latency) && !awake(Profile::Throughput));
    // What is well placed for the one is not for the other.
    let status = |cores: &str, profile| {
        let mut entries = entries("xeon-mlx5");
        entries.extend(read(&format!("proc/irq/{{121-128}}/effective_affinity_list = {cores}\n"), &load));
        let said = say(&unfold(&entries, "placed"), profile).statuses;
        ["nic-interrupts", "nic-interrupts-spread"]
            .map(|name| said.iter().find(|(id, _)| *id == name).expect("there").1)
    };
    assert_eq!(status("{-105}", Profile::Throughput), [Status::Ok, Status::Ok], "16 to 23");
    assert_eq!(status("{-105}", Profile::Latency), [Status::Warn, Status::Ok], "beside workers");
    assert_eq!(status("22", Profile::Latency), [Status::Ok, Status::Warn], "all on one");
    assert_eq!(status("22", Profile::Throughput), [Status::Ok, Status::Warn]);
}

#[test]
fn a_profile_decides_what_weighs() {
    let tree = unfold(&entries("xeon-mlx5"), "profiles");
    let status = |profile, id| say(&tree, profile).statuses.iter().find(|(other, _)| *other == id).map(|found| found.1);
    assert_eq!(status(Profile::Latency, "timer-migration"), Some(Status::Warn));
    assert_eq!(status(Profile::Throughput, "timer-migration"), Some(Status::Info));
    assert_eq!(status(Profile::Latency, "turbo"), Some(Status::Ok));
    assert_eq!(status(Profile::Ci, "turbo"), Some(Status::Warn));
}

/// No content of a file ends the program, and none of these is taken for a good one.
#[test]
fn rubbish_is_unknown() {
    for (name, bytes) in RUBBISH {
        for host in ["xeon-mlx5", "virtio"] {
            let entries = entries(host);
            let tree = unfold(&entries, &format!("{name}-{host}"));
            for (path, _) in entries.iter().filter(|(_, entry)| matches!(entry, Entry::File(_))) {
                std::fs::write(tree.0.join(path), bytes).expect("it was unfolded there");
            }
            let said = say(&tree, Profile::Latency);
            assert!(!said.map.contains('\x1b') && !said.check.contains('\x1b'), "{name}: {}", said.check);
            if ["empty", "binary", "control"].contains(name) {
                // That a thing is not there may still be seen.
                let wrong =
                    said.statuses.iter().filter(|(id, status)| *status == Status::Ok && *id != "connection-tracking");
                assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&(&str, Status)>::new(), "{name} files on {host}");
            }
        }
    }
}

#[test]
fn a_tree_with_nothing_in_it_is_unknown_throughout() {
    let said = say(&unfold(&BTreeMap::new(), "nothing"), Profile::Latency);
    let wrong = said.statuses.iter().filter(|(_, status)| *status != Status::Unknown);
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&(&str, Status)>::new());
    assert!(said.map.contains("not known"), "{}", said.map);
}

#[test]
fn links_out_of_the_tree_show_nothing_of_this_host() {
    let text = "sys/devices/system/cpu/online -> /proc/version\nproc/sys/vm/swappiness -> /proc/sys/vm/swappiness\n";
    let tree = unfold(&read(text, &load), "links");
    let root = Root::recorded(&tree.0).expect("it has been unfolded");
    let why = root.text("/proc/sys/vm/swappiness").expect_err("it is of another host").why;
    assert!(why.contains("leads out of the tree"), "{why}");
}

#[test]
fn pipes_and_endless_files_are_not_waited_for() {
    let tree = unfold(&read("proc/long = x\n", &load), "pipes");
    let made = Command::new("mkfifo").arg(tree.0.join("proc/pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    std::fs::write(tree.0.join("proc/long"), "x".repeat(9 << 20)).expect("there is room");
    let root = Root::recorded(&tree.0).expect("it has been unfolded");
    assert!(root.text("/proc/pipe").expect_err("a pipe").why.contains("is no file"));
    assert!(root.text("/proc/long").expect_err("9 MiB").why.contains("is longer than"));
}

#[test]
fn the_exit_code_says_the_worst() {
    let tree = unfold(&entries("xeon-mlx5"), "program");
    let run = |more: &[&str], root: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        let output = command.arg("tune").args(more).arg("--root").arg(root).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"), output.stderr)
    };
    let (code, text, _) = run(&["check", "--json", "--data", DATA], &tree.0);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, json["worst"].as_str(), json["schema"].as_u64()), (Some(5), Some("fail"), Some(1)));

    let tuned = unfold(&entries("xeon-tuned"), "program-tuned");
    assert_eq!(run(&["check", "--data", DATA], &tuned.0).0, Some(0));
    std::fs::remove_file(tuned.0.join("proc/sys/vm/swappiness")).expect("it was there");
    assert_eq!(run(&["check", "--data", DATA], &tuned.0).0, Some(3));
    std::fs::write(tuned.0.join("proc/sys/vm/swappiness"), "60\n").expect("it can be written");
    assert_eq!(run(&["check", "--data", DATA], &tuned.0).0, Some(4));

    let picture = tree.0.join("map.svg");
    let (code, text, _) = run(&["map", "--svg", picture.to_str().expect("text")], &tree.0);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("host: 2 nodes, 16 cores, 32 threads\n"), "{text}");
    assert!(std::fs::read_to_string(picture).expect("it was written").ends_with("</svg>\n"));
    let (code, _, told) = run(&["map"], &tree.0.join("not-there"));
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(code == Some(1) && told.contains("--root"), "{told}");
}
