//! Requests on their way to the shards of other cores.
//!
//! A request wakes the driver of its shard. Where that is of another thread, the wake-up may cost a system call and a change of
//! threads, and each alone would be a turn of its own. So what a thread asks of another core waits until all that is ready on the
//! thread has run, and goes into that core's inbox in one piece, with one wake-up: as answers do on their way back
//! ([`crate::outbox`]).

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::inbox::{Inbox, Message};

/// What a thread asks of other cores.
pub(crate) struct Desk {
    inboxes: Vec<Arc<Inbox>>,
    /// By the core that is asked.
    waiting: Mutex<Vec<Vec<Message>>>,
    notify: Notify,
}

impl Desk {
    /// Of a thread, with the inboxes of all cores.
    pub fn new(inboxes: Vec<Arc<Inbox>>) -> Desk {
        let waiting = inboxes.iter().map(|_| Vec::new()).collect();
        Desk { inboxes, waiting: Mutex::new(waiting), notify: Notify::new() }
    }

    /// Something for a core; it goes when the thread has run what is ready.
    pub fn put(&self, core: usize, ask: Message) {
        self.waiting()[core].push(ask);
        self.notify.notify_one();
    }

    /// Has what is put here go, on the thread that runs this. Never ready.
    pub async fn carry(&self) {
        loop {
            self.notify.notified().await;
            for (core, inbox) in self.inboxes.iter().enumerate() {
                let asks = std::mem::take(&mut self.waiting()[core]);
                if !asks.is_empty() {
                    inbox.ask(asks);
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Vec<Message>>> {
        self.waiting.lock().expect("no holder of what waits panics")
    }
}
