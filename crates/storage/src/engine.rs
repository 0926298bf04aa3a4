//! Ordered bytes: what the table needs of an engine, and how one is opened.
//!
//! An engine takes in what is new by the batch, all of it or nothing, and what it has taken in survives a power loss. Batches,
//! views and maintenance may be used on another thread while the engine is read; several tables may share an engine, if no
//! row is of two of them.

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::{disk::Disk, memory::Memory};

/// Bytes of blocks that the disk engine keeps in memory when nothing else is said.
pub const CACHE_BYTES: u64 = 16 << 20;

/// Readable ordered bytes.
pub trait View: Send {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Visits the rows between two keys, in ascending order, or descending when `backward`, until `visit` breaks. Bounds
    /// that cross hold nothing.
    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError>;
}

/// Ordered bytes that take in what is new by the batch.
pub trait Engine: View + Sync {
    /// The state of now, for as long as the view lives.
    fn view(&self) -> Box<dyn View>;

    /// Where batches go in, from any thread.
    fn intake(&self) -> Box<dyn Intake>;

    /// The rows between two keys, the second one excluded, are of no use, and will be removed: what can be let go of at once is, and
    /// how many bytes that was. It waits for nothing else that is under way.
    fn let_go_between(&self, _from: &[u8], _to: &[u8]) -> Result<u64, EngineError> {
        Ok(0)
    }

    /// A step of tidying up for a background thread, when there is something to do.
    fn maintain(&self) -> Option<Maintenance>;
}

/// A row of a batch: its key, and its value or that it is removed.
pub type Row = (Bytes, Option<Bytes>);

/// The way into an engine.
pub trait Intake: Send {
    /// Takes a batch in as one: rows in ascending order, each key once. When it returns, every read finds all of them, and
    /// they survive a power loss (unless the engine is [volatile](open_volatile)). After an error that may pass none of them
    /// is there, and the batch can be given again. A batch that comes while another one goes in waits for it.
    fn take(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), EngineError>;

    /// The batches so far have removed whole copies of shards, of so many bytes: an engine that keeps what was removed may find it
    /// worth its while to get rid of that.
    fn gone(&self, _bytes: u64) {}
}

/// A flush that was begun; it does nothing until it is run.
pub trait Flush: Send {
    /// Makes what was written before the flush was begun survive a power loss. After an error it is in memory still, and
    /// part of the next flush. It takes long: run it where that holds up nobody.
    fn run(self: Box<Self>) -> Result<(), EngineError>;
}

/// A step of tidying up. After an error nothing is lost, and the step is offered again.
pub type Maintenance = Box<dyn FnOnce() -> Result<(), EngineError> + Send>;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All rows in memory; a flush writes them all to a file.
    Memory,
    /// A log-structured merge tree; a flush writes what is new.
    Disk,
}

impl Kind {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Memory => "memory",
            Kind::Disk => "disk",
        }
    }

    /// Whether a flush writes only what is new: then it is worth making now and then, and for each of several tables.
    pub fn flushes_what_is_new(self) -> bool {
        self == Kind::Disk
    }
}

/// Why an engine did not do what it was asked, named by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No space left. Nothing is lost; free some and try again.
    #[error("{doing}: the disk is full; free some space, it is tried again and nothing is lost")]
    Full {
        /// What was being done.
        doing: String,
    },
    /// The process or the system is out of file descriptors or memory. Nothing is lost; try again.
    #[error(
        "{doing}: {source}; it is tried again and nothing is lost (raise the limit of open files, or end what takes the memory)"
    )]
    Short {
        /// What was being done.
        doing: String,
        /// What is missing.
        source: io::Error,
    },
    /// The operating system failed. After a flush, what is on the disk is unknown: stop and start again.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What happened.
        source: io::Error,
    },
    /// What is on the disk is not what was written there. Make the copy anew from another replica.
    #[error("{doing} failed: {what}; the data is damaged, make this copy anew from another replica")]
    Corrupt {
        /// What was being done.
        doing: String,
        /// What was found.
        what: String,
    },
    /// It was written by another version of the program.
    #[error(
        "{what} has format {found}, and this version of capstan has format {known}: start it with the version that made it"
    )]
    Format {
        /// The folder or file.
        what: String,
        /// Its format. 0 = it says none.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// The folder belongs to the other engine.
    #[error(
        "{folder} holds data of the engine '{found}', not '{asked}': open it with '{found}', or give another folder"
    )]
    WrongKind {
        /// The folder.
        folder: PathBuf,
        /// The engine whose data is there.
        found: &'static str,
        /// The engine that was asked for.
        asked: &'static str,
    },
    /// An earlier error left an entry half applied.
    #[error("the table stopped after an error ({0}): open it again and replay the log")]
    Stopped(String),
}

impl EngineError {
    /// Whether trying again may succeed, once there is space on the disk, a file descriptor or memory.
    pub fn may_pass(&self) -> bool {
        matches!(self, EngineError::Full { .. } | EngineError::Short { .. })
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> EngineError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                EngineError::Full { doing: doing.into() }
            }
            _ if is_short(&source) => EngineError::Short { doing: doing.into(), source },
            _ => EngineError::Io { doing: doing.into(), source },
        }
    }

    pub(crate) fn corrupt(doing: impl Into<String>, what: impl Into<String>) -> EngineError {
        EngineError::Corrupt { doing: doing.into(), what: what.into() }
    }
}

/// Whether a call failed for want of file descriptors or memory: it did nothing.
pub(crate) fn is_short(error: &io::Error) -> bool {
    let short = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM];
    error.kind() == io::ErrorKind::OutOfMemory
        || short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What an engine may use, and what it does when that is not to be had.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Bytes of blocks that the disk engine keeps in memory.
    pub cache_bytes: u64,
    /// Table files that the disk engine keeps open.
    pub files: usize,
    /// Called before a read is tried again that failed for want of file descriptors or memory: an entry cannot be left half
    /// applied. `None` = it is not tried again.
    pub pause: Option<fn()>,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources { cache_bytes: CACHE_BYTES, files: 256, pause: None }
    }
}

/// Opens the engine in a folder, or makes a new one there.
pub fn open(kind: Kind, folder: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    open_with(kind, folder, Resources::default())
}

/// The engine `memory` without any files: it begins empty, and its end is the end of all rows. A flush succeeds at once and
/// keeps nothing.
pub fn open_volatile() -> Arc<dyn Engine> {
    Arc::new(Memory::volatile())
}

/// As [`open`], with so much.
pub fn open_with(kind: Kind, folder: &Path, resources: Resources) -> Result<Arc<dyn Engine>, EngineError> {
    let doing = || format!("opening the {} engine in {}", kind.name(), folder.display());
    let made = std::fs::create_dir_all(folder).and_then(|()| folder.parent().map_or(Ok(()), sync_folder));
    made.map_err(|error| EngineError::io(doing(), error))?;
    let found = match kind {
        Kind::Memory => Disk::is_in(folder).then_some(Kind::Disk),
        Kind::Disk => Memory::is_in(folder)?.then_some(Kind::Memory),
    };
    if let Some(found) = found {
        let folder = folder.to_path_buf();
        return Err(EngineError::WrongKind { folder, found: found.name(), asked: kind.name() });
    }
    let holds_data = match kind {
        Kind::Memory => Memory::is_in(folder)?,
        Kind::Disk => Disk::is_in(folder),
    };
    crate::format::settle(folder, holds_data)?;
    Ok(match kind {
        Kind::Memory => Arc::new(Memory::open(folder)?),
        Kind::Disk => Arc::new(Disk::open(folder, resources)?),
    })
}

/// Whether two bounds cross, so that nothing lies between them.
pub(crate) fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}

/// Makes the names in a folder survive a power loss.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // The parent of a relative name is the empty path.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_error_that_may_pass_is_told_apart() {
        assert!(EngineError::io("writing", io::Error::from(io::ErrorKind::StorageFull)).may_pass());
        assert!(EngineError::io("writing", io::Error::from(io::ErrorKind::QuotaExceeded)).may_pass());
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM] {
            assert!(EngineError::io("opening", errno.into()).may_pass(), "{errno}");
        }
        assert!(!EngineError::io("writing", io::Error::other("no")).may_pass());
        assert!(!EngineError::io("syncing", rustix::io::Errno::IO.into()).may_pass());
    }

    #[test]
    fn bounds_crossed_or_touching_are_empty() {
        let (a, b) = (b"a".as_slice(), b"b".as_slice());
        assert!(is_empty(Bound::Included(b), Bound::Included(a)));
        assert!(is_empty(Bound::Excluded(a), Bound::Included(a)));
        assert!(!is_empty(Bound::Included(a), Bound::Included(a)));
        assert!(!is_empty(Bound::Excluded(a), Bound::Excluded(b)));
        assert!(!is_empty(Bound::Unbounded, Bound::Excluded(a)));
    }
}
