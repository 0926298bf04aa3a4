//! The name under which other machines know this one: its fully qualified host name, as Python's `socket.getfqdn()` finds it.
//!
//! A name with a dot is taken for a full one. Where the machine's own name has none, the resolver says which name its address
//! stands for. Where that has none either it is taken all the same, as it at least stands for an address of this machine.

use std::net::ToSocketAddrs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long the resolver may take. Without a network it may be many times this, and a server must not start so late.
const PATIENCE: Duration = Duration::from_secs(2);

/// This machine's name.
pub fn full_name() -> String {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let of_address = if is_full(&own) { None } else { in_time(own.clone()) };
    best(own, of_address)
}

/// The name that the first address of a name stands for, unless that takes too long to find out.
fn in_time(name: String) -> Option<String> {
    let (send, found) = mpsc::channel();
    // Whoever comes late finds nobody who waits.
    thread::spawn(move || send.send(name_of_address(&name)));
    found.recv_timeout(PATIENCE).ok().flatten()
}

/// The better of a machine's own name and of the one that its address stands for, if any.
fn best(own: String, of_address: Option<String>) -> String {
    match of_address {
        Some(name) if !is_full(&own) => name,
        _ => own,
    }
}

fn is_full(name: &str) -> bool {
    name.contains('.')
}

/// The name that the first address of a name stands for.
fn name_of_address(name: &str) -> Option<String> {
    let address = (name, 0).to_socket_addrs().ok()?.next()?;
    dns_lookup::lookup_addr(&address.ip()).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_a_dot_is_full() {
        let best = |own: &str, other: Option<&str>| best(own.into(), other.map(Into::into));
        assert_eq!(best("n1.example.org", Some("localhost")), "n1.example.org");
        assert_eq!(best("n1.example.org", None), "n1.example.org");
        assert_eq!(best("n1", Some("n1.example.org")), "n1.example.org");
        assert_eq!(best("n1", Some("localhost")), "localhost");
        assert_eq!(best("n1", None), "n1");
    }

    #[test]
    fn name_of_an_address_is_asked_of_the_resolver() {
        let found = name_of_address("127.0.0.1").expect("/etc/hosts has it");
        assert!(found.starts_with("localhost"), "{found}");
        // Names below `invalid` are in no directory.
        assert_eq!(name_of_address("nowhere.invalid"), None);
    }

    #[test]
    fn name_of_this_machine_is_one() {
        let name = full_name();
        assert!(!name.is_empty() && !name.contains([':', '/', ' ']), "{name}");
    }
}
