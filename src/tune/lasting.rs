//! Files that set everything again when the host has started. Each is a head, lines of which each has a key, and a tail; a new line takes the
//! place of the one with its key, and what an earlier change has written stays. A file that does not have this form was changed by somebody.

use super::drivers::Place;
use super::hands::{Entry, Hands};
use super::mend::{Knob, Lasts, Later};

const MADE_BY: &str = "# Made by `penstock tune apply`; `penstock tune revert` puts back what was there before.\n";
const SYSCTL: &str = "/etc/sysctl.d/99-penstock.conf";
const UDEV: &str = "/etc/udev/rules.d/99-penstock.rules";
const LIMITS: &str = "/etc/systemd/system/penstock.service.d/50-tune.conf";
const ARGUMENTS: &str = "/etc/default/grub.d/penstock.cfg";
const BOOT: &str = "/etc/penstock/tune.sh";
const UNITS: &str = "/etc/systemd/system";
const UNIT: &str = "/etc/systemd/system/penstock-tune.service";
const UNIT_WANTED: &str = "/etc/systemd/system/multi-user.target.wants/penstock-tune.service";

const BOOT_HEAD: &str = r#"failed=0
put() { # file, value
  if [ ! -e "$1" ]; then
    echo "$1 is not there" >&2
    failed=1
  elif ! printf '%s\n' "$2" > "$1"; then
    failed=1
  fi
}
interrupt() { # its name in /proc/interrupts, cores
  for number in $(awk -v name="$1" '$NF == name { sub(":", "", $1); print $1 }' /proc/interrupts); do
    put "/proc/irq/$number/smp_affinity_list" "$2"
  done
}
"#;
/// What sets a value of a driver in a shell script that has `put`, which takes a file and a value.
pub const DRIVER: &str = r#"driver() { # NIC, group, name, value
  case $2 in
    channels) flag=-L ;;
    rings) flag=-G ;;
    coalesce) flag=-C ;;
    *) flag=-K ;;
  esac
  ethtool "$flag" "$1" "$3" "$4" || failed=1
}
"#;
const BOOT_TAIL: &str = "exit $failed\n";

const UNIT_TEXT: &str = "[Unit]
Description=Settings of this host that penstock tune has made
Wants=network-online.target
After=network-online.target
Before=penstock.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/penstock/tune.sh

[Install]
WantedBy=multi-user.target
";

/// A change of a file, link or directory that is not the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Directory { path: String },
    File { path: String, old: Option<String>, new: String },
    Link { path: String, target: String },
}

/// One line that has to be somewhere.
struct Line {
    file: &'static str,
    key: String,
    text: String,
}

/// What is around the lines of a file.
struct Frame {
    head: String,
    tail: &'static str,
}

/// A path that cannot be changed, and why.
pub type Refused = (String, String);

/// Everything that has to hold later, as changes in their order; and what cannot be changed.
pub fn changes(hands: &mut dyn Hands, knobs: &[Knob], later: &[Later]) -> (Vec<Change>, Vec<Refused>) {
    let mut lines: Vec<Line> = knobs.iter().filter_map(line_of_knob).collect();
    lines.extend(later.iter().filter_map(line_of_later));
    let mut wanted: Vec<Change> = Vec::new();
    let mut left = Vec::new();
    for file in [SYSCTL, UDEV, LIMITS, ARGUMENTS, BOOT] {
        let lines: Vec<&Line> = lines.iter().filter(|line| line.file == file).collect();
        if lines.is_empty() {
            continue;
        }
        match file_with(hands, file, &lines) {
            Ok(change) => wanted.extend(change),
            Err(why) => left.push((file.to_string(), why)),
        }
        if file == BOOT && left.iter().all(|(path, _)| path != BOOT) {
            let text = format!("{MADE_BY}{UNIT_TEXT}");
            wanted.push(Change::File { path: UNIT.into(), old: None, new: text });
            wanted.push(Change::Link { path: UNIT_WANTED.into(), target: UNIT.into() });
        }
    }
    for unit in later.iter().filter_map(|later| if let Later::Mask(unit) = later { Some(*unit) } else { None }) {
        wanted.push(Change::Link { path: format!("{UNITS}/{unit}"), target: "/dev/null".into() });
    }
    let mut changes = Vec::new();
    for change in wanted {
        let path = change.path().to_string();
        if let Err(why) = settle(hands, change, &mut changes) {
            left.push((path, why));
        }
    }
    (changes, left)
}

/// Adds the change, behind those that make its directories, if it is one.
fn settle(hands: &mut dyn Hands, change: Change, changes: &mut Vec<Change>) -> Result<(), String> {
    let path = change.path().to_string();
    let found = hands.entry(&path).map_err(|error| error.to_string())?;
    let change = match (change, found) {
        (change, Entry::Absent) => change,
        (Change::File { old: Some(old), new, path }, Entry::File { .. }) => Change::File { path, old: Some(old), new },
        (Change::File { new, .. }, Entry::File { text, .. }) if text == new => return Ok(()),
        (Change::Link { target, .. }, Entry::Link(there)) if target == there => return Ok(()),
        _ => return Err("it is there already and is something else; it stays as it is".to_string()),
    };
    for at in path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0) {
        let directory = Change::Directory { path: path[..at].to_string() };
        if !changes.contains(&directory) && matches!(hands.entry(directory.path()), Ok(Entry::Absent)) {
            changes.push(directory);
        }
    }
    changes.push(change);
    Ok(())
}

impl Change {
    pub fn path(&self) -> &str {
        match self {
            Change::Directory { path } | Change::File { path, .. } | Change::Link { path, .. } => path,
        }
    }
}

/// The change of a file that gives it these lines; `None` where it has them.
fn file_with(hands: &mut dyn Hands, path: &str, lines: &[&Line]) -> Result<Option<Change>, String> {
    let Frame { head, tail } = frame(path);
    let old = match hands.entry(path).map_err(|error| error.to_string())? {
        Entry::Absent => None,
        Entry::File { text, .. } => Some(text),
        _ => return Err("it is there already and is no file; it stays as it is".to_string()),
    };
    let inner = old.as_deref().map_or(Some(""), |text| text.strip_prefix(&head)?.strip_suffix(tail));
    let changed = "it was changed by somebody and stays as it is; move it away to have it written again";
    let inner = inner.ok_or(changed)?;
    let mut have: Vec<String> = inner.lines().map(String::from).collect();
    for line in lines {
        match have.iter_mut().find(|other| other.starts_with(&line.key)) {
            Some(other) => *other = line.text.clone(),
            None => have.push(line.text.clone()),
        }
    }
    // Drivers make their queues anew, so what is set of a queue comes behind them, whenever it was added.
    have.sort_by_key(|line| !line.starts_with("driver "));
    let new = have.into_iter().fold(head, |text, line| text + &line + "\n") + tail;
    Ok((old.as_ref() != Some(&new)).then(|| Change::File { path: path.into(), old, new }))
}

fn frame(path: &str) -> Frame {
    let (more, tail) = match path {
        LIMITS => ("[Service]\n", ""),
        BOOT => (BOOT_HEAD, BOOT_TAIL),
        _ => ("", ""),
    };
    let shell = if path == BOOT { "#!/bin/sh\n" } else { "" };
    let driver = if path == BOOT { DRIVER } else { "" };
    Frame { head: format!("{shell}{MADE_BY}{more}{driver}"), tail }
}

/// How a knob is set again; `None`: nothing can be said that would find it.
fn line_of_knob(knob: &Knob) -> Option<Line> {
    let Knob { path, value, .. } = knob;
    Some(match knob.lasts {
        Lasts::Never => return None,
        Lasts::Sysctl => {
            let key = format!("{} = ", path.strip_prefix("/proc/sys/")?.replace('/', "."));
            Line { file: SYSCTL, text: format!("{key}{value}"), key }
        }
        Lasts::Udev => {
            let (drive, file) = path.strip_prefix("/sys/block/")?.split_once('/')?;
            let key = format!("ACTION==\"add|change\", SUBSYSTEM==\"block\", KERNEL==\"{drive}\", ATTR{{{file}}}=");
            Line { file: UDEV, text: format!("{key}\"{value}\""), key }
        }
        Lasts::Boot => {
            let key = match (&knob.interrupt, Place::of(path)) {
                (Some(name), _) => format!("interrupt {} ", quoted(name)),
                (_, Some(Place { nic, group, name })) => format!("driver {} {group} {name} ", quoted(nic)),
                (None, None) => format!("put {} ", quoted(path)),
            };
            Line { file: BOOT, text: format!("{key}{}", quoted(value)), key }
        }
    })
}

fn line_of_later(later: &Later) -> Option<Line> {
    match later {
        Later::Limit(name, value) => {
            let key = format!("{name}=");
            Some(Line { file: LIMITS, text: format!("{key}{value}"), key })
        }
        Later::Argument(name, value) => {
            let key = format!("GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {name}=");
            Some(Line { file: ARGUMENTS, text: format!("{key}{value}\""), key })
        }
        Later::Mask(_) => None,
    }
}

/// Programs that have to hear of changed files.
pub fn commands(paths: &[&str], reverting: bool) -> Vec<&'static str> {
    let has = |prefix: &str| paths.iter().any(|path| path.starts_with(prefix));
    let irqbalance = if reverting { "systemctl start irqbalance" } else { "systemctl stop irqbalance" };
    let commands = [
        (has(UNITS), "systemctl daemon-reload"),
        (has("/etc/systemd/system/irqbalance.service"), irqbalance),
        (has(UDEV), "udevadm control --reload"),
        (has(ARGUMENTS), "update-grub && echo 'restart the host for the new kernel command line'"),
    ];
    commands.into_iter().filter(|(wanted, _)| *wanted).map(|(_, command)| command).collect()
}

/// A word for a shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_quoted_where_they_need_it() {
        assert_eq!(quoted("defer+madvise"), "defer+madvise");
        assert_eq!(quoted("1024 65535"), "'1024 65535'");
        assert_eq!(quoted("it's; $x"), r"'it'\''s; $x'");
        assert_eq!(quoted(""), "''");
    }
}
