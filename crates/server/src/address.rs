//! Which addresses others can be told.
//!
//! An unspecified address (0.0.0.0, ::) is one to listen on: all of this machine's. Who connects to it reaches their own
//! machine, and there whoever listens, another cluster perhaps. So it is never told to anybody.

use std::net::ToSocketAddrs;

/// Whether others can connect to HOST:PORT, as far as can be told here; if not, why. A name that this machine does not know
/// may be known to others.
pub(crate) fn reachable(address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = port.filter(|(host, _)| !host.is_empty()) else {
        return Err("it is no address of the form HOST:PORT, as 10.0.0.1:7401".into());
    };
    if port == 0 {
        return Err("nobody can connect to port 0: give the port".into());
    }
    match is_every(address) {
        false => Ok(()),
        true => Err(format!(
            "nobody can connect to {host} from elsewhere: give an address of this machine that the others reach"
        )),
    }
}

/// Whether the host is written in numbers, so that nobody needs to be asked what it stands for.
pub(crate) fn is_numeric(address: &str) -> bool {
    address.starts_with(|first: char| first == '[' || first.is_ascii_digit())
}

/// Whether HOST:PORT stands for every address of this machine.
pub(crate) fn is_every(address: &str) -> bool {
    if address.starts_with("*:") {
        return true;
    }
    let mut places = address.to_socket_addrs().into_iter().flatten();
    places.any(|place| place.ip().to_canonical().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_others_reach_is_taken() {
        for address in ["10.0.0.1:7401", "[::1]:7401", "localhost:7401", "n1.example.invalid:7401"] {
            assert_eq!(reachable(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn address_that_nobody_reaches_is_refused() {
        for (address, why) in [
            ("0.0.0.0:7401", "nobody can connect to 0.0.0.0 from elsewhere"),
            ("0:7401", "nobody can connect to 0 from elsewhere"),
            ("[::]:7401", "nobody can connect to [::] from elsewhere"),
            ("[::ffff:0.0.0.0]:7401", "from elsewhere"),
            ("10.0.0.1:0", "port 0"),
            ("10.0.0.1", "HOST:PORT"),
            (":7401", "HOST:PORT"),
            ("10.0.0.1:x", "HOST:PORT"),
        ] {
            let error = reachable(address).unwrap_err();
            assert!(error.contains(why), "{address}: {error}");
        }
    }
}
