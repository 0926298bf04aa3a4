//! Where a node listens for clients, and for whom.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use dialects::Dialect;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Config, Failure, address};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listener of a node.
#[derive(Clone, Debug)]
pub struct Listen {
    /// What its clients speak.
    pub dialect: Arc<dyn Dialect>,
    /// HOST:PORT; every address of a name that this machine has; `*:PORT` = all of this machine's, IPv4 and IPv6.
    pub address: String,
    /// HOST:PORT that others are told to connect to; `None` = the first one that is listened on, which must be one then that
    /// they can connect to.
    pub advertise: Option<String>,
    /// The keyspace of requests that name none. It may come and go while the node runs.
    pub keyspace: String,
    /// Whether its clients may end the process, as some dialects let them.
    pub may_end: bool,
}

impl Listen {
    /// One at this address with nothing special about it.
    pub fn new(dialect: Arc<dyn Dialect>, address: impl Into<String>) -> Listen {
        Listen {
            dialect,
            address: address.into(),
            advertise: None,
            keyspace: kv::Request::KEYSPACE.into(),
            may_end: false,
        }
    }

    /// Checks what can be checked before anything is touched. `named` is how the user knows it.
    pub(crate) fn validate(&self, named: &str) -> Result<(), String> {
        kv::keyspace::check_name(&self.keyspace).map_err(|why| format!("{named} {}: {why}", self.address))?;
        match &self.advertise {
            Some(advertise) => {
                address::reachable(advertise).map_err(|why| format!("--advertise {advertise}: {why}"))
            }
            None if address::is_every(&self.address) => Err(format!(
                "{named} {}: that is every address of this machine, and clients must be told one: add --advertise HOST:PORT \
                 with one that they reach",
                self.address
            )),
            None => Ok(()),
        }
    }
}

/// Listens on every address that HOST:PORT stands for and this machine has, so that nobody else answers at one of them:
/// `localhost` is 127.0.0.1 and ::1 for most. With port 0 all have the same free one. A port that is taken is told with what to
/// do.
pub(crate) fn listen(address: &str, what: &str) -> Result<Vec<TcpListener>, Failure> {
    let refused = |why: String| Failure::Refused(format!("cannot listen on {address} for {what}: {why}"));
    bind_all(places(address).map_err(|error| refused(error.to_string()))?).map_err(refused)
}

/// Listens for other nodes, who are told to connect to `peer`; empty = to nowhere.
pub(crate) fn to_nodes(config: &Config, peer: &str) -> Result<Vec<TcpListener>, Failure> {
    match config.listen_peer.as_deref().unwrap_or(peer) {
        "" => Ok(Vec::new()),
        address => {
            tracing::info!(address, advertise = peer, "listening to other nodes");
            listen(address, "other nodes")
        }
    }
}

fn places(address: &str) -> io::Result<BTreeSet<SocketAddr>> {
    let every = |port: &str| {
        let port = port.parse().map_err(|_| io::Error::other("a port is a number up to 65535"))?;
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Ok(all.map(|ip| SocketAddr::new(ip, port)).into())
    };
    match address.strip_prefix("*:") {
        Some(port) => every(port),
        None => address.to_socket_addrs().map(Iterator::collect),
    }
}

/// Binds those that this machine has; if the port of one of them is taken, none.
fn bind_all(places: BTreeSet<SocketAddr>) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    let (mut port, mut missing) = (None, None);
    for place in places {
        let place = SocketAddr::new(place.ip(), port.unwrap_or(place.port()));
        // Where all of IPv4 has a socket already, that of IPv6 is for IPv6 alone.
        match bind(place, !listeners.is_empty()) {
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

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that comes back must get its port while old connections linger.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a name could stand for: two that every machine has, one of a family that not every machine has, and one of the
    /// block for documentation (RFC 5737), which nobody has.
    fn some_places(port: u16) -> BTreeSet<SocketAddr> {
        let hosts = ["127.0.0.1", "127.0.0.2", "::1", "192.0.2.1"];
        hosts.map(|host| SocketAddr::new(host.parse().unwrap(), port)).into()
    }

    fn bound(listeners: &[TcpListener]) -> BTreeSet<SocketAddr> {
        listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
    }

    fn is_here(place: &SocketAddr) -> bool {
        TcpListener::bind(SocketAddr::new(place.ip(), 0)).is_ok()
    }

    #[test]
    fn name_is_listened_on_at_all_its_addresses_with_one_port() {
        let found = bound(&bind_all(some_places(0)).unwrap());
        let port = found.first().unwrap().port();
        assert_ne!(port, 0);
        assert_eq!(found, some_places(port).into_iter().filter(is_here).collect());
        assert!(found.len() >= 2, "{found:?}");
        assert!(listen("localhost:0", "clients").is_ok());
    }

    #[test]
    fn star_is_every_address_of_both_families() {
        let listeners = listen("*:0", "clients").unwrap();
        let port = bound(&listeners).first().unwrap().port();
        for place in some_places(port).iter().filter(|place| is_here(place)) {
            assert!(std::net::TcpStream::connect(place).is_ok(), "{place}");
        }
        let error = listen(&format!("*:{port}"), "clients").unwrap_err().to_string();
        assert!(error.contains("the port is in use"), "{error}");
        assert!(listen("*:x", "clients").is_err() && listen("*:70000", "clients").is_err());
    }

    #[test]
    fn name_with_one_address_taken_is_refused_and_says_which() {
        for place in some_places(0).into_iter().filter(is_here) {
            let taken = bind(place, false).unwrap();
            let place = taken.local_addr().unwrap();
            let why = bind_all(some_places(place.port())).unwrap_err();
            assert!(why.contains(&format!("the port is in use at {place}")), "{why}");
        }
    }

    #[test]
    fn address_that_the_machine_lacks_is_refused() {
        let error = listen("192.0.2.1:7401", "clients").unwrap_err().to_string();
        assert!(error.contains("this machine has no 192.0.2.1:7401"), "{error}");
    }
}
