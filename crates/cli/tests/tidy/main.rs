//! The house is tidy: the walls between crates stand, every room has a size and a name, and the documents tell the truth
//! about files.
//!
//! Each rule is a function from a text to what is wrong with it, with a test of its own on a few lines, and a test that puts
//! it to the whole house. A list of exceptions is a ratchet: an entry that is no longer needed fails too.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod circles;
mod documents;
mod io;
mod lengths;
mod licences;
mod names;
mod rust;
mod unwraps;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What cargo knows of all packages, their dependencies among it.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("there are packages").clone()
}

/// A field that is a text; empty when there is none.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Whether a package is of the house.
fn is_ours(package: &Value) -> bool {
    package["source"].is_null()
}

/// A file of Rust.
struct Source {
    /// Its path from the workspace's folder.
    path: String,
    text: String,
}

/// All Rust files of the house that a person wrote, in order.
fn sources() -> Vec<Source> {
    let (mut found, mut folders) =
        (Vec::new(), vec![root().join("crates"), root().join("fuzz/fuzz_targets")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: below_root(&path), text });
            }
        }
    }
    assert!(!found.is_empty(), "there are sources");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// A path from the workspace's folder, with `/`.
fn below_root(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Fails with everything that is wrong, a line each.
fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}
