//! The inboxes of the drivers: everything that happens outside one arrives in its inbox, from any thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use kv::admin::{self, Answered};
use kv::{Error, Reply, ShardId};
use node::cores::Deal;
use node::watch::{Pull, Pulled};
use node::{Input, Part};
use tokio::sync::Notify;

use crate::Failure;

/// So many messages may wait for one turn before requests are refused: a turn must stay short.
const ASKS_MAX: usize = 16_384;
/// A turn takes this part of the requests that are open or wait. Clients that were answered together ask together, and if a turn
/// took all of them, clients, connections, driver, log and other nodes would each wait for the one whose turn it is. So the
/// first are on their way through the log, and answered, while the others are read and decided.
const ASKS_SHARE: usize = 3;
/// So many it takes in any case: fewer are not worth a turn of their own.
const ASKS_MIN: usize = 16;

/// Takes the result of one part of a request.
pub(crate) type Sink = Box<dyn FnOnce(Result<Reply, Error>) + Send>;

/// Takes what a watch is answered.
pub(crate) type PullSink = Box<dyn FnOnce(Pulled) + Send>;

/// What happens.
pub(crate) enum Message {
    /// Something the driver takes as it is.
    Input(Input),
    /// A client asks, over a connection of this core.
    Ask { core: usize, part: Part, sink: Sink },
    /// A watch asks a shard of this core.
    Pull { pull: Pull, sink: PullSink },
    /// The directory is asked. To the first core.
    Administer { ask: admin::Ask, timeout_micros: u64, answer: Answered },
    /// The engine's thread has run one batch of jobs.
    Done(Vec<node::Done>),
    /// The log has written what was queued, and takes nothing any more. To the first core.
    LogEnded,
    /// A core's part of a checkpoint has ended. To the first core.
    CheckpointEnded { core: usize },
    /// The process must end: what went wrong. To the first core.
    Fatal(Failure),
}

/// The inboxes of all cores.
#[derive(Clone)]
pub(crate) struct Inboxes {
    deal: Deal,
    cores: Arc<[Arc<Inbox>]>,
}

impl Inboxes {
    /// One a core that has a driver.
    pub fn new(deal: Deal) -> Inboxes {
        Inboxes { deal, cores: (0..deal.cores()).map(|_| Arc::default()).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.cores.len()
    }

    /// That of a core.
    pub fn of(&self, core: usize) -> &Arc<Inbox> {
        &self.cores[core]
    }

    /// That of the first core, which ends the node.
    pub fn first(&self) -> &Arc<Inbox> {
        self.of(0)
    }

    /// All, in order.
    pub fn all(&self) -> Vec<Arc<Inbox>> {
        self.cores.to_vec()
    }

    /// The core of a shard.
    pub fn core_of(&self, shard: ShardId) -> usize {
        self.deal.core_of(shard)
    }

    /// Adds an input where it belongs: with one core, or with each.
    pub fn input(&self, input: Input) {
        input.deal(&self.deal, &mut |core, input| self.of(core).input(input));
    }

    /// Adds several at once.
    pub fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        if let [only] = &*self.cores {
            return only.extend(inputs);
        }
        let mut dealt: Vec<Vec<Input>> = self.cores.iter().map(|_| Vec::new()).collect();
        for input in inputs {
            input.deal(&self.deal, &mut |core, input| dealt[core].push(input));
        }
        self.cores.iter().zip(dealt).for_each(|(inbox, inputs)| inbox.extend(inputs));
    }
}

/// Starts a thread that the node cannot do without: should it panic, the node ends.
pub(crate) fn thread(inbox: &Arc<Inbox>, name: &'static str, run: impl FnOnce() + Send + 'static) {
    let inbox = inbox.clone();
    let run = move || {
        // Nothing that the thread used is used again: the process ends.
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let why =
                format!("the thread '{name}' panicked: this is a bug, its message stands before this one");
            inbox.push(Message::Fatal(Failure::Failed(why)));
        }
    };
    thread::Builder::new().name(name.into()).spawn(run).expect("a thread can be started");
}

/// A queue with one reader, on the driver's thread.
#[derive(Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    notify: Notify,
}

#[derive(Default)]
struct Queue {
    /// What clients ask.
    asks: VecDeque<Message>,
    /// All else that happens.
    others: Vec<Message>,
    is_closed: bool,
}

/// A request that is not taken, and what it is answered.
type Refused = (Sink, Error);

impl Queue {
    fn add(&mut self, message: Message) -> Option<Refused> {
        match message {
            Message::Ask { part, sink, .. } if self.is_closed => {
                return Some((sink, part.refusal("this node is stopping: ask another one")));
            }
            Message::Ask { part, sink, .. } if self.asks.len() >= ASKS_MAX => {
                return Some((sink, part.refusal("this node is overloaded: send fewer requests at once")));
            }
            ask @ Message::Ask { .. } => self.asks.push_back(ask),
            other => self.others.push(other),
        }
        None
    }
}

impl Inbox {
    /// Adds a message. Never waits; a request beyond the limit is refused.
    pub fn push(&self, message: Message) {
        let refused = self.queue().add(message);
        self.added(refused);
    }

    /// Adds several requests at once.
    pub fn ask(&self, asks: Vec<Message>) {
        let refused: Vec<Refused> = {
            let mut queue = self.queue();
            asks.into_iter().filter_map(|ask| queue.add(ask)).collect()
        };
        self.added(refused);
    }

    /// Wakes the reader, and answers what was refused.
    fn added(&self, refused: impl IntoIterator<Item = Refused>) {
        self.notify.notify_one();
        for (sink, error) in refused {
            sink(Err(error));
        }
    }

    /// Adds several inputs at once.
    pub fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut queue = self.queue();
        let before = queue.others.len();
        queue.others.extend(inputs.into_iter().map(Message::Input));
        let has_more = queue.others.len() > before;
        drop(queue);
        if has_more {
            self.notify.notify_one();
        }
    }

    /// Adds an input.
    pub fn input(&self, input: Input) {
        self.push(Message::Input(input));
    }

    /// Moves messages out: what happened, and of what clients ask a share (see [`ASKS_SHARE`]) when so many requests are open
    /// already. What is left makes the next [`Inbox::wait`] a short one.
    pub fn take(&self, into: &mut Vec<Message>, open: usize) {
        let mut queue = self.queue();
        into.append(&mut queue.others);
        let count = queue.asks.len();
        let share = ((open + count) / ASKS_SHARE).max(ASKS_MIN).min(count);
        into.extend(queue.asks.drain(..share));
        if share < count {
            self.notify.notify_one();
        }
    }

    /// Nobody reads it any more: what was asked is answered by being dropped, and what will be asked is refused.
    pub fn close(&self) {
        let left = {
            let mut queue = self.queue();
            queue.is_closed = true;
            std::mem::take(&mut queue.asks)
        };
        drop(left);
    }

    /// Waits until there is something.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of the inbox panics")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kv::{Op, Outcome, ShardId};

    use super::*;

    fn ask() -> Message {
        ask_to(Op::Get { key: Bytes::from_static(b"k"), at: None }, false, Box::new(|_| {}))
    }

    fn ask_to(op: Op, in_doubt: bool, sink: Sink) -> Message {
        let (level, id, charge, here) = Default::default();
        let part =
            Part { shard: ShardId(1), op, level, id, timeout_micros: 1_000_000, charge, in_doubt, here };
        Message::Ask { core: 0, part, sink }
    }

    /// How many asks and other messages come out.
    fn taken(inbox: &Inbox, open: usize) -> (usize, usize) {
        let mut messages = Vec::new();
        inbox.take(&mut messages, open);
        let asks = messages.iter().filter(|message| matches!(message, Message::Ask { .. })).count();
        (asks, messages.len() - asks)
    }

    #[test]
    fn closed_inbox_leaves_what_may_have_been_run_before_in_doubt() {
        let inbox = Inbox::default();
        inbox.close();
        let outcome_of = |in_doubt| {
            let (told, hears) = std::sync::mpsc::channel();
            let sink = move |result: Result<Reply, Error>| {
                let error = result.expect_err("a closed inbox takes nothing");
                told.send(error.outcome()).expect("it is waited for");
            };
            let op = Op::Delete { key: Bytes::from_static(b"k"), previous: false };
            inbox.push(ask_to(op, in_doubt, Box::new(sink)));
            hears.recv().expect("a refusal is told at once")
        };
        assert_eq!([false, true].map(outcome_of), [Outcome::Failed, Outcome::InDoubt]);
    }

    #[tokio::test]
    async fn turn_takes_a_share_of_what_is_asked_and_all_else() {
        let inbox = Inbox::default();
        (0..100).for_each(|_| inbox.push(ask()));
        inbox.input(Input::Checkpoint);
        inbox.wait().await;
        assert_eq!(taken(&inbox, 0), (33, 1));
        let mut left = 67;
        while left > 0 {
            // Nothing else came, and there is more to do.
            inbox.wait().await;
            let (asks, others) = taken(&inbox, 100 - left);
            assert_eq!((asks, others), (33.min(left), 0));
            left -= asks;
        }
    }
}
