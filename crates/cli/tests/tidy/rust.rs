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

/// The paths of a source as lists of names, those of `use` one by one. Up to its tests.
pub fn paths(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").map(code);
    let code = lines.collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for statement in code.split(';') {
        let used = statement.rsplit_once("use ").filter(|(before, _)| {
            before.is_empty() || before.ends_with(|c: char| c.is_whitespace() || c == '}' || c == ')')
        });
        match used {
            Some((_, tree)) => expand(&[], tree.trim(), &mut found),
            None => found.extend(qualified(statement)),
        }
    }
    found
}

/// The paths of a tree of `use`.
fn expand(before: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let (path, branches) = match tree.split_once('{') {
        Some((path, rest)) => (path, Some(rest.trim_end().strip_suffix('}').unwrap_or(rest))),
        None => (tree, None),
    };
    let names = path.split("::").map(|name| name.split_whitespace().next().unwrap_or_default());
    let mut whole = before.to_vec();
    whole.extend(names.filter(|name| !name.is_empty() && *name != "*").map(str::to_owned));
    let Some(branches) = branches else { return found.push(whole) };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in branches.char_indices().chain([(branches.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = branches[start..at].trim();
                if !branch.is_empty() {
                    expand(&whole, branch, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The paths in code that begin in this crate.
fn qualified(code: &str) -> Vec<Vec<String>> {
    let begins = code.match_indices("crate::").chain(code.match_indices("super::")).map(|(at, _)| at);
    let is_begin = |at: &usize| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path = |at: usize| {
        let end = code[at..].find(|c| !part(c)).map_or(code.len(), |end| at + end);
        code[at..end].split("::").map(str::to_owned).collect()
    };
    begins.filter(is_begin).map(path).collect()
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

#[test]
fn path_of_use_is_told_one_by_one() {
    let found = paths(
        "use a::{self, b::{C, d as e}};\npub use super::f::*;\nlet g = crate::h::i(1);\n#[cfg(test)]\nuse j;\n",
    );
    let found: Vec<String> = found.into_iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::self", "a::b::C", "a::b::d", "super::f", "crate::h::i"]);
}
