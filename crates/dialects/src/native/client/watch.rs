//! Watches of a client: at one node, and at the next one from where it was when that one fails.

use std::sync::Arc;
use std::time::Duration;

use kv::Error;
use kv::watch::{Batch, Change, Filter, Reach, Reached, Start, Take, Watching};
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::attempt::Failure;
use super::call::{pause_after, within};
use super::topology::{prefer, unreachable};
use super::{Link, Node, Shared};
use crate::grpc::Messages;
use crate::native::watch::message;
use crate::native::{proto, reply};

const PATH: &str = "/capstan.v1.Watch/Watch";
/// A watch that has not begun is given up after so long: as any request.
const BEGIN: Duration = kv::Request::TIMEOUT;
/// One that has begun looks for a node that goes on with it for so long: nodes that are started anew are back by then.
const RESUME: Duration = Duration::from_secs(60);
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a node may take to begin: it looks for replicas for a few seconds.
const FIRST: Duration = Duration::from_secs(8);

/// A watch of a client.
pub(super) struct Watcher {
    takes: UnboundedSender<Take>,
}

impl Watcher {
    pub(super) fn begin(shared: &Arc<Shared>, asked: Watching) -> Watcher {
        let (takes, taken) = unbounded_channel();
        shared.runtime.spawn(Run::new(shared.clone(), asked).run(taken));
        Watcher { takes }
    }
}

impl kv::watch::Watcher for Watcher {
    fn next(&mut self, take: Take) {
        // It has ended with its runtime, or with an error that was given.
        let _ = self.takes.send(take);
    }
}

/// A watch under way.
struct Run {
    shared: Arc<Shared>,
    asked: Watching,
    reached: Reached,
    open: Option<Open>,
    /// It was given something.
    has_begun: bool,
    /// Attempts that failed since then.
    rounds: u32,
    /// Since when no node has given anything.
    since: Instant,
    /// Where the next node is looked for.
    turn: usize,
}

/// A call that goes on.
struct Open {
    link: Link,
    messages: Messages,
    /// What has come of a batch.
    pieces: Vec<Change>,
    has_begun: bool,
}

impl Run {
    fn new(shared: Arc<Shared>, asked: Watching) -> Run {
        let mut reached = Reached::default();
        match &asked.from {
            Start::Now => {}
            // So that what has not begun when a node fails begins there too.
            Start::Version(from) => {
                reached.note(Reach { slots: asked.filter.slots(), through: from.before() });
            }
            Start::Reached(before) => reached = Reached::of(before.clone()),
        }
        Run {
            shared,
            asked,
            reached,
            open: None,
            has_begun: false,
            rounds: 0,
            since: Instant::now(),
            turn: 0,
        }
    }

    /// Until an error, or until nobody wants any more.
    async fn run(mut self, mut takes: UnboundedReceiver<Take>) {
        if let Err(error) = self.asked.validate() {
            if let Some(take) = takes.recv().await {
                take(Err(error));
            }
            return;
        }
        while let Some(take) = takes.recv().await {
            let next = tokio::select! {
                next = self.next() => next,
                // Whoever asked has gone away.
                _ = takes.recv() => return,
            };
            let is_over = next.is_err();
            take(next);
            if is_over {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Batch, Error> {
        self.since = Instant::now();
        loop {
            let failure = match self.attempt().await {
                Ok(batch) => {
                    self.reached.note(batch.reach);
                    (self.rounds, self.has_begun) = (0, true);
                    return Ok(batch);
                }
                Err(failure) => failure,
            };
            self.open = None;
            if !failure.is_transient {
                return Err(failure.error);
            }
            tracing::debug!(error = %failure.error, "a watch goes on at another node");
            self.shared.topology.learn_soon();
            self.turn += 1;
            let limit = if self.has_begun { RESUME } else { BEGIN };
            if self.since.elapsed() >= limit {
                return Err(self.give_up(failure));
            }
            tokio::time::sleep(pause_after(self.rounds)).await;
            self.rounds += 1;
        }
    }

    fn give_up(&self, failure: Failure) -> Error {
        match failure.reached {
            true => failure.error,
            false => Error::Unavailable(unreachable(&self.shared.topology.map().addresses(), &failure.error)),
        }
    }

    /// The next batch from the node at hand, or from the next one.
    async fn attempt(&mut self) -> Result<Batch, Failure> {
        if self.open.is_none() {
            self.open = Some(self.begin().await?);
        }
        let open = self.open.as_mut().expect("it was opened above");
        if open.has_begun {
            return open.next().await;
        }
        match tokio::time::timeout(FIRST, open.next()).await {
            Ok(first) => first,
            Err(_) => {
                open.link.broken();
                let address = &open.link.node.address;
                Err(Failure::unsent(format!("{address} does not begin with the watch within {FIRST:?}")))
            }
        }
    }

    async fn begin(&self) -> Result<Open, Failure> {
        let topology = &self.shared.topology;
        let _ = tokio::time::timeout(BEGIN, topology.learn_first()).await;
        topology.check_given().map_err(Failure::told)?;
        let link = within(CONNECT, &self.node()).await?;
        let mut asked = self.asked.clone();
        let reached = self.reached.to_vec();
        // A version that was asked for is checked by the node until it has begun there.
        let begins = matches!(asked.from, Start::Version(_)) && !self.has_begun;
        if !begins && !reached.is_empty() {
            asked.from = Start::Reached(reached);
        }
        let messages = link.messages(PATH, &message::encode_request(asked)).await?;
        Ok(Open { link, messages, pieces: Vec::new(), has_begun: false })
    }

    /// Who is asked: first where the only key is led, then one after the other.
    fn node(&self) -> Arc<Node> {
        let map = self.shared.topology.map();
        if let (Filter::Key(_), 0) = (&self.asked.filter, self.turn)
            && let Some((_, node)) = map.leader(&self.asked.keyspace, self.asked.filter.slots().first)
        {
            return node.clone();
        }
        let nodes = prefer(&map.nodes, 0);
        nodes[self.turn % nodes.len()].clone()
    }
}

impl Open {
    async fn next(&mut self) -> Result<Batch, Failure> {
        loop {
            let message = self.messages.next().await.map_err(|failure| self.link.failure(failure))?;
            let Some(message) = message else {
                let why = format!("{} has ended the watch", self.link.node.address);
                return Err(Failure::unsent(why));
            };
            let garbled = |_| self.link.nonsense(reply::Malformed("it is no message of a watch"));
            let piece = proto::WatchResponse::decode(message).map_err(garbled)?;
            let batch = message::decode_piece(piece, &mut self.pieces);
            if let Some(batch) = batch.map_err(|error| self.link.nonsense(error))? {
                self.has_begun = true;
                return Ok(batch);
            }
        }
    }
}
