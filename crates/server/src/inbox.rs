//! The inbox of a driver: everything that happens outside it arrives here, from any thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
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
    /// A client asks.
    Ask { part: Part, sink: Sink },
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
    messages: Mutex<Vec<Message>>,
    notify: Notify,
}

impl Inbox {
    /// Adds a message. Never waits; a request beyond the limit is refused.
    pub fn push(&self, message: Message) {
        let refused = {
            let mut messages = self.messages.lock().expect("no holder of the inbox panics");
            match message {
                Message::Ask { sink, .. } if messages.len() >= ASKS_MAX => Some(sink),
                message => {
                    messages.push(message);
                    None
                }
            }
        };
        match refused {
            Some(sink) => {
                sink(Err(Error::Unavailable("this node is overloaded: send fewer requests at once".into())))
            }
            None => self.notify.notify_one(),
        }
    }

    /// Adds several inputs at once.
    pub fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        self.messages
            .lock()
            .expect("no holder of the inbox panics")
            .extend(inputs.into_iter().map(Message::Input));
        self.notify.notify_one();
    }

    /// Adds an input.
    pub fn input(&self, input: Input) {
        self.push(Message::Input(input));
    }

    /// Moves all messages out.
    pub fn take(&self, into: &mut Vec<Message>) {
        std::mem::swap(&mut *self.messages.lock().expect("no holder of the inbox panics"), into);
    }

    /// Waits until there is something.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}
