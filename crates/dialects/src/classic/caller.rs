//! Who calls, and the store that the call is asked of.

use std::sync::Arc;
use std::time::Duration;

use kv::{Answer, Error, Level, Op, Outcome, Reply, Request, Share};
use tokio::time::{Instant, sleep};

use crate::account::{Tab, admit};
use crate::ask::{ask, ask_all};
use crate::grpc::{Asked, time_left};
use crate::{End, Store};

/// How long a call is asked again that found a node away: one that is started again is back by then.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two times.
const PAUSE: Duration = Duration::from_millis(25);
/// How often it is looked whether a node that has just started knows its cluster.
const LOOK: Duration = Duration::from_millis(10);

/// One call over a classic wire. It may be many requests to the store.
pub(super) struct Caller {
    /// What is asked.
    pub(super) store: Arc<Store>,
    tab: Tab,
    /// When the client waits no more; `None` = it did not say.
    until: Option<Instant>,
    /// Nobody but this node is asked.
    here: bool,
    level: Option<Level>,
}

impl Caller {
    /// Who sent a request, and its message. [`Error::Unavailable`] as long as the node belongs to no cluster.
    pub(super) fn of<T>(request: tonic::Request<T>) -> Result<(Caller, T), Error> {
        let (metadata, mut extensions, message) = request.into_parts();
        let Asked { store, tab } = Asked::take(&mut extensions);
        store.cluster.id()?;
        let until = time_left(&metadata).and_then(|time| Instant::now().checked_add(time));
        Ok((Caller { store, tab, until, here: false, level: None }, message))
    }

    /// The same. A node that has just started is waited for until it knows its cluster: its clients come as soon as it listens. The
    /// call is over after so long at the latest.
    pub(super) async fn once_ready<T>(
        mut request: tonic::Request<T>,
        limit: Duration,
    ) -> Result<(Caller, T), Error> {
        let until = Instant::now() + limit;
        let asked = Asked::take(request.extensions_mut());
        while let Err(error) = asked.store.cluster.id() {
            if Instant::now() + LOOK >= until || !matches!(error, Error::Unavailable(_)) {
                return Err(error);
            }
            sleep(LOOK).await;
        }
        request.extensions_mut().insert(asked);
        let (caller, message) = Caller::of(request)?;
        Ok((caller.by(until), message))
    }

    /// The same call, of which nothing is asked of other nodes, and reads are this fresh.
    pub(super) fn only_here(self, level: Option<Level>) -> Caller {
        Caller { here: true, level, ..self }
    }

    /// The same call, which is over by then at the latest.
    pub(super) fn by(self, until: Instant) -> Caller {
        Caller { until: Some(self.until.map_or(until, |known| known.min(until))), ..self }
    }

    /// Counts more bytes against the caller's connection, until the call is over.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Error> {
        admit(&self.tab.charge.request, bytes)
    }

    /// Asks one thing of the keyspace. Returns what its answer holds of the connection too, until it has left.
    pub(super) async fn ask(&self, op: Op) -> Result<(Answer, Share), Error> {
        self.ask_at(op, self.level).await.map(answered)
    }

    async fn ask_at(&self, op: Op, level: Option<Level>) -> Result<(Reply, Share), Error> {
        let request = Request { level, ..self.request(op)? };
        ask(&self.store.keys, request, self.fresh_tab()).await
    }

    /// Asks one thing; again for a while where it failed for want of a node: those that were just started find each other. What failed
    /// never happens, so it may be asked again.
    pub(super) async fn ask_patiently(&self, op: Op) -> Result<(Answer, Share), Error> {
        self.reply_patiently(op).await.map(answered)
    }

    /// The same, with the receipt.
    pub(super) async fn reply_patiently(&self, op: Op) -> Result<(Reply, Share), Error> {
        self.ask_patiently_at(op, &[self.level]).await
    }

    /// The same of a read. Where it cannot be linearizable, for a write that is under way might show to it and not to the next one, it misses
    /// nothing that was acknowledged before it was asked: under `quorum` that needs fewer replicas.
    pub(super) async fn read_patiently(&self, op: Op) -> Result<(Answer, Share), Error> {
        self.ask_patiently_at(op, &[self.level, Some(Level::Bounded(0))]).await.map(answered)
    }

    /// Asks at the first of some levels that can be had.
    async fn ask_patiently_at(&self, op: Op, levels: &[Option<Level>]) -> Result<(Reply, Share), Error> {
        let until = Instant::now() + PATIENCE;
        for place in (0..levels.len()).cycle() {
            let result = self.ask_at(op.clone(), levels[place]).await;
            let Err(error) = &result else { return result };
            let (may_pass, is_last) =
                (error.is_transient() && error.outcome() == Outcome::Failed, place + 1 == levels.len());
            if !may_pass || is_last && Instant::now() + PAUSE >= until {
                return result;
            }
            if is_last {
                sleep(PAUSE).await;
            }
        }
        unreachable!("there is a level")
    }

    /// Asks one thing of the keyspace, wherever its shards are.
    pub(super) async fn ask_anywhere(&self, op: Op) -> Result<Answer, Error> {
        let request = Request { here: false, ..self.request(op)? };
        let (reply, _) = ask(&self.store.keys, request, self.fresh_tab()).await?;
        Ok(reply.answer)
    }

    /// The same call, which goes on for as long as it takes.
    pub(super) fn unlimited(self) -> Caller {
        Caller { until: None, ..self }
    }

    /// Asks many things that have nothing to do with each other. One answer each, in their order.
    pub(super) async fn ask_all(&self, ops: Vec<Op>) -> Result<Vec<Result<Answer, Error>>, Error> {
        let requests = ops.into_iter().map(|op| self.request(op)).collect::<Result<_, _>>()?;
        let replies = ask_all(&*self.store.keys, requests, &self.fresh_tab()).await?;
        Ok(replies.into_iter().map(|reply| reply.map(|reply| reply.answer)).collect())
    }

    /// What has the process end when the answer has left. [`Error::Conflict`] where clients may not.
    pub(super) fn end(&self) -> Result<&End, Error> {
        self.store.end.as_deref().ok_or_else(|| {
            Error::Conflict(
                "clients of this listener may not end the node, and it goes on: stop its process with SIGTERM, or let them by \
                 'may-end = true' in its [[listen]]"
                    .into(),
            )
        })
    }

    fn request(&self, op: Op) -> Result<Request, Error> {
        op.validate()?;
        let (keyspace, timeout) = (self.store.keyspace.clone(), self.time()?);
        Ok(Request { keyspace, timeout, level: self.level, here: self.here, ..Request::new(op) })
    }

    /// How long the next request may wait.
    fn time(&self) -> Result<Duration, Error> {
        let left =
            self.until.map_or(Request::TIMEOUT, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(Error::Unavailable(
                "the deadline that came with the call is over: give it more time".into(),
            ));
        }
        Ok(left.min(Request::TIMEOUT))
    }

    /// Each request's answer is counted by itself: that of the one before it is gone.
    fn fresh_tab(&self) -> Tab {
        let mut tab = self.tab.clone();
        tab.begin_again();
        tab
    }
}

fn answered((reply, share): (Reply, Share)) -> (Answer, Share) {
    (reply.answer, share)
}
