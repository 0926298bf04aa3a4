//! Watches at a node: what each client's watch asks next goes to the cores of its shards, and what they answer becomes batches. What
//! to ask, and where a watch is, [`node::watch`] knows.

use std::sync::{Arc, Mutex, MutexGuard};

use kv::Error;
use kv::watch::{Take, Watcher, Watching};
use node::watch::{Pulled, Watched};

use crate::inbox::{Inboxes, Message};
use crate::routes::Routes;
use crate::unknown::Unknown;

/// One client's watch.
pub(crate) struct Watch(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    inboxes: Inboxes,
    routes: Arc<Routes>,
    /// The keyspace that is watched.
    keyspace: String,
}

struct Inner {
    /// `None` = it is asked whether there is its keyspace.
    watched: Option<Result<Watched, Error>>,
    /// Who waits for the next batch.
    take: Option<Take>,
}

impl Watch {
    /// Begins; `now` is the cluster's time in microseconds since 1970.
    pub fn begin(
        asked: Watching,
        inboxes: Inboxes,
        routes: Arc<Routes>,
        unknown: &Unknown,
        now: u64,
    ) -> Watch {
        let (keyspaces, keyspace) = (routes.present(), asked.keyspace.clone());
        let shards = keyspaces.shards(&keyspace).ok();
        let watched = shards.map(|shards| Watched::begin(asked, shards, now));
        let is_unknown = watched.is_none();
        let inner = Mutex::new(Inner { watched, take: None });
        let shared = Arc::new(Shared { inner, inboxes, routes, keyspace });
        if is_unknown {
            let looks = shared.clone();
            unknown.look_up(shared.keyspace.clone(), Box::new(move |error| looks.end(error)));
        }
        Watch(shared)
    }

    /// One that is over before it begins.
    pub fn refused(error: Error, inboxes: Inboxes, routes: Arc<Routes>) -> Watch {
        let inner = Mutex::new(Inner { watched: Some(Err(error)), take: None });
        Watch(Arc::new(Shared { inner, inboxes, routes, keyspace: String::new() }))
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
            Some(Ok(watched)) => watched.take(),
            Some(Err(error)) => Some(Err(error.clone())),
            None => None,
        };
        let Some(next) = next else { return };
        let take = inner.take.take().expect("somebody waits, as was seen above");
        drop(inner);
        take(next);
    }

    /// Asks what is to be asked.
    fn ask(self: &Arc<Shared>) {
        let pulls = match &mut self.inner().watched {
            Some(Ok(watched)) => watched.pulls(),
            Some(Err(_)) | None => return,
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
            let keyspaces = self.routes.present();
            match (keyspaces.shards(&self.keyspace), &mut inner.watched) {
                (Ok(shards), Some(Ok(watched))) => watched.answered(name, answer, shards),
                // Its keyspace was dropped.
                (Err(error), Some(Ok(_))) => inner.watched = Some(Err(error)),
                (_, Some(Err(_)) | None) => {}
            }
            inner.take.is_some()
        };
        Shared::give(self);
        // Who was given something asks when it wants more; who still waits needs the next answer.
        if is_wanted && self.inner().take.is_some() {
            Shared::ask(self);
        }
    }

    /// It cannot be.
    fn end(self: &Arc<Shared>, error: Error) {
        self.inner().watched = Some(Err(error));
        Shared::give(self);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a watch panics")
    }
}
