//! How long files and functions may be. An exception is a number that may only fall.

use crate::source::{Source, names};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// (path, lines)
const LONG_FILES: &[(&str, usize)] = &[];
/// (path, function, lines)
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

pub fn files(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        let allowed = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        complaints.extend(verdict(&source.path, lines, FILE_LINES_MAX, allowed.map(|(_, lines)| *lines)));
    }
    let gone = LONG_FILES.iter().filter(|(path, _)| sources.iter().all(|source| source.path != *path));
    complaints
        .extend(gone.map(|(path, _)| format!("{path} is an exception in lengths.rs but does not exist: remove it")));
    complaints
}

pub fn functions(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut met = vec![false; LONG_FUNCTIONS.len()];
    for source in sources {
        for (name, line, lines) in functions_of(&source.code) {
            let allowed =
                LONG_FUNCTIONS.iter().position(|(path, function, _)| *path == source.path && *function == name);
            if let Some(index) = allowed {
                met[index] = true;
            }
            let place = format!("{}:{line} fn {name}", source.path);
            complaints.extend(verdict(&place, lines, FUNCTION_LINES_MAX, allowed.map(|index| LONG_FUNCTIONS[index].2)));
        }
    }
    let gone = LONG_FUNCTIONS.iter().zip(met).filter(|(_, met)| !met);
    complaints.extend(
        gone.map(|((path, name, _), _)| format!("{path} fn {name} is an exception but is not there: remove it")),
    );
    complaints
}

fn verdict(place: &str, lines: usize, max: usize, allowed: Option<usize>) -> Option<String> {
    match allowed {
        None if lines > max => Some(format!("{place} has {lines} lines, more than {max}: split it by subject")),
        Some(allowed) if lines > allowed => Some(format!("{place} has grown from {allowed} lines to {lines}")),
        Some(_) if lines <= max => Some(format!("{place} has {lines} lines now: remove its exception")),
        Some(allowed) if lines < allowed => {
            Some(format!("{place} has {lines} lines now: lower its number from {allowed}"))
        }
        _ => None,
    }
}

/// (name, first line, lines from `fn` to the closing brace) of every function with a body.
fn functions_of(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some((_, after)) = names(rest).find(|(name, _)| *name == "fn") {
        rest = after;
        // `fn(u8)` is a type: a function has a name before its parameters.
        let Some((name, tail)) = names(after).next().filter(|_| after.starts_with(' ')) else { continue };
        let start = code[..code.len() - after.len()].matches('\n').count();
        if let Some(body) = body(tail) {
            found.push((
                name.to_string(),
                start + 1,
                after[..after.len() - tail.len() + body].matches('\n').count() + 1,
            ));
        }
    }
    found
}

/// Bytes up to and with the brace that closes the body; `None` when a semicolon ends the declaration.
fn body(tail: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (at, byte) in tail.bytes().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_measured_by_their_braces() {
    let code = "trait T { fn a(&self, x: [u8; 4]); }\nfn b(f: fn(u8) -> u8) {\n  if x {\n  }\n}\nconst fn c() -> [u8; 2] { [0; 2] }\n";
    let found = functions_of(code);
    assert_eq!(found, [("b".into(), 2, 4), ("c".into(), 6, 1)]);
    assert!(verdict("f", 71, 70, None).is_some() && verdict("f", 70, 70, None).is_none());
    assert!(verdict("f", 90, 70, Some(91)).is_some() && verdict("f", 91, 70, Some(91)).is_none());
}
