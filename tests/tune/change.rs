//! Plans, what applying them leaves, and that everything can be put back, wherever it stops.

use super::alone::alone;
use super::memory::{Last, Memory};
use super::tree::Unfolded;
use super::{DATA, HOSTS, RUBBISH, entries, must_be, unfold};
use penstock::tune::apply::{Foreign, Report, apply, revert};
use penstock::tune::check::{self, Host, Profile, Status};
use penstock::tune::drift::drift;
use penstock::tune::hands::{Disk, Entry, Hands};
use penstock::tune::placement::place;
use penstock::tune::plan::{Choice, Plan, plan};
use penstock::tune::root::Root;
use penstock::tune::{describe, discover, show};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Hosts that `tuning/hosts` describes.
const DESCRIBED: &[&str] = &["xeon-mlx5", "epyc-nps4-bnxt", "smt-off", "ena", "no-nvme"];
pub const JOURNAL: &str = "/var/lib/penstock-tune";

pub fn disk(tree: &Path) -> Disk {
    Disk::new(Root::recorded(tree).expect("it is there")).expect("it can be looked at")
}

pub fn planned(tree: &Path, profile: Profile, choice: &Choice) -> Plan {
    let root = Root::recorded(tree).expect("it has been unfolded");
    let topology = discover::topology(&root);
    let placement = place(&topology, profile);
    let host = Host { root: &root, topology: &topology, placement: &placement, profile, data: DATA };
    plan(&host, &mut disk(tree), choice)
}

fn statuses(tree: &Path) -> BTreeMap<&'static str, Status> {
    statuses_for(tree, Profile::Latency)
}

pub fn statuses_for(tree: &Path, profile: Profile) -> BTreeMap<&'static str, Status> {
    let root = Root::recorded(tree).expect("it has been unfolded");
    let topology = discover::topology(&root);
    let placement = place(&topology, profile);
    let host = Host { root: &root, topology: &topology, placement: &placement, profile, data: DATA };
    check::run(&host).iter().map(|outcome| (outcome.check.id, outcome.status)).collect()
}

/// Everything below a directory: kind, mode, text.
pub fn everything(top: &Path) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            let meta = path.symlink_metadata().expect("it is there");
            let name = format!("/{}", path.strip_prefix(top).expect("it is below").display());
            let entry = if meta.is_symlink() {
                Entry::Link(path.read_link().expect("a link").to_str().expect("text").to_string())
            } else if meta.is_dir() {
                todo.push(path);
                Entry::Directory
            } else {
                let bytes = std::fs::read(&path).expect("it can be read");
                let text = String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string());
                Entry::File { text, mode: meta.permissions().mode() & 0o7777, attribute: false }
            };
            found.insert(name, entry);
        }
    }
    found
}

/// The host of a tree in memory; with `kernel` its files below /sys and /proc are the kernel's, and links are followed as it does.
pub fn memory(tree: &Path, plan: &Plan, kernel: bool) -> Memory {
    let mut host = Memory::new(everything(tree));
    // Paths of the plan lead over links, which the host in memory does not follow.
    let mut put = |path: &str, text: String| {
        let mut directory = String::new();
        for part in path.split('/').skip(1) {
            directory += &format!("/{part}");
            host.tree.entry(directory.clone()).and_modify(|entry| {
                if matches!(entry, Entry::Link(_)) {
                    *entry = Entry::Directory;
                }
            });
            host.tree.entry(directory.clone()).or_insert(Entry::Directory);
        }
        host.tree.insert(path.to_string(), Entry::File { text, mode: 0o644, attribute: kernel });
    };
    for value in &plan.values {
        put(&value.knob.path, value.old.clone());
        for beside in &value.beside {
            if let Ok(Entry::File { text, .. }) = disk(tree).entry(&beside.path) {
                put(&beside.path, text);
            }
        }
    }
    host
}

/// A small number of knobs of each kind.
pub fn small(name: &str) -> (Unfolded, Plan) {
    let tree = unfold(&entries("virtio"), name);
    let choice = Choice { with: ["merging", "request-size"].map(String::from).into(), ..Choice::default() };
    let plan = planned(&tree.0, Profile::Latency, &choice);
    (tree, plan)
}

pub fn text(host: &Memory, path: &str) -> String {
    match host.tree.get(path) {
        Some(Entry::File { text, .. }) => text.trim().to_string(),
        other => panic!("{path}: {other:?}"),
    }
}

fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % below
    }
}

pub fn reverted(host: &mut dyn Hands, foreign: Foreign) -> Report {
    revert(host, JOURNAL, foreign).expect("the journal is whole").expect("there is one")
}

/// A directory that goes when it is dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("scratch-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The unit that an apply makes, and its drop-in for penstock's.
pub fn units() -> (String, String) {
    let (tree, plan) = small("units");
    apply(&mut disk(&tree.0), JOURNAL, &plan).expect("it can be written");
    let read = |name: &str| std::fs::read_to_string(tree.0.join("etc/systemd/system").join(name)).expect("it was made");
    (read("penstock-tune.service"), read("penstock.service.d/50-tune.conf"))
}

#[test]
fn plans_of_known_hosts_are_as_they_were() {
    for host in HOSTS {
        let tree = unfold(&entries(host), &format!("plan-{host}"));
        let plan = planned(&tree.0, Profile::Latency, &Choice::default());
        let (lasting, refused) = plan.lasting(&mut disk(&tree.0));
        must_be(&format!("{host}.plan"), &show::diff(&plan, &lasting, &refused));
    }
}

/// The hosts of `tuning/hosts` are those of this test.
#[test]
fn described_hosts_are_as_they_were() {
    for host in DESCRIBED {
        let tree = unfold(&entries(host), &format!("describe-{host}"));
        let root = Root::recorded(&tree.0).expect("it has been unfolded");
        let topology = discover::topology(&root);
        let profile = Profile::Latency;
        let placement = place(&topology, profile);
        let host_files = Host { root: &root, topology: &topology, placement: &placement, profile, data: DATA };
        let plan = plan(&host_files, &mut disk(&tree.0), &Choice::default());
        let head = "# Made up after a host of this kind, not taken from one; `penstock tune describe` prints yours.\n";
        must_be(&format!("../../tuning/hosts/{host}.toml"), &(head.to_string() + &describe::text(&host_files, &plan)));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/hosts");
    assert_eq!(std::fs::read_dir(folder).expect("it is there").count(), DESCRIBED.len());
}

#[test]
fn what_was_applied_is_mended_and_can_be_put_back_byte_for_byte() {
    for host in HOSTS {
        let mut entries = entries(host);
        // The kernel would show there what has been asked for; a copy of its files does not.
        entries.retain(|path, _| !path.ends_with("effective_affinity_list"));
        let tree = unfold(&entries, &format!("apply-{host}"));
        let before = everything(&tree.0);
        let plan = planned(&tree.0, Profile::Latency, &Choice::default());
        let report = apply(&mut disk(&tree.0), JOURNAL, &plan).expect("it can be written");
        assert_eq!(report.trouble, [], "{host}");
        let now = statuses(&tree.0);
        for value in &plan.values {
            let partly = plan.left.iter().any(|left| left.check == value.check);
            assert!(partly || now[value.check] == Status::Ok, "{host}: {} is {:?}", value.check, now[value.check]);
        }
        let after = everything(&tree.0);
        let again = planned(&tree.0, Profile::Latency, &Choice::default());
        assert!(again.values.is_empty(), "{host}: {:?}", again.values);
        let report = apply(&mut disk(&tree.0), JOURNAL, &again).expect("there is nothing to do");
        assert!(report.done.is_empty() && report.trouble.is_empty() && everything(&tree.0) == after, "{host}");
        if before == after {
            assert!(revert(&mut disk(&tree.0), JOURNAL, Foreign::Tell).expect("nothing to read").is_none());
            continue;
        }
        let report = reverted(&mut disk(&tree.0), Foreign::Tell);
        assert!(report.trouble.is_empty(), "{host}: {:?}", report.trouble);
        assert!(everything(&tree.0) == before, "{host}");
        assert!(revert(&mut disk(&tree.0), JOURNAL, Foreign::Tell).expect("nothing to read").is_none());
    }
}

/// Whatever the files hold.
#[test]
fn rubbish_is_put_back_as_well() {
    for (name, bytes) in RUBBISH {
        for host in ["xeon-mlx5", "virtio"] {
            let entries = entries(host);
            let tree = unfold(&entries, &format!("apply-{name}-{host}"));
            // A part of the files only, so that checks still find something to complain of.
            let files = entries.iter().filter(|(_, entry)| matches!(entry, super::tree::Entry::File(_)));
            for (path, _) in files.step_by(3) {
                std::fs::write(tree.0.join(path), bytes).expect("it was unfolded there");
            }
            let before = everything(&tree.0);
            let plan = planned(&tree.0, Profile::Latency, &Choice::default());
            let report = apply(&mut disk(&tree.0), JOURNAL, &plan).expect("it can be written");
            assert!(!report.done.is_empty(), "{name} on {host}");
            assert_eq!(reverted(&mut disk(&tree.0), Foreign::Tell).trouble, [], "{name} on {host}");
            assert!(everything(&tree.0) == before, "{name} on {host}: {}", differing(&everything(&tree.0), &before));
        }
    }
}

#[test]
fn the_script_does_what_apply_does() {
    for host in ["xeon-mlx5", "virtio"] {
        let (ours, theirs) = (unfold(&entries(host), "script-ours"), unfold(&entries(host), "script-theirs"));
        let plan = planned(&ours.0, Profile::Latency, &Choice::default());
        let script = show::script(&plan, &plan.lasting(&mut disk(&ours.0)).0);
        apply(&mut disk(&ours.0), JOURNAL, &plan).expect("it can be written");
        std::fs::remove_dir_all(ours.0.join("var")).expect("the journal is there alone");
        let mut shell = Command::new("sh");
        let status = shell.arg("-c").arg(format!("umask 022\n{script}")).arg("sh").arg(&theirs.0).status();
        assert!(status.expect("sh runs").success());
        let (ours, theirs) = (everything(&ours.0), everything(&theirs.0));
        let differs = ours.iter().zip(&theirs).find(|(one, other)| one != other);
        assert!(ours == theirs, "{host}: {differs:?}");
    }
}

/// At every step of it, done, half done or not done; with values of the kernel and with a copy of them.
#[test]
fn a_crash_of_apply_leaves_what_can_be_put_back() {
    let (tree, plan) = small("crash-apply");
    for kernel in [true, false] {
        let clean = memory(&tree.0, &plan, kernel);
        let mut whole = clean.clone();
        assert_eq!(apply(&mut whole, JOURNAL, &plan).expect("nothing fails").trouble, []);
        let steps = whole.steps;
        assert!(steps > 3 * plan.values.len(), "{steps}");
        let mut random = numbers(7);
        for step in 1..=steps {
            for last in [Last::Undone, Last::Half(random(1000)), Last::Done] {
                let mut host = clean.clone();
                host.crash = Some((step, last));
                let stopped = apply(&mut host, JOURNAL, &plan);
                assert!(stopped.is_err() || stopped.is_ok_and(|report| !report.trouble.is_empty() || step == steps));
                let mut back = host.restarted();
                let report = revert(&mut back, JOURNAL, Foreign::Tell).expect("the journal is whole");
                let trouble = report.map(|report| report.trouble).unwrap_or_default();
                assert_eq!(trouble, [], "step {step} {last:?}");
                assert!(back.tree == clean.tree, "step {step} {last:?}: {}", differing(&back.tree, &clean.tree));
                // Whoever applies again first ends as if nothing had happened, and comes back as well.
                let mut on = host.restarted();
                assert_eq!(apply(&mut on, JOURNAL, &plan).expect("it goes on").trouble, [], "step {step} {last:?}");
                for value in &plan.values {
                    assert!(
                        matches!(&on.tree[&value.knob.path], Entry::File { text, .. } if value.knob.form.same(text, &value.knob.value))
                    );
                }
                assert_eq!(reverted(&mut on, Foreign::Tell).trouble, []);
                assert!(on.tree == clean.tree, "step {step} {last:?}: {}", differing(&on.tree, &clean.tree));
            }
        }
    }
}

pub fn differing(one: &BTreeMap<String, Entry>, other: &BTreeMap<String, Entry>) -> String {
    let paths = one.keys().chain(other.keys()).filter(|path| one.get(*path) != other.get(*path));
    paths.map(|path| format!("\n{path}: {:?} or {:?}", one.get(path), other.get(path))).collect()
}

#[test]
fn a_crash_of_revert_leaves_what_can_be_put_back() {
    let (tree, plan) = small("crash-revert");
    let clean = memory(&tree.0, &plan, true);
    let mut applied = clean.clone();
    apply(&mut applied, JOURNAL, &plan).expect("nothing fails");
    let applied = applied.restarted();
    let mut whole = applied.clone();
    reverted(&mut whole, Foreign::Tell);
    let mut random = numbers(11);
    for step in 1..=whole.steps {
        for last in [Last::Undone, Last::Half(random(1000)), Last::Done] {
            let mut host = applied.clone();
            host.crash = Some((step, last));
            let _ = revert(&mut host, JOURNAL, Foreign::Tell);
            let mut back = host.restarted();
            let report = revert(&mut back, JOURNAL, Foreign::Tell).expect("the journal is whole");
            assert!(report.is_none_or(|report| report.trouble.is_empty()), "step {step} {last:?}");
            assert!(back.tree == clean.tree, "step {step} {last:?}: {}", differing(&back.tree, &clean.tree));
        }
    }
}

/// Many times in a row, at steps that a seed chooses.
#[test]
fn whatever_stops_however_often_everything_comes_back() {
    let (tree, plan) = small("crash-often");
    let clean = memory(&tree.0, &plan, true);
    for seed in 0..300 {
        let mut random = numbers(seed);
        let mut host = clean.clone();
        for _ in 0..1 + random(6) {
            let last = [Last::Undone, Last::Half(random(1000)), Last::Done][random(3) as usize];
            host.crash = Some((1 + random(120) as usize, last));
            match random(2) {
                0 => _ = apply(&mut host, JOURNAL, &plan),
                _ => _ = revert(&mut host, JOURNAL, Foreign::Tell),
            }
            host = host.restarted();
        }
        let report = revert(&mut host, JOURNAL, Foreign::Tell).expect("the journal is whole");
        assert!(report.is_none_or(|report| report.trouble.is_empty()), "seed {seed}");
        assert!(host.tree == clean.tree, "seed {seed}: {}", differing(&host.tree, &clean.tree));
    }
}

#[test]
fn what_the_kernel_refuses_holds_nothing_else_back() {
    let (tree, plan) = small("refused");
    let clean = memory(&tree.0, &plan, true);
    let path = |part: &str| {
        let found = plan.values.iter().find(|value| value.knob.path.contains(part)).expect("it is in the plan");
        found.knob.path.clone()
    };
    let mut host = clean.clone();
    let (irq, swap, thp, steady) = (path("/irq/"), path("swappiness"), path("hugepage/enabled"), path("stat_interval"));
    host.refused = [(irq.clone(), libc::EIO), (swap.clone(), libc::EPERM)].into();
    host.vanishing = vec![thp.clone()];
    host.stubborn = [(steady.clone(), "5\n".to_string())].into();
    let report = apply(&mut host, JOURNAL, &plan).expect("the journal can be written");
    let why = |path: &str| report.trouble.iter().find(|(other, _)| other == path).expect("it was told").1.clone();
    assert_eq!(report.trouble.len(), 4, "{:?}", report.trouble);
    assert!(why(&irq).contains("places this interrupt itself") && why(&swap).contains("takes root"));
    assert!(why(&thp).contains("gone") && why(&steady).contains("it holds 5 after 10 was written"));
    assert!(report.done.len() > 10, "{:?}", report.done);
    let sysctl = text(&host, "/etc/sysctl.d/99-penstock.conf");
    assert!(!sysctl.contains("swappiness") && !sysctl.contains("stat_interval") && sysctl.contains("timer_migration"));
    // What has been refused is no drift; that one file is gone, and that one holds something else.
    let drifted: Vec<String> =
        drift(&mut host, JOURNAL).expect("whole").drifted.into_iter().map(|found| found.0).collect();
    assert_eq!(drifted, [steady.as_str()]);
    host.refused.clear();
    host.stubborn.clear();
    let report = reverted(&mut host, Foreign::Tell);
    assert_eq!(host.tree[&swap], clean.tree[&swap]);
    // The value that the kernel would not give up is no longer as it was before, and not what was wanted.
    assert_eq!(report.trouble.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [steady.as_str()]);
    reverted(&mut host, Foreign::Overwrite);
    let mut expected = clean.tree.clone();
    expected.remove(&thp);
    assert!(host.tree == expected, "{}", differing(&host.tree, &expected));
}

#[test]
fn what_somebody_else_has_changed_is_told_and_stays() {
    let (tree, plan) = small("foreign");
    let clean = memory(&tree.0, &plan, true);
    let (value, file) = ("/proc/sys/vm/swappiness", "/etc/sysctl.d/99-penstock.conf");
    let mut changed = clean.clone();
    apply(&mut changed, JOURNAL, &plan).expect("nothing fails");
    for path in [value, file] {
        let Some(Entry::File { text, .. }) = changed.tree.get_mut(path) else { panic!("{path}") };
        *text = "33\n".into();
    }
    changed.tree.insert("/etc/penstock/notes".into(), Entry::Link("of somebody".into()));
    let told = |report: &Report| report.trouble.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let mut host = changed.clone();
    assert_eq!(told(&reverted(&mut host, Foreign::Tell)), [file, value]);
    assert_eq!(told(&reverted(&mut host, Foreign::Tell)), [file, value], "the journal keeps them");
    assert!(matches!(&host.tree[value], Entry::File { text, .. } if text == "33\n"));
    // A later apply and revert end where somebody was, not where the first apply began.
    let mut later = host.clone();
    let report = apply(&mut later, JOURNAL, &plan).expect("nothing fails");
    assert_eq!(told(&report), [file]);
    assert!(report.trouble[0].1.contains("was changed by somebody"), "{:?}", report.trouble);
    assert_eq!(told(&reverted(&mut later, Foreign::Tell)), [file, value]);
    assert!(matches!(&later.tree[value], Entry::File { text, .. } if text == "33\n"));

    let mut kept = host.clone();
    assert_eq!(told(&reverted(&mut kept, Foreign::Keep)), Vec::<String>::new());
    assert!(matches!(&kept.tree[value], Entry::File { text, .. } if text == "33\n"));
    assert!(revert(&mut kept, JOURNAL, Foreign::Tell).expect("nothing to read").is_none());

    assert_eq!(told(&reverted(&mut host, Foreign::Overwrite)), Vec::<String>::new());
    host.tree.remove("/etc/penstock/notes").expect("it is somebody's and stays");
    for directory in ["/etc/penstock", "/etc"] {
        host.tree.remove(directory).expect("it has something of somebody's in it and stays");
    }
    assert!(host.tree == clean.tree, "{}", differing(&host.tree, &clean.tree));
}

#[test]
fn a_journal_that_cannot_be_written_or_read_stops_everything() {
    let (tree, plan) = small("journal");
    let clean = memory(&tree.0, &plan, true);
    let journal = format!("{JOURNAL}/journal");
    let mut host = clean.clone();
    host.refused = [(journal.clone(), libc::ENOSPC)].into();
    let why = apply(&mut host, JOURNAL, &plan).expect_err("there is no room for it");
    assert!(why.contains("cannot be written"), "{why}");
    for value in &plan.values {
        assert_eq!(host.tree[&value.knob.path], clean.tree[&value.knob.path]);
    }
    host.refused.clear();
    let text = |host: &mut Memory, change: &dyn Fn(&str) -> String| match host.tree.get_mut(&journal) {
        Some(Entry::File { text, .. }) => *text = change(text),
        other => panic!("{other:?}"),
    };
    apply(&mut host, JOURNAL, &plan).expect("there is room");
    // A line in the middle that is damaged: its change stays and is told, all others go.
    let mut damaged = host.clone();
    text(&mut damaged, &|text| text.replacen("swappiness", "swappinezz", 1));
    let report = reverted(&mut damaged, Foreign::Tell);
    assert_eq!(report.trouble.len(), 1, "{:?}", report.trouble);
    assert!(report.trouble[0].1.contains("damaged"));
    damaged.tree.retain(|path, _| !path.starts_with(JOURNAL));
    damaged.tree.insert("/proc/sys/vm/swappiness".into(), clean.tree["/proc/sys/vm/swappiness"].clone());
    damaged.tree.retain(|path, entry| clean.tree.contains_key(path) || *entry != Entry::Directory);
    assert!(damaged.tree == clean.tree, "{}", differing(&damaged.tree, &clean.tree));
    // One of another program, or of a later version.
    for strange in ["", "\n", "# notes\n", "00000000 {}\n"] {
        let mut other = host.clone();
        text(&mut other, &|_| strange.to_string());
        let before = other.tree.clone();
        assert!(revert(&mut other, JOURNAL, Foreign::Tell).expect_err(strange).contains("stays as it is"));
        assert!(apply(&mut other, JOURNAL, &plan).expect_err(strange).contains("stays as it is"));
        assert!(other.tree == before);
    }
}

#[test]
fn nothing_that_guards_the_host_is_touched() {
    let guards = ["mitigations", "iommu", "io-uring", "system-call-filter", "connection-tracking"];
    let choice = Choice { only: guards.map(String::from).into(), ..Choice::default() };
    for host in HOSTS {
        let tree = unfold(&entries(host), &format!("guards-{host}"));
        let plan = planned(&tree.0, Profile::Latency, &choice);
        assert!(plan.values.is_empty() && plan.later.is_empty(), "{host}: {:?}", plan.values);
    }
}

#[test]
fn the_program_applies_and_reverts() {
    let tree = unfold(&entries("xeon-mlx5"), "apply-program");
    std::fs::create_dir_all(tree.0.join("etc/default/grub.d")).expect("a directory");
    let before = everything(&tree.0);
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        let output = command.arg("tune").args(more).arg("--root").arg(&tree.0).output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = run(&["plan", "--only", "no-such"]);
    assert!(code == Some(1) && text.contains("there is no check no-such"), "{text}");
    let (code, text) = run(&["plan", "--only", "isolation", "--data", DATA]);
    assert!(code == Some(0) && text.contains("isolcpus=managed_irq,domain,"), "{text}");
    assert!(everything(&tree.0) == before, "a plan writes nothing");
    let (code, text) = run(&["apply", "--with", "isolation", "--data", DATA]);
    assert!(code == Some(0) && text.contains("run afterwards: update-grub"), "{text}");
    let arguments = std::fs::read_to_string(tree.0.join("etc/default/grub.d/penstock.cfg")).expect("it was made");
    assert!(arguments.contains(" nohz_full="), "{arguments}");
    let (code, text) = run(&["apply", "--with", "isolation", "--data", DATA]);
    assert!(code == Some(0) && text.ends_with("nothing was changed\n"), "{text}");
    std::fs::write(tree.0.join("proc/sys/vm/swappiness"), "5\n").expect("it can be written");
    let (code, text) = run(&["revert"]);
    assert!(code == Some(6) && text.contains("NOT put back /proc/sys/vm/swappiness"), "{text}");
    assert_eq!(run(&["revert", "--overwrite", "--keep"]).0, Some(2));
    assert_eq!(run(&["revert", "--overwrite"]).0, Some(0));
    assert!(everything(&tree.0) == before, "{}", differing(&everything(&tree.0), &before));
    let (code, text) = run(&["revert"]);
    assert!(code == Some(0) && text.contains("nothing to put back"), "{text}");
}

/// A journal that others may write to is a way to have root write for them.
#[test]
fn a_journal_of_others_is_refused() {
    let (tree, plan) = small("others");
    apply(&mut disk(&tree.0), JOURNAL, &plan).expect("it can be written");
    let journal = tree.0.join("var/lib/penstock-tune/journal");
    std::fs::set_permissions(&journal, PermissionsExt::from_mode(0o666)).expect("it is ours");
    let why = revert(&mut disk(&tree.0), JOURNAL, Foreign::Tell).expect_err("anybody may have written it");
    assert!(why.contains("another user"), "{why}");
    std::fs::set_permissions(&journal, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let mut first = disk(&tree.0);
    first.lock(&format!("{JOURNAL}/journal")).expect("nobody has it");
    let why = revert(&mut disk(&tree.0), JOURNAL, Foreign::Tell).expect_err("another has it");
    assert!(why.contains("another apply, revert or prove"), "{why}");
}

#[test]
fn drift_is_an_exit_code_and_a_metric() {
    let tree = unfold(&entries("virtio"), "watch");
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        let output = command.args(["tune", "--root"]).arg(&tree.0).args(more).output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = run(&["watch"]);
    assert!(code == Some(0) && text.contains("nothing was applied"), "{text}");
    assert_eq!(run(&["apply", "--data", DATA]).0, Some(0));
    let applied = everything(&tree.0);
    let (code, text) = run(&["watch"]);
    assert!(code == Some(0) && text.starts_with("0 of "), "{text}");
    std::fs::write(tree.0.join("proc/sys/vm/swappiness"), "60\n").expect("it can be written");
    std::fs::write(tree.0.join("proc/sys/vm/stat_interval"), "3\n").expect("it can be written");
    std::fs::remove_file(tree.0.join("etc/sysctl.d/99-penstock.conf")).expect("it is there");
    let file = tree.0.join("drift.prom");
    let (code, text) = run(&["watch", "--data", DATA, "--metrics", file.to_str().expect("text")]);
    assert!(
        code == Some(7) && text.contains("drifted: /proc/sys/vm/stat_interval: it holds \"3\"; \"10\" was set"),
        "{text}"
    );
    let metrics = std::fs::read_to_string(&file).expect("it was written");
    for line in [
        "penstock_tune_drifted 3",
        "penstock_tune_drift{path=\"/proc/sys/vm/swappiness\"} 1",
        "penstock_tune_drift{path=\"/etc/sysctl.d/99-penstock.conf\"} 1",
        "penstock_tune_check{check=\"swappiness\",status=\"warn\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in\n{metrics}");
    }
    let comments = metrics.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(comments, 4);
    assert_eq!(metrics.lines().filter(|line| line.starts_with("penstock_tune_check{")).count(), check::all().count());
    let (code, text) = run(&["watch", "--data", DATA, "--metrics", "-"]);
    assert!(code == Some(7) && text == metrics, "{text}");
    // To look changes nothing.
    std::fs::remove_file(&file).expect("it was written");
    std::fs::write(tree.0.join("proc/sys/vm/swappiness"), "1\n").expect("it can be written");
    std::fs::write(tree.0.join("proc/sys/vm/stat_interval"), "10\n").expect("it can be written");
    let now = everything(&tree.0);
    let differing: Vec<&String> = applied.keys().filter(|path| now.get(*path) != applied.get(*path)).collect();
    assert_eq!(differing, ["/etc/sysctl.d/99-penstock.conf"]);
}

/// In a network of its own, whose values are nobody's, where this may be had.
#[test]
fn a_real_kernel_gets_its_values_and_has_them_back() {
    let scratch = Scratch::new("kernel");
    let script = r#"
        mount -t tmpfs none /etc/sysctl.d || exit 77
        show() { sysctl -n net.ipv4.tcp_slow_start_after_idle net.ipv4.ip_local_port_range; ls /etc/sysctl.d; }
        tune="$1 tune"
        sysctl -q net.ipv4.tcp_slow_start_after_idle=1 net.ipv4.ip_local_port_range="32768 60999" || exit 77
        show > "$2/before"
        $tune apply --journal "$2/kept" --only slow-start --only local-ports || exit 1
        show > "$2/applied"
        $tune watch --journal "$2/kept" || exit 2
        $tune apply --journal "$2/kept" --only slow-start --only local-ports > "$2/again" || exit 3
        sysctl -q net.ipv4.tcp_slow_start_after_idle=1
        $tune watch --journal "$2/kept"
        [ $? = 7 ] || exit 4
        $tune revert --journal "$2/kept" || exit 5
        show > "$2/after"
    "#;
    if alone(&["--mount"], script, &scratch.0).is_none() {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(scratch.0.join(name)).expect("it was written");
    assert_eq!(read("applied"), "0\n1024\t65535\n99-penstock.conf\n");
    assert_eq!(read("again"), "nothing was changed\n");
    assert_eq!((read("before"), scratch.0.join("kept").exists()), (read("after"), false));
}
