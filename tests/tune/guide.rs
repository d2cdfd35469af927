//! `tuning/README.md`: that it tells of every change which tune makes, with command, check, undo and effect, and of each where that is known from.

use penstock::tune::check;
use penstock::tune::mend::{Remedy, remedy};
use std::path::Path;

struct Entry {
    head: String,
    fields: Vec<String>,
}

/// Paragraphs that begin with a name in bold letters and have a list of fields.
fn entries() -> Vec<Entry> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/README.md");
    let text = std::fs::read_to_string(page).expect("the guide is there");
    let paragraphs = text.split("\n\n").filter(|paragraph| paragraph.starts_with("**`"));
    let entry = |paragraph: &str| {
        let (head, fields) = paragraph.split_once("\n- ").unwrap_or((paragraph, ""));
        let head = head.split_whitespace().collect::<Vec<_>>().join(" ");
        Entry { head, fields: fields.split("\n- ").map(String::from).collect() }
    };
    paragraphs.map(entry).collect()
}

#[test]
fn each_entry_says_what_to_do_how_to_see_it_how_to_undo_it_and_what_it_brings() {
    let entries = entries();
    assert!(entries.len() > 25, "{}", entries.len());
    for Entry { head, fields } in &entries {
        let names: Vec<&str> = fields.iter().filter_map(|field| field.split(':').next()).collect();
        assert_eq!(names, ["do", "verify", "undo", "effect"], "{head}");
        // Where it is known from: a measurement, a named source, or what follows from numbers; or there is none, or no knob.
        let effect = fields[3].split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let known = ["measured", "source: ", "arithmetic: ", "effect: none", "effect: without it", "effect: a link"];
        assert!(known.iter().any(|mark| effect.contains(mark)), "{head}: {effect}");
        assert!(!effect.contains("not measured"), "{head}: what was not tried says so, beside a source: {effect}");
    }
}

#[test]
fn the_guide_and_the_program_agree_on_what_tune_does() {
    let entries = entries();
    for check in check::all() {
        let name = format!("**`{}`**", check.id);
        let found = entries.iter().find(|entry| entry.head.contains(&name));
        let by_tune = !matches!(remedy(check.id), Remedy::Person(_));
        match found {
            None => assert!(!by_tune, "the guide has nothing of {}", check.id),
            Some(entry) => {
                let says = entry.head.contains("(**tune**");
                assert_eq!(says, by_tune, "{}: {}", check.id, entry.head);
            }
        }
    }
    for Entry { head, .. } in &entries {
        let name = head.trim_start_matches("**`").split('`').next().expect("it has a name");
        assert!(check::all().any(|check| check.id == name), "there is no check {name}");
    }
}
