//! Plans of every profile, with all that has to be asked for by name.

use super::change::{JOURNAL, differing, disk, everything, planned, reverted, statuses_for};
use super::tree::unfold;
use super::{HOSTS, entries};
use penstock::tune::apply::{Foreign, apply};
use penstock::tune::check::{self, Profile, Status};
use penstock::tune::mend::{Remedy, remedy};
use penstock::tune::plan::Choice;
use std::collections::BTreeSet;

/// The kernel would show there what has been asked for; a copy of its files does not.
const SHOWN_ELSEWHERE: [&str; 1] = ["nic-queues"];
const PROFILES: [Profile; 3] = [Profile::Latency, Profile::Throughput, Profile::Ci];

#[test]
fn what_is_asked_for_is_mended_and_can_be_put_back_byte_for_byte() {
    let with: Vec<String> = check::all().map(|check| check.id.to_string()).collect();
    let choice = Choice { with, ..Choice::default() };
    let mut tried = BTreeSet::new();
    for (host, profile) in HOSTS.iter().flat_map(|host| PROFILES.map(|profile| (host, profile))) {
        let mut entries = entries(host);
        entries.retain(|path, _| !path.ends_with("effective_affinity_list"));
        let tree = unfold(&entries, &format!("asked-{host}"));
        std::fs::create_dir_all(tree.0.join("etc/default/grub.d")).expect("a directory");
        let before = everything(&tree.0);
        let plan = planned(&tree.0, profile, &choice);
        assert_eq!(apply(&mut disk(&tree.0), JOURNAL, &plan).expect("it can be written").trouble, [], "{host}");
        let now = statuses_for(&tree.0, profile);
        for value in &plan.values {
            let partly = plan.left.iter().any(|left| left.check == value.check);
            let elsewhere = SHOWN_ELSEWHERE.contains(&value.check);
            assert!(
                partly || elsewhere || now[value.check] == Status::Ok,
                "{host}: {} is {:?}",
                value.check,
                now[value.check]
            );
            tried.insert(value.check);
        }
        if everything(&tree.0) != before {
            assert_eq!(reverted(&mut disk(&tree.0), Foreign::Tell).trouble, [], "{host}");
        }
        assert!(everything(&tree.0) == before, "{host}: {}", differing(&everything(&tree.0), &before));
    }
    let by_values = check::all().filter(|check| !matches!(remedy(check.id), Remedy::Person(_)));
    let never: Vec<&str> = by_values.map(|check| check.id).filter(|id| !tried.contains(id)).collect();
    // These hold from the next start of the host, or of a unit.
    let later =
        ["sleep-limit", "isolation", "locked-memory", "open-files", "memory-killer", "core-dumps", "irqbalance"];
    assert_eq!(never, later, "no host has anything of these to mend");
}
