//! `penstock tune io`, on the drive that this is built on: that it answers, and leaves nothing.

use super::change::Scratch;
use std::fs::File;
use std::path::Path;
use std::process::Command;

fn io(data: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    let output =
        command.args(["tune", "io", "--minutes", "0", "--data"]).arg(data).args(more).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_drive_is_described_and_nothing_is_left_on_it() {
    let data = Scratch::new("drive-described");
    let (code, text, told) = io(&data.0, &["--json"]);
    assert_eq!(code, Some(0), "{told}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {json:#}"));
    assert_eq!(number(&json["schema"]), 1);
    assert!(number(&json["block"]) >= 4096 && json["durability"].is_string() && json["sustained"].is_null());
    for spread in [&json["durable_4k"], &json["flush"]] {
        assert!(number(&spread["count"]) > 0 && number(&spread["p50_ns"]) <= number(&spread["p99_ns"]));
        assert!(number(&spread["p99_ns"]) <= number(&spread["p999_ns"]));
    }
    let depths: Vec<u64> =
        json["depths"].as_array().expect("a list").iter().map(|each| number(&each["depth"])).collect();
    assert_eq!(depths, [1, 2, 4, 8, 16, 32]);
    for space in ["space_fresh", "space_allocated", "space_written"] {
        assert!(number(&json[space]["bytes_per_second"]) > 0);
    }
    assert!(number(&json["written_bytes"]) > 64 << 20);
    assert_eq!(std::fs::read_dir(&data.0).expect("it can be listed").count(), 0);
}

#[test]
fn what_cannot_be_tried_is_refused_and_nothing_is_made() {
    let data = Scratch::new("drive-refused");
    let (code, _, told) = io(&data.0.join("missing"), &[]);
    assert!(code == Some(1) && told.contains("missing"), "{told}");
    let (code, _, told) = io(&data.0, &["--root", data.0.to_str().expect("text")]);
    assert!(code == Some(1) && told.contains("--root"), "{told}");
    // A server holds this file for as long as it runs.
    let lock = data.0.join("lock");
    std::fs::write(&lock, format!("{}\n", std::process::id())).expect("it can be written");
    let held = File::open(&lock).expect("it is there");
    held.try_lock().expect("nobody has it");
    let (code, _, told) = io(&data.0, &[]);
    assert!(code == Some(1) && told.contains("is in use by process"), "{told}");
    assert_eq!(std::fs::read_dir(&data.0).expect("it can be listed").count(), 1);
}
