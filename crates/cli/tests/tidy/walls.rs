//! The walls: who may depend on whom, and that no edge is there for nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{is_ours, none, packages, rust, sources, text};

/// Which crates of the house a crate may depend on. A crate that is not here is not of the house.
const WALLS: &[(&str, &[&str])] = &[
    ("mutant", &[]),
    ("kv", &[]),
    ("wal", &["mutant"]),
    ("check", &["kv"]),
    ("placement", &["kv", "mutant"]),
    ("replication", &["kv", "mutant"]),
    ("storage", &["kv", "mutant"]),
    ("node", &["kv", "wal", "storage", "replication", "placement", "mutant"]),
    ("dialects", &["kv"]),
    ("sim", &["kv", "wal", "storage", "replication", "placement", "node", "check"]),
    ("server", &["kv", "wal", "storage", "replication", "placement", "node", "dialects"]),
    ("lab", &["kv", "check", "dialects"]),
    ("cli", &["kv", "check", "dialects", "lab", "server", "sim", "mutant"]),
    (
        "fuzz",
        &["kv", "wal", "check", "placement", "replication", "storage", "node", "dialects", "server", "cli"],
    ),
];

/// Dependencies that no source names, with the reason.
const UNNAMED: &[(&str, &str)] = &[
    ("dialects", "tonic-prost"), // the generated services name it
];

/// The names of a package's dependencies of these kinds (`None` = normal), those of the house or all.
fn dependencies<'a>(package: &'a Value, kinds: &[Option<&str>], of_the_house: bool) -> Vec<&'a str> {
    let all = package["dependencies"].as_array().expect("a list").iter();
    let wanted = all.filter(|dependency| {
        kinds.contains(&dependency["kind"].as_str()) && (!of_the_house || dependency["path"].is_string())
    });
    wanted.map(|dependency| text(dependency, "name")).collect()
}

#[test]
fn walls_between_crates_stand() {
    let walls: BTreeMap<&str, &[&str]> = WALLS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|package| is_ours(package)) {
        let name = text(package, "name");
        let Some(allowed) = walls.get(name) else {
            wrong.push(format!("crate {name} is behind no wall: add it to WALLS"));
            continue;
        };
        let edges = dependencies(package, &[None], true);
        let too_many = edges.iter().filter(|edge| !allowed.contains(edge));
        wrong.extend(too_many.map(|edge| format!("{name} must not depend on {edge}")));
        let unused = allowed.iter().filter(|edge| !edges.contains(edge));
        wrong.extend(unused.map(|edge| format!("WALLS lets {name} depend on {edge}, which it does not")));
    }
    none("edges between crates", &wrong);
}

/// Whether a feature of a package switches one of a dependency: that is what some are there for.
fn switches(package: &Value, dependency: &str) -> bool {
    let features = package["features"].as_object().expect("a map");
    let mut switched = features.values().flat_map(|list| list.as_array().expect("a list"));
    switched.any(|feature| feature.as_str().is_some_and(|name| name.starts_with(&format!("{dependency}/"))))
}

#[test]
fn dependencies_are_named_in_a_source() {
    let sources = sources();
    let mut unnamed = BTreeSet::new();
    for package in packages().iter().filter(|package| is_ours(package)) {
        let name = text(package, "name");
        let names_of = |part: &str| -> BTreeSet<String> {
            let prefix = format!("crates/{name}/{part}");
            let files = sources.iter().filter(|source| source.path.starts_with(&prefix));
            files.flat_map(|source| rust::roots(&source.text)).collect()
        };
        let places = [(None, "src/"), (Some("build"), "build.rs"), (Some("dev"), "")];
        for (kind, place) in places {
            let named = names_of(place);
            let edges = dependencies(package, &[kind], false).into_iter();
            let edges = edges.filter(|edge| !named.contains(&edge.replace('-', "_")));
            let missing = edges.filter(|edge| !switches(package, edge));
            unnamed.extend(missing.map(|edge| (name.to_owned(), edge.to_owned())));
        }
    }
    let listed: BTreeSet<(String, String)> =
        UNNAMED.iter().map(|&(name, edge)| (name.to_owned(), edge.to_owned())).collect();
    let told = |(name, edge): &(String, String)| format!("{name} depends on {edge}");
    none("dependencies that no source names", &unnamed.difference(&listed).map(told).collect::<Vec<_>>());
    none("UNNAMED that are named or gone", &listed.difference(&unnamed).map(told).collect::<Vec<_>>());
}

/// What a source of a server names that is behind the wall of the dialects: their modules. Of the wall itself it names types.
fn dialects_named(text: &str) -> Vec<String> {
    let behind = |rest: &&str| rest.starts_with(|first: char| first.is_ascii_lowercase());
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    text.split("dialects::").skip(1).filter(behind).map(name).collect()
}

#[test]
fn server_knows_no_dialect() {
    let of_the_server = |source: &&super::Source| source.path.starts_with("crates/server/src/");
    let mut wrong = Vec::new();
    for source in sources().iter().filter(of_the_server) {
        let named = dialects_named(&source.text).into_iter();
        wrong.extend(named.map(|name| format!("{} names dialects::{name}", source.path)));
    }
    none("dialects that the server knows by name", &wrong);
}

#[test]
fn dialect_that_is_named_is_noticed() {
    assert_eq!(dialects_named("use dialects::native::Native; use dialects::{Stop, Store};"), ["native"]);
    assert!(dialects_named("Arc<dyn dialects::Dialect>, use dialects::Account;").is_empty());
}
