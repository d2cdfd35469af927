//! What the kernel changes by itself with a value that `apply` sets: that it goes back as well, and that what somebody has set there stays.

use super::change::{JOURNAL, differing, memory, planned, reverted, small, text};
use super::entries;
use super::memory::{Last, Memory};
use super::tree::{Entry as Given, unfold};
use penstock::tune::apply::{Foreign, Report, apply, revert};
use penstock::tune::check::Profile;
use penstock::tune::drift::drift;
use penstock::tune::hands::Entry;
use penstock::tune::plan::Choice;

/// Large pages, a scheduler, a driver: what each moves beside it is as it was, though the kernel moves it again on the way back.
#[test]
fn what_the_kernel_changes_by_itself_goes_back_as_well() {
    let (tree, plan) = small("beside");
    let clean = memory(&tree.0, &plan, true);
    let queue = "/sys/block/vda/queue";
    let (reserve, requests) = ("/proc/sys/vm/min_free_kbytes", format!("{queue}/nr_requests"));
    let ahead = format!("{queue}/read_ahead_kb");
    let (own, moved) = (format!("{queue}/iosched/read_expire"), "/proc/irq/27/smp_affinity_list");
    let mut host = clean.clone();
    let report = apply(&mut host, JOURNAL, &plan).expect("nothing fails");
    assert_eq!(report.trouble, []);
    assert_eq!((text(&host, reserve), text(&host, &requests)), ("67584".to_string(), "1023".to_string()));
    assert!(!host.tree.contains_key(&own));
    // What a driver resets is set after it.
    let wanted = |path: &str| plan.values.iter().find(|value| value.knob.path == path).map(|value| &value.knob.value);
    assert_eq!(Some(&text(&host, moved)), wanted(moved));
    for (path, from, to) in
        [(reserve, "22528", "67584"), (requests.as_str(), "64", "1023"), (ahead.as_str(), "4096", "128")]
    {
        let note =
            format!("{path}: changed by the kernel with this, from \"{from}\" to \"{to}\"; a revert puts it back");
        assert!(report.notes.contains(&note), "{:?}", report.notes);
    }
    // It is no change of penstock's, so it is no drift.
    let watched = drift(&mut host, JOURNAL).expect("whole");
    assert_eq!((watched.drifted.len(), watched.applied), (0, report.done.len()));
    let report = reverted(&mut host, Foreign::Tell);
    assert_eq!(report.trouble, []);
    for path in [reserve, requests.as_str(), own.as_str(), ahead.as_str()] {
        assert!(report.done.iter().any(|done| done == path), "{path}: {:?}", report.done);
    }
    assert!(host.tree == clean.tree, "{}", differing(&host.tree, &clean.tree));
}

#[test]
fn what_somebody_else_has_set_beside_a_change_is_told_and_stays() {
    let (tree, plan) = small("beside-foreign");
    let clean = memory(&tree.0, &plan, true);
    let requests = "/sys/block/vda/queue/nr_requests";
    let mut changed = clean.clone();
    apply(&mut changed, JOURNAL, &plan).expect("nothing fails");
    let Some(Entry::File { text: held, .. }) = changed.tree.get_mut(requests) else { panic!("it is there") };
    *held = "512\n".into();
    let told = |report: &Report| report.trouble.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let mut host = changed.clone();
    for _ in 0..2 {
        assert_eq!(told(&reverted(&mut host, Foreign::Tell)), [requests], "the journal keeps it");
        assert_eq!(
            text(&host, requests),
            "512",
            "the scheduler that came back has another number, but somebody wanted this one"
        );
    }
    let mut kept = host.clone();
    assert_eq!(told(&reverted(&mut kept, Foreign::Keep)), Vec::<String>::new());
    assert_eq!(text(&kept, requests), "512");
    assert!(revert(&mut kept, JOURNAL, Foreign::Tell).expect("nothing to read").is_none());
    assert_eq!(told(&reverted(&mut host, Foreign::Overwrite)), Vec::<String>::new());
    assert!(host.tree == clean.tree, "{}", differing(&host.tree, &clean.tree));
    // Wherever the first revert stops: what it has moved itself is nobody's.
    let mut whole = changed.clone();
    reverted(&mut whole, Foreign::Tell);
    for step in 1..=whole.steps {
        let mut host = changed.restarted();
        host.crash = Some((step, Last::Done));
        let _ = revert(&mut host, JOURNAL, Foreign::Tell);
        let mut back = host.restarted();
        assert_eq!(told(&reverted(&mut back, Foreign::Tell)), [requests], "step {step}");
        assert_eq!(text(&back, requests), "512", "step {step}");
    }
}

/// A driver that makes its queues anew gives their interrupts other numbers.
#[test]
fn an_interrupt_is_found_by_its_name() {
    let (tree, plan) = small("renumbered");
    let clean = memory(&tree.0, &plan, true);
    let mut host = clean.clone();
    apply(&mut host, JOURNAL, &plan).expect("nothing fails");
    let value = plan.values.iter().find(|value| value.knob.interrupt.is_some()).expect("it is in the plan");
    let number = value.knob.path.split('/').nth(3).expect("it has a number").to_string();
    let renumber = |host: &mut Memory| {
        let Some(Entry::File { text, .. }) = host.tree.get_mut("/proc/interrupts") else { panic!("it is there") };
        *text = text.replace(&format!("{number}:"), "99:");
        let there = host.tree.remove(&value.knob.path).expect("it is there");
        host.tree.insert("/proc/irq/99/smp_affinity_list".into(), there);
    };
    renumber(&mut host);
    assert_eq!(reverted(&mut host, Foreign::Tell).trouble, []);
    assert_eq!(text(&host, "/proc/irq/99/smp_affinity_list"), value.old.trim());
    // Before it is set, the number may already be another's.
    let mut host = clean.clone();
    renumber(&mut host);
    let report = apply(&mut host, JOURNAL, &plan).expect("the journal can be written");
    let why = &report.trouble.iter().find(|(path, _)| *path == value.knob.path).expect("it was told").1;
    assert!(why.contains("apply once more"), "{why}");
}

#[test]
fn an_interrupt_that_is_another_device_s_now_is_left_alone() {
    let (tree, plan) = small("interrupt");
    let mut host = memory(&tree.0, &plan, true);
    let value = plan.values.iter().find(|value| value.knob.interrupt.is_some()).expect("it is in the plan");
    apply(&mut host, JOURNAL, &plan).expect("nothing fails");
    let name = value.knob.interrupt.clone().expect("it has a name");
    let Some(Entry::File { text, .. }) = host.tree.get_mut("/proc/interrupts") else { panic!("it is there") };
    *text = text.replace(&name, "xhci_hcd");
    let report = reverted(&mut host, Foreign::Tell);
    assert!(report.notes.iter().any(|note| note.contains("another device's")), "{:?}", report.notes);
    assert!(matches!(&host.tree[&value.knob.path], Entry::File { text, .. } if text.trim() == value.knob.value));
}

#[test]
fn each_cause_has_beside_it_what_it_moves() {
    let cpufreq = "sys/devices/system/cpu/cpufreq";
    let mut host = entries("xeon-mlx5");
    for (file, text) in [("scaling_governor", "schedutil\n"), ("schedutil/rate_limit_us", "500\n")] {
        host.insert(format!("{cpufreq}/policy3/{file}"), Given::File(text.to_string()));
    }
    let tree = unfold(&host, "causes");
    let with = ["transparent-hugepages", "nic-coalescing", "swappiness"].map(String::from).into();
    let plan = planned(&tree.0, Profile::Ci, &Choice { with, ..Choice::default() });
    let moves = |cause: &str, path: &str| {
        let value = plan.values.iter().find(|value| value.knob.path == cause);
        let value = value.unwrap_or_else(|| panic!("{cause} is not in the plan"));
        value.beside.iter().any(|beside| beside.path == path)
    };
    let (policy, pstate) = (format!("/{cpufreq}/policy3"), "/sys/devices/system/cpu/intel_pstate");
    let governor = format!("{policy}/scaling_governor");
    for file in ["energy_performance_preference", "scaling_max_freq", "schedutil/rate_limit_us"] {
        assert!(moves(&governor, &format!("{policy}/{file}")), "{file}");
    }
    assert!(!moves(&governor, &format!("/{cpufreq}/policy4/scaling_max_freq")));
    let turbo = format!("{pstate}/no_turbo");
    for path in [format!("{pstate}/min_perf_pct"), format!("/{cpufreq}/policy31/scaling_min_freq")] {
        assert!(moves(&turbo, &path), "{path}");
    }
    assert!(!moves(&turbo, &turbo));
    assert!(moves("/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sys/vm/min_free_kbytes"));
    let driver = "/ethtool/ens1f0np0/coalesce/rx-usecs";
    for path in ["/ethtool/ens1f0np0/rings/rx", "/sys/class/net/ens1f0np0/queues/tx-7/xps_cpus"] {
        assert!(moves(driver, path), "{path}");
    }
    for path in ["/ethtool/ens1f0np0/rings/rx-max", driver] {
        assert!(!moves(driver, path), "{path}");
    }
    let value = plan.values.iter().find(|value| value.knob.path == driver).expect("it is in the plan");
    let named = value.beside.iter().find(|beside| beside.path == "/proc/irq/124/smp_affinity_list");
    assert_eq!(named.and_then(|beside| beside.interrupt.as_deref()), Some("mlx5_comp3@pci:0000:3b:00.0"));
    let swap = plan.values.iter().find(|value| value.knob.path.ends_with("swappiness")).expect("it is in the plan");
    assert_eq!(swap.beside, []);
}

/// The number of requests moves with the scheduler, and is a value of its own: it holds what was asked for, and goes back to what was there first.
#[test]
fn a_number_of_requests_that_the_scheduler_moves_is_set_behind_it() {
    let mut entries = entries("virtio");
    let size = "sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda/queue/max_sectors_kb";
    entries.insert(size.to_string(), Given::File("128\n".to_string()));
    let tree = unfold(&entries, "beside-requests");
    let (requests, own) = ("/sys/block/vda/queue/nr_requests", "/sys/block/vda/queue/iosched/async_depth");
    // With another scheduler, and with the one that is there.
    for only in [&["request-queue", "scheduler"][..], &["request-queue"]] {
        let only = only.iter().map(|id| id.to_string()).collect();
        let plan = planned(&tree.0, Profile::Throughput, &Choice { only, ..Choice::default() });
        let wanted: Vec<_> =
            plan.values.iter().map(|value| (value.knob.path.as_str(), value.knob.value.as_str())).collect();
        assert_eq!(wanted.last(), Some(&(requests, "96")), "12 MiB in requests of 128 KiB");
        let clean = memory(&tree.0, &plan, true);
        let mut host = clean.clone();
        assert_eq!(apply(&mut host, JOURNAL, &plan).expect("nothing fails").trouble, []);
        assert_eq!(text(&host, requests), "96");
        let moved = plan.values.len() == 1;
        assert_eq!(host.tree.get(own).map(|_| text(&host, own)), moved.then(|| "72".to_string()));
        let rules = text(&host, "/etc/udev/rules.d/99-penstock.rules");
        assert!(rules.contains("ATTR{queue/nr_requests}=\"96\""), "{rules}");
        assert_eq!(reverted(&mut host, Foreign::Tell).trouble, []);
        assert!(host.tree == clean.tree, "{}", differing(&host.tree, &clean.tree));
    }
}
