//! What clients hear of a node that waits to be let into its cluster: that it does, not silence.
//!
//! Its addresses are bound before it asks, for it says to the cluster where its clients connect. So it serves them from then on:
//! with a store that has nothing, and refuses everything with the reason. When the node was let in these connections end, and the
//! same sockets serve the node.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dialects::Store;
use kv::admin::{Admin, Answered, Ask};
use kv::cluster::{Cluster, Located, Status, Terms};
use kv::watch::{Take, Watch, Watcher, Watching};
use kv::{ClusterId, Completions, Error, Key, KeyValue, Request};
use tokio::sync::watch;

use crate::connections::{Connections, Door, Refusal};
use crate::run::Listener;
use crate::{Config, Failure};

/// So many clients may be told at a time: they only have to hear it.
const CLIENTS_MAX: usize = 64;

/// Has clients told what the node waits for while it asks to be let in.
pub(crate) async fn meanwhile<T>(
    config: &Config,
    listeners: &[Listener],
    asked: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (name, by) = (&config.name, config.join.join(","));
    let why = format!(
        "node {name} is not one of a cluster yet: it asks {by} to let it in; its journal says how that goes"
    );
    let waiting = Waiting::serve(listeners, &why);
    let waiting = waiting.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let given = asked.await;
    waiting.end().await;
    given
}

/// Serves the clients of a node that is not one of a cluster yet.
struct Waiting {
    refusal: Refusal,
    connections: Connections,
}

impl Waiting {
    /// At its listeners, which stay as they are; `why` is what clients are told.
    fn serve(listeners: &[Listener], why: &str) -> io::Result<Waiting> {
        let nothing = Arc::new(Nothing(why.into()));
        let door = |listener: &Listener| -> io::Result<Door> {
            let sockets = listener.sockets.iter().map(std::net::TcpListener::try_clone);
            let store = Arc::new(store(nothing.clone(), listener));
            let dialect = listener.listen.dialect.clone();
            Ok(Door { sockets: sockets.collect::<io::Result<_>>()?, dialect, store })
        };
        let doors = listeners.iter().map(door).collect::<io::Result<_>>()?;
        let refusal = Refusal::new();
        let (connections, tasks) = Connections::start(doors, &refusal, 1, CLIENTS_MAX)?;
        tasks.into_iter().for_each(|task| drop(tokio::spawn(task)));
        Ok(Waiting { refusal, connections })
    }

    /// From its end on nobody is served here.
    async fn end(self) {
        self.refusal.refuse().await;
        self.connections.end().await;
    }
}

fn store(nothing: Arc<Nothing>, listener: &Listener) -> Store {
    Store {
        keys: nothing.clone(),
        cluster: nothing.clone(),
        admin: nothing.clone(),
        watch: nothing,
        clock: Arc::new(|| 0),
        keyspace: listener.listen.keyspace.clone(),
        advertise: listener.advertise.clone(),
        serving: watch::channel(false).1,
        end: None,
    }
}

/// A store that has nothing yet: why.
struct Nothing(String);

impl Nothing {
    fn refusal(&self) -> Error {
        Error::Unavailable(self.0.clone())
    }
}

impl KeyValue for Nothing {
    fn submit(&self, requests: Vec<Request>, mut completions: Box<dyn Completions>) {
        (0..requests.len()).for_each(|index| completions.complete(index, Err(self.refusal())));
    }
}

impl Admin for Nothing {
    fn administer(&self, _: Ask, _: Duration, answer: Answered) {
        answer(Err(self.refusal()));
    }
}

impl Watch for Nothing {
    fn watch(&self, _: Watching) -> Box<dyn Watcher> {
        Box::new(Nothing(self.0.clone()))
    }
}

impl Watcher for Nothing {
    fn next(&mut self, take: Take) {
        take(Err(self.refusal()));
    }
}

/// Who asks is refused by [`Cluster::id`] before anything of the rest is told.
impl Cluster for Nothing {
    fn id(&self) -> Result<ClusterId, Error> {
        Err(self.refusal())
    }

    fn terms(&self) -> Terms {
        Terms { shards: 1, replicas: 1, history: Some(1), deleted_micros: 0 }
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn locate(&self, _: &str, _: &Key, answer: Located) {
        answer(Err(self.refusal()));
    }
}
