//! Expiry: what has a deadline is gone once the shard's newest version reaches it.
//!
//! Every read and update sees it gone at once. The row itself is removed by the next write of its key, or a few at a
//! time at the end of each apply. Either way it counts as deleted at the first version of its deadline's microsecond,
//! whenever the removal came.

use std::ops::{Bound, ControlFlow};

use kv::{NodeId, Version};

use super::keys::parts_of_expiry;
use super::record::Head;
use super::write::Writer;
use crate::engine::EngineError;

/// Rows that one apply removes because they expired: it stays within the length of a turn.
pub const EXPIRED_PER_APPLY_MAX: usize = 256;

/// The version at which an expired row counts as deleted. It is behind the row's own: no row is stored whose deadline
/// has passed.
pub fn version_of(head: &Head) -> Version {
    Version::new(head.deadline.unwrap_or(u64::MAX), NodeId(0))
}

impl Writer<'_> {
    /// Removes rows that have expired, the earliest deadlines first.
    pub fn sweep(&mut self) -> Result<(), EngineError> {
        let now = self.version().micros();
        if *self.due > now {
            return Ok(());
        }
        let (mut expired, mut next) = (Vec::new(), u64::MAX);
        let (from, to) = (self.set.expiry_begin(), self.set.session_begin());
        self.engine.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, _| {
            let (deadline, key) = parts_of_expiry(&row);
            if deadline > now || expired.len() == EXPIRED_PER_APPLY_MAX {
                next = deadline;
                return ControlFlow::Break(());
            }
            expired.push((deadline, key));
            ControlFlow::Continue(())
        })?;
        for (deadline, key) in expired {
            let found = self.current(&key)?;
            let live = found.is_some_and(|found| found.head.deadline == Some(deadline));
            assert!(!live, "a row whose deadline passed is removed when it is looked at");
        }
        *self.due = next;
        Ok(())
    }
}
