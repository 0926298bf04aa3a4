//! The history of a key: a page of its kept revisions, newest first.
//!
//! A page is bounded in revisions and bytes, and holds at least one revision where there is one. Where it begins is found by
//! halving, so a page far back takes no longer than the first. It goes on below a version, not at a place: what is written
//! or trimmed between two pages makes no revision come twice, and none be left out that is still kept.

use std::ops::ControlFlow;

use kv::{Answer, Key, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Revision, Version};
use mutant::Mutant;

use super::older::{Places, older};
use super::read::Reader;
use super::record::Record;
use super::{Stop, expiry};

impl Reader<'_> {
    pub fn history(&self, key: &Key, limit: u32, before: Option<Version>) -> Result<Answer, Stop> {
        let mut page = Page::new(limit, before);
        let Some(current) = self.current(key)? else { return Ok(page.answer()) };
        if current.head.merged.is_some() {
            return self.history_of_merged(key, current, page, before);
        }
        let mut ordinals = older(&current.head);
        if !self.is_live(&current)? && !current.head.tombstone {
            // Expired, and not yet removed: it shows as it will once it is.
            if self.keep == 1 {
                return Ok(page.answer());
            }
            page.add(Revision { version: expiry::version_of(&current.head), value: None });
            // Beside its deletion and itself there is room for so many, once it is laid as it would be now.
            if current.head.places.unwrap_or(self.usual) == Places::of(self.keep) {
                ordinals.start = ordinals.start.max(ordinals.end.saturating_sub(self.keep - 2));
            }
        }
        if let Some(before) = before {
            ordinals.end = self.divide(key, &current.head, ordinals.clone(), |version| version < before)?.at;
        }
        page.add(revision(&current));
        while page.next.is_none()
            && let Some(ordinal) = ordinals.next_back()
        {
            page.add(revision(&self.older(key, &current.head, ordinal)?));
        }
        Ok(page.answer())
    }

    /// The same in the merged layout, where older revisions have no ordinals.
    fn history_of_merged(
        &self,
        key: &Key,
        current: Record,
        mut page: Page,
        before: Option<Version>,
    ) -> Result<Answer, Stop> {
        let is_live = self.is_live(&current)?;
        if self.keep == 1 && !is_live {
            // Its tombstone is there for other replicas.
            return Ok(page.answer());
        }
        let mut hidden = None;
        if !is_live && !current.head.tombstone {
            page.add(Revision { version: expiry::version_of(&current.head), value: None });
            // Its expiry takes a place, once it is a row.
            hidden = current.head.merged.filter(|_| current.head.kept + 1 == self.keep);
        }
        page.add(revision(&current));
        let mut newer = before.map_or(current.head.since(), |before| before.min(current.head.since()));
        self.visit_merged(key, &current.head, before, &mut |record| {
            if page.next.is_some() || hidden.is_some_and(|hidden| hidden.oldest == record.head.version) {
                return ControlFlow::Break(());
            }
            // Below another row no expiry is kept: its value says when it was.
            let expired = record.head.due().map(|_| expiry::version_of(&record.head));
            if let Some(version) = expired.filter(|expired| *expired < newer) {
                page.add(Revision { version, value: None });
            }
            newer = record.head.version;
            page.add(revision(&record));
            ControlFlow::Continue(())
        })?;
        Ok(page.answer())
    }
}

fn revision(record: &Record) -> Revision {
    let value = (!record.head.tombstone).then(|| record.value());
    Revision { version: record.head.since(), value }
}

/// Takes revisions, newest first, until it is full.
struct Page {
    revisions: Vec<Revision>,
    limit: usize,
    bytes: usize,
    before: Option<Version>,
    /// It is full, and there is an older one.
    next: Option<Version>,
}

impl Page {
    fn new(limit: u32, before: Option<Version>) -> Page {
        let limit = if limit == 0 { PAGE_ROWS_MAX } else { PAGE_ROWS_MAX.min(limit as usize) };
        Page { revisions: Vec::new(), limit, bytes: 0, before, next: None }
    }

    fn add(&mut self, revision: Revision) {
        if self.next.is_some() || self.before.is_some_and(|before| revision.version >= before) {
            return;
        }
        self.bytes += revision.value.as_ref().map_or(0, |value| value.len());
        let full = self.revisions.len() == self.limit || self.bytes > PAGE_BYTES_MAX;
        match self.revisions.last() {
            Some(_) if full && mutant::is(Mutant::HistoryPageLosesARevision) => {
                self.next = Some(revision.version);
            }
            Some(last) if full => self.next = Some(last.version),
            _ => self.revisions.push(revision),
        }
    }

    fn answer(self) -> Answer {
        Answer::History { revisions: self.revisions, next: self.next }
    }
}
