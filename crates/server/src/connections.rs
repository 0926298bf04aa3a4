//! Connections of clients: one acceptor, and a runtime a core that serves what it is dealt.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dialects::native;
use kv::Budget;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::Failure;
use crate::counted::{Counted, Counter, Permit};
use crate::journal::Seldom;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
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

/// Listens on HOST:PORT; a port that is taken is told with what to do.
pub(crate) fn listen(address: &str, what: &str) -> Result<std::net::TcpListener, Failure> {
    let refused = |why: String| Failure::Refused(format!("cannot listen on {address} for {what}: {why}"));
    let mut last = refused("it is no address of the form HOST:PORT, as 127.0.0.1:7401".into());
    let addresses = match address.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Err(refused(error.to_string())),
    };
    for address in addresses {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                last = refused(
                    "the port is in use: stop the program that has it, or choose another port".into(),
                );
            }
            Err(error) => last = refused(error.to_string()),
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that comes back must get its port while old connections linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Sets what every connection needs.
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
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
    fn account(&self) -> native::Account {
        native::Account::new(
            self.requests.part(REQUEST_BYTES_EACH_MAX),
            self.answers.part(ANSWER_BYTES_EACH_MAX),
        )
    }
}

/// Serves up to `connections` clients until `stop` turns true: on this runtime, and on `cores - 1` threads with one each.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    routes: Routes,
    cores: usize,
    connections: usize,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let budgets = Budgets::new();
    let mut dealt = Vec::new();
    for core in 0..cores {
        let (sender, receiver) = mpsc::channel(DEALT_MAX);
        dealt.push(sender);
        let serving = serve_core(receiver, routes.clone(), budgets.clone(), stop.clone());
        if core == 0 {
            tokio::spawn(serving);
        } else {
            on_a_thread(core, serving);
        }
    }
    accept(listener, &dealt, connections, stop).await;
    Ok(())
}

fn on_a_thread(core: usize, serving: impl Future<Output = ()> + Send + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(serving);
    };
    thread::Builder::new().name(format!("connections-{core}")).spawn(run).expect("a thread can be started");
}

/// A connection on its way to its core.
type Dealt = (std::net::TcpStream, Permit);

async fn accept(
    listener: TcpListener,
    cores: &[mpsc::Sender<Dealt>],
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let counter = Counter::new(connections);
    let (mut refused, mut failed) = (Seldom::default(), Seldom::default());
    for core in (0..cores.len()).cycle() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let Some(permit) = counter.permit() else {
                    if let Some(times) = refused.happened() {
                        let why =
                            "too many are open: share them among requests, or raise the limit of open files";
                        tracing::warn!(times, open = connections, why, "closed new connections");
                    }
                    continue;
                };
                // A core that cannot keep up with new connections holds the acceptor back, and so the clients.
                let _ = cores[core].send((stream, permit)).await;
            }
            Err(error) => {
                if let Some(times) = failed.happened() {
                    tracing::warn!(times, %error, "cannot accept connections; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_core(
    dealt: mpsc::Receiver<Dealt>,
    routes: Routes,
    budgets: Budgets,
    mut stop: watch::Receiver<bool>,
) {
    use tokio_stream::StreamExt;
    let incoming = ReceiverStream::new(dealt).map(move |(stream, permit)| {
        let stream = TcpStream::from_std(stream)?;
        prepare(&stream)?;
        Ok::<_, std::io::Error>(Counted::new(stream, permit, budgets.account()))
    });
    let stopped = async move {
        // The sender lives as long as the node.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served =
        native::server_builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await;
    if let Err(error) = served {
        tracing::error!(%error, "serving connections ended");
    }
}

/// The routes of a node's dialects.
pub(crate) fn dialects(handle: Arc<crate::handle::Handle>) -> native::Service {
    let clock = handle.clone();
    native::service(handle.clone(), handle, Arc::new(move || clock.clock()))
}
