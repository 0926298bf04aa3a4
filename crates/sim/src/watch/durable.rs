//! What of a replica's log is synced, as the records and the completions of the disk tell: nobody's own word counts.

use std::collections::VecDeque;

use super::Record;

/// What is synced of one replica's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    /// All entries up to here.
    pub last: u64,
    /// Term and vote.
    pub state: (u64, u64),
    /// Of the append that is being looked at, or of a log that is being read.
    gathered: Batch,
    waiting: VecDeque<(u64, Batch)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Batch {
    last: Option<u64>,
    state: Option<(u64, u64)>,
}

impl Durable {
    /// A record of the next append; `replaces` = another entry was at its place.
    pub fn take(&mut self, record: Record, replaces: bool) {
        match record {
            Record::Entry { index, .. } => {
                if replaces {
                    self.cut(index - 1);
                }
                self.gathered.last = Some(index);
            }
            Record::State { term, vote } => self.gathered.state = Some((term, vote)),
            Record::Snapshot { index, .. } => {
                self.cut(index);
                self.gathered.last = Some(index);
            }
            Record::Base { .. } => {}
        }
    }

    /// The append is complete.
    pub fn appended(&mut self, ticket: u64) {
        let batch = std::mem::take(&mut self.gathered);
        if batch != Batch::default() {
            self.waiting.push_back((ticket, batch));
        }
    }

    /// All appends up to a ticket are synced.
    pub fn synced(&mut self, ticket: u64) {
        while let Some((_, batch)) = self.waiting.pop_front_if(|(waiting, _)| *waiting <= ticket) {
            self.last = self.last.max(batch.last.unwrap_or(0));
            self.state = batch.state.unwrap_or(self.state);
        }
    }

    /// The log was read, and reaches up to here: all of it is synced again.
    pub fn recovered(&mut self, last: u64) {
        self.last = last;
        self.state = std::mem::take(&mut self.gathered).state.unwrap_or_default();
    }

    /// Term and vote of a log that is being read.
    pub fn state_read(&self) -> (u64, u64) {
        self.gathered.state.unwrap_or_default()
    }

    /// Entries behind this one are replaced.
    fn cut(&mut self, last: u64) {
        self.last = self.last.min(last);
        for (_, batch) in &mut self.waiting {
            batch.last = batch.last.map(|index| index.min(last));
        }
    }
}
