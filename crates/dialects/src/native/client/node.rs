//! One node of the cluster, and the connections to it.
//!
//! A connection is made when it is first needed, by one task for all that wait for it, and is forgotten when a request on
//! it fails in the transport. So a failure to connect is known as such: the request has not left.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use kv::Error;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};

use super::Options;
use crate::native::{CONNECTION_WINDOW_BYTES, RESETS_MAX, STREAM_WINDOW_BYTES};

/// After a failure in the transport others are preferred for so long.
const AVOID: Duration = Duration::from_millis(500);
/// A connection is asked for a sign of life so often: a node that vanished without a word is noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And is given up when none came for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers of one answer: a status with its details has at most about 10 KiB.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// One node, by its address.
pub(super) struct Node {
    pub(super) address: String,
    endpoint: Endpoint,
    connect_timeout: Duration,
    runtime: Handle,
    connections: Vec<Connection>,
    turn: AtomicUsize,
    born: Instant,
    /// Milliseconds since `born`.
    avoid_until: AtomicU64,
}

/// A connection, when it is open.
#[derive(Default)]
struct Connection {
    open: RwLock<Option<Open>>,
    /// Held by whoever connects. The time and text of the last failure: those who waited meanwhile share it.
    connecting: tokio::sync::Mutex<Option<(Instant, String)>>,
}

#[derive(Clone)]
struct Open {
    channel: Channel,
    /// Tells this channel from those before it.
    serial: u64,
}

/// A connection in use.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) node: Arc<Node>,
    pub(super) channel: Channel,
    index: usize,
    serial: u64,
}

impl Node {
    /// The node at an address. [`Error::Invalid`] when that is none.
    pub(super) fn new(address: &str, options: &Options, runtime: Handle) -> Result<Node, Error> {
        let invalid =
            || Error::Invalid(format!("'{address}' is no address: use HOST:PORT, such as 127.0.0.1:7401"));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| invalid())?;
        if endpoint.uri().port().is_none() || endpoint.uri().path() != "/" {
            return Err(invalid());
        }
        let endpoint = endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            // A request whose time is over is reset, and its late answer must not end the others' connection.
            .http2_max_concurrent_reset_streams(RESETS_MAX)
            .http2_max_local_error_reset_streams(None);
        Ok(Node {
            address: address.into(),
            endpoint,
            connect_timeout: options.connect_timeout,
            runtime,
            connections: (0..options.connections.max(1)).map(|_| Connection::default()).collect(),
            turn: AtomicUsize::new(0),
            born: Instant::now(),
            avoid_until: AtomicU64::new(0),
        })
    }

    /// Whether it failed lately, so that others are preferred.
    pub(super) fn is_avoided(&self) -> bool {
        self.millis() < self.avoid_until.load(Ordering::Relaxed)
    }

    /// A connection to it: an open one, or a new one. The error tells why there is none.
    pub(super) async fn link(self: &Arc<Node>) -> Result<Link, String> {
        let index = match self.connections.len() {
            1 => 0,
            count => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        let open = match self.connections[index].open() {
            Some(open) => open,
            None => self.connect(&self.connections[index]).await?,
        };
        Ok(Link { node: self.clone(), channel: open.channel, index, serial: open.serial })
    }

    async fn connect(&self, connection: &Connection) -> Result<Open, String> {
        let asked = Instant::now();
        let mut last = connection.connecting.lock().await;
        if let Some(open) = connection.open() {
            return Ok(open);
        }
        if let Some((_, why)) = last.as_ref().filter(|(when, _)| *when > asked) {
            return Err(why.clone());
        }
        match self.dial().await {
            Ok(channel) => {
                let open = Open { channel, serial: super::random() };
                *connection.open.write().expect("no holder of the lock panics") = Some(open.clone());
                Ok(open)
            }
            Err(why) => {
                *last = Some((Instant::now(), why.clone()));
                self.avoid();
                Err(why)
            }
        }
    }

    async fn dial(&self) -> Result<Channel, String> {
        let (endpoint, limit) = (self.endpoint.clone(), self.connect_timeout);
        // On the client's own runtime: the connection outlives the request that made it.
        let dial = self.runtime.spawn(async move { tokio::time::timeout(limit, endpoint.connect()).await });
        match dial.await {
            Ok(Ok(Ok(channel))) => Ok(channel),
            Ok(Ok(Err(error))) => Err(format!("cannot connect to {}: {}", self.address, root(&error))),
            Ok(Err(_)) => Err(format!("cannot connect to {}: no answer within {limit:?}", self.address)),
            Err(_) => Err("the client's tokio runtime has ended: keep it as long as the client".into()),
        }
    }

    fn avoid(&self) {
        self.avoid_until.store(self.millis() + AVOID.as_millis() as u64, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }
}

impl Connection {
    fn open(&self) -> Option<Open> {
        self.open.read().expect("no holder of the lock panics").clone()
    }
}

impl Link {
    /// Gives the connection up: the next request makes a new one, and prefers other nodes meanwhile.
    pub(super) fn broken(&self) {
        let mut open = self.node.connections[self.index].open.write().expect("no holder of the lock panics");
        if open.as_ref().is_some_and(|open| open.serial == self.serial) {
            *open = None;
            self.node.avoid();
        }
    }
}

/// The cause at the bottom of an error: the one that says something.
pub(super) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
