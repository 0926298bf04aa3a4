//! Rooms: each says what it is, has a name that says something, and has no doors painted on its walls.

use std::collections::BTreeMap;

use super::{Source, none, sources};

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "shared", "util", "utils"];

/// Files with comments that part them like doors, and how many: each wants to be files of its own. May only shrink.
const DOORS: &[(&str, usize)] = &[];

#[test]
fn modules_say_what_they_are() {
    let silent = |source: &&Source| !source.text.starts_with("//!") && !source.path.starts_with("fuzz/");
    let wrong: Vec<String> = sources().iter().filter(silent).map(|source| source.path.clone()).collect();
    none("modules that do not begin with //! and what they are", &wrong);
}

#[test]
fn files_have_names_that_say_something() {
    let mut wrong = Vec::new();
    for Source { path, .. } in sources() {
        let words = path.split('/').map(|part| part.trim_end_matches(".rs"));
        if words.into_iter().any(|word| EMPTY_NAMES.contains(&word)) {
            wrong.push(path);
        }
    }
    none("names that say nothing", &wrong);
}

#[test]
fn rooms_have_no_doors_inside() {
    let count = |source: &Source| source.text.lines().filter(|line| is_door(line)).count();
    let found: BTreeMap<String, usize> = sources()
        .into_iter()
        .map(|source| (source.path.clone(), count(&source)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let listed: BTreeMap<String, usize> =
        DOORS.iter().map(|&(path, count)| (path.to_owned(), count)).collect();
    assert_eq!(found, listed, "files with banner comments, found and listed in DOORS: make files of them");
}

/// Whether a line is a comment of dashes, equals signs or stars, with or without a title.
fn is_door(line: &str) -> bool {
    let Some(comment) = line.trim().strip_prefix("//") else { return false };
    let comment = comment.trim_start_matches(['/', '!']).trim();
    ["---", "===", "***", "###", "────"].iter().any(|rule| comment.starts_with(rule))
        && !comment.contains('|')
}

#[test]
fn door_is_a_comment_of_dashes() {
    assert!(is_door("    // --- reads ------"));
    assert!(is_door("// ======"));
    assert!(!is_door("//! | --- | --- |"));
    assert!(!is_door("// a - b"));
    assert!(!is_door("let a = \"// ---\";"));
}
