//! Connections of clients: one acceptor, and a runtime a core that serves what it is dealt.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dialects::native;
use kv::Budget;
use rustix::io::Errno;
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

/// Listens on every address that HOST:PORT stands for and this machine has, so that nobody else answers at one of them:
/// `localhost` is 127.0.0.1 and ::1 for most. With port 0 all have the same free one. A port that is taken is told with what to
/// do.
pub(crate) fn listen(address: &str, what: &str) -> Result<Vec<std::net::TcpListener>, Failure> {
    let refused = |why: String| Failure::Refused(format!("cannot listen on {address} for {what}: {why}"));
    let places = address.to_socket_addrs().map_err(|error| refused(error.to_string()))?;
    bind_all(places.collect()).map_err(refused)
}

/// Binds those that this machine has; if the port of one of them is taken, none.
fn bind_all(places: BTreeSet<SocketAddr>) -> Result<Vec<std::net::TcpListener>, String> {
    let mut listeners = Vec::new();
    let (mut port, mut missing) = (None, None);
    for place in places {
        let place = SocketAddr::new(place.ip(), port.unwrap_or(place.port()));
        match bind(place) {
            Ok(listener) => {
                port = listener.local_addr().ok().map(|bound| bound.port());
                listeners.push(listener);
            }
            Err(error) if is_missing(&error) => {
                missing = Some(format!("this machine has no {place}: {error}"))
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(format!(
                    "the port is in use at {place}: stop the program that has it, or choose another port"
                ));
            }
            Err(error) => return Err(format!("{place}: {error}")),
        }
    }
    match listeners.is_empty() {
        false => Ok(listeners),
        true => Err(missing.unwrap_or_else(|| "the name stands for no address".into())),
    }
}

/// Whether the machine lacks an address, or its whole family.
fn is_missing(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| errno == Errno::ADDRNOTAVAIL || errno == Errno::AFNOSUPPORT)
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that comes back must get its port while old connections linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

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
    fn account(&self) -> native::Account {
        native::Account::new(
            self.requests.part(REQUEST_BYTES_EACH_MAX),
            self.answers.part(ANSWER_BYTES_EACH_MAX),
        )
    }
}

/// Serves up to `connections` clients until `stop` turns true: on this runtime, and on `cores - 1` threads with one each.
pub(crate) async fn serve(
    listeners: Vec<std::net::TcpListener>,
    routes: Routes,
    cores: usize,
    connections: usize,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listeners: Vec<TcpListener> =
        listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
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
    let counter = Counter::new(connections);
    for listener in listeners {
        tokio::spawn(accept(listener, dealt.clone(), counter.clone(), stop.clone()));
    }
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
    cores: Vec<mpsc::Sender<Dealt>>,
    counter: Counter,
    mut stop: watch::Receiver<bool>,
) {
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
                        tracing::warn!(times, open = counter.most(), why, "closed new connections");
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
        Ok::<_, io::Error>(Counted::new(stream, permit, budgets.account()))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a name could stand for: two that every machine has, one of a family that not every machine has, and one of the
    /// block for documentation (RFC 5737), which nobody has.
    fn places(port: u16) -> BTreeSet<SocketAddr> {
        let hosts = ["127.0.0.1", "127.0.0.2", "::1", "192.0.2.1"];
        hosts.map(|host| SocketAddr::new(host.parse().unwrap(), port)).into()
    }

    fn bound(listeners: &[std::net::TcpListener]) -> BTreeSet<SocketAddr> {
        listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
    }

    fn is_here(place: &SocketAddr) -> bool {
        std::net::TcpListener::bind(SocketAddr::new(place.ip(), 0)).is_ok()
    }

    #[test]
    fn name_is_listened_on_at_all_its_addresses_with_one_port() {
        let found = bound(&bind_all(places(0)).unwrap());
        let port = found.first().unwrap().port();
        assert_ne!(port, 0);
        assert_eq!(found, places(port).into_iter().filter(is_here).collect());
        assert!(found.len() >= 2, "{found:?}");
        assert!(listen("localhost:0", "clients").is_ok());
    }

    #[test]
    fn name_with_one_address_taken_is_refused_and_says_which() {
        for place in places(0).into_iter().filter(is_here) {
            let taken = bind(place).unwrap();
            let place = taken.local_addr().unwrap();
            let why = bind_all(places(place.port())).unwrap_err();
            assert!(why.contains(&format!("the port is in use at {place}")), "{why}");
        }
    }

    #[test]
    fn address_that_the_machine_lacks_is_refused() {
        let error = listen("192.0.2.1:7401", "clients").unwrap_err().to_string();
        assert!(error.contains("this machine has no 192.0.2.1:7401"), "{error}");
    }
}
