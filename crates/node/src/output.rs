//! What replicas want done, carried out.

use kv::{Answer, Error, Level, Op, Receipt, Reply, ShardId, Version};
use mutant::Mutant;
use replication::{Output, Token};
use storage::Clock;

use crate::driver::{Driver, EPOCH, Work, protocol_record};
use crate::job::Job;
use crate::open::Origin;
use crate::recovery::generation_record;
use crate::replica::Applying;
use crate::wire::Frame;

impl Driver {
    pub(crate) fn output(&mut self, shard: ShardId, output: Output) {
        match output {
            Output::Append { ticket, records, install } => self.append_of(shard, ticket, records, install),
            Output::Send { to, body } => self.send(to, &Frame::Protocol { shard, epoch: EPOCH, body }),
            Output::Apply { index, term, entry, tokens, copies } => {
                if let Some(replica) = self.replicas.get_mut(&shard) {
                    replica.applying.push_back(Applying { index, tokens, copies });
                }
                self.work.push(Work::Run(Job::Apply { shard, index, term, entry }));
            }
            Output::Fetch { tokens } => tokens.into_iter().for_each(|token| self.fetch(shard, token)),
            Output::Answer { token, reached, staleness_micros } => {
                self.answer_read(shard, token, reached, staleness_micros);
            }
            Output::Refuse { token, error } => self.refused(shard, token, error),
            Output::MakeSnapshot { to } => self.work.push(Work::Run(Job::Snapshot { shard, to })),
            Output::SendSnapshot { to, header } => {
                let snapshot =
                    self.replicas.get_mut(&shard).and_then(|replica| replica.snapshots.remove(&to));
                match snapshot {
                    Some(snapshot) => self.work.push(Work::SendSnapshot { shard, to, header, snapshot }),
                    None => {
                        let input = replication::Input::SnapshotSent { to, arrived: false };
                        self.inputs.push_back((shard, input));
                    }
                }
            }
            Output::DiscardSnapshot => self.discard_snapshot(shard),
        }
    }

    fn append_of(&mut self, shard: ShardId, own: u64, bodies: Vec<bytes::Bytes>, install: bool) {
        let mut records: Vec<wal::Record> =
            bodies.into_iter().map(|body| protocol_record(shard, body)).collect();
        let replica = self.replicas.get_mut(&shard).expect("a replica that has outputs is there");
        if install {
            let install = replica.install.as_mut().expect("only a received snapshot is installed");
            install.ticket = Some(self.next_ticket + 1);
            records.push(generation_record(shard, install.generation));
        }
        let ticket = self.append(records, false);
        self.appends.push_back((ticket, shard, own));
    }

    // --- writes ---------------------------------------------------------------------------------------------------

    pub(crate) fn applied(
        &mut self,
        shard: ShardId,
        index: u64,
        last: Version,
        results: Vec<(Result<Answer, Error>, Version)>,
    ) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let applying = replica.applying.pop_front().expect("the table applies what it was given");
        assert_eq!(applying.index, index, "the table applies in order");
        replica.last = replica.last.max(last);
        self.inputs.push_back((shard, replication::Input::Applied { index }));
        for (token, (result, version)) in applying.tokens.into_iter().zip(results) {
            let copies = applying.copies + u32::from(mutant::is(Mutant::CopiesOverstated));
            let receipt = self.receipt(shard, version, copies);
            self.finish_write(token, result.map(|answer| Reply { answer, receipt }));
        }
    }

    fn finish_write(&mut self, token: Token, result: Result<Reply, Error>) {
        if self.open.get(token).is_some_and(|open| open.origin == Origin::Advance) {
            return self.advanced(token);
        }
        self.finish(token, result);
    }

    fn receipt(&self, shard: ShardId, version: Version, copies: u32) -> Receipt {
        Receipt {
            version,
            shard,
            protocol: self.config.protocol,
            epoch: EPOCH,
            asked: Level::Linearizable,
            reached: Level::Linearizable,
            copies,
            staleness_micros: 0,
            node: self.config.me,
        }
    }

    fn refused(&mut self, shard: ShardId, token: Token, error: Error) {
        let leads = |driver: &Driver| {
            let replica = driver.replicas.get(&shard);
            replica.is_some_and(|replica| replica.protocol.status().leader == Some(driver.config.me))
        };
        let is_advance = self.open.get(token).is_some_and(|open| open.origin == Origin::Advance);
        match error {
            // The leader itself refuses: its queues are full.
            Error::Unavailable(_) if leads(self) && !is_advance => self.finish(token, Err(error)),
            error => self.turned_away(token, error),
        }
    }

    // --- reads ----------------------------------------------------------------------------------------------------

    pub(crate) fn fetch(&mut self, shard: ShardId, token: Token) {
        let Some(open) = self.open.get(token) else { return };
        let Some(op) = open.op.clone() else {
            // There is nothing to read: it is about the proof.
            return self.inputs.push_back((shard, replication::Input::Fetched { token }));
        };
        let clock = self.clock_of_read(shard, open.level);
        let charge = open.charge.answer.clone();
        self.work.push(Work::Run(Job::Read { shard, token, op, clock, charge }));
    }

    /// What a read takes for expired. A leader has the shard advance, so that what one reader does not find, no later one
    /// finds. Others leave it out, which is no proof that everybody does.
    fn clock_of_read(&self, shard: ShardId, level: Level) -> Clock {
        let Some(replica) = self.replicas.get(&shard) else { return Clock::Shard };
        let leads = replica.protocol.status().leader == Some(self.config.me);
        let now = self.clock.version().max(replica.last);
        match level {
            Level::Linearizable if leads => Clock::Orders(now),
            _ if mutant::is(Mutant::WeakReadShowsExpired) => Clock::Shard,
            Level::Bounded(_) if leads => Clock::Orders(now),
            // Its own wall clock may be hours ahead. How old the answer is, is then told as unknown.
            Level::Local if !self.clock.is_settled() => Clock::Shard,
            _ => Clock::Hides(now),
        }
    }

    pub(crate) fn read_done(&mut self, shard: ShardId, token: Token, read: storage::Read) {
        match read {
            storage::Read::Done { result, last, hidden } => {
                let Some(open) = self.open.get_mut(token) else { return };
                open.fetched = Some((result, last));
                open.hidden |= hidden;
                self.inputs.push_back((shard, replication::Input::Fetched { token }));
            }
            storage::Read::NeedsAdvance(to) => self.advance(shard, Some(token), to),
        }
    }

    fn answer_read(&mut self, shard: ShardId, token: Token, reached: Level, staleness_micros: u64) {
        if self.is_proven_for_rejoiner(token) {
            return;
        }
        let majority = self.config.majority();
        let Some(open) = self.open.get_mut(token) else { return };
        let (result, last) = open.fetched.take().expect("a read is answered after its rows were fetched");
        if self.count_on(token, &result) {
            return;
        }
        let Some(open) = self.open.get(token) else { return };
        let asked = open.level;
        if open.hidden && reached == Level::Linearizable {
            // What this node leaves out, others may find yet: the leader knows.
            return self.turned_away(token, Error::WrongNode { try_next: None });
        }
        let is_known = asked != Level::Local || self.clock.is_settled();
        let staleness_micros = if is_known { staleness_micros } else { u64::MAX };
        let copies = if reached == Level::Linearizable { majority } else { 1 };
        let receipt = Receipt { asked, reached, staleness_micros, ..self.receipt(shard, last, copies) };
        let counted = open.counted;
        let result = result.map(|mut answer| {
            if let Answer::Page(page) = &mut answer {
                page.count += counted;
            }
            Reply { answer, receipt }
        });
        self.finish(token, result);
    }

    /// A count is made a page at a time; true when there is another page to count.
    fn count_on(&mut self, token: Token, result: &Result<Answer, Error>) -> bool {
        let Some(open) = self.open.get_mut(token) else { return false };
        let (Some(Op::Range(range)), Ok(Answer::Page(page))) = (&mut open.op, result) else { return false };
        if !range.count_only || page.next.is_none() {
            return false;
        }
        range.page.clone_from(&page.next);
        open.counted += page.count;
        let (shard, level) = (open.shard, open.level);
        self.inputs.push_back((shard, replication::Input::Read { token, level }));
        true
    }
}
