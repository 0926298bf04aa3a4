//! What a node asks of a cluster that it is not one of: to be let in.

use std::time::Duration;

use kv::admin::{Answer, Ask};
use kv::cluster::Terms;
use kv::{ClusterId, Error};

use crate::native::{Client, Options};

/// Somebody who knows addresses of a cluster, and is no node of it. The wire is the native one.
pub struct Outsider(Client);

impl Outsider {
    /// Of a cluster that has these addresses, HOST:PORT each, where its clients connect. Asks the first cluster that answers there,
    /// and no other one. Must be called on a tokio runtime; [`Error::Invalid`] elsewhere, or when an address is none.
    pub fn new(addresses: &[String]) -> Result<Outsider, Error> {
        Client::connect(addresses.to_vec(), Options::default()).map(Outsider)
    }

    /// The id of the cluster. [`Error::Invalid`] when the addresses are of different ones.
    pub async fn cluster(&self) -> Result<ClusterId, Error> {
        self.0.cluster().await
    }

    /// What its nodes have in common. [`Error::Invalid`] when they are of another version than this one.
    pub async fn terms(&self) -> Result<Terms, Error> {
        self.0.terms().await
    }

    /// Asks its directory one thing, at any node, until there is an answer or the time is over.
    pub async fn administer(&self, ask: &Ask, timeout: Duration) -> Result<Answer, Error> {
        self.0.administer(ask, timeout).await
    }
}
