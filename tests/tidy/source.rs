//! The repository's files, and Rust text with its comments and literals blanked.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// One Rust file.
pub struct Source {
    /// Path from the top of the repository.
    pub path: String,
    pub text: String,
    /// `text` with the inside of comments, strings and character literals replaced by spaces; as long, line by line.
    pub code: String,
}

/// Top of the repository.
pub fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that is, or would be, committed.
pub fn committed() -> &'static [String] {
    static FILES: OnceLock<Vec<String>> = OnceLock::new();
    FILES.get_or_init(|| {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(top())
            .output()
            .expect("git runs: this test asks it which files are part of the repository");
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let names = String::from_utf8(listed.stdout).expect("paths are UTF-8");
        names.split('\0').filter(|name| !name.is_empty() && top().join(name).exists()).map(String::from).collect()
    })
}

impl Source {
    pub fn all() -> Vec<Source> {
        let rust = committed().iter().filter(|path| path.ends_with(".rs"));
        rust.map(|path| {
            let text = std::fs::read_to_string(top().join(path)).expect("a listed file is readable text");
            Source { path: path.clone(), code: blank(&text), text }
        })
        .collect()
    }

    /// (line number, code of the line), from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// The names in a line of code, with the text that follows each.
pub fn names(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = code;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| c.is_alphabetic() || c == '_')?;
        let from = &rest[start..];
        let end = from.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        rest = after;
        Some((name, after))
    })
}

/// Blanks what is not code, so that rules need not know about quotes.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let name_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + nested_comment(rest),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !name_before => at + raw_string(rest),
        [b'b', b'r', b'"' | b'#', ..] if !name_before => at + 1 + raw_string(&rest[1..]),
        // A lifetime has no closing quote right behind its first character.
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        [b'\'', _, b'\'', ..] => at + 3,
        [b'\'', first, ..] if *first >= 0x80 => at + quoted(rest, b'\''),
        _ => at,
    }
}

fn nested_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of `r"…"` or `r#"…"#`; 0 for a raw identifier such as `r#type`.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = 2 + hashes;
    let found = rest[body..].windows(close.len()).position(|window| window == close);
    found.map_or(rest.len(), |length| body + length + close.len())
}

#[test]
fn comments_and_literals_are_not_code() {
    let check =
        |text: &str, expect: &str| assert_eq!(blank(text).split_whitespace().collect::<Vec<_>>().join(" "), expect);
    check("a // offset", "a");
    check("a /* b /* c */ d */ e", "a e");
    check(r#"f("offset \" {", x)"#, "f( , x)");
    check("r##\"{ \"# \"## + r#type", "+ r#type");
    check("b'{' + '\\'' + '\"' + 'é'", "b + + +");
    check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
    assert_eq!(names("let a_1 = self.b(c);").map(|n| n.0).collect::<Vec<_>>(), ["let", "a_1", "self", "b", "c"]);
}
