//! The judges of reads: what an answer shows is what was there, in its order, with nothing between left out.
//!
//! The part of a read that one shard answers is judged by the state that its receipt names, and a read at a version by the state
//! of that version. What a client gets of several shards at once is no snapshot unless it asked for one: each key may be as it was
//! at any moment from the last write that was acknowledged before the question until the answer.

use std::collections::BTreeMap;

use kv::{
    Answer, Direction, Error, Key, KeyAnswer, Op, PAGE_BYTES_MAX, Page, Range, Reply, Revision, Row, ShardId,
    Version,
};
use node::route::ShardMap;
use storage::Options;

use super::rows::{Rows, Shard};
use super::timeline::{Bounds, Timeline, Window};

/// The keys of a range in their order, each with the states it may be shown in.
type Keys<'a> = BTreeMap<&'a Key, (&'a Timeline, Window)>;

/// A key of which nothing was ever written.
static NOTHING: Timeline = Timeline::new();

impl Rows {
    /// What is wrong with what a read of one shard was answered.
    pub fn read(&self, op: &Op, reply: &Reply, bounds: Bounds) -> Option<String> {
        let empty = Shard::default();
        let shard = self.shard(reply.receipt.shard).unwrap_or(&empty);
        let seen = reply.receipt.version;
        let bounds = Bounds { low: bounds.low.max(seen.micros()), high: bounds.high.max(seen.micros()) };
        let window = op.at().map_or(Window::at(seen, bounds), Window::of_version);
        let wrong = match (op, &reply.answer) {
            (Op::History { key, limit, before }, Answer::History { revisions, next }) => {
                let page = History { limit: *limit, before: *before, revisions, next: *next };
                let options = self.options(shard, window.to);
                page.check(shard.keys.get(key).unwrap_or(&NOTHING), &window, &options)
            }
            (op, answer) => read(op, answer, &|_| (shard, window)),
        };
        let wrong = wrong.err()?;
        Some(format!(
            "what is answered is what was there: {op:?} was answered {:?} with {:?}: {wrong}; what has a deadline up to {} is \
             gone, and what has one after {} is not",
            reply.answer, reply.receipt, window.bounds.low, window.bounds.high
        ))
    }

    /// What is wrong with what a read of several shards was answered. `floor`: the last version of a shard that it had to
    /// see; no clock is beyond `clock`.
    pub(super) fn read_over_shards(
        &self,
        map: &ShardMap,
        op: &Op,
        answer: &Answer,
        floor: impl Fn(ShardId) -> Version,
        clock: u64,
    ) -> Option<String> {
        let empty = Shard::default();
        let mut of_shards = BTreeMap::new();
        for &(id, _) in map.shards() {
            let shard = self.shard(id).unwrap_or(&empty);
            let (from, to) = (floor(id), shard.last().max(floor(id)));
            let bounds = Bounds { low: 0, high: clock.max(to.micros()) };
            of_shards.insert(id, (shard, op.at().map_or(Window { from, to, bounds }, Window::of_version)));
        }
        let wrong = match (op, answer) {
            (Op::Range(range), Answer::Page(page)) => {
                let all = of_shards.values().flat_map(|(shard, window)| keys_of(shard, range, *window));
                check_page(range, page, &all.collect())
            }
            (op, answer) => read(op, answer, &|key| of_shards[&map.shard_of(key)]),
        };
        let wrong = wrong.err()?;
        Some(format!(
            "what shards answered together is what was there: {op:?} was answered {answer:?}: {wrong}"
        ))
    }

    /// What is wrong with the word that a version is trimmed, or in the future: of a read at a version that was told, or of
    /// some of its keys.
    pub fn refused(&self, map: &ShardMap, op: &Op, result: &Result<Reply, Error>) -> Vec<String> {
        let at = op.at();
        match result {
            Err(error) => {
                self.is_future(map, op, error).into_iter().chain(self.is_trimmed(map, op, error)).collect()
            }
            Ok(Reply { answer: Answer::Many(answers), .. }) if at.is_some() => {
                let failed = answers.iter().filter_map(|one| Some((&one.key, one.result.as_ref().err()?)));
                let get = |key: &Key| Op::Get { key: key.clone(), at };
                failed.filter_map(|(key, error)| self.is_trimmed(map, &get(key), error)).collect()
            }
            Ok(_) => Vec::new(),
        }
    }

    /// A version of a key's shard that a client was told is not in the future.
    fn is_future(&self, map: &ShardMap, op: &Op, error: &Error) -> Option<String> {
        let (Op::Get { key, at: Some(at) }, Error::Future { .. }) = (op, error) else { return None };
        let last = self.shard(map.shard_of(key)).map_or(Version::ZERO, Shard::last);
        let told = || {
            format!(
                "what was told is not in the future: {op:?} was refused as {error:?}, and {last} was told"
            )
        };
        (*at <= last).then(told)
    }

    fn is_trimmed(&self, map: &ShardMap, op: &Op, error: &Error) -> Option<String> {
        let at = op.at()?;
        let Error::Trimmed { asked, oldest } = error else { return None };
        let mut known = Version::ZERO;
        let mut of_key = |shard: &Shard, timeline: &Timeline| {
            let options = self.options(shard, shard.last());
            known = known.max(timeline.known_since(shard.last(), &options));
        };
        let mut floor = Version::ZERO;
        for shard in map.shards().iter().filter_map(|(id, _)| self.shard(*id)) {
            match op {
                Op::Range(range) => {
                    let keys = shard.between(&range.from, range.to.as_ref());
                    keys.for_each(|(_, timeline)| of_key(shard, timeline));
                }
                op => op.for_each_key(&mut |key| {
                    shard.keys.get(key).into_iter().for_each(|timeline| of_key(shard, timeline))
                }),
            }
            floor = floor.max(shard.floor(&self.options(shard, shard.last())));
        }
        let fits = *asked == at && *oldest > at && at < known.max(floor);
        (!fits).then(|| {
            format!(
                "what is kept is not trimmed: {op:?} was refused as {error:?}, and all is kept since {}",
                known.max(floor)
            )
        })
    }

    /// Whether a read found a key without a value because that has expired.
    pub fn found_expired(&self, op: &Op, reply: &Reply) -> bool {
        let (Op::Get { key, at: None }, Answer::Row(None)) = (op, &reply.answer) else { return false };
        let timeline = self.shard(reply.receipt.shard).and_then(|shard| shard.keys.get(key));
        timeline
            .and_then(|timeline| timeline.at(reply.receipt.version))
            .is_some_and(|change| change.row.is_some())
    }
}

/// Judges what a read was answered. `of_key`: a key's shard, and the states it may be shown in.
fn read<'a>(op: &Op, answer: &Answer, of_key: &dyn Fn(&Key) -> (&'a Shard, Window)) -> Result<(), String> {
    let check = |key: &Key, row: Option<&Row>| {
        let (shard, window) = of_key(key);
        check_row(shard.keys.get(key).unwrap_or(&NOTHING), &window, key, row)
    };
    match (op, answer) {
        (Op::Get { key, .. }, Answer::Row(row)) => check(key, row.as_ref()),
        (Op::GetAll { keys, .. }, Answer::Many(answers)) => {
            if !keys.iter().eq(answers.iter().map(|answer| &answer.key)) {
                return Err("it answers other keys".into());
            }
            let shown = |answer: &KeyAnswer| {
                answer.result.as_ref().map_or(Ok(()), |row| check(&answer.key, row.as_ref()))
            };
            answers.iter().try_for_each(shown)
        }
        (Op::Range(range), Answer::Page(page)) => {
            let (shard, window) = of_key(&range.from);
            check_page(range, page, &keys_of(shard, range, window).collect())
        }
        _ => Ok(()),
    }
}

fn check_row(timeline: &Timeline, window: &Window, key: &Key, row: Option<&Row>) -> Result<(), String> {
    let fits = match row {
        Some(row) => row.key == key && timeline.may_show(window, row, false),
        None => timeline.may_be_absent(window),
    };
    let shown = row.map(|row| row.version);
    if fits {
        Ok(())
    } else {
        Err(format!("of {key:?} it shows {shown:?}, and there was {:?}", timeline.at(window.to)))
    }
}

fn keys_of<'a>(
    shard: &'a Shard,
    range: &Range,
    window: Window,
) -> impl Iterator<Item = (&'a Key, (&'a Timeline, Window))> + use<'a> {
    let keys: Vec<_> = shard.between(&range.from, range.to.as_ref()).collect();
    keys.into_iter().map(move |(key, timeline)| (key, (timeline, window)))
}

/// A page shows the first rows behind the one before it, in order, and tells where to go on when it is full and there are more.
fn check_page(range: &Range, page: &Page, keys: &Keys<'_>) -> Result<(), String> {
    if range.count_only {
        return check_count(page, keys);
    }
    let backward = range.direction == Direction::Backward;
    let behind = |key: &Key, other: &Key| if backward { key < other } else { key > other };
    let mut before = range.page.as_ref();
    for row in &page.rows {
        if before.is_some_and(|before| !behind(&row.key, before)) {
            return Err(format!("{:?} is out of order", row.key));
        }
        before = Some(&row.key);
        let (timeline, window) =
            keys.get(&row.key).ok_or_else(|| format!("{:?} was never there", row.key))?;
        if !timeline.may_show(window, row, range.keys_only) || range.keys_only && !row.value.is_empty() {
            return Err(format!("it shows {row:?}, and there was {:?}", timeline.at(window.to)));
        }
    }
    let shown = |key: &Key| page.rows.iter().any(|row| row.key == key);
    let is_asked = |key: &Key| range.page.as_ref().is_none_or(|page| behind(key, page));
    let is_passed = |key: &Key| page.next.as_ref().is_none_or(|next| !behind(key, next));
    for (key, (timeline, window)) in keys {
        if is_asked(key) && is_passed(key) && !shown(key) && !timeline.may_be_absent(window) {
            return Err(format!("it leaves out {key:?}"));
        }
    }
    check_end(range, page)?;
    let is_more = |(key, (timeline, window)): (&&Key, &(&Timeline, Window))| {
        !is_passed(key) && timeline.may_be_there(window)
    };
    match page.next.is_none() || keys.iter().any(is_more) {
        true => Ok(()),
        false => Err(format!("it goes on behind {:?}, and there is no more", page.next)),
    }
}

/// Keys are few here: a page ends early only when it is full.
fn check_end(range: &Range, page: &Page) -> Result<(), String> {
    let (count, limit) = (page.rows.len() as u64, u64::from(range.limit));
    if page.count != count || limit > 0 && count > limit {
        return Err(format!("it holds {count} rows, and counts {}", page.count));
    }
    let bytes: usize = page.rows.iter().map(|row| row.key.len() + row.value.len()).sum();
    let is_full = limit > 0 && count == limit || bytes > PAGE_BYTES_MAX / 2;
    match &page.next {
        Some(next) if !is_full || page.rows.last().is_none_or(|last| last.key != next) => {
            Err(format!("it goes on behind {next:?}, where it does not end"))
        }
        _ => Ok(()),
    }
}

fn check_count(page: &Page, keys: &Keys<'_>) -> Result<(), String> {
    let least = keys.values().filter(|(timeline, window)| !timeline.may_be_absent(window)).count() as u64;
    let most = keys.values().filter(|(timeline, window)| timeline.may_be_there(window)).count() as u64;
    match page.rows.is_empty() && page.next.is_none() && (least..=most).contains(&page.count) {
        true => Ok(()),
        false => Err(format!("it counts {}, and there were {least} to {most} rows", page.count)),
    }
}

/// A page of the revisions of a key.
struct History<'a> {
    limit: u32,
    before: Option<Version>,
    revisions: &'a [Revision],
    next: Option<Version>,
}

impl History<'_> {
    fn check(&self, timeline: &Timeline, window: &Window, options: &Options) -> Result<(), String> {
        let deadline = timeline.deadline(window.to);
        let may_be_gone = deadline.is_some_and(|deadline| deadline <= window.bounds.high);
        let must_be_gone = deadline.is_some_and(|deadline| deadline <= window.bounds.low);
        let mut wrong = Ok(());
        for expired in [false, true] {
            if expired && may_be_gone || !expired && !must_be_gone {
                wrong = self.fits(timeline.revisions(window.to, expired, options));
                if wrong.is_ok() {
                    return wrong;
                }
            }
        }
        wrong
    }

    /// It shows the first of the kept revisions; those that are surely kept all, unless it is full.
    fn fits(&self, (kept, sure): (Vec<Revision>, usize)) -> Result<(), String> {
        let is_asked = |revision: &&Revision| self.before.is_none_or(|before| revision.version < before);
        let skipped = kept.iter().filter(|revision| !is_asked(revision)).count();
        let (asked, sure) = (&kept[skipped..], sure.saturating_sub(skipped));
        let count = self.revisions.len();
        if !asked.starts_with(self.revisions) {
            let of = |revisions: &[Revision]| {
                revisions.iter().map(|one| (one.version, one.value.is_some())).collect::<Vec<_>>()
            };
            return Err(format!("it shows {:?}, and there were {:?}", of(self.revisions), of(asked)));
        }
        let bytes: usize =
            self.revisions.iter().filter_map(|one| one.value.as_ref()).map(|value| value.len()).sum();
        let limit = self.limit as usize;
        let is_full = limit > 0 && count == limit || bytes > PAGE_BYTES_MAX / 2;
        let last = self.revisions.last().map(|last| last.version);
        match self.next {
            _ if limit > 0 && count > limit => Err(format!("it shows {count} revisions")),
            None if count < sure => Err(format!("it shows {count} of {sure} revisions")),
            Some(next) if !is_full || Some(next) != last || count >= asked.len() => {
                Err(format!("it goes on below {next}, where it does not end"))
            }
            _ => Ok(()),
        }
    }
}
