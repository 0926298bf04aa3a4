//! What a replica knows after its log was read.
//!
//! The records of a shard are replayed in the order in which they were written. Older segments may be gone, so the first
//! records may start in the middle of the log: a checkpoint that follows them sets it right, for it holds everything that
//! the table has not flushed.
//!
//! Each record says which protocol wrote it and in which epoch: that picks its reader. When a shard was handed over, the
//! records of the later epoch count, and those of earlier ones that are still in the log are passed over.
//!
//! The log names the members too, in entries and in the records that stand for a whole state. A replica begins with those as
//! of the last entry that its table has applied: later changes come to it again with the entries that it applies again. Who
//! took them at once would count votes and copies by members that nobody may have agreed on.

use bytes::Bytes;
use kv::codec::Malformed;
use kv::{Epoch, Index, NodeId, Position, Protocol, ReplicaId, Version};
use mutant::Mutant;

use crate::View;
use crate::entries::Entries;
use crate::record::{Header, Record, State, Vector};

/// Collects the records of one replica's log.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    newest: Option<Ordered>,
}

/// What the log of an ordered protocol holds. `single`, `raft` and `two-phase` write the same records.
#[derive(Clone, Debug)]
struct Ordered {
    head: Header,
    log: Entries,
    state: State,
    /// The members as the last record of a whole state has them.
    view: Option<View>,
    replica: Option<ReplicaId>,
    /// Nothing more is ordered: the shard goes on in this epoch.
    seal: Option<Epoch>,
    /// The entry that ends the epoch is agreed on: where it stands, and in which epoch the shard goes on.
    sealed: Option<(Position, Epoch)>,
    /// Versions of its own were issued up to this one.
    ceiling: Version,
    /// It has what others issued up to these versions.
    vector: Vector,
}

/// The record with which the log of a replica begins that has inherited its shard: of another one, its table has the state as of
/// `at`, and it goes on from there among the members of a later epoch.
pub fn inherited(protocol: Protocol, view: View, at: Position) -> Bytes {
    let head = Header { protocol, epoch: view.epoch };
    Record::Base(at, view).encode(head)
}

/// A log that a replica cannot begin from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Entries are missing: between what the table has applied and what the log holds, or at the end of the log, which is
    /// never behind the table unless its end is lost.
    #[error(
        "a copy of a shard has lost entries, and nobody makes it whole: its table has applied what is up to {applied}, and its log {} at {last}; \
         restore its node's data folder", if .last < .applied { "ends before that," } else { "begins behind that and ends" }
    )]
    Lost {
        /// The last entry the table has.
        applied: Index,
        /// The last entry of the log.
        last: Index,
    },
    /// Another protocol wrote it, or in another epoch.
    #[error(
        "its log was written by protocol {} in epoch {found_epoch}, and this start wants {} in epoch {epoch}: start it with the \
         options and the version that wrote it", found.name(), protocol.name()
    )]
    Another {
        /// Who wrote it.
        found: Protocol,
        /// In which epoch.
        found_epoch: Epoch,
        /// Who was to begin from it.
        protocol: Protocol,
        /// In which epoch.
        epoch: Epoch,
    },
    /// It is of a protocol with one member that orders, and does not name exactly one, or not its own node.
    #[error(
        "its log names {masters} members that order, or not this node: another version of capstan wrote it, or it is another \
         node's; start it with that version, or give --data the folder of this node"
    )]
    NoMaster {
        /// How many it names.
        masters: usize,
    },
    /// It is of a shard that this node has no replica of.
    #[error(
        "its log names no replica of node {node}, only of {found}: it is another node's; give --data the folder of this one"
    )]
    Stranger {
        /// Who was to begin from it.
        node: NodeId,
        /// The nodes of the members.
        found: String,
    },
}

/// A recovered log, matched with the table.
pub(crate) struct Recovered {
    /// The entries; the one that the table applied last is here, or the base.
    pub(crate) log: Entries,
    /// The state, its commit no lower than what is applied.
    pub(crate) state: State,
    /// The members as of what is applied, and whether the log names them.
    pub(crate) view: View,
    pub(crate) is_view_logged: bool,
    /// The number of the replica whose log it is, if the log names it.
    pub(crate) replica: Option<ReplicaId>,
    /// The epoch in which the shard goes on, if this one is sealed.
    pub(crate) seal: Option<Epoch>,
    /// The entry that ends the epoch, if that is known to be agreed on.
    pub(crate) sealed: Option<(Position, Epoch)>,
    /// It never issued a version of its own above this one in this epoch.
    pub(crate) ceiling: Version,
    /// It has all that each replica issued up to a version.
    pub(crate) vector: Vector,
    /// The table is behind the first entry: entries up to this one were here, and are lost.
    pub(crate) lost: Option<Index>,
    /// Where the log ended, the table apart.
    pub(crate) ended: Index,
}

impl Recovery {
    /// Takes the next record.
    pub fn replay(&mut self, record: &Bytes) -> Result<(), Malformed> {
        let (head, record) = Record::decode(record)?;
        match &mut self.newest {
            Some(newest) if newest.head.epoch > head.epoch => (),
            Some(newest) if newest.head.epoch == head.epoch => {
                if newest.head != head {
                    return Err(Malformed("two protocols wrote records of one epoch"));
                }
                newest.replay(record)?;
            }
            older => older.insert(Ordered::new(head)).replay(record)?,
        }
        Ok(())
    }

    /// Which protocol wrote the log, in which epoch; `None` = nobody.
    pub fn written_by(&self) -> Option<(Protocol, Epoch)> {
        self.newest.as_ref().map(|newest| (newest.head.protocol, newest.head.epoch))
    }

    /// Who belonged to the shard at the beginning of what is left of the log; `None` = it is empty. Whoever begins from the
    /// log need not know more: what changed since is in its entries.
    pub fn view(&self) -> Option<&View> {
        self.newest.as_ref()?.view.as_ref()
    }

    /// The log as it fits a table that has applied what is up to `applied`, for a replica of this protocol; among these
    /// members, where the log names none.
    pub(crate) fn finish(
        self,
        protocol: Protocol,
        view: View,
        applied: Position,
    ) -> Result<Recovered, Unfit> {
        let head = Header { protocol, epoch: view.epoch };
        let newest = self.newest.unwrap_or_else(|| Ordered::new(head));
        if newest.head != head {
            let Header { protocol: found, epoch: found_epoch } = newest.head;
            return Err(Unfit::Another { found, found_epoch, protocol, epoch: view.epoch });
        }
        newest.finish(view, applied)
    }
}

impl Ordered {
    fn new(head: Header) -> Ordered {
        let (log, state) = (Entries::default(), State::default());
        let (ceiling, vector) = (Version::ZERO, Vector::new());
        Ordered { head, log, state, view: None, replica: None, seal: None, sealed: None, ceiling, vector }
    }

    fn replay(&mut self, record: Record) -> Result<(), Malformed> {
        match record {
            // A checkpoint wrote it again, and may have been cut off before it came to those behind it: they stay.
            Record::Entry(entry) if self.log.term(entry.index) == Some(entry.term) => (),
            Record::Entry(entry) => {
                if self.log.base().index < entry.index && entry.index <= self.log.last().next() {
                    let before = self.log.term(Index(entry.index.0 - 1));
                    if before.is_some_and(|before| before > entry.term) {
                        return Err(Malformed("terms fall along a shard's log"));
                    }
                    self.log.put(entry);
                } else {
                    // Starts in the middle: only a checkpoint behind it makes sense of it.
                    self.log.restart(entry.at());
                }
            }
            Record::State(state) => self.state = state,
            Record::View(view) => self.view = Some(view),
            Record::Replica(replica) => self.replica = Some(replica),
            Record::Seal(next) => self.seal = Some(next),
            Record::Sealed(at, next) => self.sealed = Some((at, next)),
            Record::Ceiling(ceiling) => self.ceiling = self.ceiling.max(ceiling),
            Record::Vector(vector) => self.vector = vector,
            Record::Base(at, view) if self.log.term(at.index) == Some(at.term) => self.view = Some(view),
            Record::Base(at, view) | Record::Snapshot(at, view) => {
                self.view = Some(view);
                self.log.restart(at);
            }
        }
        Ok(())
    }

    fn finish(mut self, given: View, applied: Position) -> Result<Recovered, Unfit> {
        let logged = self.view_at(applied.index);
        let (view, is_view_logged) = logged.map_or((given, false), |logged| (logged, true));
        let ended = self.log.last();
        let lost = (applied.index < self.log.base().index).then_some(ended);
        if self.log.term(applied.index) != Some(applied.term) {
            self.log.restart(applied);
        }
        self.log.applied(applied.index);
        assert!(self.log.term(applied.index) == Some(applied.term), "the log fits the table");
        if mutant::is(Mutant::UncommittedTailDropped) {
            self.log.truncate(self.state.commit.max(applied.index).next());
        }
        let last = self.log.last();
        assert!(applied.index <= last, "the log reaches to what is applied");
        self.state.commit = self.state.commit.clamp(applied.index, last);
        self.state.term = self.state.term.max(self.log.term(last).unwrap_or_default());
        let Ordered { log, state, replica, seal, sealed, ceiling, vector, .. } = self;
        Ok(Recovered {
            log,
            state,
            view,
            is_view_logged,
            replica,
            seal,
            sealed,
            ceiling,
            vector,
            lost,
            ended,
        })
    }

    /// The members as of an entry.
    fn view_at(&self, index: Index) -> Option<View> {
        let whole = self.view.clone();
        let index = if mutant::is(Mutant::MembersNotAsOfApplied) { Index::MAX } else { index };
        let changed = self.log.members_at(index);
        whole.into_iter().chain(changed).max_by_key(|view| view.revision)
    }
}

impl Recovered {
    /// The number of the replica on a node, whose log it is.
    pub(crate) fn replica_on(&self, node: NodeId) -> Result<ReplicaId, Unfit> {
        let member = self.view.member(node).map(|member| member.replica);
        self.replica.or(member).ok_or_else(|| {
            let nodes: Vec<String> = self.view.members.iter().map(|member| member.node.to_string()).collect();
            Unfit::Stranger { node, found: nodes.join(",") }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kv::Term;

    use super::*;
    use crate::Revision;
    use crate::entries::{LogEntry, MEMBERS};

    const HEAD: Header = Header { protocol: Protocol::Raft, epoch: Epoch(1) };

    fn members() -> View {
        View::of(HEAD.epoch, &[NodeId(1), NodeId(2), NodeId(3)])
    }

    fn entry(index: u64, term: u64) -> Record {
        Record::Entry(LogEntry { index: Index(index), term: Term(term), kind: 0, data: Bytes::new() })
    }

    fn at(index: u64, term: u64) -> Position {
        Position::new(index, term)
    }

    fn state(term: u64, vote: u16, commit: u64) -> State {
        State { term: Term(term), vote: ReplicaId(vote), commit: Index(commit) }
    }

    fn recover(records: &[Record], applied: Position) -> (Vec<u64>, State, Option<Index>) {
        let mut recovery = Recovery::default();
        records.iter().for_each(|record| recovery.replay(&record.encode(HEAD)).unwrap());
        let Recovered { log, state, lost, .. } = recovery.finish(Protocol::Raft, members(), applied).unwrap();
        let terms = (log.base().index.0..=log.last().0).map(|index| log.term(Index(index)).unwrap().0);
        (terms.collect(), state, lost)
    }

    #[test]
    fn recovery_later_entry_replaces_what_was_behind_it() {
        let records = [entry(1, 1), entry(2, 1), entry(3, 1), entry(2, 2)];
        assert_eq!(recover(&records, at(0, 0)).0, [0, 1, 2]);
    }

    #[test]
    fn recovery_commit_is_raised_to_applied_and_cut_to_the_log() {
        let written = |commit| Record::State(state(4, 2, commit));
        let records = [entry(1, 1), entry(2, 1), written(1)];
        assert_eq!(recover(&records, at(2, 1)).1, state(4, 2, 2));
        let records = [entry(1, 1), entry(2, 1), written(9)];
        assert_eq!(recover(&records, at(0, 0)).1.commit, Index(2));
    }

    #[test]
    fn recovery_base_in_the_log_keeps_its_entries() {
        let records = [entry(1, 1), entry(2, 1), Record::Base(at(1, 1), members()), entry(2, 1), entry(3, 1)];
        assert_eq!(recover(&records, at(1, 1)).0, [0, 1, 1, 1]);
    }

    #[test]
    fn recovery_checkpoint_that_was_cut_off_takes_nothing_away() {
        let log = [entry(1, 1), entry(2, 1), entry(3, 1), Record::Base(at(0, 0), members()), entry(1, 1)];
        assert_eq!(recover(&log, at(0, 0)).0, [0, 1, 1, 1]);
        assert_eq!(recover(&log, at(1, 1)).0, [0, 1, 1, 1]);
    }

    #[test]
    fn recovery_base_beyond_the_log_restarts_it() {
        let records = [entry(1, 1), Record::Base(at(7, 3), members()), entry(8, 4)];
        assert_eq!(recover(&records, at(7, 3)), (vec![3, 4], state(4, 0, 7), None));
    }

    #[test]
    fn recovery_cut_beginning_is_set_right_by_the_checkpoint() {
        let records = [
            entry(50, 2),
            entry(51, 2),
            entry(49, 3),
            Record::Base(at(47, 2), members()),
            entry(48, 3),
            entry(49, 3),
        ];
        assert_eq!(recover(&records, at(47, 2)).0, [2, 3, 3]);
        let records = [entry(50, 2), entry(51, 2), Record::Base(at(50, 2), members()), entry(51, 2)];
        assert_eq!(recover(&records, at(51, 2)).0, [2, 2]);
    }

    #[test]
    fn recovery_snapshot_clears_the_log() {
        let records = [entry(1, 1), entry(2, 1), Record::Snapshot(at(2, 1), members()), entry(3, 1)];
        assert_eq!(recover(&records, at(2, 1)).0, [1, 1]);
    }

    #[test]
    fn recovery_table_behind_the_log_tells_what_is_lost() {
        let records = [Record::Base(at(7, 3), members()), entry(8, 4)];
        assert_eq!(recover(&records, at(5, 3)), (vec![3], state(3, 0, 5), Some(Index(8))));
    }

    #[test]
    fn recovery_terms_that_fall_are_refused() {
        let mut recovery = Recovery::default();
        recovery.replay(&entry(1, 2).encode(HEAD)).unwrap();
        assert!(recovery.replay(&entry(2, 1).encode(HEAD)).is_err());
    }

    #[test]
    fn recovery_later_epoch_ends_the_earlier_one() {
        let mut recovery = Recovery::default();
        let later = Header { epoch: Epoch(2), protocol: Protocol::Single };
        let members = View::of(later.epoch, &[NodeId(1)]);
        for record in [
            entry(1, 1).encode(HEAD),
            Record::Base(at(5, 0), members.clone()).encode(later),
            entry(2, 1).encode(HEAD),
            entry(6, 0).encode(later),
        ] {
            recovery.replay(&record).unwrap();
        }
        assert_eq!(recovery.written_by(), Some((Protocol::Single, Epoch(2))));
        let recovered = recovery.finish(Protocol::Single, members, at(5, 0)).unwrap();
        assert_eq!((recovered.log.base(), recovered.log.last()), (at(5, 0), Index(6)));
    }

    #[test]
    fn recovery_record_of_another_protocol_in_the_same_epoch_is_refused() {
        let mut recovery = Recovery::default();
        recovery.replay(&entry(1, 1).encode(HEAD)).unwrap();
        assert!(recovery.replay(&entry(2, 1).encode(Header { protocol: Protocol::Single, ..HEAD })).is_err());
    }

    /// An entry that makes these nodes the members.
    fn change(index: u64, nodes: &[u64]) -> Record {
        let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
        let view = View { revision: Revision(index), ..View::of(HEAD.epoch, &nodes) };
        let mut data = BytesMut::new();
        view.encode(&mut data);
        let (index, term) = (Index(index), Term(1));
        Record::Entry(LogEntry { index, term, kind: MEMBERS, data: data.freeze() })
    }

    #[test]
    fn recovery_members_are_those_as_of_what_is_applied() {
        let records =
            [Record::View(members()), entry(1, 1), change(2, &[1, 2]), entry(3, 1), change(4, &[1, 4])];
        let mut recovery = Recovery::default();
        records.iter().for_each(|record| recovery.replay(&record.encode(HEAD)).unwrap());
        assert_eq!(recovery.view(), Some(&members()));
        let nodes_at = |recovery: &Recovery, applied| {
            let given = View::of(HEAD.epoch, &[NodeId(9)]);
            let given = View { revision: Revision(7), ..given };
            let recovered = recovery.clone().finish(Protocol::Raft, given, at(applied, 1)).unwrap();
            recovered.view.members.iter().map(|member| member.node.0).collect::<Vec<_>>()
        };
        let expected: [&[u64]; 4] = [&[1, 2, 3], &[1, 2], &[1, 2], &[1, 4]];
        (1..=4).for_each(|applied| assert_eq!(nodes_at(&recovery, applied), expected[applied as usize - 1]));
        // Another leader replaces the last change by an entry of its own.
        recovery.replay(&entry(4, 2).encode(HEAD)).unwrap();
        assert_eq!(nodes_at(&recovery, 4), [1, 2]);
        // A checkpoint stands for what is before it, a snapshot for all.
        let two = View { revision: Revision(2), ..View::of(HEAD.epoch, &[NodeId(1), NodeId(2)]) };
        recovery.replay(&Record::Base(at(3, 1), two).encode(HEAD)).unwrap();
        assert_eq!(nodes_at(&recovery, 4), [1, 2]);
        let three = View { revision: Revision(8), ..members() };
        recovery.replay(&Record::Snapshot(at(9, 2), three).encode(HEAD)).unwrap();
        assert_eq!(nodes_at(&recovery, 9), [1, 2, 3]);
    }

    #[test]
    fn recovery_of_a_log_of_another_node_is_refused() {
        let mut recovery = Recovery::default();
        recovery.replay(&Record::View(members()).encode(HEAD)).unwrap();
        let of = |recovery: &Recovery, node| {
            let recovered = recovery.clone().finish(Protocol::Raft, members(), Position::ZERO).unwrap();
            recovered.replica_on(NodeId(node))
        };
        assert_eq!(of(&recovery, 3), Ok(ReplicaId(3)));
        let stranger = of(&recovery, 4).unwrap_err();
        assert!(stranger.to_string().contains("no replica of node 4, only of 1,2,3"), "{stranger}");
        // Whose members have gone on without it is itself all the same.
        recovery.replay(&Record::Replica(ReplicaId(7)).encode(HEAD)).unwrap();
        assert_eq!(of(&recovery, 4), Ok(ReplicaId(7)));
    }

    #[test]
    fn recovery_for_another_protocol_is_unfit() {
        let mut recovery = Recovery::default();
        recovery.replay(&Record::View(members()).encode(HEAD)).unwrap();
        let unfit = |protocol, view| recovery.clone().finish(protocol, view, Position::ZERO).err();
        assert!(matches!(
            unfit(Protocol::Single, members()),
            Some(Unfit::Another { found: Protocol::Raft, .. })
        ));
        assert_eq!(unfit(Protocol::Raft, members()), None);
    }
}
