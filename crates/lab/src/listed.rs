//! What is left at the end of a run that may lose what it acknowledged: every write that is there, and those that the ledger lists.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kv::ledger::Line;
use kv::{Answer, Error, Key, Level, Op, Range, Request, Version};
use tokio::time::sleep;

use crate::Pinned;
use crate::tally::Written;

/// Who comes back tells what only it has within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// It is looked so often whether it has.
const LOOK: Duration = Duration::from_millis(200);

/// What is left.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    there: BTreeSet<(Key, Version)>,
    listed: BTreeSet<(Key, Version)>,
}

/// What became of the acknowledged writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// So many are not there.
    pub lost: u64,
    /// Of these, so many are not listed.
    pub unlisted: u64,
    /// So many are listed, and there.
    pub doubled: u64,
}

impl Listed {
    /// Reads it through a node.
    pub async fn read(pinned: &mut Pinned, keyspace: &str, keys: &[Key]) -> Result<Listed, Error> {
        let until = Instant::now() + PATIENCE;
        let mut lines = lines(pinned, keyspace).await?;
        while lines.iter().any(is_silent) && Instant::now() < until {
            sleep(LOOK).await;
            lines = self::lines(pinned, keyspace).await?;
        }
        let mut found = Listed::default();
        found.listed.extend(lines.into_iter().filter_map(|line| match line {
            Line::Lost { lost, .. } => Some((lost.key, lost.version)),
            _ => None,
        }));
        for key in keys {
            found.read_history(pinned, keyspace, key).await?;
        }
        Ok(found)
    }

    async fn read_history(&mut self, pinned: &mut Pinned, keyspace: &str, key: &Key) -> Result<(), Error> {
        let mut before = None;
        loop {
            let op = Op::History { key: key.clone(), limit: 0, before };
            match ask(pinned, keyspace, op).await? {
                Answer::History { revisions, next, .. } => {
                    self.there.extend(revisions.iter().map(|revision| (key.clone(), revision.version)));
                    before = next;
                }
                other => return Err(nonsense(&other)),
            }
            if before.is_none() {
                return Ok(());
            }
        }
    }

    /// What became of what was acknowledged.
    pub fn balance(&self, written: &Written) -> Balance {
        let lost: Vec<(Key, Version)> = written.all().filter(|one| !self.there.contains(one)).collect();
        let unlisted = lost.iter().filter(|one| !self.listed.contains(*one)).count();
        let doubled = self.listed.intersection(&self.there).count();
        Balance { lost: lost.len() as u64, unlisted: unlisted as u64, doubled: doubled as u64 }
    }
}

/// Whether somebody has not told yet what only it has.
fn is_silent(line: &Line) -> bool {
    matches!(line, Line::Astray { is_done: false, .. })
}

async fn lines(pinned: &mut Pinned, keyspace: &str) -> Result<Vec<Line>, Error> {
    let (mut lines, mut page) = (Vec::new(), None);
    loop {
        let op = Op::Range(Range { ledger: true, page: page.take(), ..Range::default() });
        let found = match ask(pinned, keyspace, op).await? {
            Answer::Page(found) => found,
            other => return Err(nonsense(&other)),
        };
        let decoded: Result<Vec<Line>, _> = found.rows.iter().map(|row| Line::decode(&row.value)).collect();
        lines.extend(decoded.map_err(|error| Error::Unavailable(error.to_string()))?);
        page = found.next;
        if page.is_none() {
            return Ok(lines);
        }
    }
}

/// Asks until it is answered.
async fn ask(pinned: &mut Pinned, keyspace: &str, op: Op) -> Result<Answer, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let level = Some(Level::Linearizable);
        let request = Request { keyspace: keyspace.into(), level, ..Request::new(op.clone()) };
        match pinned.call(request).await {
            Ok(reply) => return Ok(reply.answer),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(LOOK).await,
        }
    }
}

fn nonsense(answer: &Answer) -> Error {
    Error::Unavailable(format!("the cluster answered {answer:?} to another question"))
}

#[cfg(test)]
mod tests {
    use kv::ReplicaId;

    use super::*;
    use crate::seen::{Came, Kind, Seen};

    #[test]
    fn writes_that_are_neither_there_nor_listed_are_told_from_those_that_are() {
        let version = |micros| Version::new(micros, ReplicaId(1));
        let wrote = |at| Seen {
            node: 0,
            kind: Kind::Write,
            key: "k".into(),
            called: at,
            returned: at,
            came: Came::Written(version(at)),
        };
        let written = Written::of(&[wrote(10), wrote(20), wrote(30)]);
        let of = |all: &[u64]| all.iter().map(|at| ("k".into(), version(*at))).collect();
        let balance = |there: &[u64], listed: &[u64]| {
            let Balance { lost, unlisted, doubled } =
                Listed { there: of(there), listed: of(listed) }.balance(&written);
            (lost, unlisted, doubled)
        };
        assert_eq!(balance(&[10, 20, 30], &[]), (0, 0, 0));
        assert_eq!(balance(&[10], &[20, 30, 40]), (2, 0, 0), "who never acknowledged it lists it too");
        assert_eq!(balance(&[10], &[20]), (2, 1, 0));
        assert_eq!(balance(&[10, 20], &[20, 30]), (1, 0, 1));
    }
}
