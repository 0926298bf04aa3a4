//! A disk that keeps nothing: for a node that is to leave nothing behind.

use std::io;

use bytes::Bytes;

use crate::disk::{Disk, DiskError, Io};

/// Takes all work, has it done at once, and keeps none of it. Nothing waits for a disk, and nothing is read back: each opening
/// finds a new log. What was written is not even held for the life of the process, so it does not grow.
#[derive(Debug, Default)]
pub struct Nowhere {
    completed: Vec<u64>,
}

impl Nowhere {
    /// One for one log.
    pub fn new() -> Nowhere {
        Nowhere::default()
    }
}

impl Disk for Nowhere {
    fn submit(&mut self, token: u64, _: Io) {
        self.completed.push(token);
    }

    fn completions(&mut self, into: &mut Vec<(u64, Result<(), DiskError>)>) {
        into.extend(self.completed.drain(..).map(|token| (token, Ok(()))));
    }

    fn segments(&mut self) -> Result<Vec<u64>, DiskError> {
        Ok(Vec::new())
    }

    fn segment_bytes(&mut self, _: u64) -> Result<u64, DiskError> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read(&mut self, _: u64, _: u64, _: usize) -> Result<Bytes, DiskError> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, _: u64, _: u64, _: Bytes) -> Result<(), DiskError> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self, _: u64) -> Result<(), DiskError> {
        Err(io::ErrorKind::NotFound.into())
    }
}
