//! Connections of clients: an acceptor a listener, and on the runtime of each core a task that serves what it is dealt.
//!
//! What holds for a connection holds whatever it speaks: so many may be open, each has an account of what it may hold, and a
//! stop goes in two steps. First nobody can connect any more ([`Connections::refuse`]), while who is connected is still
//! answered. Then connections end as their dialect ends them, with what was asked answered and written
//! ([`Connections::end`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dialects::{Account, Dialect, Stop, Stopper, Store, Stream};
use kv::Budget;
use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::busy::Busy;
use crate::counted::{Counted, Counter, Permit};
use crate::journal::Seldom;

/// Connections dealt to a core and not yet taken up.
const DEALT_MAX: usize = 256;
/// Bytes of requests that all connections may have open, and that one may: so that one cannot shut out the others.
const REQUEST_BYTES_MAX: usize = 256 << 20;
const REQUEST_BYTES_EACH_MAX: usize = 64 << 20;
/// Bytes of answers that all connections may have waiting to be taken, and that one may: some of the largest.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const ANSWER_BYTES_EACH_MAX: usize = 32 << 20;
/// How long to wait when a connection cannot be accepted: others must close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A connection whose other end has vanished is noticed after about this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long connections may take to end: those that write, and read, do so within a moment.
const END: Duration = Duration::from_secs(1);

/// Sets what every connection needs.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// What all connections of clients share.
#[derive(Clone)]
struct Budgets {
    requests: Budget,
    answers: Budget,
}

impl Budgets {
    fn new() -> Budgets {
        Budgets { requests: Budget::new(REQUEST_BYTES_MAX), answers: Budget::new(ANSWER_BYTES_MAX) }
    }

    /// For one connection.
    fn account(&self) -> Account {
        Account::new(self.requests.part(REQUEST_BYTES_EACH_MAX), self.answers.part(ANSWER_BYTES_EACH_MAX))
    }
}

/// A bound listener: its sockets, what is spoken there, and what stands behind it.
pub(crate) struct Door {
    pub sockets: Vec<std::net::TcpListener>,
    pub dialect: Arc<dyn Dialect>,
    pub store: Arc<Store>,
}

/// Closes the listeners of a node. Clones close the same ones.
#[derive(Clone)]
pub(crate) struct Refusal(Arc<watch::Sender<bool>>);

impl Refusal {
    /// Of listeners that will be.
    pub fn new() -> Refusal {
        Refusal(Arc::new(watch::Sender::new(false)))
    }

    /// From its end on nobody can connect.
    pub async fn refuse(&self) {
        self.0.send_replace(true);
        // Each acceptor has a receiver, and its socket goes before that.
        self.0.closed().await;
    }
}

/// Serves connections on the runtime that runs it, until they have ended.
pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The connections of a node.
pub(crate) struct Connections {
    stopper: Stopper,
    /// Each core has a sender.
    cores: mpsc::Receiver<()>,
}

impl Connections {
    /// Serves up to `most` clients on so many cores: each is to run one of the tasks that are returned.
    pub fn start(
        doors: Vec<Door>,
        refusal: &Refusal,
        cores: usize,
        most: usize,
    ) -> io::Result<(Connections, Vec<Serving>)> {
        let (stopper, stop) = Stop::new();
        let (alive, ended) = mpsc::channel(1);
        let budgets = Budgets::new();
        let (cores, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| Home::new()).unzip();
        let serving =
            |receiver| -> Serving { Box::pin(serve(receiver, budgets.clone(), stop.clone(), alive.clone())) };
        let tasks = receivers.into_iter().map(serving).collect();
        let counter = Counter::new(most);
        for Door { sockets, dialect, store } in doors {
            for socket in sockets {
                let accepted = Accepted { dialect: dialect.clone(), store: store.clone() };
                let socket = TcpListener::from_std(socket)?;
                tokio::spawn(accept(socket, accepted, cores.clone(), counter.clone(), refusal.0.subscribe()));
            }
        }
        Ok((Connections { stopper, cores: ended }, tasks))
    }

    /// Ends them all: what was asked is answered first, if that does not take long.
    pub async fn end(mut self) {
        self.stopper.stop();
        // Nobody sends; the last core closes it.
        self.cores.recv().await;
    }
}

/// What a connection is accepted for.
#[derive(Clone)]
struct Accepted {
    dialect: Arc<dyn Dialect>,
    store: Arc<Store>,
}

/// A connection on its way to its core, with its part in the count of that core's.
type Dealt = (std::net::TcpStream, Permit, Accepted, Arc<()>);

/// Where the connections of a core go.
#[derive(Clone)]
struct Home {
    dealt: mpsc::Sender<Dealt>,
    /// Each of its connections on which requests come has a clone ([`Busy`]).
    each: Arc<()>,
}

impl Home {
    fn new() -> (Home, mpsc::Receiver<Dealt>) {
        let (dealt, receiver) = mpsc::channel(DEALT_MAX);
        (Home { dealt, each: Arc::default() }, receiver)
    }

    /// The core with the fewest busy connections; of several the first: the first ones drive shards, whatever their number, and a
    /// request is cheapest on the thread that drives its shard.
    fn next(cores: &[Home]) -> &Home {
        cores.iter().min_by_key(|core| Arc::strong_count(&core.each)).expect("a node has a core")
    }
}

async fn accept(
    listener: TcpListener,
    accepted: Accepted,
    cores: Vec<Home>,
    counter: Counter,
    mut refused: watch::Receiver<bool>,
) {
    let (mut too_many, mut failed) = (Seldom::default(), Seldom::default());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.and_then(|(stream, _)| stream.into_std()),
            _ = refused.wait_for(|refused| *refused) => break,
        };
        match stream {
            Ok(stream) => {
                let Some(permit) = counter.permit() else {
                    if let Some(times) = too_many.happened() {
                        let why =
                            "too many are open: share them among requests, or raise the limit of open files";
                        tracing::warn!(times, open = counter.most(), why, "closed new connections");
                    }
                    continue;
                };
                // A core that cannot keep up with new connections holds the acceptor back, and so the clients.
                let core = Home::next(&cores);
                let _ = core.dealt.send((stream, permit, accepted.clone(), core.each.clone())).await;
            }
            Err(error) => {
                if let Some(times) = failed.happened() {
                    tracing::warn!(times, %error, "cannot accept connections; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(refused);
}

/// Serves what is dealt, on its own runtime, until it is stopped and all have ended or had time to.
async fn serve(mut dealt: mpsc::Receiver<Dealt>, budgets: Budgets, mut stop: Stop, alive: mpsc::Sender<()>) {
    let mut open = JoinSet::new();
    let stopped = stop.clone();
    loop {
        tokio::select! {
            Some((stream, permit, accepted, counts)) = dealt.recv() => match taken(stream) {
                Ok(stream) => {
                    let account = budgets.account();
                    let (busy, stop) = (Busy::new(counts), stopped.clone());
                    let bytes = Box::new(Counted::new(stream, permit, busy, account.clone(), stop));
                    let stream = Stream { bytes, account };
                    open.spawn(accepted.dialect.serve(stream, accepted.store, stopped.clone()));
                }
                Err(error) => tracing::debug!(%error, "a connection broke before it began"),
            },
            Some(ended) = open.join_next() => note(ended),
            () = stop.asked() => break,
        }
    }
    let _ = tokio::time::timeout(END, async {
        while let Some(ended) = open.join_next().await {
            note(ended);
        }
    })
    .await;
    // Those that are left end with their tasks.
    drop(open);
    drop(alive);
}

fn taken(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(stream)?;
    prepare(&stream)?;
    Ok(stream)
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "serving a connection failed: this is a bug, its message stands before this one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_goes_to_the_core_with_the_fewest_and_of_several_to_the_first() {
        let (cores, _receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| Home::new()).unzip();
        // As each acceptor has them.
        let _others = cores.clone();
        let place = |home: &Home| cores.iter().position(|core| Arc::ptr_eq(&core.each, &home.each)).unwrap();
        let mut open = Vec::new();
        for expected in [0, 1, 2, 0] {
            let home = Home::next(&cores);
            assert_eq!(place(home), expected);
            open.push(home.each.clone());
        }
        open.remove(2);
        assert_eq!(place(Home::next(&cores)), 2, "its only connection has ended");
    }
}
