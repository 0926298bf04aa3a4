//! Reads: a replica lets them go, the table reads, the replica says what they are worth, and they are answered.

use kv::{Answer, Error, Level, Op, Receipt, Reply, ShardId, Version};
use mutant::Mutant;
use replication::{Input, Token};
use storage::Clock;

use super::Work;
use super::core::Core;
use super::open::Open;
use super::writes::receipt;
use crate::job::Job;
use crate::node::Node;

impl Core {
    pub fn fetch(&mut self, node: &Node, shard: ShardId, token: Token) {
        let Some(open) = self.open.get(token) else { return };
        assert_eq!(open.shard, shard, "a replica is given the reads of its shard");
        let read = open.reads().expect("only reads are let go");
        let (op, clock) = (read.op.clone(), self.clock_of_read(node, shard, read.ensured));
        let charge = open.charge().map_or_else(Default::default, |charge| charge.answer.clone());
        self.work.push(Work::Run(Job::Read { shard, token, op, clock, charge }));
    }

    /// What a read takes for expired. A leader has the shard advance, so that what one reader does not find, no later one
    /// finds. Others leave it out, which is no proof that everybody does.
    fn clock_of_read(&self, node: &Node, shard: ShardId, level: Level) -> Clock {
        let Some(replica) = self.replicas.get(&shard) else { return Clock::Shard };
        let leads = self.is_ordered_here(shard);
        let now = replica.now(node).max(replica.last);
        match level {
            Level::Linearizable if leads => Clock::Orders(now),
            // What has a deadline may have expired by what it does not know of yet: only who orders can tell.
            Level::Linearizable => Clock::Hides(Version::MAX),
            _ if mutant::is(Mutant::WeakReadShowsExpired) => Clock::Shard,
            Level::Bounded(_) if leads => Clock::Orders(now),
            // Its own wall clock may be hours ahead. How old the answer is, is then told as unknown.
            Level::Local if !node.clock.is_settled() => Clock::Shard,
            _ => Clock::Hides(now),
        }
    }

    pub fn read_done(&mut self, node: &Node, shard: ShardId, token: Token, read: storage::Read) {
        match read {
            storage::Read::Done { result, last, hidden } => {
                let Some(read) = self.open.get_mut(token).and_then(Open::reads_mut) else { return };
                read.fetched = Some((result, last));
                read.hidden |= hidden;
                self.give(shard, Input::Fetched { token });
            }
            storage::Read::NeedsAdvance(to) => self.advance(node, shard, Some(token), to),
        }
    }

    pub fn answer_read(
        &mut self,
        node: &Node,
        shard: ShardId,
        token: Token,
        (reached, staleness_micros, copies): (Level, u64, u32),
    ) {
        let Some(open) = self.open.get_mut(token) else { return };
        let read = open.reads_mut().expect("a replica answers reads only");
        let (result, last) = read.fetched.take().expect("a read is answered after its rows were fetched");
        if count_on(read, result.as_ref().ok()) {
            let input = read.input(token);
            return self.give(shard, input);
        }
        let (asked, counted) = (read.level, read.counted);
        if read.hidden && reached == Level::Linearizable {
            // What this node leaves out, others may find yet: who orders knows, and is asked next.
            return self.turned_away(node, token, Error::WrongNode { try_next: None });
        }
        // It may show what has expired: by which clock would it be more?
        let is_known = asked != Level::Local || node.clock.is_settled();
        let (reached, staleness_micros) =
            if is_known { (reached, staleness_micros) } else { (Level::Local, u64::MAX) };
        let replica = &self.replicas[&shard];
        let of = (shard, replica.kind, replica.view().epoch);
        let receipt = Receipt { asked, reached, staleness_micros, ..receipt(node, of, last, copies) };
        let result = result.map(|mut answer| {
            if let Answer::Page(page) = &mut answer {
                page.count += counted;
            }
            Reply { answer, receipt }
        });
        self.finish(token, result);
    }
}

/// A count is made a page at a time; true when there is another page to count.
pub(super) fn count_on(read: &mut super::open::Read, answer: Option<&Answer>) -> bool {
    let (Op::Range(range), Some(Answer::Page(page))) = (&mut read.op, answer) else { return false };
    if !range.count_only || page.next.is_none() {
        return false;
    }
    assert_ne!(range.page, page.next, "a page ends further than it began");
    range.page.clone_from(&page.next);
    read.counted += page.count;
    true
}
