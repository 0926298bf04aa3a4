//! Golden scripts: what the table answers, as text.
//!
//! A script under `scripts/` holds commands, each followed by the answers it gets (`= ...`). Every script runs on both
//! engines, which must answer alike and end with equal digests; those under `both/` on both layouts, which must answer alike, and those under
//! `merged/` on the merged one, with commands of its own ([`golden::merged`]). `REGENERATE=1 cargo test -p storage --test golden`
//! writes the answers anew; read every line that changed.
//!
//! Commands: `history: N|all [deleted=MICROS]` first, if at all; then, on the merged layout, `protocol: broadcast` (without it, quorum). Then ops, see [`golden::parse`], with what is put before them:
//! `@MICROS op` applies an entry of that proposed time (without it, the next microsecond); `? op` reads locally,
//! `?MICROS op` with the clock of a reader who orders an advance, `?~MICROS op` of one who hides; `id=CLIENT:SEQUENCE:ANSWERED_BELOW:VALID_UNTIL op` is a request that may be sent
//! again. `reload` loads the shard again. Versions are written as their microseconds (`.NODE` behind them unless it is
//! node 1).

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod golden {
    pub mod merged;
    pub mod parse;
    pub mod show;
    pub mod store;
}

use std::path::{Path, PathBuf};

use golden::store::Store;
use storage::{Kind, Layout};

#[test]
fn scripts_on_both_engines_answer_as_recorded() {
    check("scripts", &[Layout::Ordered]);
}

#[test]
fn scripts_of_the_merged_layout_answer_as_recorded() {
    check("scripts/merged", &[Layout::Merged]);
}

#[test]
fn scripts_of_both_layouts_answer_alike() {
    check("scripts/both", &[Layout::Ordered, Layout::Merged]);
}

fn check(folder: &str, layouts: &[Layout]) {
    let mut wrong = Vec::new();
    for path in scripts(folder) {
        let recorded = std::fs::read_to_string(&path).unwrap();
        let mut answers = Vec::new();
        for layout in layouts {
            let (memory, memory_digest) = run(&recorded, Kind::Memory, *layout);
            let (disk, disk_digest) = run(&recorded, Kind::Disk, *layout);
            assert_eq!(memory, disk, "{}: the engines differ", path.display());
            assert_eq!(memory_digest, disk_digest, "{}: the digests differ", path.display());
            answers.push(memory);
        }
        for other in &answers[1..] {
            assert!(*other == answers[0], "the layouts differ: {}", differences(&path, &answers[0], other));
        }
        if std::env::var_os("REGENERATE").is_some() {
            std::fs::write(&path, &answers[0]).unwrap();
        } else if answers[0] != recorded {
            wrong.push(differences(&path, &recorded, &answers[0]));
        }
    }
    assert!(wrong.is_empty(), "{}\nread the changes; REGENERATE=1 records them", wrong.join("\n"));
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are scripts");
    paths
}

fn run(script: &str, kind: Kind, layout: Layout) -> (String, u64) {
    let mut store = Store::new(kind, layout);
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("= ")) {
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            for answer in store.command(line) {
                out.push_str("= ");
                out.push_str(&answer);
                out.push('\n');
            }
        }
    }
    (out, store.digest())
}

fn differences(path: &Path, recorded: &str, now: &str) -> String {
    let mut command = "";
    for (before, after) in recorded.lines().zip(now.lines()) {
        if before != after {
            return format!("{}: after `{command}`\n  recorded {before}\n  now      {after}", path.display());
        }
        if !after.starts_with("= ") {
            command = after;
        }
    }
    format!("{}: the number of lines differs", path.display())
}
