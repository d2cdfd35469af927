//! `penstock tune prove`: that it sees an effect that is there and none that is not, and puts back what was there, whatever ends it.

use super::alone::alone;
use super::tree::{Unfolded, unfold};
use super::{DATA, entries};
use penstock::io::clock::Clock;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const KNOB: &str = "proc/sys/vm/swappiness";
const PATIENCE_NS: u64 = 60_000_000_000;

fn command(tree: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.args(["tune", "--root"]).arg(tree).args(more);
    command
}

fn run(tree: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = command(tree, more).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn prove(tree: &Unfolded, check: &str, measure: &str, more: &[&str]) -> (Option<i32>, String) {
    let given = ["prove", check, "--data", DATA, "--pairs", "6", "--command", measure];
    run(&tree.0, &[&given[..], more].concat())
}

fn value(tree: &Path) -> String {
    std::fs::read_to_string(tree.join(KNOB)).expect("it is there").trim().to_string()
}

/// That nothing is left but what was there: no journal, no file that makes a value last.
fn as_before(tree: &Path) {
    assert_eq!(value(tree), "60");
    for path in ["etc", "var/lib"] {
        assert!(!tree.join(path).exists(), "{path} is left");
    }
}

#[test]
fn an_effect_is_seen_and_one_that_is_not_there_is_not() {
    let tree = unfold(&entries("virtio"), "prove");
    let knob = tree.0.join(KNOB);
    let shown = format!("cat {}", knob.display());
    let (code, text) = prove(&tree, "swappiness", &shown, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((code, json["verdict"].as_str(), json["pairs"].as_u64()), (Some(0), Some("effect"), Some(6)));
    let figure = &json["figures"][0];
    assert_eq!((figure["without"].as_f64(), figure["with"].as_f64()), (Some(60.0), Some(1.0)));
    assert_eq!(figure["outcome"], "better");
    as_before(&tree.0);
    let (_, text) = prove(&tree, "swappiness", &shown, &["--more-is-better"]);
    assert!(text.contains(": worse\n") && text.contains("verdict: effect"), "{text}");
    let (code, text) = prove(&tree, "swappiness", "echo 5", &[]);
    assert!(code == Some(0) && text.contains("verdict: none"), "{text}");
    as_before(&tree.0);
}

#[test]
fn what_cannot_be_tried_says_why_and_changes_nothing() {
    let tree = unfold(&entries("virtio"), "prove-refused");
    for (check, why) in [
        ("no-such", "there is no check"),
        ("locked-memory", "from the next start"),
        ("write-cache", "never overruled"),
        ("syn-cookies", "wanted already"),
    ] {
        let (code, text) = prove(&tree, check, "echo 1", &[]);
        assert!(code == Some(1) && text.contains(why), "{check}: {text}");
    }
    let (code, text) = run(&tree.0, &["prove", "swappiness", "--data", DATA]);
    assert!(code == Some(1) && text.contains("--command"), "{text}");
    // A measurement that fails while the value is set.
    let broken = format!("[ $(cat {}) = 60 ] && echo 5", tree.0.join(KNOB).display());
    let (code, text) = prove(&tree, "swappiness", &broken, &[]);
    assert!(code == Some(1) && text.contains("it has failed"), "{text}");
    as_before(&tree.0);
}

/// A prove that has set the value and measures for ever.
fn stuck(tree: &Unfolded) -> Child {
    let knob = tree.0.join(KNOB);
    let measure = format!("[ $(cat {}) = 60 ] && echo 5 || exec sleep 300", knob.display());
    let given = ["prove", "swappiness", "--data", DATA, "--pairs", "6", "--command", &measure];
    let mut command = command(&tree.0, &given);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let begin = Clock.now().mono;
    while value(&tree.0) != "1" {
        assert!(Clock.now().mono - begin < PATIENCE_NS, "the value is never set");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let number = child.id().to_string();
    assert!(Command::new("kill").args([name, &number]).status().expect("kill runs").success());
}

#[test]
fn an_interrupt_puts_everything_back() {
    for name in ["-INT", "-TERM"] {
        let tree = unfold(&entries("virtio"), &format!("prove{name}"));
        let mut child = stuck(&tree);
        signal(&child, name);
        assert_eq!(child.wait().expect("it is ours").code(), Some(1), "{name}");
        as_before(&tree.0);
    }
}

/// What one prove has set for a moment is not what was there before for another, nor for an apply or a revert.
#[test]
fn while_a_value_is_tried_nobody_else_changes_the_host() {
    let tree = unfold(&entries("virtio"), "prove-twice");
    let mut child = stuck(&tree);
    for (name, more) in [
        ("prove", &["prove", "timer-migration", "--data", DATA, "--command", "echo 1"][..]),
        ("apply", &["apply", "--data", DATA]),
        ("revert", &["revert"]),
    ] {
        let (code, text) = run(&tree.0, more);
        assert!(code == Some(1) && text.contains("another apply, revert or prove is at work"), "{name}: {text}");
        assert!(text.contains("/var/lib/penstock-tune-prove"), "{name}: {text}");
        assert_eq!(value(&tree.0), "1", "{name}");
    }
    signal(&child, "-INT");
    assert_eq!(child.wait().expect("it is ours").code(), Some(1));
    as_before(&tree.0);
    // And an apply after one that was killed notes what was there before it.
    let mut child = stuck(&tree);
    signal(&child, "-KILL");
    child.wait().expect("it is ours");
    let (code, text) = run(&tree.0, &["apply", "--only", "swappiness", "--data", DATA]);
    assert!(code == Some(0) && text.contains("an earlier prove was interrupted"), "{text}");
    assert_eq!((value(&tree.0).as_str(), run(&tree.0, &["revert"]).0), ("1", Some(0)));
    as_before(&tree.0);
}

#[test]
fn after_a_crash_the_next_prove_or_revert_puts_everything_back() {
    let tree = unfold(&entries("virtio"), "prove-killed");
    for next in ["revert", "prove"] {
        let mut child = stuck(&tree);
        signal(&child, "-KILL");
        child.wait().expect("it is ours");
        assert_eq!(value(&tree.0), "1");
        let (code, text) = match next {
            "revert" => run(&tree.0, &["revert"]),
            _ => prove(&tree, "swappiness", "echo 5", &[]),
        };
        assert!(code == Some(0) && text.contains("put back"), "{next}: {text}");
        as_before(&tree.0);
    }
}

/// On this host, for a moment: a value that nobody else sees, in a network of its own, and the probe that is chosen for it.
#[test]
fn a_real_value_is_tried_over_the_loopback_device() {
    let scratch = super::change::Scratch::new("prove");
    let script = r#"
        ip link set lo up || exit 77
        echo 1 > /proc/sys/net/ipv4/tcp_slow_start_after_idle || exit 77
        "$1" tune prove slow-start --journal "$2/kept" --pairs 6 --seconds 1 || exit 1
        [ "$(cat /proc/sys/net/ipv4/tcp_slow_start_after_idle)" = 1 ] || exit 2
        [ ! -e "$2/kept-prove" ] || exit 3
    "#;
    let Some(told) = alone(&[], script, &scratch.0) else { return };
    assert!(told.contains("round trips over the loopback device, 6 pairs") && told.contains("verdict: "), "{told}");
}
