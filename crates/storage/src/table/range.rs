//! Ranges: a page of the rows between two keys.
//!
//! A page is bounded in rows and bytes, and in rows it passes over (deleted ones, mostly) or looks up in history: a page
//! may be short, even empty, and still have a `next`. So no page takes long, and whoever goes on gets to the end.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::{Direction, Error, Key, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Page, Range, Row, Version};
use mutant::Mutant;

use super::record::Record;
use super::{Reader, Stop};
use crate::keys::key_of_current;
use crate::row_key::RowKey;

/// Rows that a page, a delete-range or a trim passes over before it stops: some milliseconds of work.
pub const SKIPPED_ROWS_MAX: usize = 4096;

impl Reader<'_> {
    pub fn range(&self, range: &Range) -> Result<Page, Stop> {
        let at = self.moment(range.at)?;
        if let Some(at) = at.filter(|at| *at < self.state.floor) {
            // Some key that was there then may be wholly forgotten.
            return Err(Error::Trimmed { asked: at, oldest: self.state.floor }.into());
        }
        let (from, to) = self.bounds(range);
        let mut pager = Pager::new(self, range, at);
        let mut failed = Ok(());
        let backward = range.direction == Direction::Backward;
        self.rows.scan(
            from.as_ref().map(RowKey::as_ref),
            to.as_ref().map(RowKey::as_ref),
            backward,
            &mut |key, raw| match pager.visit(key_of_current(&key), raw) {
                Ok(flow) => flow,
                Err(stop) => {
                    failed = Err(stop);
                    ControlFlow::Break(())
                }
            },
        )?;
        let Pager { page, rows_max, .. } = pager;
        assert!(page.count as usize <= rows_max, "a page of {} rows, and {rows_max} were asked", page.count);
        failed.map(|()| page)
    }

    pub fn bounds(&self, range: &Range) -> (Bound<RowKey>, Bound<RowKey>) {
        let mut from = Bound::Included(self.set.current(&range.from));
        let mut to = Bound::Excluded(match &range.to {
            Some(to) => self.set.current(to),
            None => self.set.current_end(),
        });
        if let Some(page) = &range.page {
            let inside = *page >= range.from && range.to.as_ref().is_none_or(|to| page < to);
            match range.direction {
                Direction::Forward if inside => from = Bound::Excluded(self.set.current(page)),
                Direction::Backward if inside => to = Bound::Excluded(self.set.current(page)),
                // A page from elsewhere: before the range there is all of it to come, behind it nothing.
                Direction::Forward if *page >= range.from => from = to.clone(),
                Direction::Backward if *page < range.from => {
                    to = Bound::Excluded(self.set.current(&range.from))
                }
                _ => {}
            }
        }
        (from, to)
    }
}

/// Fills a page.
struct Pager<'a> {
    reader: &'a Reader<'a>,
    range: &'a Range,
    at: Option<Version>,
    rows_max: usize,
    bytes: usize,
    skipped: usize,
    /// The last key that was taken.
    taken: Option<Key>,
    /// The last key that was passed over, since one was taken.
    passed: Option<Key>,
    page: Page,
}

impl<'a> Pager<'a> {
    fn new(reader: &'a Reader<'a>, range: &'a Range, at: Option<Version>) -> Pager<'a> {
        let limit = if range.limit == 0 || range.count_only { PAGE_ROWS_MAX } else { range.limit as usize };
        let rows_max = limit.min(PAGE_ROWS_MAX);
        Pager {
            reader,
            range,
            at,
            rows_max,
            bytes: 0,
            skipped: 0,
            taken: None,
            passed: None,
            page: Page::default(),
        }
    }

    fn visit(&mut self, key: Key, raw: Bytes) -> Result<ControlFlow<()>, Stop> {
        self.check_order(&key);
        if self.skipped >= SKIPPED_ROWS_MAX {
            self.page.next = self.passed.take().or(self.taken.take());
            return Ok(ControlFlow::Break(()));
        }
        let Some(row) = self.row(&key, raw)? else {
            self.skipped += 1;
            self.passed = Some(key);
            return Ok(ControlFlow::Continue(()));
        };
        let bytes = row.key.len() + row.value.len();
        let full = self.page.count as usize == self.rows_max
            || (self.bytes + bytes > PAGE_BYTES_MAX && !self.page.rows.is_empty());
        if full {
            self.page.next =
                if mutant::is(Mutant::PageLosesItsBoundary) { Some(key) } else { self.taken.take() };
            return Ok(ControlFlow::Break(()));
        }
        self.page.count += 1;
        if !self.range.count_only {
            self.bytes += bytes;
            self.page.rows.push(row);
        }
        (self.taken, self.passed) = (Some(key), None);
        Ok(ControlFlow::Continue(()))
    }

    /// Keys come in the order of the range, and lie in it.
    fn check_order(&self, key: &Key) {
        let Range { from, to, direction, .. } = self.range;
        let is_within = key >= from && to.as_ref().is_none_or(|to| key < to);
        assert!(is_within, "a row outside of its range: {}", key.escape_ascii());
        let is_next = |before: &Key| match direction {
            Direction::Forward => before < key,
            Direction::Backward => before > key,
        };
        let before = self.passed.as_ref().or(self.taken.as_ref());
        assert!(before.is_none_or(is_next), "a row out of its order: {}", key.escape_ascii());
    }

    fn row(&mut self, key: &Key, raw: Bytes) -> Result<Option<Row>, Stop> {
        let record = Record::decode(raw)?;
        let record = match self.at {
            Some(at) => {
                // A look into history is as much work as a row passed over.
                self.skipped += usize::from(record.head.version > at);
                self.reader.as_of(key, record, at)?
            }
            None => self.reader.is_live(&record)?.then_some(record),
        };
        let valueless = self.range.keys_only || self.range.count_only;
        Ok(record.map(|record| if valueless { record.head.row(key, Bytes::new()) } else { record.row(key) }))
    }
}
