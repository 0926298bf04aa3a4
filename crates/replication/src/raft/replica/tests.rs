//! One replica against made-up messages: the rules around the raft crate that a whole group shows rarely.

use super::*;
use crate::Revision;
use crate::entries::{LogEntry, MEMBERS};

const TERM: u64 = 5;

fn members() -> View {
    View::of(kv::Epoch(1), &[1, 2, 3].map(NodeId))
}

fn at(index: u64, term: u64) -> Position {
    Position::new(index, term)
}

fn message(kind: Kind, from: u16) -> Message {
    Message {
        kind,
        from: ReplicaId(from),
        to: ReplicaId(2),
        term: Term(TERM),
        at: at(0, 0),
        commit: at(0, 0),
        reject: false,
        hint: Index::ZERO,
        forced: false,
        round: Bytes::new(),
        view: (kind == Kind::Snapshot).then(members),
        seal: None,
        entries: Vec::new(),
    }
}

/// An append of entries from index 1 to `last`.
fn append(last: u64) -> Message {
    let entry = |index| LogEntry {
        index: Index(index),
        term: Term(TERM),
        kind: 0,
        data: Bytes::from_static(b"data"),
    };
    Message { entries: (1..=last).map(entry).collect(), ..message(Kind::Append, 1) }
}

/// An entry that makes these nodes the members.
fn change(index: u64, nodes: &[u64]) -> LogEntry {
    let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
    let mut data = bytes::BytesMut::new();
    View { revision: Revision(index), ..View::of(kv::Epoch(1), &nodes) }.encode(&mut data);
    LogEntry { index: Index(index), term: Term(TERM), kind: MEMBERS, data: data.freeze() }
}

/// Node 2 of three, and what it puts out.
struct Replica {
    raft: Raft,
    now: u64,
}

impl Replica {
    fn new() -> Replica {
        let config = Config::new(NodeId(2), members(), 7);
        let raft = Raft::new(config, Recovery::default(), Position::ZERO).expect("an empty log fits");
        let mut replica = Replica { raft, now: 0 };
        replica.pass(0);
        replica
    }

    /// One that was elected in [`TERM`], with an entry of its own that is not committed.
    fn leader() -> Replica {
        let mut replica = Replica::new();
        replica.message(Message { term: Term(TERM - 1), ..message(Kind::Heartbeat, 1) });
        replica.sync();
        while replica.raft.status().role != Role::Candidate {
            replica.pass(50_000);
        }
        replica.message(message(Kind::PreVoteResponse, 1));
        replica.sync();
        replica.message(message(Kind::VoteResponse, 1));
        replica.sync();
        assert_eq!(replica.raft.status().role, Role::Leader);
        replica
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.raft.step(input, &mut out);
        out
    }

    fn pass(&mut self, micros: u64) -> Vec<Output> {
        self.now += micros;
        self.step(Input::Tick { now: Instant(self.now), clock: Version::ZERO })
    }

    fn message(&mut self, message: Message) -> Vec<Output> {
        let from = NodeId(u64::from(message.from.0));
        self.step(Input::Message { from, revision: Revision(1), body: message.encode() })
    }

    /// The node of another replica says hello.
    fn greet(&mut self, from: u16, last: u64) -> Vec<Output> {
        let hello = Hello { replica: ReplicaId(from), last: Index(last) }.encode();
        self.step(Input::Connected { node: NodeId(u64::from(from)), hello })
    }

    fn acknowledged(&self, replica: u16) -> Option<Index> {
        self.raft.core.acknowledged(ReplicaId(replica))
    }

    fn sync(&mut self) -> Vec<Output> {
        self.step(Input::Durable { ticket: self.raft.outbox.issued() })
    }
}

fn sent(out: &[Output]) -> Vec<Message> {
    let body = |output: &Output| match output {
        Output::Send { body, .. } => Some(Message::decode(body).expect("a replica's own message")),
        _ => None,
    };
    out.iter().filter_map(body).collect()
}

#[test]
fn raft_heartbeat_commit_beyond_the_log_is_not_believed() {
    let mut replica = Replica::new();
    replica.message(append(2));
    replica.sync();
    let out = replica.message(Message { commit: at(3, 0), ..message(Kind::Heartbeat, 1) });
    assert_eq!((replica.raft.status().commit, sent(&out)[0].kind), (Index(0), Kind::HeartbeatResponse));
    replica.message(Message { commit: at(2, 0), ..message(Kind::Heartbeat, 1) });
    assert_eq!(replica.raft.status().commit, Index(2));
}

#[test]
fn raft_late_rejection_does_not_take_a_follower_back() {
    let mut leader = Replica::leader();
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    leader.step(Input::Propose { ops: vec![(1, Bytes::from_static(b"op"))] });
    leader.step(Input::Disconnected { node: NodeId(3) });
    let out = leader.message(Message { at: at(1, 0), reject: true, ..message(Kind::AppendResponse, 3) });
    assert!(sent(&out).is_empty(), "{out:?}");
    assert_eq!(leader.acknowledged(3), Some(Index(1)));
    let out = leader.greet(3, 1);
    assert_eq!(sent(&out)[0].at.index, Index(1), "it goes on behind what is acknowledged");
}

#[test]
fn raft_connected_node_that_lost_entries_gets_them_again() {
    let mut leader = Replica::leader();
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    let out = leader.greet(3, 0);
    assert_eq!(leader.acknowledged(3), Some(Index(0)));
    let append = sent(&out).into_iter().find(|message| message.kind == Kind::Append).unwrap();
    assert_eq!((append.at.index, append.entries.len()), (Index(0), 1));
}

#[test]
fn raft_leader_counts_itself_after_its_own_sync() {
    let mut leader = Replica::leader();
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    leader.step(Input::Propose { ops: vec![(1, Bytes::from_static(b"op"))] });
    leader.message(Message { at: at(2, 0), ..message(Kind::AppendResponse, 3) });
    assert_eq!((leader.acknowledged(2), leader.raft.status().commit), (Some(Index(1)), Index(1)));
    let out = leader.sync();
    assert!(
        out.iter().any(
            |output| matches!(output, Output::Apply { at, tokens, copies: 2, .. } if at.index == Index(2) && tokens == &[1])
        )
    );
}

#[test]
fn raft_vote_and_acknowledgement_leave_after_the_sync() {
    let mut replica = Replica::new();
    let out = replica.message(append(1));
    assert!(sent(&out).is_empty(), "{out:?}");
    assert_eq!(sent(&replica.sync())[0].kind, Kind::AppendResponse);
    (0..10).for_each(|_| drop(replica.pass(50_000)));
    let vote = Message { term: Term(TERM + 1), at: at(1, TERM), ..message(Kind::Vote, 3) };
    assert!(sent(&replica.message(vote)).is_empty());
    assert_eq!(sent(&replica.sync())[0].kind, Kind::VoteResponse);
}

#[test]
fn raft_vote_within_an_election_timeout_of_the_leader_is_given_to_its_choice_only() {
    let mut replica = Replica::new();
    replica.pass(600_000);
    replica.message(append(1));
    replica.sync();
    replica.pass(499_999);
    let vote = Message { term: Term(TERM + 1), at: at(1, TERM), ..message(Kind::Vote, 3) };
    assert!(replica.message(vote.clone()).is_empty());
    assert!(!replica.message(Message { forced: true, ..vote }).is_empty());
}

#[test]
fn raft_replica_that_is_not_whole_neither_votes_nor_campaigns() {
    let mut replica = Replica::new();
    let lacks = Message { term: Term(1), at: at(1, 0), ..message(Kind::Acknowledged, 1) };
    assert!(matches!(replica.message(lacks)[..], [Output::Lacking { last: Index(1) }]));
    replica.pass(600_000);
    let vote = Message { forced: true, ..message(Kind::Vote, 3) };
    assert!(replica.message(vote.clone()).is_empty());
    assert!(replica.message(message(Kind::TimeoutNow, 1)).is_empty());
    (0..100).for_each(|_| assert!(replica.pass(50_000).is_empty()));
    replica.message(append(1));
    replica.sync();
    assert!(!replica.message(Message { term: Term(TERM + 1), at: at(1, TERM), ..vote }).is_empty());
}

#[test]
fn raft_replica_that_is_whole_is_not_asked_for_more_than_it_has_by_a_late_word() {
    let mut replica = Replica::new();
    replica.message(append(2));
    replica.sync();
    let late = Message { at: at(2, 0), ..message(Kind::Acknowledged, 1) };
    assert!(replica.message(late).is_empty());
    assert!(replica.raft.guard.is_whole(Index(2)));
}

#[test]
fn raft_leader_says_again_what_was_acknowledged_until_the_node_has_it() {
    let mut leader = Replica::leader();
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    let words = |out: &[Output]| sent(out).iter().filter(|word| word.kind == Kind::Acknowledged).count();
    let out = leader.greet(3, 0);
    assert_eq!((words(&out), sent(&out)[0].kind), (1, Kind::Acknowledged), "before it gets anything else");
    assert_eq!(words(&leader.pass(10_000)), 0);
    assert_eq!(words(&leader.pass(1_000_000)), 1);
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    assert_eq!((words(&leader.pass(1_000_000)), leader.raft.loss_due()), (0, Instant::MAX));
}

#[test]
fn raft_message_for_another_or_in_anothers_name_is_dropped() {
    let mut replica = Replica::new();
    assert!(replica.message(Message { to: ReplicaId(3), ..append(1) }).is_empty());
    let out =
        replica.step(Input::Message { from: NodeId(3), revision: Revision(1), body: append(1).encode() });
    assert!(out.is_empty(), "sent in another's name");
    assert!(replica.message(message(Kind::Snapshot, 1)).is_empty(), "a snapshot comes with its rows");
}

#[test]
fn raft_leader_that_is_not_known_yet_is_believed_and_answered_where_it_spoke() {
    let mut replica = Replica::new();
    let strange = Message { from: ReplicaId(9), ..append(1) };
    replica.step(Input::Message { from: NodeId(77), revision: Revision(1), body: strange.encode() });
    let out = replica.sync();
    assert!(matches!(out[..], [Output::Send { to: NodeId(77), .. }]), "{out:?}");
    assert_eq!(replica.raft.status().leader, Some(NodeId(77)));
}

#[test]
fn raft_snapshot_is_installed_alone_and_before_what_follows_it() {
    let mut replica = Replica::new();
    let header = |index| Message { at: at(index, TERM), ..message(Kind::Snapshot, 1) }.encode();
    let out = replica.step(Input::SnapshotReceived { header: header(9) });
    assert!(
        matches!(&out[..], [Output::Append { install: true, records, .. }] if records.len() == 4),
        "{out:?}"
    );
    let out = replica.step(Input::SnapshotReceived { header: header(10) });
    assert!(matches!(out[..], [Output::DiscardSnapshot]));
    let entries = vec![LogEntry { index: Index(10), term: Term(TERM), kind: 0, data: Bytes::new() }];
    let out =
        replica.message(Message { at: at(9, TERM), commit: at(10, 0), entries, ..message(Kind::Append, 1) });
    assert!(matches!(&out[..], [Output::Append { install: false, .. }]), "{out:?}");
    let out = replica.sync();
    assert_eq!(sent(&out).iter().map(|message| message.at.index.0).collect::<Vec<_>>(), [9, 10]);
    assert!(matches!(out[..], [.., Output::Apply { at: Position { index: Index(10), .. }, .. }]), "{out:?}");
    let out = replica.step(Input::SnapshotReceived { header: header(9) });
    assert!(out.iter().any(|output| matches!(output, Output::DiscardSnapshot)), "it has that already");
    let out = replica.step(Input::SnapshotReceived { header: Bytes::from_static(b"garbled") });
    assert!(matches!(out[..], [Output::DiscardSnapshot]));
}

#[test]
fn raft_checkpoint_during_an_install_leads_to_the_snapshot() {
    let mut replica = Replica::new();
    replica.message(Message { commit: at(1, 0), ..append(2) });
    replica.sync();
    replica.step(Input::Applied { index: Index(1) });
    let header = Message { at: at(9, TERM), ..message(Kind::Snapshot, 1) }.encode();
    replica.step(Input::SnapshotReceived { header });
    let mut recovery = Recovery::default();
    replica.raft.checkpoint().iter().for_each(|record| recovery.replay(record).unwrap());
    assert_eq!(recovery.finish(kv::Protocol::Raft, members(), at(9, TERM)).unwrap().log.base(), at(9, TERM));
}

#[test]
fn raft_entry_that_changes_members_is_applied_as_nothing_and_ends_the_lease() {
    let mut replica = Replica::new();
    replica.message(Message { commit: at(1, 0), entries: vec![change(1, &[1, 2])], ..append(1) });
    replica.raft.lease.confirm(replica.raft.now);
    let out = replica.sync();
    assert!(out.iter().any(
        |output| matches!(output, Output::Apply { at, entry, .. } if at.index == Index(1) && entry.is_empty())
    ));
    assert!(!replica.raft.lease.is_valid(replica.raft.now));
    assert_eq!(replica.raft.view().members.len(), 3, "it might forget that, and says nothing of it");
    replica.sync();
    assert_eq!(replica.raft.view().members.len(), 2);
}

#[test]
fn raft_members_that_are_named_again_change_nothing() {
    let mut replica = Replica::new();
    let entries = vec![change(1, &[1, 2]), change(2, &[1, 2])];
    replica.message(Message { commit: at(2, 0), entries, ..append(1) });
    replica.sync();
    replica.sync();
    assert_eq!((replica.raft.view().revision, replica.raft.view().members.len()), (Revision(2), 2));
}

#[test]
fn raft_lone_replica_whose_log_lost_entries_is_refused() {
    let alone = View::of(kv::Epoch(1), &[NodeId(2)]);
    let begin = |view: &View| {
        let config = Config::new(NodeId(2), view.clone(), 7);
        Raft::new(config, Recovery::default(), at(3, 1)).err()
    };
    assert_eq!(begin(&alone), Some(Unfit::Lost { applied: Index(3), last: Index(0) }));
    assert_eq!(begin(&members()), None, "the others have them");
}

#[test]
fn raft_paused_replica_does_not_find_its_timeout_over() {
    let mut replica = Replica::new();
    replica.message(append(1));
    replica.sync();
    assert!(replica.pass(60_000_000).is_empty());
    let mut ticks = 1;
    while replica.pass(50_000).is_empty() {
        ticks += 1;
    }
    assert!((9..19).contains(&ticks), "{ticks}");
}

#[test]
fn raft_reads_and_writes_of_a_lost_leadership_are_refused_or_wait() {
    let mut leader = Replica::leader();
    (1..=4).for_each(|token| {
        drop(leader.step(Input::Propose { ops: vec![(token, Bytes::from_static(b"op"))] }))
    });
    let out = leader.message(Message { term: Term(TERM + 1), ..message(Kind::Heartbeat, 1) });
    let refused: Vec<Token> = out
        .iter()
        .filter_map(|output| match output {
            Output::Refuse { token, error } if error.outcome() == kv::Outcome::Failed => Some(*token),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [3, 4], "what was appended may still happen, what was not never will");
}

#[test]
fn raft_late_confirmation_of_a_round_does_not_count_for_its_next_issue() {
    let mut leader = Replica::leader();
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    leader.sync();
    leader.step(Input::Applied { index: Index(1) });
    let ask = |leader: &mut Replica| {
        let round = Bytes::from_static(b"a round of node 1");
        let out = leader.message(Message { term: Term::ZERO, round, ..message(Kind::ReadIndex, 1) });
        sent(&out)[0].round.clone()
    };
    let confirm = |leader: &mut Replica, from, round: &Bytes| {
        let out = leader.message(Message { round: round.clone(), ..message(Kind::HeartbeatResponse, from) });
        let told = sent(&out).into_iter().find(|message| message.kind == Kind::ReadIndexResponse);
        (out.iter().any(|output| matches!(output, Output::Fetch { .. })), told.map(|message| message.round))
    };

    let first = ask(&mut leader);
    let (_, told) = confirm(&mut leader, 1, &first);
    assert_eq!(told.as_deref(), Some(&b"a round of node 1"[..]));
    // The answer is lost. Meanwhile the leader, which nobody hears any more, begins a round of its own.
    leader.step(Input::Read { token: 9, scope: kv::Scope::Shard, level: Level::Linearizable });
    let second = ask(&mut leader);
    assert_eq!(confirm(&mut leader, 3, &first), (false, None), "node 3 said that before the read was asked");
    assert!(confirm(&mut leader, 3, &second).0);
}

#[test]
fn raft_rounds_of_two_lives_have_different_names() {
    let (one, mut other) = (Replica::new(), Replica::new());
    other.raft.life = None;
    other.pass(1);
    assert_ne!(one.raft.round_name(1), other.raft.round_name(1));
}

#[test]
fn raft_leader_says_how_far_each_member_is() {
    let mut leader = Replica::leader();
    leader.message(Message { at: at(1, 0), ..message(Kind::AppendResponse, 3) });
    let members = leader.raft.status().members;
    let far = members.iter().map(|member| (member.node.0, member.matched.0, member.duty, member.snapshot));
    let voter = crate::Duty::Voter;
    assert_eq!(far.collect::<Vec<_>>(), [(1, 0, voter, false), (2, 1, voter, false), (3, 1, voter, false)]);
    assert!(Replica::new().raft.status().members.is_empty(), "who does not lead does not know");
}

#[test]
fn raft_vote_of_who_is_no_member_does_not_count() {
    let mut replica = Replica::new();
    replica.message(Message { term: Term(TERM - 1), ..message(Kind::Heartbeat, 1) });
    replica.sync();
    while replica.raft.status().role != Role::Candidate {
        replica.pass(50_000);
    }
    let asks = |out: &[Output]| sent(out).iter().any(|message| message.kind == Kind::Vote);
    let stranger = message(Kind::PreVoteResponse, 9).encode();
    replica.step(Input::Message { from: NodeId(77), revision: Revision(1), body: stranger });
    assert!(!asks(&replica.sync()));
    replica.message(message(Kind::PreVoteResponse, 1));
    assert!(asks(&replica.sync()));
}
