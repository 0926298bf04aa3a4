//! One connection to a broker, in either version of MQTT.
//!
//! `rumqttc` has a client for each, alike but for their types. What a bus needs of both is here under one name. Each attempt has
//! a client of its own: what was not acknowledged is sent again by the queue ([`super::queue`]), so nothing that a
//! client remembers of an earlier connection is of use.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::keyspace::Broker;
use rumqttc::v5::mqttbytes::v5 as packets5;
use rumqttc::{TlsConfiguration, Transport, v5};

use super::failure::Why;
use super::queue::WINDOW;

/// How long to connect and be answered, in seconds.
const CONNECT_SECONDS: u64 = 5;
/// A broker that is gone without a word is noticed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A broker keeps what comes for a node that is away for so long, as far as it has room.
const SESSION_SECONDS: u32 = 3600;
/// The largest packet that is taken: no sender's piece is nearly as large.
const PACKET_BYTES_MAX: u32 = 16 << 20;
/// What the client is asked for waits in its queue: pieces, and changes of subscriptions.
const REQUESTS_MAX: usize = 4 * WINDOW;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 5: the broker tells the largest packet that it takes, why it refuses, and forgets a session in the end.
    Five,
    /// 3.1.1.
    ThreeOneOne,
}

impl Version {
    /// The other one.
    pub fn other(self) -> Version {
        match self {
            Version::Five => Version::ThreeOneOne,
            Version::ThreeOneOne => Version::Five,
        }
    }

    /// Its number.
    pub fn name(self) -> &'static str {
        match self {
            Version::Five => "5",
            Version::ThreeOneOne => "3.1.1",
        }
    }
}

/// What is heard of a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// It stands; the broker takes packets of so many bytes if it tells.
    Up { packet_bytes_max: Option<u32> },
    /// A piece is on its way, under this id.
    Sent(u16),
    /// The broker has taken it; or it does not pass it on: why.
    Taken(u16, Option<String>),
    /// The broker does not give what was subscribed to.
    SubscriptionRefused(String),
    /// Something was published.
    Published(Bytes),
    /// Nothing of interest.
    Other,
}

/// What a connection is asked for, from any thread. When its queue is full it is not taken.
#[derive(Clone)]
pub(super) enum Client {
    Five(v5::AsyncClient),
    ThreeOneOne(rumqttc::AsyncClient),
}

/// What comes of it: to be asked by one task, without end.
pub(super) enum Events {
    Five(Box<v5::EventLoop>),
    ThreeOneOne(Box<rumqttc::EventLoop>),
}

/// A connection under this id, which is made when its events are asked for.
pub(super) fn open(broker: &Broker, id: &str, version: Version) -> Result<(Client, Events), Why> {
    let transport = if broker.is_tls() { Transport::Tls(trust(broker)?) } else { Transport::Tcp };
    Ok(match version {
        Version::Five => {
            let mut options = v5::MqttOptions::new(id, broker.host(), broker.port());
            options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_start(false);
            options.set_session_expiry_interval(Some(SESSION_SECONDS));
            options.set_max_packet_size(Some(PACKET_BYTES_MAX));
            options.set_connection_timeout(CONNECT_SECONDS).set_outgoing_inflight_upper_limit(WINDOW as u16);
            if let Some((user, password)) = broker.login() {
                options.set_credentials(user, password);
            }
            let (client, events) = v5::AsyncClient::new(options, REQUESTS_MAX);
            (Client::Five(client), Events::Five(Box::new(events)))
        }
        Version::ThreeOneOne => {
            let mut options = rumqttc::MqttOptions::new(id, broker.host(), broker.port());
            options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_session(false);
            options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
            options.set_inflight(WINDOW as u16);
            if let Some((user, password)) = broker.login() {
                options.set_credentials(user, password);
            }
            let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
            events.network_options.set_connection_timeout(CONNECT_SECONDS);
            (Client::ThreeOneOne(client), Events::ThreeOneOne(Box::new(events)))
        }
    })
}

/// Whose certificates are believed.
fn trust(broker: &Broker) -> Result<TlsConfiguration, Why> {
    // The first one stays: it is this one, unless the process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(file) = broker.ca() {
        let ca = std::fs::read(file).map_err(|error| Why::Tls(format!("cannot read {file}: {error}")))?;
        return Ok(TlsConfiguration::Simple { ca, alpn: None, client_auth: None });
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let why = "this system has no certificates to trust: install ca-certificates, or give ?ca=FILE";
        return Err(Why::Tls(why.into()));
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}

impl Client {
    /// Publishes a piece, so that the broker says when it has taken it. False = it is not taken.
    pub fn publish(&self, topic: String, piece: Bytes) -> bool {
        match self {
            Client::Five(client) => {
                client.try_publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, piece).is_ok()
            }
            Client::ThreeOneOne(client) => {
                client.try_publish(topic, rumqttc::QoS::AtLeastOnce, false, piece).is_ok()
            }
        }
    }

    /// Subscribes to a filter; what this client publishes itself is not wanted, where that can be said. False = it is not taken.
    pub fn subscribe(&self, filter: &str) -> bool {
        match self {
            Client::Five(client) => {
                let mut filter = packets5::Filter::new(filter, v5::mqttbytes::QoS::AtLeastOnce);
                filter.nolocal = true;
                client.try_subscribe_many([filter]).is_ok()
            }
            Client::ThreeOneOne(client) => client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).is_ok(),
        }
    }

    /// Does so no more. False = it is not taken.
    pub fn unsubscribe(&self, filter: &str) -> bool {
        match self {
            Client::Five(client) => client.try_unsubscribe(filter).is_ok(),
            Client::ThreeOneOne(client) => client.try_unsubscribe(filter).is_ok(),
        }
    }
}

impl Events {
    /// The next one. `stands` = the connection has been made. Not to be given up half-way.
    pub async fn next(&mut self, stands: bool) -> Result<Event, Why> {
        match self {
            Events::Five(events) => match events.poll().await {
                Ok(event) => Ok(of_five(event)),
                Err(error) if stands => Err(Why::Lost(error.to_string())),
                Err(error) => Err((&error).into()),
            },
            Events::ThreeOneOne(events) => match events.poll().await {
                Ok(event) => Ok(of_three(event)),
                Err(error) if stands => Err(Why::Lost(error.to_string())),
                Err(error) => Err((&error).into()),
            },
        }
    }
}

fn of_five(event: v5::Event) -> Event {
    use packets5::{Packet, PubAckReason, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Packet::ConnAck(answer)) => {
            Event::Up { packet_bytes_max: answer.properties.and_then(|told| told.max_packet_size) }
        }
        v5::Event::Incoming(Packet::Publish(publish)) => Event::Published(publish.payload),
        v5::Event::Incoming(Packet::PubAck(answer)) => {
            let is_passed_on =
                matches!(answer.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            Event::Taken(answer.pkid, (!is_passed_on).then(|| format!("{:?}", answer.reason)))
        }
        v5::Event::Incoming(Packet::SubAck(answer)) => {
            let refused =
                answer.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
            refused.map_or(Event::Other, |code| Event::SubscriptionRefused(format!("{code:?}")))
        }
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => Event::Sent(id),
        _ => Event::Other,
    }
}

fn of_three(event: rumqttc::Event) -> Event {
    use rumqttc::{Packet, SubscribeReasonCode};
    match event {
        rumqttc::Event::Incoming(Packet::ConnAck(_)) => Event::Up { packet_bytes_max: None },
        rumqttc::Event::Incoming(Packet::Publish(publish)) => Event::Published(publish.payload),
        rumqttc::Event::Incoming(Packet::PubAck(answer)) => Event::Taken(answer.pkid, None),
        rumqttc::Event::Incoming(Packet::SubAck(answer)) => {
            let is_refused = answer.return_codes.contains(&SubscribeReasonCode::Failure);
            if is_refused { Event::SubscriptionRefused("it says no more".into()) } else { Event::Other }
        }
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(id)) => Event::Sent(id),
        _ => Event::Other,
    }
}
