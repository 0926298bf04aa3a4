//! Who reads a file need not have read the one that it is read for: files of a crate import each other in one direction.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, none, rust, sources};

/// Crates in which no two files import each other, by whatever way. May only grow: elsewhere a room and its inner rooms know
/// each other.
const ONE_WAY: &[&str] = &["cli", "lab", "mutant", "placement", "sim"];

#[test]
fn files_do_not_import_each_other() {
    let sources = sources();
    let mut wrong = Vec::new();
    for name in ONE_WAY {
        let folder = format!("crates/{name}/src/");
        let files = sources.iter().filter(|source| source.path.starts_with(&folder));
        let modules: BTreeMap<Vec<String>, &Source> =
            files.map(|source| (module_of(&source.path[folder.len()..]), source)).collect();
        assert!(modules.len() > 1, "{name} has files");
        wrong.extend(
            circle(&graph(&modules)).into_iter().map(|module| format!("{name}: {}", module.join("::"))),
        );
    }
    none("modules that import what imports them", &wrong);
}

type Module = Vec<String>;

/// The module of a file, by its path below `src`.
fn module_of(path: &str) -> Module {
    let stem = path.trim_end_matches(".rs");
    let parts = stem.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
    parts.map(str::to_owned).collect()
}

/// Which modules each one imports from.
fn graph(modules: &BTreeMap<Module, &Source>) -> BTreeMap<Module, BTreeSet<Module>> {
    let targets = |(module, source): (&Module, &&Source)| {
        let found = rust::paths(&source.text).into_iter().filter_map(|path| resolve(&path, module, modules));
        (module.clone(), found.filter(|target| target != module).collect())
    };
    modules.iter().map(targets).collect()
}

/// The module that has what a path names, if it is of this crate.
fn resolve(path: &[String], from: &Module, modules: &BTreeMap<Module, &Source>) -> Option<Module> {
    let mut whole = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => from.clone(),
        child => {
            let module = [from.as_slice(), &[child.to_owned()]].concat();
            modules.contains_key(&module).then(|| from.clone())?
        }
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => drop(whole.pop()),
            name => whole.push(name.to_owned()),
        }
    }
    // What only the crate's root has is there for others, or of the root itself.
    while !whole.is_empty() && !modules.contains_key(&whole) {
        whole.pop();
    }
    Some(whole).filter(|module| !module.is_empty())
}

/// All modules from which a way of imports leads back to them.
fn circle(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Module> {
    let leads_back = |start: &&Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
        while let Some(module) = next.pop() {
            let targets = graph[module].iter().filter(|target| seen.insert(*target));
            next.extend(targets);
        }
        seen.contains(*start)
    };
    graph.keys().filter(leads_back).cloned().collect()
}

#[test]
fn circle_is_found_over_any_way() {
    let source = |text: &str| Source { path: String::new(), text: text.into() };
    let (root, a, b, c) = (
        source("mod a;\nmod b;\nuse a::A;\n"),
        source("use crate::b::{self, c::C};\n"),
        source("mod c;\nlet d = crate::nothing();\n"),
        source("fn c() { crate::a::run() }\n"),
    );
    let module = |path: &str| module_of(path);
    let modules = BTreeMap::from([
        (module("lib.rs"), &root),
        (module("a.rs"), &a),
        (module("b/mod.rs"), &b),
        (module("b/c.rs"), &c),
    ]);
    assert_eq!(circle(&graph(&modules)), [module("a.rs"), module("b/c.rs")]);
}
