//! The house is tidy: the walls between crates stand, licences fit, every module says what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of the house a crate may depend on. A crate that is not here is not of the house.
const WALLS: &[(&str, &[&str])] = &[
    ("mutant", &[]),
    ("kv", &[]),
    ("wal", &["mutant"]),
    ("check", &["kv"]),
    ("replication", &["kv", "mutant"]),
    ("storage", &["kv", "wal", "mutant"]),
    ("node", &["kv", "wal", "storage", "replication", "mutant"]),
    ("dialects", &["kv"]),
    ("sim", &["kv", "wal", "storage", "replication", "node", "check", "mutant"]),
    ("server", &["kv", "wal", "storage", "replication", "node", "dialects"]),
    ("cli", &["kv", "check", "dialects", "server", "sim", "mutant"]),
    ("fuzz", &["kv", "wal", "check", "replication", "storage", "node", "dialects", "server", "cli"]),
];

/// Crates that do no I/O: their clippy.toml bans clocks, sockets and threads.
const NO_IO: &[&str] = &["replication", "node", "storage"];

/// Licences that fit MIT OR Apache-2.0; any one of an OR is enough.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "MPL-2.0+",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that have no business here, as in deny.toml.
const BANNED: &[&str] = &["openssl", "fjall", "sled"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace is two folders up")
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().expect("there are packages")
}

fn ours(package: &Value) -> bool {
    package["source"].is_null()
}

#[test]
fn walls_between_crates_stand() {
    let metadata = metadata();
    let walls: BTreeMap<&str, &[&str]> = WALLS.iter().copied().collect();
    for package in packages(&metadata).iter().filter(|package| ours(package)) {
        let name = text(package, "name");
        let allowed =
            walls.get(name).unwrap_or_else(|| panic!("crate {name} is behind no wall: add it to WALLS"));
        for dependency in package["dependencies"].as_array().expect("a list") {
            let is_ours = dependency["path"].is_string();
            let is_normal = dependency["kind"].is_null();
            let dependency = text(dependency, "name");
            assert!(
                !is_ours || !is_normal || allowed.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn dependencies_licences_fit_and_none_is_banned() {
    let metadata = metadata();
    let allowed: BTreeSet<&str> = LICENCES.iter().copied().collect();
    for package in packages(&metadata).iter().filter(|package| !ours(package)) {
        let name = text(package, "name");
        assert!(!BANNED.contains(&name), "{name} is banned: see deny.toml");
        let licence = text(package, "license").replace('/', " OR ");
        let fits = |choice: &str| {
            choice.split(" AND ").all(|one| allowed.contains(one.trim_matches(['(', ')', ' '])))
        };
        let fits_one = fits(&licence) || licence.split(" OR ").any(fits);
        assert!(fits_one, "the licence of {name} does not fit: {licence}");
    }
}

#[test]
fn modules_say_what_they_are() {
    for file in sources() {
        let content = fs::read_to_string(&file).expect("a source file is text");
        let first = content.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!"), "{} does not begin with //! and what it is", file.display());
    }
}

#[test]
fn crates_without_io_ban_it() {
    for name in NO_IO {
        let file = root().join("crates").join(name).join("clippy.toml");
        let content = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for banned in ["std::time::Instant::now", "std::thread::sleep", "std::net::TcpStream"] {
            assert!(content.contains(banned), "{} does not ban {banned}", file.display());
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "there are sources");
    found
}
