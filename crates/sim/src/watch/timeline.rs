//! One key through time: what its shard's entries made of it, and what of that is still kept.
//!
//! A change is a row or a deletion, each with its version. What expired counts as deleted at its deadline, once an op comes later.
//! Which revisions are kept follows from the table's options and the trims, with one exception: when the rows of a deleted key
//! are swept, only the earliest time is known. So of the earliest changes some are surely forgotten and some perhaps.
//!
//! The options may become others. A key that is not written again may keep what it had; where few revisions are too many, its next
//! write forgets them all, else some ([`ANEW_MAX`], [`SHED`]).

use kv::{ReplicaId, Revision, Row, Value, Version};
use storage::{History, Options};

/// What is known of the clock by which an answer was made, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// What has a deadline up to here is not shown.
    pub low: u64,
    /// What has a deadline after this is shown.
    pub high: u64,
}

/// The states of a shard that an answer may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The earliest and the latest.
    pub from: Version,
    pub to: Version,
    pub bounds: Bounds,
}

/// With so many revisions a key's next write does all that other options ask for.
const ANEW_MAX: usize = 64;
/// With more each write forgets at least so many that are too many: more than it adds.
const SHED: usize = 2;

/// All changes of a key.
#[derive(Clone, Default)]
pub(super) struct Timeline {
    changes: Vec<Change>,
    /// What trims and sweeps have forgotten, in order.
    forgotten: Vec<Forgotten>,
    /// When other options began, in order.
    ruled: Vec<Ruled>,
}

/// Other options hold since an op of this version, which found so many changes, and so many of them surely forgotten.
#[derive(Clone, Copy)]
struct Ruled {
    since: Version,
    count: usize,
    surely: usize,
}

/// Since a version there is a row, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub version: Version,
    pub row: Option<Life>,
}

/// A value, and how long it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub value: Value,
    pub deadline: Option<u64>,
}

/// Of the earliest changes so many are forgotten, since an op of this version.
#[derive(Clone, Copy)]
struct Forgotten {
    since: Version,
    kept: Kept,
}

/// The first change that is kept, if only the sure ones are forgotten, and if all are that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    surely: usize,
    perhaps: usize,
}

/// How many revisions a trim finds to forget of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Surplus {
    pub least: usize,
    pub most: usize,
    /// All older revisions that go lie before this change.
    cut: usize,
}

/// How much of a surplus a trim forgot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgot {
    All,
    /// The oldest so many.
    Some(usize),
    /// Nobody knows.
    Part,
}

impl Life {
    pub fn is_beyond(&self, time: u64) -> bool {
        self.deadline.is_none_or(|deadline| deadline > time)
    }
}

impl Window {
    /// One state, of a clock within bounds.
    pub fn at(version: Version, bounds: Bounds) -> Window {
        Window { from: version, to: version, bounds }
    }

    /// The state at a version that was asked for: what had expired by then is gone.
    pub fn of_version(at: Version) -> Window {
        Window::at(at, Bounds { low: at.micros(), high: at.micros() })
    }
}

impl Timeline {
    pub const fn new() -> Timeline {
        Timeline { changes: Vec::new(), forgotten: Vec::new(), ruled: Vec::new() }
    }

    /// An op of this version leaves a row, or none. One whose deadline has passed is none.
    pub fn set(&mut self, version: Version, row: Option<Life>, options: &Options) {
        let row = row.filter(|life| life.is_beyond(version.micros()));
        if row.is_none() && self.live(version).is_none() {
            return;
        }
        self.settle(version);
        let mut kept = self.kept(version, options);
        if self.changes.pop_if(|newest| newest.version == version).is_some() && row.is_none() {
            // What an op makes and removes itself leaves nothing, where nothing is kept of what was before.
            let before = self.changes.len();
            let was_there = self.changes.last().is_some_and(|newest| newest.row.is_some());
            if kept.surely >= before && !was_there {
                return self.forget(version, Kept { surely: before, perhaps: before });
            }
            if kept.perhaps >= before && !was_there {
                kept.perhaps = before + 1;
            }
        }
        self.forget(version, kept);
        self.changes.push(Change { version, row });
    }

    /// Other options hold from an op of this version on; these were those before.
    pub fn ruled_anew(&mut self, version: Version, before: &Options) {
        let (kept, count) = (self.kept(version, before), self.changes.len());
        self.settle(version);
        // What expired may have gone without a trace.
        let may_be_gone = self.changes.len() > count && keep(before) == 1;
        let perhaps = if may_be_gone { self.changes.len() } else { kept.perhaps };
        self.forget(version, Kept { perhaps, ..kept });
        self.ruled.push(Ruled { since: version, count: self.changes.len(), surely: kept.surely });
    }

    /// The changes above a version.
    pub fn changes_since(&self, before: Version) -> &[Change] {
        &self.changes[self.changes.partition_point(|change| change.version <= before)..]
    }

    /// The row of a key for an op of this version.
    pub fn live(&self, version: Version) -> Option<&Life> {
        self.changes.last()?.row.as_ref().filter(|life| life.is_beyond(version.micros()))
    }

    /// The last change up to a version.
    pub fn at(&self, version: Version) -> Option<&Change> {
        self.changes[..self.count(version)].last()
    }

    /// Whether a row may be shown in a window. `bare`: without its value.
    pub fn may_show(&self, window: &Window, row: &Row, bare: bool) -> bool {
        self.within(window).iter().any(|change| {
            change.row.as_ref().is_some_and(|life| {
                change.version == row.version
                    && life.is_beyond(window.bounds.low)
                    && life.deadline == row.deadline
                    && (bare || life.value == row.value)
            })
        })
    }

    /// Whether there may be a row in a window.
    pub fn may_be_there(&self, window: &Window) -> bool {
        let there =
            |change: &Change| change.row.as_ref().is_some_and(|life| life.is_beyond(window.bounds.low));
        self.within(window).iter().any(there)
    }

    /// Whether there may be none.
    pub fn may_be_absent(&self, window: &Window) -> bool {
        let there =
            |change: &Change| change.row.as_ref().is_some_and(|life| life.is_beyond(window.bounds.high));
        self.count(window.from) == 0 || !self.within(window).iter().all(there)
    }

    fn within(&self, window: &Window) -> &[Change] {
        let (first, last) = (self.count(window.from), self.count(window.to));
        &self.changes[first.saturating_sub(1)..last.max(first)]
    }

    /// The kept revisions at a version, newest first, and how many of them are surely kept. `expired`: the newest one's deadline
    /// has passed by the clock of whoever looks.
    pub fn revisions(&self, version: Version, expired: bool, options: &Options) -> (Vec<Revision>, usize) {
        let (count, keep) = (self.count(version), keep(options));
        let Some(newest) = self.changes[..count].last() else { return (Vec::new(), 0) };
        let kept = self.kept(version, options);
        let revision = |change: &Change| {
            let value = change.row.as_ref().map(|life| life.value.clone());
            Revision { version: change.version, value }
        };
        let mut revisions: Vec<Revision> =
            self.changes[kept.surely..count].iter().rev().map(revision).collect();
        let mut sure = count - kept.perhaps;
        if let (true, Some(deadline)) = (expired, newest.row.as_ref().and_then(|life| life.deadline)) {
            let gone = expiry(deadline);
            if keep == 1 {
                return (Vec::new(), 0);
            }
            revisions.insert(0, Revision { version: gone, value: None });
            sure = if is_overdue(gone, version, options) { 0 } else { sure + 1 };
        }
        if self.ruled_at(version).is_none() {
            revisions.truncate(keep);
        }
        (revisions, sure.min(keep))
    }

    /// The deadline of the newest row at a version.
    pub fn deadline(&self, version: Version) -> Option<u64> {
        self.at(version)?.row.as_ref()?.deadline
    }

    /// What a trim by an op of this version finds to forget.
    pub fn surplus(&mut self, version: Version, below: Option<Version>, options: &Options) -> Surplus {
        self.settle(version);
        let (count, kept) = (self.changes.len(), self.kept(version, options));
        let Some(newest) = self.changes.last().filter(|_| kept.surely < count) else {
            return Surplus::default();
        };
        let below = below.filter(|below| *below < newest.version);
        let cut = below.map_or(count - 1, |below| self.count(below).saturating_sub(1));
        let (mut least, mut most) = (cut.saturating_sub(kept.perhaps), cut.saturating_sub(kept.surely));
        if newest.row.is_none() && below.is_none() {
            // The deletion goes with what it deleted.
            (least, most) = (count.saturating_sub(kept.perhaps), most + 1);
            return Surplus { least, most, cut: count };
        }
        Surplus { least, most, cut }
    }

    /// A trim forgot a surplus, or some of it.
    pub fn trimmed(&mut self, version: Version, surplus: Surplus, forgot: Forgot, options: &Options) {
        let kept = self.kept(version, options);
        let kept = match forgot {
            Forgot::All => {
                let surely = kept.surely.max(surplus.cut);
                Kept { surely, perhaps: kept.perhaps.max(surely) }
            }
            Forgot::Some(count) if kept.surely == kept.perhaps => {
                Kept { surely: kept.surely + count, perhaps: kept.surely + count }
            }
            Forgot::Some(_) | Forgot::Part => Kept { perhaps: kept.perhaps.max(surplus.cut), ..kept },
        };
        self.forget(version, kept);
    }

    /// Whether something may be wanted of it by a trim.
    pub fn may_be_wanted(&self, version: Version) -> bool {
        self.changes.len() > 1 || self.live(version).is_none()
    }

    /// The version before which nothing may be known of the key.
    pub fn known_since(&self, version: Version, options: &Options) -> Version {
        let Kept { perhaps, .. } = self.kept(version, options);
        let known = self.changes.get(perhaps).filter(|_| perhaps > 0).map(|change| change.version);
        known.unwrap_or_default().max(self.forgotten_deletion(version, options))
    }

    /// The last deletion that may be wholly forgotten.
    pub fn forgotten_deletion(&self, version: Version, options: &Options) -> Version {
        let Kept { perhaps, .. } = self.kept(version, options);
        let newest = self.changes[..self.count(version)].last();
        let implied = newest.and_then(|newest| newest.row.as_ref()?.deadline).map(expiry);
        let implied = implied
            .filter(|gone| *gone <= version && (keep(options) == 1 || is_overdue(*gone, version, options)));
        let deletions = self.changes[..perhaps].iter().filter(|change| change.row.is_none());
        deletions.map(|change| change.version).chain(implied).max().unwrap_or_default()
    }

    /// What has expired by an op's version counts as deleted.
    fn settle(&mut self, version: Version) {
        let deadline = self.changes.last().and_then(|newest| newest.row.as_ref()?.deadline);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= version.micros()) {
            self.changes.push(Change { version: expiry(deadline), row: None });
        }
    }

    fn count(&self, version: Version) -> usize {
        self.changes.partition_point(|change| change.version <= version)
    }

    fn kept(&self, version: Version, options: &Options) -> Kept {
        let (count, keep) = (self.count(version), keep(options));
        let known = self.forgotten.partition_point(|forgotten| forgotten.since <= version);
        let known = self.forgotten[..known].last().map(|forgotten| forgotten.kept).unwrap_or_default();
        let newest = self.changes[..count].last();
        let deleted = newest.filter(|newest| newest.row.is_none());
        let too_many = match deleted {
            Some(_) if keep == 1 => count,
            _ => count.saturating_sub(keep),
        };
        let surely = known.surely.max(too_many.min(self.shed(version, count)));
        let swept = deleted.is_some_and(|deleted| is_overdue(deleted.version, version, options));
        // What has expired takes a place of its own as soon as somebody comes upon it.
        let expired = newest
            .and_then(|newest| newest.row.as_ref())
            .is_some_and(|life| !life.is_beyond(version.micros()));
        let displaced = if expired { (count + 1).saturating_sub(keep) } else { 0 };
        let perhaps = too_many.max(displaced).max(self.out_of_time(version, count, options));
        Kept { surely, perhaps: if swept { count } else { known.perhaps.max(surely).max(perhaps) } }
    }

    fn ruled_at(&self, version: Version) -> Option<&Ruled> {
        self.ruled[..self.ruled.partition_point(|ruled| ruled.since <= version)].last()
    }

    /// So many of those that are too many are surely forgotten by now.
    fn shed(&self, version: Version, count: usize) -> usize {
        let Some(ruled) = self.ruled_at(version) else { return usize::MAX };
        let writes = count.saturating_sub(ruled.count);
        match writes > 0 && ruled.count - ruled.surely <= ANEW_MAX {
            true => usize::MAX,
            false => ruled.surely + SHED * writes,
        }
    }

    /// So many were replaced before the time that is kept.
    fn out_of_time(&self, version: Version, count: usize, options: &Options) -> usize {
        let History::Micros(micros) = options.history else { return 0 };
        let is_before = |later: &Change| later.version.micros().saturating_add(micros) < version.micros();
        self.changes[count.min(1)..count].partition_point(is_before)
    }

    fn forget(&mut self, since: Version, kept: Kept) {
        self.forgotten.push(Forgotten { since, kept });
    }
}

/// How many revisions of a key are kept.
fn keep(options: &Options) -> usize {
    match options.history {
        History::Count(count) => count.max(1) as usize,
        History::All | History::Micros(_) => usize::MAX,
    }
}

/// The version at which what expires counts as deleted.
fn expiry(deadline: u64) -> Version {
    Version::new(deadline, ReplicaId(0))
}

/// Whether what is left of a key that was deleted may be swept by then.
fn is_overdue(deleted: Version, by: Version, options: &Options) -> bool {
    deleted.micros().saturating_add(options.deleted_micros) <= by.micros()
}
