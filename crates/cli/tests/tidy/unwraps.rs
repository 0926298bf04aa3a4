//! What cannot fail says why: no `unwrap()` outside tests. Clippy finds them too, where nobody has told it not to.

use std::collections::BTreeSet;

use super::{Source, none, sources};

#[test]
fn sources_unwrap_in_tests_only() {
    let sources = sources();
    let tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.path.contains("/src/")) {
        let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if tests.iter().any(|module| stem == module || stem.starts_with(&format!("{module}/"))) {
            continue;
        }
        let lines = source.text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
        let bare = lines.filter(|(_, line)| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains(".unwrap()") || code.contains("clippy::unwrap_used")
        });
        wrong.extend(bare.map(|(number, line)| format!("{}:{}: {}", source.path, number + 1, line.trim())));
    }
    none("unwrap() outside tests: expect(\"why it cannot fail\")", &wrong);
}

/// The modules in files of their own that a file has for tests only: their paths, without `.rs`.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let is_folder = ["/mod", "/lib", "/main"].iter().find_map(|name| stem.strip_suffix(name));
    let folder = is_folder.unwrap_or(stem);
    let mut found = Vec::new();
    for (attribute, module) in source.text.lines().zip(source.text.lines().skip(1)) {
        let name = module.split("mod ").nth(1).and_then(|name| name.strip_suffix(';'));
        if let Some(name) = name.filter(|_| attribute == "#[cfg(test)]") {
            found.push(format!("{folder}/{name}"));
        }
    }
    found
}

#[test]
fn module_for_tests_is_one_behind_the_attribute() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod c {\n}\n".to_owned();
    let at = |path: &str| test_modules(&Source { path: path.into(), text: text.clone() });
    assert_eq!(at("crates/x/src/lib.rs"), ["crates/x/src/b"]);
    assert_eq!(at("crates/x/src/y.rs"), ["crates/x/src/y/b"]);
}
