//! One request from first attempt to last word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::{Class, Error, Level, NodeId, Op, Reply, Request, Slot, TIMEOUT_MILLIS_MAX, Version};

use super::attempt::Failure;
use super::session::Ticket;
use super::{Node, Shared, random, topology};
use crate::native::request::{self, Rpc};
use crate::native::{AnyRequest, proto};

/// The first pause between two rounds over the nodes. Each next is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause: a tenth of the default timeout.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// An attempt is given at least so long, if there is so much time: an election, nearly.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
/// A node answers within the time it is told; its answer is waited for a little longer.
const GRACE: Duration = Duration::from_millis(200);
/// How long after the end of its timeout a request may still be run if it is on its way: what the client's idea of the
/// cluster's clock may be off by. A shard remembers a client that came once for so long.
const VALID_AFTER_MICROS: u64 = 60 * 1_000_000;
/// How often the node that another one named is asked at once; then it is a round over all, with its pause.
const NAMED_MAX: u32 = 3;

/// A request under way.
pub(super) struct Call {
    shared: Arc<Shared>,
    message: AnyRequest,
    is_read: bool,
    /// The keyspace and the slot of its first key; `None` = any node will do.
    place: Option<(String, Slot)>,
    timeout: Duration,
    deadline: Instant,
    /// Of a write, unless the caller brought an id.
    ticket: Option<Ticket>,
    needs_id: bool,
    may_have_run: bool,
    /// Some node was reached.
    reached: bool,
    /// Asked in this round.
    round: Vec<Arc<Node>>,
    rounds: u32,
    /// Named by another node as the one to ask.
    named: Option<Arc<Node>>,
    named_count: u32,
    last: Option<Error>,
}

/// The node to ask, and who is expected to answer, when the map says.
pub(super) struct Target {
    pub(super) node: Arc<Node>,
    expected: Option<NodeId>,
}

impl Call {
    /// Checks a request and makes it ready.
    pub(super) fn new(shared: &Arc<Shared>, request: Request, ttl: Option<Duration>) -> Result<Call, Error> {
        request.op.validate()?;
        let timeout = request.timeout.min(Duration::from_millis(TIMEOUT_MILLIS_MAX));
        let is_read = request.op.class() == Class::Read;
        let stays = matches!(request.level, Some(Level::Local | Level::Bounded(1..))) && is_read;
        Ok(Call {
            shared: shared.clone(),
            is_read,
            place: if stays {
                None
            } else {
                first_slot(&request.op).map(|slot| (request.keyspace.clone(), slot))
            },
            timeout,
            deadline: Instant::now() + timeout,
            needs_id: !is_read && request.id.is_none(),
            message: request::encode(request, ttl)?,
            ticket: None,
            may_have_run: false,
            reached: false,
            round: Vec::new(),
            rounds: 0,
            named: None,
            named_count: 0,
            last: None,
        })
    }

    /// Asks until there is an answer or the time is over.
    pub(super) async fn run(mut self) -> Result<Reply, Error> {
        self.begin().await?;
        loop {
            let target = self.target();
            let budget = self.budget();
            let result = self.attempt(&target.node, budget).await;
            if let Some(result) = self.judge(&target, result) {
                return result;
            }
            if !Box::pin(self.pause()).await {
                return Err(self.give_up());
            }
        }
    }

    /// Makes it ready to be sent: the client's first request learns which cluster it is, and its clock. Then a write gets its
    /// request id, which says until when it is valid. The given addresses may turn out to be of different clusters.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        let topology = &self.shared.topology;
        if !topology.map().is_known() {
            // When nobody answers in time, the attempts tell why.
            let _ = tokio::time::timeout(self.budget(), Box::pin(topology.learn_first())).await;
        }
        topology.check_given()?;
        if self.needs_id && self.ticket.is_none() {
            self.identify();
        }
        Ok(())
    }

    fn identify(&mut self) {
        let until = self.shared.topology.now_micros() + VALID_AFTER_MICROS + self.timeout.as_micros() as u64;
        let ticket = self.shared.sessions.open(Version::end_of(until));
        self.header().id = Some(request::id(ticket.id));
        self.ticket = Some(ticket);
    }

    /// Whom to ask next.
    pub(super) fn target(&mut self) -> Target {
        if let Some(node) = self.named.take() {
            return Target { node, expected: None };
        }
        let map = self.shared.topology.map();
        self.shared.topology.refresh_soon(&map);
        let leader = self.place.as_ref().and_then(|(keyspace, slot)| map.leader(keyspace, *slot));
        if let Some((id, node)) = leader.filter(|(_, node)| self.is_fresh(node) && !node.is_avoided()) {
            return Target { node: node.clone(), expected: Some(id) };
        }
        let fresh = || map.nodes.iter().filter(|node| self.is_fresh(node));
        let node = fresh().find(|node| !node.is_avoided()).or_else(|| fresh().next());
        Target { node: node.unwrap_or_else(|| map.home()).clone(), expected: None }
    }

    /// What the attempt came to: the answer, a final error, or nothing yet.
    pub(super) fn judge(
        &mut self,
        target: &Target,
        result: Result<Reply, Failure>,
    ) -> Option<Result<Reply, Error>> {
        match result {
            Ok(reply) => {
                if target.expected.is_some_and(|expected| expected != reply.receipt.node) {
                    self.shared.topology.learn_soon();
                }
                let sent_before = self.may_have_run && !self.is_read;
                Some(Ok(if sent_before {
                    Reply { answer: reply.answer.after_doubt(), ..reply }
                } else {
                    reply
                }))
            }
            Err(failure) => {
                self.may_have_run |= failure.may_have_run;
                self.reached |= failure.reached;
                if !failure.is_transient {
                    return Some(Err(self.refused(failure)));
                }
                let (node, error) = (&target.node.address, &failure.error);
                tracing::debug!(%node, %error, may_have_run = failure.may_have_run, "attempt failed, asking again");
                self.shared.topology.learn_soon();
                if let Error::WrongNode { try_next: Some(address) } = &failure.error {
                    self.follow(address);
                }
                self.round.push(target.node.clone());
                self.last = Some(failure.error);
                None
            }
        }
    }

    /// The time for the next attempt.
    pub(super) fn budget(&self) -> Duration {
        attempt_budget(self.left())
    }

    /// The message of an attempt that is given so much time.
    pub(super) fn message(&mut self, budget: Duration) -> AnyRequest {
        self.note(budget);
        self.message.clone()
    }

    /// How many bytes its message has.
    pub(super) fn size(&self) -> usize {
        request::size(&self.message)
    }

    /// How long it may take in all.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Notes that a node was reached.
    pub(super) fn reached(&mut self) {
        self.reached = true;
    }

    async fn attempt(&mut self, node: &Arc<Node>, budget: Duration) -> Result<Reply, Failure> {
        let link = within(budget, node).await?;
        self.reached = true;
        self.note(budget);
        match tokio::time::timeout(patience(budget), link.ask(&self.message)).await {
            Ok(result) => result,
            Err(_) => {
                link.broken();
                Err(silent(node, budget))
            }
        }
    }

    /// Waits before the next attempt where that makes sense; false when the time is over.
    async fn pause(&mut self) -> bool {
        let nodes = self.shared.topology.map().nodes.clone();
        if self.named.is_none() && nodes.iter().all(|node| !self.is_fresh(node)) {
            self.round.clear();
            let pause = pause_after(self.rounds);
            self.rounds += 1;
            tokio::time::sleep(pause.min(self.left())).await;
        }
        !self.left().is_zero()
    }

    fn follow(&mut self, address: &str) {
        if self.named_count < NAMED_MAX {
            self.named_count += 1;
            self.named = self.shared.topology.named(address);
        }
    }

    /// A definite error; unless the request may have been run before and this answer does not rule it out.
    fn refused(&self, failure: Failure) -> Error {
        match failure.error {
            // It says what the store found when it ran the request, or would have found each time.
            error @ (Error::Conflict(_)
            | Error::Invalid(_)
            | Error::TooLarge { .. }
            | Error::OverQuota(_)) => error,
            error if self.may_have_run && !self.is_read => Error::InDoubt(format!(
                "{} may have happened: {error}; read to see what is there before you write again",
                Rpc::of(&self.message).name()
            )),
            error => error,
        }
    }

    fn give_up(mut self) -> Error {
        let addresses = self.shared.topology.map().addresses();
        let last = self.last.take().unwrap_or_else(|| Error::Unavailable("there was no time to ask".into()));
        let name = Rpc::of(&self.message).name();
        let timeout = self.timeout;
        if self.may_have_run && !self.is_read {
            Error::InDoubt(format!(
                "{name} may have happened: tried {addresses} for {timeout:?}, and at last {last}; read to see what is there \
                 before you write again"
            ))
        } else if !self.reached {
            Error::Unavailable(topology::unreachable(&addresses, &last))
        } else {
            Error::Unavailable(format!(
                "{name} was not done: tried {addresses} for {timeout:?}, and at last {last}; try again later"
            ))
        }
    }

    /// What the next attempt says of itself.
    fn note(&mut self, budget: Duration) {
        let sent_before = self.may_have_run && !self.is_read;
        let header = self.header();
        header.timeout_ms = request::millis(budget);
        header.sent_before |= sent_before;
    }

    fn header(&mut self) -> &mut proto::RequestHeader {
        request::header_mut(&mut self.message).get_or_insert_default()
    }

    fn is_fresh(&self, node: &Arc<Node>) -> bool {
        !self.round.iter().any(|asked| asked.address == node.address)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The time for an attempt: half of what is left, so that another node can be asked if this one is silent.
pub(super) fn attempt_budget(left: Duration) -> Duration {
    (left / 2).max(ATTEMPT_MIN.min(left)).max(Duration::from_millis(1))
}

/// The pause after a round over the nodes, the first of which has the number 0: between half of its length and one and a half,
/// so that clients that failed together do not return together.
pub(super) fn pause_after(round: u32) -> Duration {
    let pause = (PAUSE_MIN * (1 << round.min(16))).min(PAUSE_MAX);
    pause / 2 + pause.mul_f64((random() % 1024) as f64 / 1024.0)
}

/// A connection to a node, if there is one in time. Nearly always there is one already.
pub(super) async fn within(budget: Duration, node: &Arc<Node>) -> Result<super::Link, Failure> {
    let place = node.turn();
    if let Some(link) = node.at_hand(place) {
        return Ok(link);
    }
    match tokio::time::timeout(budget, Box::pin(node.connect(place))).await {
        Ok(link) => link,
        Err(_) => {
            Err(Failure::unsent(format!("cannot connect to {}: no answer within {budget:?}", node.address)))
        }
    }
}

/// How long to wait for the answer of a node that was given so much time.
pub(super) fn patience(budget: Duration) -> Duration {
    budget + GRACE
}

/// What an attempt came to that was not answered in time.
pub(super) fn silent(node: &Node, budget: Duration) -> Failure {
    Failure::lost(format!("no answer from {} within {budget:?}", node.address))
}

fn first_slot(op: &Op) -> Option<Slot> {
    let mut first = None;
    op.for_each_key(&mut |key| first = first.or(Some(key)));
    first.map(|key| Slot::of(key))
}
