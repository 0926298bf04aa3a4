//! The inbox of a driver: everything that happens outside it arrives here, from any thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use kv::{Error, Reply};
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
    /// The log has written what was queued, and takes nothing any more.
    LogEnded,
    /// The process must end: what went wrong.
    Fatal(Failure),
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
