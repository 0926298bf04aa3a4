//! A read for which no file can be opened is tried again, and misses nothing. Alone in its process: the limit is the process'.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::ops::{Bound, ControlFlow};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use storage::{Fresh, Kind, Resources, View, open_with};

static PAUSES: AtomicUsize = AtomicUsize::new(0);

fn set_limit(files: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
}

/// Others have closed theirs.
fn pause() {
    PAUSES.fetch_add(1, Ordering::Relaxed);
    set_limit(1000);
}

/// No file more can be opened.
fn exhaust() {
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    set_limit(next as u64);
    assert!(File::open("/dev/null").is_err());
}

fn key(number: usize) -> Bytes {
    format!("{number:04}").into()
}

fn keys(engine: &dyn View, backward: bool) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut visit = |key, _| {
        found.push(key);
        // In the middle of it, too.
        if found.len() == 10 {
            exhaust();
        }
        ControlFlow::Continue(())
    };
    engine.scan(Bound::Unbounded, Bound::Unbounded, backward, &mut visit).unwrap();
    found
}

#[test]
fn read_without_a_descriptor_is_tried_again_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let resources = Resources { cache_bytes: 0, files: 1, pause: Some(pause) };
    let open = || Fresh::over(open_with(Kind::Disk, folder.path(), resources).unwrap());
    let mut engine = open();
    for number in 0..200 {
        engine.put(key(number), vec![7; 3000].into());
        if number % 20 == 19 {
            engine.flush().run().unwrap();
        }
    }
    drop(engine);
    let engine = open();
    exhaust();
    assert_eq!(engine.get(&key(3)).unwrap().map(|value| value.len()), Some(3000));
    let all: Vec<Bytes> = (0..200).map(key).collect();
    assert_eq!(keys(&engine, false), all);
    let backward: Vec<Bytes> = all.into_iter().rev().collect();
    assert_eq!(keys(&engine, true), backward);
    assert!(PAUSES.load(Ordering::Relaxed) >= 3, "{PAUSES:?}");
    set_limit(1000);
}
