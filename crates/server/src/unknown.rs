//! Requests for keyspaces that this node does not know: it may only not have heard of them yet.
//!
//! A keyspace that was just created reaches every node with the next map, some tenths of a second later, and whoever created it may
//! ask any node before. So the directory is asked which keyspaces there are, once for all requests that wait for it: those whose
//! keyspace is there are told to ask again in a moment, the others that there is none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kv::Error;
use kv::admin::{Answer, Ask};

use crate::inbox::{Inboxes, Message};

/// Requests that wait for one answer; more are refused.
const WAITING_MAX: usize = 1024;
/// How long the directory is asked: longer than it takes to elect who leads it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes why a request is refused.
type Refused = Box<dyn FnOnce(Error) + Send>;

/// Who waits.
#[derive(Clone)]
pub(crate) struct Unknown {
    inboxes: Inboxes,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// For the question that is under way.
    asked: Vec<(String, Refused)>,
    /// For the next one: what was created since the question was asked, its answer may lack.
    next: Vec<(String, Refused)>,
}

impl Unknown {
    pub fn new(inboxes: Inboxes) -> Unknown {
        Unknown { inboxes, waiting: Arc::default() }
    }

    /// Refuses a request for a keyspace that this node does not know, when the directory has said whether it is there.
    pub fn look_up(&self, keyspace: String, refuse: Refused) {
        let mut waiting = self.waiting.lock().expect("no holder of the list panics");
        if waiting.next.len() >= WAITING_MAX {
            drop(waiting);
            let why = "too many requests wait here for keyspaces that this node does not know: ask again in a moment";
            return refuse(Error::Unavailable(why.into()));
        }
        waiting.next.push((keyspace, refuse));
        let is_free = waiting.asked.is_empty();
        drop(waiting);
        if is_free {
            self.ask();
        }
    }

    /// Asks the directory for those that wait, if nothing is under way.
    fn ask(&self) {
        let mut waiting = self.waiting.lock().expect("no holder of the list panics");
        if !waiting.asked.is_empty() || waiting.next.is_empty() {
            return;
        }
        waiting.asked = std::mem::take(&mut waiting.next);
        drop(waiting);
        let this = self.clone();
        let timeout_micros = PATIENCE.as_micros() as u64;
        let answer = Box::new(move |result| this.answered(&result));
        self.inboxes.first().push(Message::Administer { ask: Ask::Keyspaces, timeout_micros, answer });
    }

    fn answered(&self, result: &Result<Answer, Error>) {
        let asked = std::mem::take(&mut self.waiting.lock().expect("no holder of the list panics").asked);
        for (keyspace, refuse) in asked {
            let error = match result {
                Ok(Answer::Keyspaces(all)) if all.iter().any(|known| known.name == keyspace) => {
                    Error::Unavailable(format!(
                        "keyspace '{keyspace}' is new, and this node hears of it in a moment: ask again"
                    ))
                }
                Ok(_) => Error::NoKeyspace(keyspace),
                Err(error) => Error::Unavailable(format!(
                    "this node knows no keyspace '{keyspace}', and cannot ask the directory whether there is one by now: {error}"
                )),
            };
            refuse(error);
        }
        self.ask();
    }
}
