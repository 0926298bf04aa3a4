//! What the documents and comments name is there.

use std::fs;
use std::path::Path;

use super::{none, packages, root, sources, text};

/// The documents, from the workspace's folder.
const DOCUMENTS: &[&str] = &["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "fuzz/README.md"];

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let content = fs::read_to_string(root().join(document)).unwrap();
        for link in links(&content) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = root().join(document).parent().unwrap().join(file);
            let path = if file.is_empty() { root().join(document) } else { path };
            let is_there = match fs::read_to_string(&path) {
                Ok(content) => heading.is_empty() || headings(&content).iter().any(|found| found == heading),
                Err(_) => heading.is_empty() && path.exists(),
            };
            wrong.extend((!is_there).then(|| format!("{document}: {link}")));
        }
    }
    none("links that lead nowhere", &wrong);
}

#[test]
fn paths_that_are_named_are_there() {
    let crates: Vec<String> = packages().iter().map(|package| text(package, "name").to_owned()).collect();
    let mut texts: Vec<(String, String)> = DOCUMENTS
        .iter()
        .map(|document| (document.to_string(), fs::read_to_string(root().join(document)).unwrap()))
        .collect();
    texts.extend(sources().into_iter().map(|source| {
        let comments = source.text.lines().filter(|line| line.trim_start().starts_with("//"));
        (source.path, comments.collect::<Vec<_>>().join("\n"))
    }));
    let mut wrong = Vec::new();
    for (file, content) in &texts {
        let named = quoted(content).into_iter().filter(|path| is_path(path, &crates));
        let missing = named.filter(|path| !exists(Path::new(path)));
        wrong.extend(missing.map(|path| format!("{file}: {path}")));
    }
    none("paths that are not there", &wrong);
}

/// Where the links of a document lead within the house.
fn links(content: &str) -> Vec<&str> {
    let ends = content.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(link, _)| link).filter(|link| !link.contains("://")).collect()
}

/// The headings of a document as links name them.
fn headings(content: &str) -> Vec<String> {
    let lines = content.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    lines.map(anchor).collect()
}

/// What stands between single backticks on a line.
fn quoted(content: &str) -> Vec<&str> {
    content.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Whether a text is a path of the house: of a folder of the workspace, or of a crate's sources or tests. Capitals stand for
/// names that vary.
fn is_path(text: &str, crates: &[String]) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/_-.".contains(c);
    let mut parts = text.split('/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_ours = ["crates", "scripts"].contains(&first) && !second.is_empty()
        || crates.iter().any(|name| name == first) && ["src", "tests"].contains(&second);
    is_ours && text.chars().all(plain)
}

fn exists(path: &Path) -> bool {
    root().join(path).exists() || root().join("crates").join(path).exists()
}

#[test]
fn link_is_found_with_its_heading() {
    assert_eq!(links("a [b](c.md#d-e) [f](https://g) [h](i/j)"), ["c.md#d-e", "i/j"]);
    assert_eq!(headings("# One put, in six\ntext\n## Limits\n"), ["one-put-in-six", "limits"]);
}

#[test]
fn path_is_told_from_other_words() {
    let crates = ["kv".to_owned()];
    for (text, is) in [("kv/src/op.rs", true), ("crates/x", true), ("kv/op", false), ("log/", false)] {
        assert_eq!(is_path(text, &crates), is, "{text}");
    }
    assert_eq!(quoted("a `b` c `d/e`\n`f"), ["b", "d/e", "f"]);
}
