//! Watches at a node: what each client's watch asks next goes to the cores of its shards, and what they answer becomes batches. What
//! to ask, and where a watch is, [`node::watch`] knows.

use std::sync::{Arc, Mutex, MutexGuard};

use kv::watch::{Take, Watcher, Watching};
use kv::{Error, Request};
use node::watch::{Pulled, Watched};

use crate::inbox::{Inboxes, Message};
use crate::routes::Routes;

/// One client's watch.
pub(crate) struct Watch(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    inboxes: Inboxes,
    routes: Arc<Routes>,
}

struct Inner {
    watched: Result<Watched, Error>,
    /// Who waits for the next batch.
    take: Option<Take>,
}

impl Watch {
    /// Begins; `now` is the cluster's time in microseconds since 1970.
    pub fn begin(asked: Watching, inboxes: Inboxes, routes: Arc<Routes>, now: u64) -> Watch {
        let watched = match asked.keyspace == Request::KEYSPACE {
            true => Watched::begin(asked, &routes.present(), now),
            false => Err(Error::NoKeyspace(asked.keyspace)),
        };
        Watch(Arc::new(Shared { inner: Mutex::new(Inner { watched, take: None }), inboxes, routes }))
    }

    /// One that is over before it begins.
    pub fn refused(error: Error, inboxes: Inboxes, routes: Arc<Routes>) -> Watch {
        let inner = Mutex::new(Inner { watched: Err(error), take: None });
        Watch(Arc::new(Shared { inner, inboxes, routes }))
    }
}

impl Watcher for Watch {
    fn next(&mut self, take: Take) {
        self.0.inner().take = Some(take);
        Shared::give(&self.0);
        Shared::ask(&self.0);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // What is asked is answered to nobody.
        self.0.inner().take = None;
    }
}

impl Shared {
    /// Gives the next batch to who waits, if there is one.
    fn give(self: &Arc<Shared>) {
        let mut inner = self.inner();
        if inner.take.is_none() {
            return;
        }
        let next = match &mut inner.watched {
            Ok(watched) => watched.take(),
            Err(error) => Some(Err(error.clone())),
        };
        let Some(next) = next else { return };
        let take = inner.take.take().expect("somebody waits, as was seen above");
        drop(inner);
        take(next);
    }

    /// Asks what is to be asked.
    fn ask(self: &Arc<Shared>) {
        let pulls = match &mut self.inner().watched {
            Ok(watched) => watched.pulls(),
            Err(_) => return,
        };
        for (name, pull) in pulls {
            let shared = self.clone();
            let sink = Box::new(move |answer| shared.answered(name, answer));
            let inbox = self.inboxes.of(self.inboxes.core_of(pull.shard));
            inbox.push(Message::Pull { pull, sink });
        }
    }

    fn answered(self: &Arc<Shared>, name: u64, answer: Pulled) {
        let is_wanted = {
            let mut inner = self.inner();
            if let Ok(watched) = &mut inner.watched {
                watched.answered(name, answer, &self.routes.present());
            }
            inner.take.is_some()
        };
        Shared::give(self);
        // Who was given something asks when it wants more; who still waits needs the next answer.
        if is_wanted && self.inner().take.is_some() {
            Shared::ask(self);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a watch panics")
    }
}
