//! Words that may not be used, and where `unsafe` may.

use crate::source::{Source, names};

/// A module with such a name collects what has no place: give the code to its subject.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];

/// Files that may contain `unsafe`: the ring, memory the kernel shares, and one file per SIMD kernel.
const UNSAFE_FILES: &[&str] = &[
    "src/io/buffers.rs",
    "src/io/clock.rs",
    "src/io/cpu.rs",
    "src/io/process.rs",
    "src/io/trial.rs",
    "src/io/uring.rs",
    "src/kinesis/base64/avx2.rs",
    "src/kinesis/base64/avx512.rs",
    "src/kinesis/json_string/avx2.rs",
    "src/route/md5/avx512.rs",
    "src/stdx/spsc.rs",
    "tests/allocation/counting.rs",
];
const UNSAFE_FILES_MAX: usize = 12;

pub fn module_names(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for part in source.path.trim_end_matches(".rs").split('/') {
            let bare = part.trim_end_matches(|c: char| c.is_ascii_digit());
            if EMPTY_NAMES.iter().any(|word| bare == *word || part.split('_').any(|piece| piece == *word)) {
                complaints.push(format!("{}: name it after what is in it", source.path));
            }
        }
    }
    complaints
}

pub fn banned_names(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (line, code) in source.lines() {
            for (name, after) in names(code) {
                // The crates below `io` call their own methods so.
                let foreign =
                    source.path.starts_with("src/io/") && (after.starts_with('(') || name.starts_with("stx_"));
                if name.split('_').any(|part| part == "offset" || part == "offsets") && name != "offset_of" && !foreign
                {
                    complaints
                        .push(format!("{}:{line}: `{name}`; say position (bytes), sequence or index", source.path));
                }
            }
        }
    }
    complaints
}

pub fn leftovers(sources: &[Source]) -> Vec<String> {
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X:")];
    let macros = ["dbg!", "todo!", "unimplemented!"];
    let mut complaints = Vec::new();
    for source in sources {
        for ((line, code), text) in source.lines().zip(source.text.lines()) {
            let mark = marks.iter().find(|mark| text.contains(**mark));
            let call = macros.iter().find(|call| code.contains(**call));
            complaints.extend(mark.or(call).map(|what| format!("{}:{line}: {what}", source.path)));
        }
    }
    complaints
}

pub fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    if UNSAFE_FILES.len() > UNSAFE_FILES_MAX {
        complaints.push(format!("{} files are listed, {UNSAFE_FILES_MAX} are the most", UNSAFE_FILES.len()));
    }
    for source in sources {
        let lines: Vec<&str> = source.text.lines().collect();
        let places = source.lines().filter(|(_, code)| names(code).any(|(name, _)| name == "unsafe"));
        let places: Vec<usize> = places.map(|(line, _)| line).collect();
        match (UNSAFE_FILES.contains(&source.path.as_str()), places.is_empty()) {
            (true, true) => {
                complaints.push(format!("{} needs no unsafe any more: remove it from the list", source.path))
            }
            (false, false) => {
                complaints.push(format!("{}:{}: unsafe outside the listed files", source.path, places[0]))
            }
            _ => {}
        }
        for line in places {
            if !reasoned(&lines, line - 1) {
                complaints.push(format!("{}:{line}: unsafe without a SAFETY reason above it", source.path));
            }
        }
    }
    let gone = UNSAFE_FILES.iter().filter(|path| sources.iter().all(|source| source.path != **path));
    complaints.extend(gone.map(|path| format!("{path} is listed but does not exist: remove it")));
    complaints
}

/// Whether the comment that ends right above `lines[at]` (attributes and the head of a statement between) gives the reason; the
/// documentation of an `unsafe fn` has its `# Safety` section instead.
fn reasoned(lines: &[&str], at: usize) -> bool {
    if lines[at].contains("SAFETY:") {
        return true;
    }
    let mut in_comment = false;
    for line in lines[..at].iter().rev().take(20).map(|line| line.trim_start()) {
        let comment = line.starts_with("//");
        if comment && (line.contains("SAFETY:") || line.contains("# Safety")) {
            return true;
        }
        let ends_statement = line.ends_with(';') || line.ends_with('}') || line.is_empty();
        if !comment && (in_comment || ends_statement) {
            return false;
        }
        in_comment |= comment;
    }
    false
}

#[test]
fn a_reason_is_found_only_right_above() {
    let text = ["// SAFETY: why", "#[inline]", "let x =", "    unsafe { f() };", "unsafe { g() }"];
    assert!(reasoned(&text, 3));
    assert!(!reasoned(&text, 4));
}
