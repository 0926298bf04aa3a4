//! What operators ask of the directory: at one node after the other, until there is an answer or the time is over.
//!
//! Whoever is asked passes it on, so the map does not matter. An ask may be sent again whatever became of it before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::admin::{Answer, Ask, Ruling};
use kv::cluster::NodeDuty;
use kv::{Error, TIMEOUT_MILLIS_MAX};

use super::attempt::Failure;
use super::call::{attempt_budget, pause_after, silent, within};
use super::topology::{Topology, prefer, unreachable};
use super::{Link, Node, Shared};
use crate::native::cluster::{admin, keyspaces};
use crate::native::proto;

/// With less time than this nobody is asked any more.
const LAST_ATTEMPT: Duration = Duration::from_millis(250);

/// Asks until there is an answer or the time is over.
pub(super) async fn administer(shared: &Shared, ask: &Ask, timeout: Duration) -> Result<Answer, Error> {
    ask.validate()?;
    let timeout = timeout.min(Duration::from_millis(TIMEOUT_MILLIS_MAX));
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now());
    let topology = &shared.topology;
    // When nobody answers in time, the attempts say why.
    let _ = tokio::time::timeout(attempt_budget(left()), topology.learn_first()).await;
    topology.check_given()?;
    let mut tried = Tried::default();
    for round in 0.. {
        for node in prefer(&topology.map().nodes, 0) {
            match attempt(&node, ask, attempt_budget(left())).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if !failure.is_transient => return Err(failure.error),
                Err(failure) => tried.note(failure),
            }
            topology.learn_soon();
            // One that cannot be answered in its time would only leave a doubt.
            if left() < LAST_ATTEMPT {
                return Err(tried.give_up(topology, ask, timeout));
            }
        }
        let pause = pause_after(round);
        if left() < pause + LAST_ATTEMPT {
            return Err(tried.give_up(topology, ask, timeout));
        }
        tokio::time::sleep(pause).await;
    }
    unreachable!("the rounds end with the time")
}

async fn attempt(node: &Arc<Node>, ask: &Ask, budget: Duration) -> Result<Answer, Failure> {
    let link = within(budget, node).await?;
    match tokio::time::timeout(budget, link.administer(ask, budget)).await {
        Ok(result) => result,
        Err(_) => {
            link.broken();
            Err(silent(node, budget))
        }
    }
}

/// What came of the attempts.
#[derive(Default)]
struct Tried {
    may_have_run: bool,
    reached: bool,
    last: Option<Error>,
}

impl Tried {
    /// What a node said counts for more than that another one is away.
    fn note(&mut self, failure: Failure) {
        self.may_have_run |= failure.may_have_run;
        if failure.reached || !self.reached {
            self.last = Some(failure.error);
        }
        self.reached |= failure.reached;
    }

    fn give_up(self, topology: &Topology, ask: &Ask, timeout: Duration) -> Error {
        let addresses = topology.map().addresses();
        let last = self.last.expect("there was an attempt");
        if self.may_have_run && ask.changes() {
            Error::InDoubt(format!(
                "the change may have been made: tried {addresses} for {timeout:?}, and at last {last}; it may be asked again"
            ))
        } else if !self.reached {
            Error::Unavailable(unreachable(&addresses, &last))
        } else {
            Error::Unavailable(format!(
                "nothing was changed: tried {addresses} for {timeout:?}, and at last {last}; try again later"
            ))
        }
    }
}

impl Link {
    /// Asks the directory one thing by way of this node.
    async fn administer(&self, ask: &Ask, time: Duration) -> Result<Answer, Failure> {
        let answer = match ask.clone() {
            Ask::Join(joining) => {
                admin::decode_joined(self.timed(JOIN, &admin::encode_joining(joining), time).await?)
            }
            Ask::Node { name, duty, fewer: fewer_replicas, dry_run } => {
                let path = match duty {
                    NodeDuty::Serve => SERVE,
                    NodeDuty::Drain => DRAIN,
                    NodeDuty::Leave => LEAVE,
                    NodeDuty::Gone => unreachable!("such an ask is refused before it is sent"),
                };
                let message = proto::NodeRequest { name, dry_run, fewer_replicas };
                admin::decode_changed(self.timed(path, &message, time).await?, dry_run)
            }
            Ask::Replace { name, lose: lose_data, dry_run } => {
                let message = proto::ReplaceRequest { name, dry_run, lose_data };
                admin::decode_changed(self.timed(REPLACE, &message, time).await?, dry_run)
            }
            Ask::Abort { shard } => {
                let message = proto::AbortRequest { shard: shard.0 };
                let proto::AbortResponse {} = self.timed(ABORT, &message, time).await?;
                Ok(Answer::Done)
            }
            Ask::Moves => {
                let answer: proto::MovesResponse = self.timed(MOVES, &proto::MovesRequest {}, time).await?;
                admin::decode_moves(answer.moves)
            }
            Ask::CreateKeyspace { name, wish } => {
                let message =
                    proto::CreateKeyspaceRequest { name, wish: Some(keyspaces::encode_wish(&wish)) };
                let proto::CreateKeyspaceResponse {} = self.timed(CREATE, &message, time).await?;
                Ok(Answer::Done)
            }
            Ask::AlterKeyspace { name, wish, dry_run } => {
                let wish = Some(keyspaces::encode_wish(&wish));
                let message = proto::AlterKeyspaceRequest { name, wish, dry_run };
                let proto::AlterKeyspaceResponse { moves } = self.timed(ALTER, &message, time).await?;
                admin::decode_changed(proto::NodeResponse { moves }, dry_run)
            }
            Ask::DropKeyspace { name } => {
                let message = proto::DropKeyspaceRequest { name };
                let proto::DropKeyspaceResponse {} = self.timed(DROP, &message, time).await?;
                Ok(Answer::Done)
            }
            Ask::Revise { .. } | Ask::Zone { .. } => {
                let why = "nodes ask for the members of a shard and for what a zone says: a client does not";
                return Err(Failure::told(Error::Invalid(why.into())));
            }
            Ask::Rule { keyspace, ruling, dry_run } => {
                let ruled = match ruling {
                    Ruling::ForcePrimary { node } => {
                        let message = proto::ForcePrimaryRequest { keyspace, node, dry_run };
                        self.timed(FORCE_PRIMARY, &message, time).await?
                    }
                    Ruling::DeclareDead { node } => {
                        let message = proto::DeclareDeadRequest { keyspace, node, dry_run };
                        self.timed(DECLARE_DEAD, &message, time).await?
                    }
                };
                Ok(keyspaces::decode_ruled(ruled))
            }
            Ask::Keyspaces => {
                let answer = self.timed(LIST, &proto::ListKeyspacesRequest {}, time).await?;
                keyspaces::decode_list(answer)
            }
            Ask::Dump => Ok(admin::decode_rows(self.timed(DUMP, &proto::DumpRequest {}, time).await?)),
        };
        answer.map_err(|error| self.nonsense(error))
    }
}

const JOIN: &str = "/capstan.v1.Cluster/Join";
const SERVE: &str = "/capstan.v1.Cluster/Serve";
const DRAIN: &str = "/capstan.v1.Cluster/Drain";
const LEAVE: &str = "/capstan.v1.Cluster/Leave";
const REPLACE: &str = "/capstan.v1.Cluster/Replace";
const ABORT: &str = "/capstan.v1.Cluster/Abort";
const MOVES: &str = "/capstan.v1.Cluster/Moves";
const DUMP: &str = "/capstan.v1.Cluster/Dump";
const CREATE: &str = "/capstan.v1.Keyspaces/Create";
const ALTER: &str = "/capstan.v1.Keyspaces/Alter";
const FORCE_PRIMARY: &str = "/capstan.v1.Keyspaces/ForcePrimary";
const DECLARE_DEAD: &str = "/capstan.v1.Keyspaces/DeclareDead";
const DROP: &str = "/capstan.v1.Keyspaces/Drop";
const LIST: &str = "/capstan.v1.Keyspaces/List";
