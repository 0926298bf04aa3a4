//! Every decoder over its corpus and over seeded mutations of it; and that the corpus and the targets are whole.
//!
//! An input fails when its target panics, or when it makes more than [`ALLOCATED_BYTES_MAX`] be allocated at a time.

mod counting;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz::{Mutator, TARGETS, Target};

/// What one input of at most 48 KiB may have allocated at a time: far more than any needs, far less than a length that is
/// trusted before it is checked asks for.
const ALLOCATED_BYTES_MAX: isize = 32 << 20;
/// Mutations of each target, unless INPUTS says otherwise: a second or less in a debug build, for most.
const INPUTS: u64 = 1_000;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

#[test]
fn decoders_over_the_corpus_hold() {
    regenerate();
    each_target(|target| {
        for (path, bytes) in corpus(target) {
            try_input(target, &bytes, &path.display().to_string())?;
        }
        Ok(())
    });
}

#[test]
fn decoders_over_seeded_mutations_hold() {
    regenerate();
    let (seed, inputs) = (number("SEED").unwrap_or(1), number("INPUTS").unwrap_or(INPUTS));
    each_target(|target| {
        let kept: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
        let mut mutator = Mutator::new(&kept, seed);
        for index in 0..inputs {
            try_input(target, &mutator.input(), &format!("input {index} of seed {seed}"))?;
        }
        Ok(())
    });
}

#[test]
fn corpus_valid_files_are_what_the_encoders_make() {
    regenerate();
    for target in TARGETS {
        for (index, sample) in (target.samples)().iter().enumerate() {
            let path = valid(target, index);
            let kept = fs::read(&path).unwrap_or_default();
            assert!(
                kept == *sample,
                "{} is not what is encoded now: if the format was meant to change, make it anew with REGENERATE=1 cargo test -p \
                 fuzz, and keep the old file under another name if it must still be read",
                path.display()
            );
        }
    }
}

#[test]
fn targets_have_a_corpus_and_a_cargo_fuzz_target_each() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "names are unique");
    assert_eq!(listed(&folder().join("corpus"), ""), names, "folders of the corpus");
    let cargo_fuzz = folder().join("../../fuzz");
    assert_eq!(listed(&cargo_fuzz.join("fuzz_targets"), ".rs"), names, "files of fuzz/fuzz_targets");
    let manifest = fs::read_to_string(cargo_fuzz.join("Cargo.toml")).expect("cargo-fuzz has a manifest");
    for name in names {
        let path = cargo_fuzz.join("fuzz_targets").join(format!("{name}.rs"));
        let file = fs::read_to_string(&path).expect("it was just listed");
        assert!(
            file.contains(&format!("fuzz::run(\"{name}\", bytes)")),
            "{} runs another target",
            path.display()
        );
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "fuzz/Cargo.toml lacks {name}");
    }
}

/// Runs all targets, or the one that TARGET names, as many at a time as there are processors; then fails with all that
/// failed.
fn each_target(run: impl Fn(&Target) -> Result<(), String> + Sync) {
    let only = std::env::var("TARGET").ok();
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| only.as_ref().is_none_or(|only| only == target.name)).collect();
    assert!(!targets.is_empty(), "TARGET names no target");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = run(target) {
                        failed.lock().expect("no holder panics").push(failure);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder panics");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn try_input(target: &Target, bytes: &[u8], whence: &str) -> Result<(), String> {
    counting::begin(target.name, whence);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    let allocated = counting::most();
    let why = match outcome {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
        }
        Ok(()) if allocated > ALLOCATED_BYTES_MAX => format!("it had {allocated} bytes allocated at a time"),
        Ok(()) => return Ok(()),
    };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(format!(
        "target {}, {whence}: {why}\n  keep it:  echo {hex} | xxd -r -p > crates/fuzz/corpus/{}/NAME",
        target.name, target.name
    ))
}

/// The kept inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder().join("corpus").join(target.name);
    let names = listed(&folder, "");
    assert!(!names.is_empty(), "{} holds an input", folder.display());
    let read = |name: &String| {
        let path = folder.join(name);
        let bytes = fs::read(&path).expect("a file of the corpus can be read");
        (path, bytes)
    };
    names.iter().map(read).collect()
}

/// With REGENERATE set, the first caller writes the valid files anew; the others wait for it.
fn regenerate() {
    static DONE: std::sync::Once = std::sync::Once::new();
    DONE.call_once(|| {
        if std::env::var_os("REGENERATE").is_some() {
            TARGETS.iter().for_each(write_valid);
        }
    });
}

fn write_valid(target: &Target) {
    let folder = folder().join("corpus").join(target.name);
    fs::create_dir_all(&folder).expect("a folder can be made");
    for name in listed(&folder, "").iter().filter(|name| name.starts_with("valid-")) {
        fs::remove_file(folder.join(name)).expect("a file can be removed");
    }
    for (index, sample) in (target.samples)().iter().enumerate() {
        fs::write(valid(target, index), sample).expect("a file can be written");
    }
}

fn valid(target: &Target, index: usize) -> PathBuf {
    folder().join("corpus").join(target.name).join(format!("valid-{index:02}"))
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names in a folder without an ending that all of them have.
fn listed(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("a folder can be listed").file_name().into_string().expect("names are text");
        name.strip_suffix(ending).unwrap_or_else(|| panic!("{name} does not end in {ending}")).to_owned()
    };
    entries.map(name).collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}
