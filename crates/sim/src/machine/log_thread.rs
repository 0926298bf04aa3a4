//! The thread of a process's log.

/// How the thread of a process's log is.
#[derive(Default)]
pub(crate) struct LogThread {
    /// The last token of the disk that was seen.
    pub(super) seen: u64,
    /// When it wakes up by itself, in true time.
    pub(super) wakes_at: Option<u64>,
    /// The disk has failed to sync.
    pub(super) sync_failed: bool,
}
