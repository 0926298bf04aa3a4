//! Why there is no connection to a broker, in words that say what to do.

use std::io;

use kv::keyspace::Broker;
use rumqttc::v5;

/// Why a connection could not be made, or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nobody listens at the address.
    Nobody,
    /// The address cannot be reached, or its name is not known.
    Unreachable(String),
    /// It refuses the user, or the password.
    Login,
    /// It refuses for a reason of its own.
    Refused(String),
    /// What listens there does not answer as a broker does, at least not in this version of MQTT.
    NoBroker,
    /// There is no trust.
    Tls(String),
    /// It stood, and broke.
    Lost(String),
}

impl Why {
    /// Whether another version of MQTT may do.
    pub fn may_be_the_version(&self) -> bool {
        matches!(self, Why::NoBroker)
    }

    /// What to say of a broker.
    pub fn told(&self, broker: &Broker) -> String {
        let place = format!("{}:{}", broker.host(), broker.port());
        match self {
            Why::Nobody => format!(
                "nobody listens at {place}: start the broker, or give its address (keyspace alter --bus)"
            ),
            Why::Unreachable(why) => format!("{place} cannot be reached: {why}"),
            Why::Login => match broker.login() {
                Some((user, _)) => format!("the broker at {place} refuses the user {user:?} or the password"),
                None => {
                    format!("the broker at {place} wants a user and a password: mqtt://USER:PASSWORD@HOST")
                }
            },
            Why::Refused(why) => format!("the broker at {place} refuses the connection: {why}"),
            Why::NoBroker if broker.is_tls() => {
                format!("what listens at {place} does not answer as an MQTT broker does")
            }
            Why::NoBroker => {
                format!(
                    "what listens at {place} does not answer as an MQTT broker does; if it wants TLS, give mqtts://"
                )
            }
            Why::Tls(why) => format!(
                "no TLS with the broker at {place}: {why}; its certificate must be for this name and signed by who the system \
                 trusts, or by ?ca=FILE"
            ),
            Why::Lost(why) => format!("the connection to the broker at {place} broke: {why}"),
        }
    }

    fn of_io(error: &io::Error) -> Why {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Why::Nobody,
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                Why::NoBroker
            }
            _ => Why::Unreachable(error.to_string()),
        }
    }
}

impl From<&v5::ConnectionError> for Why {
    /// Of a connection that was to be made.
    fn from(error: &v5::ConnectionError) -> Why {
        use v5::mqttbytes::v5::ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
        match error {
            v5::ConnectionError::Io(error) => Why::of_io(error),
            v5::ConnectionError::Tls(error) => of_tls(error),
            v5::ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized) => Why::Login,
            v5::ConnectionError::ConnectionRefused(code) if is_of_version(&format!("{code:?}")) => {
                Why::NoBroker
            }
            v5::ConnectionError::ConnectionRefused(code) => Why::Refused(format!("{code:?}")),
            _ => Why::NoBroker,
        }
    }
}

impl From<&rumqttc::ConnectionError> for Why {
    /// Of a connection that was to be made.
    fn from(error: &rumqttc::ConnectionError) -> Why {
        use rumqttc::ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
        match error {
            rumqttc::ConnectionError::Io(error) => Why::of_io(error),
            rumqttc::ConnectionError::Tls(error) => of_tls(error),
            rumqttc::ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized) => Why::Login,
            rumqttc::ConnectionError::ConnectionRefused(code) if is_of_version(&format!("{code:?}")) => {
                Why::NoBroker
            }
            rumqttc::ConnectionError::ConnectionRefused(code) => Why::Refused(format!("{code:?}")),
            _ => Why::NoBroker,
        }
    }
}

/// Whether a broker's code says that it speaks another version.
fn is_of_version(code: &str) -> bool {
    code.ends_with("ProtocolVersion")
}

/// An encrypted connection fails as any does, or for want of trust.
fn of_tls(error: &rumqttc::TlsError) -> Why {
    match error {
        rumqttc::TlsError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Why::Nobody,
        other => Why::Tls(other.to_string()),
    }
}
