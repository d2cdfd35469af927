//! A plan as a difference between files, and as a script for a shell.

use super::drivers::Place;
use super::lasting::{Change, DRIVER, Refused, commands, quoted};
use super::plan::{Left, Plan, Value};

/// Unified differences, and below them what is left to a person.
pub fn diff(plan: &Plan, lasting: &[Change], refused: &[Refused]) -> String {
    let mut out = String::new();
    for Value { check, knob, old, .. } in &plan.values {
        out += &format!("# {check}\n");
        out += &file_diff(&knob.path, Some(old), &format!("{}\n", knob.value));
    }
    for change in lasting {
        match change {
            Change::Directory { path } => out += &format!("# new directory {path}\n"),
            Change::File { path, old, new } => out += &file_diff(path, old.as_deref(), new),
            Change::Link { path, target } => out += &format!("# new link {path} to {target}\n"),
        }
    }
    if out.is_empty() {
        out += "# nothing to change\n";
    }
    for Left { check, why, advice } in &plan.left {
        out += &format!("# left to you: {check}: {why}\n#   {advice}\n");
    }
    refused.iter().for_each(|(path, why)| out += &format!("# left to you: {path}: {why}\n"));
    let paths: Vec<&str> = lasting.iter().map(Change::path).collect();
    commands(&paths, false).iter().for_each(|command| out += &format!("# afterwards: {command}\n"));
    out
}

/// One file, as a whole.
fn file_diff(path: &str, old: Option<&str>, new: &str) -> String {
    let count = |text: &str| text.lines().count();
    let lines = |sign: char, text: &str| text.lines().map(|line| format!("{sign}{line}\n")).collect::<String>();
    let range = |text: &str| if text.is_empty() { "0,0".to_string() } else { format!("1,{}", count(text)) };
    let before = old.map_or("/dev/null", |_| path);
    let old = old.unwrap_or("");
    let end = if old.is_empty() || old.ends_with('\n') { "" } else { "\\ No newline at end of file\n" };
    let head = format!("--- {before}\n+++ {path}\n@@ -{} +{} @@\n", range(old), range(new));
    head + &lines('-', old) + end + &lines('+', new)
}

const SCRIPT_HEAD: &str = r#"#!/bin/sh
# What `penstock tune apply` would do, without its record of what was there before. An argument is a directory that stands for /.
root=${1:-}
failed=0
put() { # file, value
  if [ ! -e "$root$1" ]; then
    echo "$1 is not there" >&2
    failed=1
  elif ! printf '%s\n' "$2" > "$root$1"; then
    failed=1
  fi
}
"#;

/// The same for a shell.
pub fn script(plan: &Plan, lasting: &[Change]) -> String {
    let mut out = SCRIPT_HEAD.to_string();
    if plan.values.iter().any(|value| Place::of(&value.knob.path).is_some()) {
        out += DRIVER;
    }
    for Value { check, knob, .. } in &plan.values {
        let (path, value) = (quoted(&knob.path), quoted(&knob.value));
        out += &match Place::of(&knob.path) {
            None => format!("put {path} {value} # {check}\n"),
            Some(Place { nic, group, name }) => {
                let real = format!("driver {} {group} {name} {value}", quoted(nic));
                format!("if [ -n \"$root\" ]; then put {path} {value}; else {real}; fi # {check}\n")
            }
        };
    }
    for change in lasting {
        let path = format!("\"$root\"{}", quoted(change.path()));
        match change {
            Change::Directory { .. } => out += &format!("mkdir -p {path}\n"),
            Change::File { new, .. } => out += &format!("cat > {path} <<'end-of-file'\n{new}end-of-file\n"),
            Change::Link { target, .. } => out += &format!("ln -s {} {path}\n", quoted(target)),
        }
    }
    let paths: Vec<&str> = lasting.iter().map(Change::path).collect();
    let commands = commands(&paths, false);
    if !commands.is_empty() {
        out += &format!("if [ -z \"$root\" ]; then\n  {}\nfi\n", commands.join("\n  "));
    }
    out + "exit $failed\n"
}
