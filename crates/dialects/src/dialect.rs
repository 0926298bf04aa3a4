//! The wall between a node and the wire protocols that it serves.
//!
//! A node listens, counts connections, limits what each of them holds, says whether it wants requests, and stops. It does so
//! once for all dialects. A [`Dialect`] gets one connection at a time, and behind it the [`Store`] that its listener stands
//! for. It turns bytes into [`kv::Request`]s and replies into bytes until the other end is done or the node wants to stop.
//!
//! ```text
//!   listener ──▶ connection ──▶ Dialect::serve(stream, store, stop)
//!     │            └ what it may hold: Account        │
//!     └ address, advertise, keyspace: Store           └──▶ Store::keys.submit(requests)
//! ```
//!
//! A node knows dialects as values of this trait. [`crate::named()`] is the one list of them: a new dialect is one line there.
//!
//! # Caveats
//!
//! A dialect starts no listener. It may start tasks on the runtime that serves its connection, and they end with the connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kv::KeyValue;
use kv::admin::Admin;
use kv::cluster::Cluster;
use kv::watch::Watch;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::Account;

/// A wire protocol that a node can serve.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// Its name in a listener's configuration.
    fn name(&self) -> &'static str;

    /// Serves one connection. Ready when the connection is over: its other end closed it, or broke the protocol, or `stop` was
    /// set and everything that had been asked by then is answered and written.
    fn serve(&self, stream: Stream, store: Arc<Store>, stop: Stop) -> Serving;
}

/// A connection that is being served.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An accepted connection.
pub struct Stream {
    /// Its bytes.
    pub bytes: Box<dyn Duplex>,
    /// What it may hold of the node's memory.
    pub account: Account,
}

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The version clock: microseconds since 1970.
pub type Clock = dyn Fn() -> u64 + Send + Sync;

/// What stands behind the connections of one listener.
pub struct Store {
    /// Where requests go.
    pub keys: Arc<dyn KeyValue>,
    /// The cluster, as this node sees it.
    pub cluster: Arc<dyn Cluster>,
    /// Who changes the cluster.
    pub admin: Arc<dyn Admin>,
    /// Who gives what changes.
    pub watch: Arc<dyn Watch>,
    /// Turns a time to live into a deadline when a request is accepted.
    pub clock: Arc<Clock>,
    /// The keyspace, of dialects whose requests name none.
    pub keyspace: String,
    /// HOST:PORT where others reach this listener.
    pub advertise: String,
    /// Whether the node wants requests.
    pub serving: watch::Receiver<bool>,
    /// Has the process stop, as a signal does: what is being answered is answered first. `None` = clients of this listener
    /// may not.
    pub end: Option<Arc<End>>,
}

/// Has the process stop. Ready when nobody can connect any more and the store has come to its end; whoever is connected still
/// gets the answers to what was asked, and then the process is gone.
pub type End = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// Says when a connection is to end.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Ends connections.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stop {
    /// One that has not been asked for yet.
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Stop(receiver))
    }

    /// Whether it has been asked for.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked for. A stopper that is gone never asks.
    pub async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Stopper {
    /// Asks for the stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
