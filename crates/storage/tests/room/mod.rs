//! What a folder takes on disk.

use std::path::Path;

/// Bytes of all files in a folder and below.
pub fn bytes_in(folder: &Path) -> u64 {
    let bytes = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        data if data.is_dir() => bytes_in(&entry.path()),
        data => data.len(),
    };
    std::fs::read_dir(folder).unwrap().map(|entry| bytes(entry.unwrap())).sum()
}
