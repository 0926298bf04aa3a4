//! Older revisions in the merged layout: they lie by their versions, and the newest revision says where the oldest is.

use std::ops::{Bound, ControlFlow};

use kv::Version;

use crate::engine::{EngineError, View};
use crate::keys::RowSet;
use crate::row_key::RowKey;
use crate::table::record::{Head, Record};

/// The row of an older revision.
pub fn row(set: RowSet, key: &[u8], version: Version) -> RowKey {
    set.history(key, version.as_i64() as u64)
}

/// Visits the older revisions of a key, between two versions, both included.
///
/// From the oldest kept one on: rows that were removed lie before it, and a log-structured tree would pass over each of them.
pub fn visit(
    rows: &dyn View,
    (set, key, newest): (RowSet, &[u8], &Head),
    (from, to): (Version, Version),
    backward: bool,
    found: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    let from = from.max(newest.merged.map_or(Version::ZERO, |merged| merged.oldest));
    if newest.kept == 0 || from > to {
        return Ok(());
    }
    let (from, to) = (row(set, key, from), row(set, key, to));
    let mut failed = Ok(());
    rows.scan(Bound::Included(from.as_ref()), Bound::Included(to.as_ref()), backward, &mut |_, raw| {
        match Record::decode(raw) {
            Ok(record) => found(record),
            Err(error) => {
                failed = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed
}

/// The first older revision between two versions, both included, seen from one end.
pub fn first(
    rows: &dyn View,
    of: (RowSet, &[u8], &Head),
    between: (Version, Version),
    backward: bool,
) -> Result<Option<Record>, EngineError> {
    let mut first = None;
    visit(rows, of, between, backward, &mut |record| {
        first = Some(record);
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// Visits all older revisions of a key, the oldest first.
pub fn visit_all(
    rows: &dyn View,
    of: (RowSet, &[u8], &Head),
    found: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    visit(rows, of, (Version::ZERO, Version::MAX), false, found)
}
