//! The Debian package: that the script builds it, and that dpkg installs, upgrades and removes it, in a directory that stands for a host.

use super::change::Scratch;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn good(output: Output) -> String {
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    told
}

/// The package of the program that this tests. To compress it would take longer than all else.
fn package(directory: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deb");
    let mut command = Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_penstock")).arg(directory).env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    PathBuf::from(good(command.output().expect("it runs")).lines().last().expect("it says where it is"))
}

/// What a host has before its first package, below `host`.
fn empty_host(host: &Path) {
    for directory in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
        std::fs::create_dir_all(host.join(directory)).expect("a directory");
    }
    std::fs::write(host.join("var/lib/dpkg/status"), "").expect("it can be written");
    for file in ["passwd", "group", "shadow", "gshadow"] {
        std::fs::write(host.join("etc").join(file), "").expect("it can be written");
    }
}

fn dpkg(host: &Path, more: &[&str]) -> Output {
    let mut command = Command::new("dpkg");
    command.arg(format!("--root={}", host.display())).args(["--force-script-chrootless", "--force-depends"]);
    command.args(more).output().expect("it runs")
}

#[test]
fn the_package_is_installed_and_removed_and_leaves_the_records() {
    if !there("dpkg") || !there("dpkg-deb") {
        return println!("SKIPPED: no dpkg");
    }
    let scratch = Scratch::new("package");
    let package = package(&scratch.0);
    let path = package.to_str().expect("text");
    let again = scratch.0.join("again");
    let bytes = |path: &Path| std::fs::read(path).expect("it was made");
    assert!(bytes(&package) == bytes(&self::package(&again)), "built twice, and not the same");
    let listed = good(Command::new("dpkg-deb").args(["--contents", path]).output().expect("it runs"));
    assert!(listed.lines().all(|line| line.contains("root/root")), "{listed}");
    let field = |name: &str| good(Command::new("dpkg-deb").args(["--field", path, name]).output().expect("it runs"));
    assert_eq!(field("Version").trim(), env!("CARGO_PKG_VERSION"));
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));

    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !root {
        return println!("SKIPPED: to install takes root");
    }
    let host = scratch.0.join("host");
    empty_host(&host);
    // Twice, as an upgrade is.
    for _ in 0..2 {
        good(dpkg(&host, &["--install", path]));
    }
    let verified = good(dpkg(&host, &["--verify", "penstock"]));
    assert_eq!(verified, "", "files differ from what the package says");
    let version = good(Command::new(host.join("usr/bin/penstock")).arg("--version").output().expect("it runs"));
    assert_eq!(version.trim(), concat!("penstock ", env!("CARGO_PKG_VERSION")));
    let unit = std::fs::read_to_string(host.join("usr/lib/systemd/system/penstock.service")).expect("it was installed");
    assert!(unit.contains("ExecStart=/usr/bin/penstock serve\n"));
    let users = std::fs::read_to_string(host.join("etc/passwd")).expect("it is there");
    let ours: Vec<&str> = users.lines().filter(|line| line.starts_with("penstock:")).collect();
    assert!(ours.len() == 1 && ours[0].ends_with(":/var/lib/penstock:/usr/sbin/nologin"), "{users}");

    let (records, journal) = (host.join("var/lib/penstock/superblock"), host.join("var/lib/penstock-tune/journal"));
    for file in [&records, &journal] {
        std::fs::create_dir_all(file.parent().expect("it has one")).expect("a directory");
        std::fs::write(file, "x").expect("it can be written");
    }
    let told = good(dpkg(&host, &["--remove", "penstock"]));
    assert!(told.contains("penstock tune revert"), "{told}");
    assert!(!host.join("usr/bin/penstock").exists() && !host.join("usr/share/doc/penstock").exists());
    assert!(records.exists() && journal.exists());
    let told = good(dpkg(&host, &["--purge", "penstock"]));
    assert!(records.exists() && told.contains("stay"), "{told}");
}
