//! HOST:PORT, as clients and servers of this wire say where a server is.

use std::net::Ipv6Addr;

use kv::Error;

/// The longest name of DNS, in bytes.
const HOST_BYTES_MAX: usize = 255;
/// A colon and the longest port, in bytes.
const PORT_BYTES_MAX: usize = 6;

/// Checks that a text is HOST:PORT: a name, an IPv4 address or an IPv6 address in brackets, and a port of 1 to 65535.
/// [`Error::Invalid`] when it is not, [`Error::TooLarge`] when it is longer than any.
pub(super) fn check(text: &str) -> Result<(), Error> {
    check_name(text)?;
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && is_port(port) => Ok(()),
        _ => Err(Error::Invalid(format!(
            "'{text}' is no address: use HOST:PORT, such as pairs.example:5001 or [::1]:5001"
        ))),
    }
}

/// Checks that a text can stand in a directory: whatever a server calls itself, as long as it says something and is no longer
/// than the longest HOST:PORT. [`Error::Invalid`], [`Error::TooLarge`].
pub(super) fn check_name(text: &str) -> Result<(), Error> {
    let limit = HOST_BYTES_MAX + PORT_BYTES_MAX;
    if text.len() > limit {
        let what = "the HOST:PORT of a server, in bytes".into();
        return Err(Error::TooLarge { what, size: text.len() as u64, limit: limit as u64 });
    }
    if text.is_empty() {
        return Err(Error::Invalid("a server that registers keys says where it is, as HOST:PORT".into()));
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    }
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_of_names_and_addresses_is_ok() {
        let longest = format!("{}:65535", "h".repeat(HOST_BYTES_MAX));
        for text in ["localhost:1", "127.0.0.1:50051", "[::1]:5001", "a_b-c.example.:80", longest.as_str()] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn check_of_anything_else_is_refused() {
        let texts = [
            "",
            ":",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:65536",
            "host:+1",
            "host:-1",
            "host: 1",
            "ho st:1",
            "::1:80",
            "[host]:80",
            "[::1:80",
            "::1]:80",
            "http://host:80",
            "host:80/",
            "a@b:80",
            "ä:80",
            "host:1\n",
        ];
        for text in texts {
            assert!(matches!(check(text), Err(Error::Invalid(_))), "{text}");
        }
        assert_eq!(check_name("the second server"), Ok(()));
        assert!(matches!(check_name(""), Err(Error::Invalid(_))));
        let too_long = format!("{}:1", "h".repeat(300));
        assert_eq!(check_name(&too_long), check(&too_long));
        assert!(matches!(check(&too_long), Err(Error::TooLarge { size: 302, limit: 261, .. })));
    }
}
