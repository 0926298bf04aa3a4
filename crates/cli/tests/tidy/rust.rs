//! As much of Rust as the rules need, read line by line: `cargo fmt` has put every line where it belongs.

use std::collections::BTreeSet;

/// The functions of a source and how many lines each has. Of a text that is formatted: a function ends with the brace that
/// stands below its first line's begin.
pub fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let is_whole = line.ends_with('}') || line.ends_with(';');
        let rest = lines[start + 1..].iter().position(|line| *line == end);
        found.push((name.to_owned(), if is_whole { 1 } else { rest.map_or(1, |rest| rest + 2) }));
    }
    found
}

/// The name of the function that a line begins.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = before.split_whitespace();
    let is_definition = |word: &str| {
        word.starts_with("pub") || ["async", "const", "unsafe", "extern", "default"].contains(&word)
    };
    if !words.into_iter().all(is_definition) {
        return None;
    }
    let end = after.find(['(', '<'])?;
    Some(&after[..end])
}

/// The names that paths of a source begin with: crates among them.
pub fn roots(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(code) {
        for (at, _) in line.match_indices("::") {
            found.insert(word_before(&line[..at]).to_owned());
        }
        let used = line.trim().trim_start_matches("pub ").strip_prefix("use ");
        let whole = used.and_then(|used| used.strip_suffix(';')).filter(|used| !used.contains("::"));
        found.extend(whole.map(str::to_owned));
    }
    found
}

/// A line without the comment at its end.
fn code(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split(" // ").next().unwrap_or(line)
}

fn word_before(text: &str) -> &str {
    let start = text.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    // Behind another name it is no root; behind `::` alone it is one.
    let is_inner =
        text[..start].strip_suffix("::").is_some_and(|before| before.ends_with(char::is_alphanumeric));
    if is_inner { "" } else { &text[start..] }
}

#[test]
fn function_ends_with_its_brace() {
    let text = "impl A {\n    pub fn one(\n        a: u8,\n    ) {\n        if a {\n        }\n    }\n\n    fn two() {}\n}\n";
    assert_eq!(functions(text), [("one".to_owned(), 6), ("two".to_owned(), 1)]);
    assert_eq!(functions("let a = |f: fn (u8)| 1;\n// the fn x(\n"), []);
}

#[test]
fn root_is_what_a_path_begins_with() {
    let found = roots(
        "use kv::{Key, Op};\nlet a = wal::Log::new(b); // node::route\n//! [`storage::x`]\nuse mutant;\n::raft::a::b();\n",
    );
    assert_eq!(
        found.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>(),
        ["kv", "mutant", "raft", "wal"]
    );
}
