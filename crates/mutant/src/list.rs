//! The mutants by their names.

mod defects;

use std::fmt;
use std::str::FromStr;

pub use self::defects::Mutant;

/// By the order of the enum: its name in commands, and the defect in a few words.
const ALL: [(Mutant, &str, &str); 112] = [
    (Mutant::AcknowledgeBeforeSync, "acknowledge-before-sync", "the log calls durable what is only written"),
    (Mutant::LeaderCountsUnsynced, "leader-counts-unsynced", "a leader counts its own copy before its sync"),
    (
        Mutant::FollowerAcknowledgesUnsynced,
        "follower-acknowledges-unsynced",
        "a follower acknowledges before its sync",
    ),
    (Mutant::VoteBeforeSync, "vote-before-sync", "a vote or a term leaves before its sync"),
    (Mutant::VotesAfterRestart, "votes-after-restart", "a restarted replica votes under a lease"),
    (Mutant::LeaseNotRechecked, "lease-not-rechecked", "the lease is not checked again after the read"),
    (Mutant::LeaseNeverEnds, "lease-never-ends", "a lease counts until its leader is deposed"),
    (Mutant::MissedTicksMadeUp, "missed-ticks-made-up", "missed ticks are made up after a pause"),
    (Mutant::AppliedOutsideBatch, "applied-outside-batch", "applied is written apart from its data"),
    (Mutant::RetryAppliedTwice, "retry-applied-twice", "a request that is sent again runs again"),
    (
        Mutant::SessionForgottenWhileValid,
        "session-forgotten-while-valid",
        "a session goes with its first request",
    ),
    (Mutant::LogTailTruncated, "log-tail-truncated", "sound batches behind a bad one are cut"),
    (
        Mutant::UncommittedTailDropped,
        "uncommitted-tail-dropped",
        "a start drops what it does not know agreed on",
    ),
    (Mutant::SnapshotWithoutSessions, "snapshot-without-sessions", "a snapshot leaves the sessions out"),
    (
        Mutant::GenerationSwitchedBeforeFlush,
        "generation-switched-before-flush",
        "a snapshot is used before its flush",
    ),
    (
        Mutant::IncarnationNotChecked,
        "incarnation-not-checked",
        "another data folder comes in under a known name",
    ),
    (Mutant::TornRecordAccepted, "torn-record-accepted", "a payload's checksum is not looked at"),
    (Mutant::VersionFromClockAlone, "version-from-clock-alone", "a version is the proposer's clock alone"),
    (Mutant::ReadIndexWithoutQuorum, "read-index-without-quorum", "a round of reads asks no majority"),
    (
        Mutant::InDoubtToldAsFailed,
        "in-doubt-told-as-failed",
        "a write that may have happened is told as failed",
    ),
    (
        Mutant::SnapshotOverLeftovers,
        "snapshot-over-leftovers",
        "a snapshot comes over the rows of the last one",
    ),
    (
        Mutant::EarlierTermCommittedByCounting,
        "earlier-term-committed-by-counting",
        "an earlier term's entry is counted",
    ),
    (Mutant::CheckpointWithoutFlush, "checkpoint-without-flush", "segments go before the table is flushed"),
    (Mutant::FlushNotOneCut, "flush-not-one-cut", "half of a flush is on the disk before the rest"),
    (
        Mutant::EntrySplitOverTwoTables,
        "entry-split-over-two-tables",
        "a flush takes the first half of an entry's rows",
    ),
    (Mutant::SessionLostAtFlush, "session-lost-at-flush", "a flush leaves the remembered requests out"),
    (
        Mutant::MemoryDroppedBeforeSync,
        "memory-dropped-before-sync",
        "what is flushed is let go of before the engine has it",
    ),
    (Mutant::RecoveredTailUnsynced, "recovered-tail-unsynced", "what is found at a start is not synced"),
    (
        Mutant::RoundIssuesMixedUp,
        "round-issues-mixed-up",
        "late answers to a round count for the next of its name",
    ),
    (Mutant::LeaseKeptOnTransfer, "lease-kept-on-transfer", "who hands its leadership over keeps the lease"),
    (Mutant::SessionsNeverFreed, "sessions-never-freed", "sessions out of date are not forgotten"),
    (
        Mutant::ExpirySweepsFromTheStart,
        "expiry-sweeps-from-the-start",
        "a sweep passes over all that was removed",
    ),
    (Mutant::WeakReadShowsExpired, "weak-read-shows-expired", "a weak read shows what has expired"),
    (Mutant::ExpiryRowKept, "expiry-row-kept", "a deadline that is no more stays in the index"),
    (
        Mutant::ExpirySweepEndsEarly,
        "expiry-sweep-ends-early",
        "a sweep leaves the last second that has passed",
    ),
    (
        Mutant::ExpirySweepSkipsRows,
        "expiry-sweep-skips-rows",
        "a sweep passes over rows that it has not removed",
    ),
    (
        Mutant::GenerationLoadedBeforeSwitch,
        "generation-loaded-before-switch",
        "a snapshot is used before its switch is durable",
    ),
    (
        Mutant::PageLosesItsBoundary,
        "page-loses-its-boundary",
        "the row at which a page is full is on no page",
    ),
    (
        Mutant::BackwardMergedAsForward,
        "backward-merged-as-forward",
        "a backward range's pages are merged forward",
    ),
    (Mutant::CountOfOneShard, "count-of-one-shard", "of the shards' counts the first is told"),
    (Mutant::StepGoesOnTooFar, "step-goes-on-too-far", "a delete-range goes on where the last shard stopped"),
    (Mutant::DeleteRangeLeavesTheLast, "delete-range-leaves-the-last", "a delete-range leaves its last key"),
    (
        Mutant::TrimTakesOneTooMany,
        "trim-takes-one-too-many",
        "a trim forgets the revision that it has to keep",
    ),
    (
        Mutant::HistoryPageLosesARevision,
        "history-page-loses-a-revision",
        "the revision at which a page is full is on no page",
    ),
    (Mutant::ExpireSetsNoDeadline, "expire-sets-no-deadline", "an expire takes the deadline away"),
    (Mutant::AppendLosesTheDeadline, "append-loses-the-deadline", "an append takes the deadline away"),
    (Mutant::CopiesOverstated, "copies-overstated", "a receipt tells a copy more than is synced"),
    (Mutant::BoundIgnored, "bound-ignored", "a bounded read is answered beyond its bound"),
    (
        Mutant::RetryAnsweredInDoubt,
        "retry-answered-in-doubt",
        "a request sent again is in doubt, though its answer is kept",
    ),
    (Mutant::FailedSyncAcknowledged, "failed-sync-acknowledged", "a failed sync makes durable all the same"),
    (
        Mutant::ReleasePastCheckpoint,
        "release-past-checkpoint",
        "a checkpoint gives away what came after it began",
    ),
    (
        Mutant::FailedCheckpointReleased,
        "failed-checkpoint-released",
        "a failed checkpoint gives segments away",
    ),
    (
        Mutant::CheckpointOfOneCore,
        "checkpoint-of-one-core",
        "segments go when one core of several has flushed",
    ),
    (Mutant::FullDiskNeverPasses, "full-disk-never-passes", "a full disk counts as full for good"),
    (Mutant::ClusterBeforeItsWrite, "cluster-before-its-write", "a cluster is acted on before it is on disk"),
    (
        Mutant::ReroutedWriteNotInDoubt,
        "rerouted-write-not-in-doubt",
        "a write that another node had is tried as if new",
    ),
    (
        Mutant::EpochDroppedInSilence,
        "epoch-dropped-in-silence",
        "a message of an earlier epoch is not answered",
    ),
    (
        Mutant::SleepingLeaderKeepsLease,
        "sleeping-leader-keeps-lease",
        "a leader that sleeps reads under its lease",
    ),
    (
        Mutant::MembersNotAsOfApplied,
        "members-not-as-of-applied",
        "a start counts members that nobody may have agreed on",
    ),
    (
        Mutant::MembersChangeAtOnce,
        "members-change-at-once",
        "members change without a time in which both sets count",
    ),
    (Mutant::OldFolderLetIn, "old-folder-let-in", "a node with an old copy of its folder is let in"),
    (
        Mutant::LoneLeaderSpeaksUnsynced,
        "lone-leader-speaks-unsynced",
        "who elects itself alone speaks before its vote is synced",
    ),
    (Mutant::MapWrittenBlindly, "map-written-blindly", "the map is written whatever the rows are by then"),
    (
        Mutant::SwitchesWhileItCopies,
        "switches-while-it-copies",
        "members change over before the map lets them",
    ),
    (Mutant::HeirOpensUnsealed, "heir-opens-unsealed", "who inherits a shard opens it before it is sealed"),
    (Mutant::SealedOwnerServes, "sealed-owner-serves", "who has handed a shard over goes on answering reads"),
    (
        Mutant::PlanForgetsWhatMoves,
        "plan-forgets-what-moves",
        "the plan counts what is on its way where it was",
    ),
    (
        Mutant::WatchSkipsAtALeaderChange,
        "watch-skips-at-a-leader-change",
        "a watch goes on at another node's end, not where it was",
    ),
    (
        Mutant::WatchDoublesAfterAMove,
        "watch-doubles-after-a-move",
        "a watch whose replica is dropped goes back a little",
    ),
    (
        Mutant::WatchProgressOvertakes,
        "watch-progress-overtakes",
        "the progress of a watch is that of the furthest shard",
    ),
    (
        Mutant::ShardIdGivenAgain,
        "shard-id-given-again",
        "a new keyspace gets the ids of shards that were dropped",
    ),
    (
        Mutant::UsageCountedTwice,
        "usage-counted-twice",
        "what a copy holds is counted once more after a snapshot",
    ),
    (
        Mutant::SealedLeaderAcknowledges,
        "sealed-leader-acknowledges",
        "a leader orders and acknowledges behind the end of its epoch",
    ),
    (
        Mutant::SplitLosesBoundarySlot,
        "split-loses-boundary-slot",
        "the last slot of a part goes to nobody when a shard is split",
    ),
    (
        Mutant::SplitWithoutSessions,
        "split-without-sessions",
        "remembered requests do not go to the parts of a shard",
    ),
    (
        Mutant::SplitWithoutChanges,
        "split-without-changes",
        "what was written while a shard was cut does not go to its parts",
    ),
    (
        Mutant::NewcomerKnowsNoLives,
        "newcomer-knows-no-lives",
        "a node that joins begins without what those who let it in know of folders",
    ),
    (
        Mutant::RulesLostByASnapshot,
        "rules-lost-by-a-snapshot",
        "a copy that comes in as a snapshot goes by other rules than its shard",
    ),
    (
        Mutant::TtlTakesOldValues,
        "ttl-takes-old-values",
        "a time to live takes values that were stored before it was set",
    ),
    (
        Mutant::NameFreeAtOnce,
        "name-free-at-once",
        "a name is given again while nodes may serve the keyspace that had it",
    ),
    (
        Mutant::DecisionBeforeDurable,
        "decision-before-durable",
        "a two-phase master acknowledges before its decision is synced",
    ),
    (
        Mutant::PreparedForgottenAtRestart,
        "prepared-forgotten-at-restart",
        "a two-phase replica that is restarted has lost what it had prepared",
    ),
    (
        Mutant::VoteOfAnotherLifeCounted,
        "vote-of-another-life-counted",
        "a two-phase master counts votes for what an earlier life prepared",
    ),
    (
        Mutant::PreparedDoesNotBlockReads,
        "prepared-does-not-block-reads",
        "a two-phase participant reads past what is prepared",
    ),
    (
        Mutant::AcknowledgedOutsideTheInSyncSet,
        "acknowledged-outside-the-in-sync-set",
        "a primary acknowledges what not all have that are in sync",
    ),
    (
        Mutant::PromotedReplicaBehind,
        "promoted-replica-behind",
        "the directory takes a primary that is not in sync",
    ),
    (
        Mutant::LeaseCountedFromReceipt,
        "lease-counted-from-receipt",
        "a lease is held from when it came, not from when it was asked for",
    ),
    (
        Mutant::RoleKeptOverARestart,
        "role-kept-over-a-restart",
        "a primary that restarts goes on under the revision of before",
    ),
    (
        Mutant::CompareAndSetWithoutIncarnation,
        "compare-and-set-without-incarnation",
        "the directory takes a change whatever revision it was asked for in",
    ),
    (
        Mutant::ParticipantReadsUnmet,
        "participant-reads-unmet",
        "a participant that starts reads before it has heard of its master",
    ),
    (
        Mutant::SealDecidedWithoutAVote,
        "seal-decided-without-a-vote",
        "a two-phase master decides the end of an epoch without the votes",
    ),
    (Mutant::BaseNotRaised, "base-not-raised", "a part of a shard begins with no newest version"),
    (
        Mutant::SealedWeightTooSmall,
        "sealed-weight-too-small",
        "a shard without an order goes on with too few of those that had it",
    ),
    (
        Mutant::PartOpensBeforeTheSeal,
        "part-opens-before-the-seal",
        "parts of a shard open while it orders more",
    ),
    (
        Mutant::DoubtForgottenWhenPlannedAgain,
        "doubt-forgotten-when-planned-again",
        "a write that is planned again counts as never sent",
    ),
    (Mutant::ReadWithoutWriteBack, "read-without-write-back", "a read shows what later readers may miss"),
    (Mutant::WeightsCountedAsNodes, "weights-counted-as-nodes", "members count as if all weighed the same"),
    (
        Mutant::AcknowledgementCountedTwice,
        "acknowledgement-counted-twice",
        "an answer that comes again counts for another member",
    ),
    (Mutant::TombstoneDroppedEarly, "tombstone-dropped-early", "a tombstone goes before all members have it"),
    (
        Mutant::HintOutlivesTombstone,
        "hint-outlives-tombstone",
        "what waits for a member stays when tombstones go",
    ),
    (Mutant::ClosedRoundStores, "closed-round-stores", "what is late from a round that is over is taken in"),
    (Mutant::FloorNotTold, "floor-not-told", "who has let tombstones go does not say up to where"),
    (
        Mutant::VersionsIssuedAgain,
        "versions-issued-again",
        "a restarted member issues versions from the clock alone",
    ),
    (Mutant::MergedBeforeDurable, "merged-before-durable", "rows are merged before they are synced"),
    (
        Mutant::ExpiryAsNewerVersion,
        "expiry-as-newer-version",
        "a value that has run out is deleted as of now",
    ),
    (Mutant::FailedWriteStored, "failed-write-stored", "a write that has failed is stored all the same"),
    (
        Mutant::RetryElsewhereRunAgain,
        "retry-elsewhere-run-again",
        "a write without an order that is sent again to another node runs again",
    ),
    (
        Mutant::VersionsOfOneIssuer,
        "versions-of-one-issuer",
        "two members issue versions as if they were the same",
    ),
    (Mutant::GapIgnored, "gap-ignored", "rows that do not fit count as if they did"),
    (
        Mutant::LastMessageMissed,
        "last-message-missed",
        "nobody says what it has: a lost last publication is never missed",
    ),
    (Mutant::PublishedBeforeDurable, "published-before-durable", "rows are published before they are synced"),
    (
        Mutant::LateJoinerAnswersEarly,
        "late-joiner-answers-early",
        "a member answers before it has what it missed",
    ),
];

impl Mutant {
    /// All, in order. The simulator must catch each.
    pub fn all() -> impl Iterator<Item = Mutant> {
        ALL.iter().map(|(mutant, _, _)| *mutant)
    }

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// The defect in a few words.
    pub fn what(self) -> &'static str {
        ALL[self as usize].2
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Mutant, String> {
        let found = Mutant::all().find(|mutant| mutant.name() == text);
        found.ok_or_else(|| format!("'{text}' is no mutant: capstan sim --mutants lists them"))
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
