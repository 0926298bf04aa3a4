//! The inboxes of the drivers: everything that happens outside one arrives in its inbox, from any thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use kv::{Error, Reply};
use node::cores::Deal;
use node::{Input, Part};
use tokio::sync::Notify;

use crate::Failure;

/// So many messages may wait for one turn before requests are refused: a turn must stay short.
const ASKS_MAX: usize = 16_384;

/// Takes the result of one part of a request.
pub(crate) type Sink = Box<dyn FnOnce(Result<Reply, Error>) + Send>;

/// What happens.
pub(crate) enum Message {
    /// Something the driver takes as it is.
    Input(Input),
    /// A client asks, over a connection of this core.
    Ask { core: usize, part: Part, sink: Sink },
    /// The engine's thread has run one batch of jobs.
    Done(Vec<node::Done>),
    /// The log has written what was queued, and takes nothing any more. To the first core.
    LogEnded,
    /// A core's part of a checkpoint has ended. To the first core.
    CheckpointEnded { core: usize },
    /// The shards of a core are whole again. To the first core.
    Rejoined { core: usize },
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
    /// One a core that has shards.
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

    /// A client asks for a part over a connection of the core `asks`.
    pub fn ask(&self, asks: usize, part: Part, sink: Sink) {
        self.of(self.deal.core_of(part.shard)).push(Message::Ask { core: asks, part, sink });
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
    messages: Vec<Message>,
    is_closed: bool,
}

impl Inbox {
    /// Adds a message. Never waits; a request beyond the limit is refused.
    pub fn push(&self, message: Message) {
        let refused = {
            let mut queue = self.queue();
            match message {
                Message::Ask { sink, .. } if queue.is_closed => {
                    Some((sink, "this node is stopping: ask another one"))
                }
                Message::Ask { sink, .. } if queue.messages.len() >= ASKS_MAX => {
                    Some((sink, "this node is overloaded: send fewer requests at once"))
                }
                message => {
                    queue.messages.push(message);
                    None
                }
            }
        };
        match refused {
            Some((sink, why)) => sink(Err(Error::Unavailable(why.into()))),
            None => self.notify.notify_one(),
        }
    }

    /// Adds several inputs at once.
    pub fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut queue = self.queue();
        let before = queue.messages.len();
        queue.messages.extend(inputs.into_iter().map(Message::Input));
        let has_more = queue.messages.len() > before;
        drop(queue);
        if has_more {
            self.notify.notify_one();
        }
    }

    /// Adds an input.
    pub fn input(&self, input: Input) {
        self.push(Message::Input(input));
    }

    /// Moves all messages out.
    pub fn take(&self, into: &mut Vec<Message>) {
        std::mem::swap(&mut self.queue().messages, into);
    }

    /// Nobody reads it any more: what was asked is answered by being dropped, and what will be asked is refused.
    pub fn close(&self) {
        let left = {
            let mut queue = self.queue();
            queue.is_closed = true;
            std::mem::take(&mut queue.messages)
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
