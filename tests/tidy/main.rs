//! Style as a test. Each rule says what it found, where, and what to do instead; lists of exceptions may only shrink.

mod layers;
mod lengths;
mod source;
mod tree;
mod words;

use source::Source;

/// Fails with every complaint at once: one run shows all there is to repair.
fn must_be_empty(rule: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{rule}:\n  {}\n", complaints.join("\n  "));
}

#[test]
fn files_are_short() {
    must_be_empty("files too long", lengths::files(&Source::all()));
}

#[test]
fn functions_are_short() {
    must_be_empty("functions too long", lengths::functions(&Source::all()));
}

#[test]
fn names_say_something() {
    must_be_empty("names that say nothing", words::module_names(&Source::all()));
}

#[test]
fn a_byte_address_is_a_position() {
    must_be_empty("`offset` as a name", words::banned_names(&Source::all()));
}

#[test]
fn nothing_is_left_for_later() {
    must_be_empty("unfinished code", words::leftovers(&Source::all()));
}

#[test]
fn unsafe_code_is_rare_and_reasoned() {
    must_be_empty("unsafe code", words::unsafe_code(&Source::all()));
}

#[test]
fn layers_know_only_what_is_below() {
    must_be_empty("layering", layers::complaints(&Source::all()));
}

#[test]
fn every_source_file_is_compiled() {
    must_be_empty("source files that no module declares", tree::orphans(&Source::all()));
}

#[test]
fn every_test_is_run() {
    must_be_empty("tests that scripts/test does not run", tree::not_run());
}

#[test]
fn locks_of_clients_know_the_dependencies() {
    must_be_empty("locks", tree::locks());
}

#[test]
fn the_top_level_is_the_one_in_the_design() {
    must_be_empty("top level of the repository", tree::top_level());
}

#[test]
fn nothing_names_the_machine_it_was_made_on() {
    must_be_empty("paths and hosts of one machine", tree::private_places());
}

#[test]
fn the_architecture_page_names_files_that_exist() {
    must_be_empty("ARCHITECTURE.md", tree::architecture());
}
