//! What replicas want done, carried out.

use kv::{Answer, Charge, Class, Error, Level, Op, Receipt, Reply, ShardId, Version};
use replication::{Output, Token};

use crate::driver::{Driver, EPOCH, Work, advance_op, protocol_record};
use crate::job::Job;
use crate::open::{Open, Origin, State};
use crate::recovery::generation_record;
use crate::replica::{Advance, Applying};
use crate::wire::Frame;

/// How long the store's own raise of a version is tried.
const ADVANCE_MICROS: u64 = 5_000_000;

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
            let receipt = self.receipt(shard, version, applying.copies);
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

    fn fetch(&mut self, shard: ShardId, token: Token) {
        let newest = self.replicas.get(&shard).map(|replica| replica.last).unwrap_or_default();
        let leads = self
            .replicas
            .get(&shard)
            .is_some_and(|replica| replica.protocol.status().leader == Some(self.config.me));
        let Some(open) = self.open.get(token) else { return };
        let Some(op) = open.op.clone() else {
            // There is nothing to read: it is about the proof.
            return self.inputs.push_back((shard, replication::Input::Fetched { token }));
        };
        let now = (leads && open.level == Level::Linearizable).then(|| self.clock.version().max(newest));
        let charge = open.charge.answer.clone();
        self.work.push(Work::Run(Job::Read { shard, token, op, now, charge }));
    }

    pub(crate) fn read_done(&mut self, shard: ShardId, token: Token, read: storage::Read) {
        match read {
            storage::Read::Done(result, last) => {
                let Some(open) = self.open.get_mut(token) else { return };
                open.fetched = Some((result, last));
                self.inputs.push_back((shard, replication::Input::Fetched { token }));
            }
            storage::Read::NeedsAdvance(to) => self.advance(shard, token, to),
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

    // --- raising a shard's version ----------------------------------------------------------------------------------

    /// A read needs the shard's version raised first: to let expire what is due, or because it reads at a version of now.
    fn advance(&mut self, shard: ShardId, reader: Token, to: Version) {
        let deadline = self.now.plus(ADVANCE_MICROS);
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if let Some(advance) = &mut replica.advance {
            // It reads again after this one, and asks for another if that was not far enough.
            return advance.readers.push(reader);
        }
        let stamped = advance_op(to);
        let token = self.open.insert(Open {
            origin: Origin::Advance,
            shard,
            class: Class::Blind,
            op: None,
            stamped: stamped.clone(),
            level: Level::Linearizable,
            own_id: None,
            deadline,
            state: State::Local,
            in_doubt: false,
            why: None,
            fetched: None,
            counted: 0,
            charge: Charge::default(),
        });
        replica.advance = Some(Advance { readers: vec![reader] });
        replica.proposals.push((token, stamped));
    }

    fn advanced(&mut self, token: Token) {
        for (shard, reader) in self.end_advance(token) {
            self.fetch(shard, reader);
        }
    }

    /// The raise was not ordered, or nobody knows: the reads are tried again from the start.
    pub(crate) fn advance_failed(&mut self, token: Token) {
        for (shard, reader) in self.end_advance(token) {
            self.inputs.push_back((shard, replication::Input::Forget { token: reader }));
            self.turned_away(reader, Error::WrongNode { try_next: None });
        }
    }

    fn end_advance(&mut self, token: Token) -> Vec<(ShardId, Token)> {
        let Some(open) = self.open.remove(token) else { return Vec::new() };
        let Some(replica) = self.replicas.get_mut(&open.shard) else { return Vec::new() };
        let readers = replica.advance.take().map_or_else(Vec::new, |advance| advance.readers);
        readers.into_iter().map(|reader| (open.shard, reader)).collect()
    }
}
