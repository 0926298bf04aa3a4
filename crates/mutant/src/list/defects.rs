//! The mutants. Each tells the defect, where it comes from, and what should catch it (the invariants are those of `sim`'s
//! `watch`; "the history" is the judge of linearizability at the end of a run).

/// A named defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log calls a batch durable when it is written, without its sync (`wal`). Pillai et al., "All File Systems Are Not
    /// Created Equal" (2014). Caught by: what is durable survives.
    AcknowledgeBeforeSync,
    /// A leader counts its own copy before its sync (`replication`). Ongaro, "Consensus" (2014), §10.2.1 allows the parallel
    /// write, not the count. Caught by: durable before visible.
    LeaderCountsUnsynced,
    /// A follower acknowledges entries before their sync (`replication`). Raft §5.3, figure 2: stable storage before
    /// responding. Caught by: durable before visible.
    FollowerAcknowledgesUnsynced,
    /// Votes, and terms with them, leave before the sync that keeps them (`replication`). Raft §5.2, figure 2. Caught by:
    /// durable before visible.
    VoteBeforeSync,
    /// A restarted replica votes at once, although it may have confirmed a leader's lease just before (`replication`'s
    /// guard). Ongaro, "Consensus", §6.4.1. Caught by: confirmed leases are kept.
    VotesAfterRestart,
    /// The lease is looked at before the rows are read, and not again when the answer leaves (`replication`'s reads).
    /// Caught by: linearizable reads are proven.
    LeaseNotRechecked,
    /// Once it has a lease, a leader reads under it until it is deposed, whatever the clock says (`replication`'s lease).
    /// Caught by: linearizable reads are proven; the history.
    LeaseNeverEnds,
    /// Missed ticks are made up after a pause (`replication`'s ticker), so all timeouts are over at once. Caught by: ticks
    /// keep to the clock.
    MissedTicksMadeUp,
    /// `applied` is written now and then only, not with the data of its entry (`storage`). Caught by: applying is
    /// deterministic; equal copies.
    AppliedOutsideBatch,
    /// A request that was run before is run again (`storage`'s sessions). Ongaro, "Consensus", §6.3. Caught by: versions
    /// are unique; the history.
    RetryAppliedTwice,
    /// A session goes when its first request is out of date, although a later one prolonged it (`storage`'s sessions).
    /// Ongaro, "Consensus", §6.3. Caught by: the history.
    SessionForgottenWhileValid,
    /// At recovery a bad batch counts as the torn end of the log although sound ones lie behind it (`wal`). Alagappan et al.,
    /// "Protocol-Aware Recovery for Consensus-Based Storage" (2018). Caught by: what is durable survives.
    LogTailTruncated,
    /// At recovery entries beyond the known commit are dropped, as if nobody had counted on them (`replication`'s
    /// recovery). Raft §5.4. Caught by: what is durable survives.
    UncommittedTailDropped,
    /// A snapshot leaves the sessions out (`storage`). Ongaro, "Consensus", §6.3: they are part of the state. Caught by:
    /// equal copies.
    SnapshotWithoutSessions,
    /// A received snapshot is switched to before its rows are flushed (`node`'s install). Caught by: what is durable
    /// survives.
    GenerationSwitchedBeforeFlush,
    /// A node with another data folder is let in under its old name (`node`'s identity). Caught by: who lost its folder votes
    /// when it is whole; a node that is not whole at rest.
    IncarnationNotChecked,
    /// The checksum of a batch's payload is not looked at (`wal`). Caught by: a node that cannot start; log matching.
    TornRecordAccepted,
    /// A version is the proposer's clock, not moved past the shard's newest (`storage`). Kulkarni et al., "Logical Physical
    /// Clocks" (2014). Caught by: applying is deterministic (versions rise); versions are unique.
    VersionFromClockAlone,
    /// A leader answers a question of ReadIndex without asking a majority (`replication`: the raft crate's
    /// `ReadOnlyOption::LeaseBased`). Ongaro, "Consensus", §6.4. Caught by: linearizable reads are proven.
    ReadIndexWithoutQuorum,
    /// A write that was handed on and not answered is told as failed (`node`'s open requests). Caught by: the history.
    InDoubtToldAsFailed,
    /// What an abandoned snapshot left under a generation is not removed before the next one comes (`storage`). Caught by:
    /// equal copies.
    SnapshotOverLeftovers,
    /// A leader commits entries of earlier terms by counting copies (`replication`). Raft §5.4.2, figure 8. Caught by: a
    /// leader commits entries of its own term.
    EarlierTermCommittedByCounting,
    /// A checkpoint gives old segments away before the table is flushed (`node`). Caught by: what is durable survives; a
    /// table behind its log.
    CheckpointWithoutFlush,
    /// A flush goes to the engine in two parts, and the power may go between them (`storage`'s fresh rows). Caught by: applying is
    /// deterministic; equal copies.
    FlushNotOneCut,
    /// The cut of a flush goes through the middle of an entry: the rows it wrote first are in one table file, the rest is left to
    /// the next one (`storage`'s table). Caught by: applying is deterministic; equal copies.
    EntrySplitOverTwoTables,
    /// A flush leaves the remembered requests out (`storage`). Caught by: equal copies; the history.
    SessionLostAtFlush,
    /// What is to be flushed is let go of when the flush begins, not when the engine has it (`storage`'s fresh rows). Caught
    /// by: the history; equal copies.
    MemoryDroppedBeforeSync,
    /// What a killed process wrote and did not sync is believed after the restart without a sync (`wal`). Caught by: what
    /// is durable survives.
    RecoveredTailUnsynced,
    /// A leader asks for the same round of reads twice under one name, so that late answers to the first count for the second
    /// (`replication`: the raft crate merges them only while the first is open). Caught by: linearizable reads are proven.
    RoundIssuesMixedUp,
    /// A leader that told another to campaign keeps its lease (`replication`'s lease). Ongaro, "Consensus", §6.4.1 with
    /// §3.10. Caught by: linearizable reads are proven.
    LeaseKeptOnTransfer,
    /// Sessions that are out of date are not forgotten (`storage`'s sessions): after enough clients that came once, a shard
    /// takes no more writes. Caught by: a shard that takes no writes at rest.
    SessionsNeverFreed,
    /// The sweep passes over all rows that were removed before (`storage`'s expiry), which costs more the more there were.
    /// Caught by: an entry costs what it does.
    ExpirySweepsFromTheStart,
    /// Reads that a lease or a round proves show what has expired by the reader's clock (`node`'s reads). Caught by: what has
    /// expired is not shown.
    WeakReadShowsExpired,
    /// A value that is written over leaves the row of its deadline in the expiry index (`storage`). Caught by: expiry is as
    /// it must be; a sweep that finds the row and no such deadline.
    ExpiryRowKept,
    /// A sweep leaves the last second that has passed to a later one, although it has room (`storage`'s expiry). Caught by:
    /// expiry is as it must be.
    ExpirySweepEndsEarly,
    /// A sweep that could not remove all that is overdue has the next one begin behind it (`storage`'s expiry). Caught by:
    /// expiry is as it must be; a shard that holds what has run out.
    ExpirySweepSkipsRows,
    /// The table switches to a received snapshot as soon as the record of the switch is handed to the log, not when it is
    /// durable (`node`). Caught by: a generation is loaded when its switch is durable.
    GenerationLoadedBeforeSwitch,
    /// A page that is full tells the row that it has no room for as the one to go on behind (`storage`'s ranges). Caught by: what is
    /// answered is what was there (a page goes on where it ends).
    PageLosesItsBoundary,
    /// The pages of a backward range are merged as if they ran forward (`node`'s routing). Caught by: what shards answered together
    /// is what was there.
    BackwardMergedAsForward,
    /// The count of a range over shards is the first one's (`node`'s routing). Caught by: what shards answered together is what was
    /// there.
    CountOfOneShard,
    /// A delete-range or trim over shards goes on where the shard that came farthest stopped (`node`'s routing), so the others'
    /// rest is left out. Caught by: a write is answered with what it did.
    StepGoesOnTooFar,
    /// A step of a delete-range leaves the last of its keys, and counts it (`storage`). Caught by: what is answered is what was
    /// there; what is done is what was asked; the history.
    DeleteRangeLeavesTheLast,
    /// A trim forgets the newest revision at its version too (`storage`). Caught by: what is done is what was asked; what is kept is
    /// not trimmed.
    TrimTakesOneTooMany,
    /// A page of a history that is full tells the revision that it has no room for as the one to go on below (`storage`). Caught
    /// by: what is answered is what was there (a page goes on where it ends).
    HistoryPageLosesARevision,
    /// An expire stores the value without its new deadline (`storage`). Caught by: what is answered is what was there; the history.
    ExpireSetsNoDeadline,
    /// An append stores the longer value without the deadline that it had (`storage`). Caught by: what is answered is what was
    /// there; the history.
    AppendLosesTheDeadline,
    /// A write's receipt tells one copy more than the leader knows of (`node`'s receipts). Caught by: receipts keep what they say
    /// (copies).
    CopiesOverstated,
    /// A bounded read is answered by a round however old that is (`replication`'s reads). Caught by: receipts keep what they say
    /// (staleness).
    BoundIgnored,
    /// A request that was run before is answered in doubt although its answer is kept (`storage`'s sessions). Caught by: whoever
    /// sends a write again after the last fault is served.
    RetryAnsweredInDoubt,
    /// After a sync that failed, the owner of the log calls durable what it was to make so (`node`'s log). Rebello et al., "Can
    /// Applications Recover from fsync Failures?" (2020). Caught by: nothing is durable after a failed sync.
    FailedSyncAcknowledged,
    /// A checkpoint that is complete gives away what lies before the log's head, not what lies before its own beginning (`node`'s
    /// log). Caught by: what is durable survives; a table behind its log.
    ReleasePastCheckpoint,
    /// A checkpoint that failed gives the segments before it away all the same (`node`'s log). Caught by: what is durable
    /// survives; a table behind its log.
    FailedCheckpointReleased,
    /// The log gives old segments away when the first core's part of a checkpoint is complete (`node`'s log). Caught by: what is
    /// durable survives; a table behind its log.
    CheckpointOfOneCore,
    /// A checkpoint that did not find room is not forgotten when a later one succeeds, so writes are refused for good (`node`'s
    /// log). Caught by: a disk that counts as full at rest.
    FullDiskNeverPasses,
    /// A node that learns which cluster it is of acts on it before that is on its disk (`node`'s identity). Caught by: frames
    /// flow where both ends have written the same cluster.
    ClusterBeforeItsWrite,
    /// A write that another node had is served elsewhere, when no answer came, as if nobody could have run it (`node`'s
    /// requests). Caught by: the history.
    ReroutedWriteNotInDoubt,
    /// A message of an earlier epoch is dropped in silence (`node`'s fence), so its sender never learns that it has missed a
    /// change. Caught by: who is behind is told.
    EpochDroppedInSilence,
    /// A leader that sleeps reads under its lease, as if nobody could lead while nobody looks at the clock (`replication`'s lease).
    /// Caught by: linearizable reads are proven; `replication`'s groups that sleep.
    SleepingLeaderKeepsLease,
    /// After a restart the members are those of the newest entry that is in the log, agreed on or not, not those as of what the
    /// table has applied (`replication`'s recovery). Caught by: log matching; `replication`'s random changes of members.
    MembersNotAsOfApplied,
    /// New members count and old ones do not from one entry on, with nothing in between (`replication`'s members). Ongaro,
    /// "Consensus", §4.3. Caught by: no shard is without an owner for long; `replication`'s random changes of members.
    MembersChangeAtOnce,
    /// A node whose folder was restored from an old copy, or copied, is let in (`node`'s identity). Caught by: who lost its folder
    /// votes when it is whole; a node that is not whole at rest.
    OldFolderLetIn,
    /// A replica that elects itself alone speaks in its new term before term and vote are synced (`replication`). Ongaro,
    /// "Consensus", §4.2.1: learners hear of a leader that needs none of them. Caught by: durable before visible.
    LoneLeaderSpeaksUnsynced,
    /// The directory writes the next map whatever the rows are by then (`node`'s directory). Caught by: one map a revision.
    MapWrittenBlindly,
    /// Members change over while those that are to come still learn (`node`'s wishes for a shard). Caught by: a change that is given
    /// up and has come about, at rest.
    SwitchesWhileItCopies,
    /// Who a shard is handed over to begins the next epoch when it has caught up, sealed or not (`node`'s hand-over). Caught by: one
    /// owner an epoch.
    HeirOpensUnsealed,
    /// An owner that is sealed goes on answering reads, even when it has heard of the next epoch (`replication`'s `single`, `node`'s
    /// fence). Caught by: linearizable answers have what was acknowledged; epochs rise.
    SealedOwnerServes,
    /// The plan counts replicas that are on their way where they come from (`node`'s directory). Caught by: no change moves more
    /// than it must.
    PlanForgetsWhatMoves,
    /// A watch that was served by a node which went away begins at the end of the next one's feed, not where it was (`node`'s
    /// pulls). Caught by: watches are given every change.
    WatchSkipsAtALeaderChange,
    /// A watch whose replica is dropped goes on elsewhere from a little before where it was (`node`'s pulls). Caught by: watches
    /// are given every change once.
    WatchDoublesAfterAMove,
    /// A watch of several shards says that it is as far as the furthest of them (`node`'s watches). Caught by: the progress of
    /// watches is true.
    WatchProgressOvertakes,
    /// A keyspace that is created gets the ids of shards that were dropped (`placement`). Caught by: a shard's id is given once;
    /// a read shows what was never written.
    ShardIdGivenAgain,
    /// What a copy holds is counted once more when it comes in as a snapshot (`storage`). Caught by: equal copies; the audit of
    /// what a shard holds.
    UsageCountedTwice,
    /// A leader that has the end of its epoch in its log orders what it is proposed, and acknowledges it (`replication`'s seal).
    /// Caught by: the history.
    SealedLeaderAcknowledges,
    /// The last slot of each part but the last goes to no part of a shard that is split (`storage`'s split). Caught by: the history.
    SplitLosesBoundarySlot,
    /// The requests that a shard remembers do not go to its parts (`storage`'s split). Caught by: the history.
    SplitWithoutSessions,
    /// What was written to a shard since its parts had a copy is looked at by no later pass (`storage`'s split). Caught by: the history.
    SplitWithoutChanges,
    /// A node that joins is told in which lives the others were met last, and does not take it for known (`node`'s identity). Caught
    /// by: only former members and who lost its folder are refused.
    NewcomerKnowsNoLives,
    /// A copy that comes in as a snapshot goes by the rules of the founding, not by its shard's (`storage`). Caught by: applying is
    /// deterministic; equal copies.
    RulesLostByASnapshot,
    /// A time to live that a keyspace is given takes values that were stored before it (`storage`). Caught by: what is answered
    /// is what was there.
    TtlTakesOldValues,
    /// A keyspace is created under the name of one that was dropped while nodes that have not heard of that may serve it (`placement`).
    /// Caught by: a keyspace shows what was written in it.
    NameFreeAtOnce,
    /// A two-phase master acknowledges what is decided before its decision is synced (`replication`'s two-phase). Caught by: what is
    /// applied is decided for good; the history.
    DecisionBeforeDurable,
    /// A replica of a two-phase shard that is restarted has lost what it had prepared (`replication`'s two-phase). Caught by: what is
    /// decided is in every log; the history.
    PreparedForgottenAtRestart,
    /// A two-phase master counts a vote for what another life of it had prepared (`replication`'s two-phase). Caught by: what is
    /// decided is in every log; the history.
    VoteOfAnotherLifeCounted,
    /// A two-phase participant reads keys that are prepared and not decided (`replication`'s two-phase). Caught by: the history.
    PreparedDoesNotBlockReads,
    /// A primary acknowledges what one other member has, whoever else is in sync (`replication`'s primary). Lin et al., "PacificA"
    /// (2008), §2.3: prepared on all of the configuration. Caught by: what is acknowledged is in each log in sync.
    AcknowledgedOutsideTheInSyncSet,
    /// The directory makes a member the primary that is not in sync (`placement`). PacificA, §2.4: a new primary is of the
    /// configuration. Caught by: what is acknowledged is in each log in sync; the history.
    PromotedReplicaBehind,
    /// Who holds a lease counts it from when the answer came (`replication`'s lease). Gray and Cheriton, "Leases" (1989), §2: the term
    /// is shortened by the time that it takes to come. Caught by: linearizable reads are proven; the history.
    LeaseCountedFromReceipt,
    /// A primary that restarts orders on under the revision that it had (`replication`'s primary). Caught by: one entry is of a place
    /// and a term; what is durable survives.
    RoleKeptOverARestart,
    /// The directory takes a change of members whatever revision and which life of a node it was asked by (`placement`). PacificA,
    /// §2.4: the version of the configuration. Caught by: one primary a revision; the history.
    CompareAndSetWithoutIncarnation,
    /// A participant that starts reads before it has heard of its master (`replication`'s two-phase). A copy of a folder knows nothing of
    /// what came later (Gray and Cheriton, "Leases" (1989), §2: who serves reads alone has somebody's word for it). Caught by: the
    /// history.
    ParticipantReadsUnmet,
    /// A master decides the seal without the votes of participants (`replication`'s two-phase). Gray and Lamport, "Consensus on
    /// Transaction Commit" (2006), §2. Caught by: what is decided is on all copies.
    SealDecidedWithoutAVote,
    /// A part of a shard begins with no newest version (`storage`'s split). Caught by: versions rise; the history.
    BaseNotRaised,
    /// A shard without an order goes on with whoever is heard of, whatever they weigh (`placement`'s recast). Gifford, "Weighted Voting for
    /// Replicated Data" (1979), §3: what is read must weigh so much that it meets every write. Caught by: the history.
    SealedWeightTooSmall,
    /// Parts open with the shard as it is, though it orders more (`node`'s split). Caught by: the history; receipts.
    PartOpensBeforeTheSeal,
    /// A write that may have been run counts as never sent once it is planned again (`node`'s split). Caught by: the history.
    DoubtForgottenWhenPlannedAgain,
    /// A read is answered though those that have what it shows do not weigh enough (`replication`'s quorum, as all to the end). Attiya,
    /// Bar-Noy, Dolev (1995): a reader writes back. Caught by: what is acknowledged weighs enough; the history.
    ReadWithoutWriteBack,
    /// Most members are enough, whatever they weigh. Gifford (1979): votes are weighted. Caught by: what is acknowledged weighs enough.
    WeightsCountedAsNodes,
    /// An answer that comes a second time counts for a member that has not answered. Caught by: what is acknowledged weighs enough.
    AcknowledgementCountedTwice,
    /// A tombstone goes before all members have it. Caught by: a tombstone goes when all have it.
    TombstoneDroppedEarly,
    /// What waits for a member stays when tombstones go. Caught by: what was deleted stays so.
    HintOutlivesTombstone,
    /// What is late from a round that is over is taken in. Caught by: what was deleted stays so.
    ClosedRoundStores,
    /// Who has let tombstones go does not say up to which version. Caught by: nothing goes back behind an answer; what was deleted stays so.
    FloorNotTold,
    /// A member that was started again forgets up to where it has issued versions. Caught by: versions are issued once.
    VersionsIssuedAgain,
    /// Rows are merged, and acknowledged, before they are synced. Caught by: what is acknowledged weighs enough.
    MergedBeforeDurable,
    /// A value that has run out is deleted as of now, above what was put meanwhile. Caught by: members issue versions; the history.
    ExpiryAsNewerVersion,
    /// A write that has failed is stored all the same. Caught by: what has failed is nowhere.
    FailedWriteStored,
    /// A write without an order that may have been run runs again at a node that knows nothing of that (`node`). Caught by: a request
    /// is run once; the history.
    RetryElsewhereRunAgain,
    /// Two members issue versions as the same one (`replication`'s broadcast, as all to the end). Caught by: versions are issued once.
    VersionsOfOneIssuer,
    /// Rows that do not fit behind those that are here count as if they did. Caught by: copies are equal at rest.
    GapIgnored,
    /// Nobody says what it has: a last publication that is lost is never missed. Caught by: copies are equal at rest.
    LastMessageMissed,
    /// Rows are published before they are synced. Caught by: what members merge was made durably.
    PublishedBeforeDurable,
    /// A member answers before it has what it missed. Caught by: what is read is at least what was acknowledged before it was started.
    LateJoinerAnswersEarly,
}
