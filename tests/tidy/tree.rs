//! Rules about the tree rather than about code.

use crate::source::{Source, committed, names, top};
use std::collections::BTreeSet;

const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "clippy.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
    "src",
    "tests",
    "tuning",
];
const SCRIPTS_MAX: usize = 5;

pub fn top_level() -> Vec<String> {
    let names: BTreeSet<&str> = committed().iter().map(|path| path.split('/').next().unwrap_or(path)).collect();
    let strange = names.into_iter().filter(|name| !TOP_LEVEL.contains(name));
    let mut complaints: Vec<String> =
        strange.map(|name| format!("{name}: not one of {}", TOP_LEVEL.join(" "))).collect();
    let scripts = committed().iter().filter(|path| path.starts_with("scripts/")).count();
    if scripts > SCRIPTS_MAX {
        complaints
            .push(format!("scripts/ has {scripts} files, more than {SCRIPTS_MAX}: make one a subcommand or a test"));
    }
    complaints
}

/// Test programs, files in `tests/` and directories there with a `main.rs`, that no line of `scripts/test` runs.
pub fn not_run() -> Vec<String> {
    let script = std::fs::read_to_string(top().join("scripts/test")).expect("the script of the tests");
    let runs = |name: &str| script.lines().any(|line| line.ends_with(&format!("cargo test --quiet --test {name}")));
    let paths = committed();
    let names =
        paths.iter().filter_map(|path| path.strip_prefix("tests/")).filter_map(|path| match path.split_once('/') {
            Some((name, "main.rs")) => Some(name),
            Some(_) => None,
            None => path.strip_suffix(".rs"),
        });
    names.filter(|name| !runs(name)).map(|name| format!("tests/{name}: add it to its part")).collect()
}

/// The lock of a package that builds this one knows its dependencies: with `--locked` it is not built otherwise.
pub fn locks() -> Vec<String> {
    const CLIENT: &str = "tests/compat/rust/Cargo.lock";
    let read = |path: &str| std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (manifest, lock) = (read("Cargo.toml"), read(CLIENT));
    let section = manifest.split("[dependencies]").nth(1).and_then(|text| text.split("\n[").next());
    let wanted = section.expect("there are dependencies").lines().filter_map(|line| line.split_once(" = "));
    let package = lock.split("[[package]]").find(|text| text.contains("name = \"penstock\"\n"));
    let package = package.unwrap_or_default();
    let locked = |name: &str| ["\"", " "].iter().any(|end| package.contains(&format!("\n \"{name}{end}")));
    let absent = wanted.map(|(name, _)| name.trim()).filter(|name| !name.starts_with('#') && !locked(name));
    absent
        .map(|name| {
            format!(
                "{CLIENT} does not know {name}: cargo metadata --manifest-path tests/compat/rust/Cargo.toml writes it"
            )
        })
        .collect()
}

/// A `.rs` file that nothing declares is not compiled: its tests do not run.
pub fn orphans(sources: &[Source]) -> Vec<String> {
    let exists = |path: &str| sources.iter().find(|source| source.path == path);
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/")) {
        if ["src/lib.rs", "src/main.rs"].contains(&source.path.as_str()) {
            continue;
        }
        let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (parent, name) = module.rsplit_once('/').unwrap_or(("src", module));
        let parents = [
            format!("{parent}/mod.rs"),
            format!("{parent}.rs"),
            format!("{parent}/lib.rs"),
            format!("{parent}/main.rs"),
        ];
        let declares = |code: &str| {
            let words: Vec<&str> = names(code).map(|(name, _)| name).collect();
            words.windows(2).any(|pair| pair == ["mod", name])
        };
        if !parents.iter().filter_map(|path| exists(path)).any(|parent| declares(&parent.code)) {
            complaints.push(format!("{}: add `mod {name};` to its parent, or delete it", source.path));
        }
    }
    complaints
}

/// Committed text works anywhere: no path of the machine it was written on, no address of a package registry or a mirror.
pub fn private_places() -> Vec<String> {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("index", "-url"),
        concat!("py", "pi."),
        concat!("registry.", "npm"),
        concat!("crates", ".io"),
        concat!("proxy.", "golang"),
    ];
    let public = concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"");
    let mut complaints = Vec::new();
    for path in committed() {
        let Ok(text) = std::fs::read_to_string(top().join(path)) else { continue };
        let lock = path.ends_with("Cargo.lock");
        for (index, line) in text.lines().enumerate() {
            let source = lock && line.starts_with("source = ");
            let wrong = if source { line != public } else { banned.iter().any(|word| line.contains(word)) };
            if wrong {
                complaints.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    complaints
}

/// What stands in backquotes and looks like a path must exist, from the top or from `src/`.
pub fn architecture() -> Vec<String> {
    let Ok(page) = std::fs::read_to_string(top().join("src/ARCHITECTURE.md")) else {
        return vec!["src/ARCHITECTURE.md is missing".into()];
    };
    let quoted = page.split('`').skip(1).step_by(2);
    let looks_like_path = |text: &&str| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        plain && (text.ends_with(".rs") || text.ends_with(".md") || text.ends_with('/'))
    };
    let missing = quoted.filter(looks_like_path).filter(|path| {
        let path = path.trim_end_matches('/');
        !path.is_empty() && !top().join(path).exists() && !top().join("src").join(path).exists()
    });
    missing.map(|path| format!("`{path}` does not exist")).collect()
}
