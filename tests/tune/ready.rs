//! `penstock tune ready`, on the host that this runs on: that it answers, gives a reason for all that is not ready, and leaves nothing.

use serde_json::Value;
use std::process::{Command, Output};

const WAYS: [&str; 5] = ["zero-copy-receive", "zero-copy-send", "registered-buffers", "hugepages", "af-xdp"];

fn ready(before: &[&str], more: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_penstock");
    let mut command = Command::new(before.first().unwrap_or(&program));
    command.args(before.iter().skip(1)).args(before.first().map(|_| program));
    command.args(["tune", "ready"]).args(more).output().expect("it runs")
}

fn ways(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["schema"].as_u64(), Some(1));
    json["ways"].as_array().expect("a list").clone()
}

fn steps(way: &Value) -> &Vec<Value> {
    way["steps"].as_array().expect("a list")
}

#[test]
fn every_way_is_ready_or_says_what_is_in_the_way() {
    let ways = ways(&ready(&[], &["--json"]));
    assert_eq!(ways.iter().map(|way| way["way"].as_str().expect("a name")).collect::<Vec<_>>(), WAYS);
    for way in &ways {
        assert!(!steps(way).is_empty());
        let all = steps(way).iter().all(|step| step["ready"] == true);
        assert_eq!(way["ready"].as_bool(), Some(all), "{way:#}");
        assert!(steps(way).iter().all(|step| step["said"].as_str().is_some_and(|said| said.len() > 1)), "{way:#}");
    }
    // Nothing but a kernel is needed for this one, and every kernel that penstock runs on has it.
    assert_eq!(steps(&ways[1])[0]["ready"], true, "{:#}", ways[1]);
    let text = String::from_utf8(ready(&[], &[]).stdout).expect("text");
    assert!(WAYS.iter().all(|way| text.lines().any(|line| line.starts_with(way))), "{text}");
}

#[test]
fn what_takes_a_privilege_says_so_and_a_host_without_a_nic_too() {
    let nobody = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--"];
    let tried = Command::new(nobody[0]).args(&nobody[1..]).arg("true").status();
    if tried.is_ok_and(|status| status.success()) {
        let ways = ways(&ready(&nobody, &["--json"]));
        if ways[0]["of"].is_string() {
            let said = |way: &Value| steps(way)[0]["said"].as_str().expect("text").to_string();
            assert!(said(&ways[0]).contains("as root") || said(&ways[0]).contains("this kernel"), "{:#}", ways[0]);
            assert!(said(&ways[4]).contains("as root") || said(&ways[4]).contains("this kernel"), "{:#}", ways[4]);
        }
    } else {
        println!("SKIPPED: this cannot be run as somebody without privileges");
    }
    let alone = ["unshare", "--map-root-user", "--net", "--mount"];
    let script = "mount -t sysfs none /sys && exec \"$0\" \"$@\"";
    let before = [&alone[..], &["sh", "-c", script]].concat();
    let output = ready(&before, &["--json"]);
    if output.status.code() != Some(0) {
        return println!("SKIPPED: no network of its own: {}", String::from_utf8_lossy(&output.stderr));
    }
    let ways = ways(&output);
    for way in [&ways[0], &ways[4]] {
        assert!(way["ready"] == false && steps(way)[0]["step"] == "interface", "{way:#}");
    }
}

#[test]
fn what_is_not_there_cannot_be_tried() {
    let refused = |more: &[&str]| {
        let output = ready(&[], more);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["--interface", "no-such-nic0"]).contains("no such interface"));
    assert!(refused(&["--root", "/"]).contains("--root"));
}
