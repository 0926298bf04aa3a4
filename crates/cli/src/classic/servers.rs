//! The servers, as the client programs see them.

use std::sync::Arc;

use dialects::classic::pairs::{CentralClient, PairClient};
use kv::Error;

use crate::connect::Pending;

/// A pair server.
pub trait Pair: Send + Sync {
    /// Stores a text where the key has none; false = it has one, and keeps it.
    fn insert(&self, key: i32, text: String) -> Pending<'_, bool>;
    /// The text of a key; empty = none.
    fn consult(&self, key: i32) -> Pending<'_, String>;
    /// Has the server register all its keys at the central server there; how many the central server took.
    fn activate(&self, host: String) -> Pending<'_, i32>;
    /// Ends the server.
    fn terminate(&self) -> Pending<'_, i32>;
}

/// A central server.
pub trait Central: Send + Sync {
    /// The HOST:PORT of the pair server that has the key; empty = none.
    fn map(&self, key: i32) -> Pending<'_, String>;
    /// Ends the server; how many keys it knew.
    fn terminate(&self) -> Pending<'_, i32>;
}

/// The pair server at HOST:PORT. Call it inside a runtime; nothing is connected yet.
pub fn pair(address: &str) -> Result<Arc<dyn Pair>, Error> {
    Ok(Arc::new(PairClient::new(address)?))
}

/// The central server at HOST:PORT. Call it inside a runtime; nothing is connected yet.
pub fn central(address: &str) -> Result<Arc<dyn Central>, Error> {
    Ok(Arc::new(CentralClient::new(address)?))
}

impl Pair for PairClient {
    fn insert(&self, key: i32, text: String) -> Pending<'_, bool> {
        Box::pin(PairClient::insert(self, key, text))
    }

    fn consult(&self, key: i32) -> Pending<'_, String> {
        Box::pin(PairClient::consult(self, key))
    }

    fn activate(&self, host: String) -> Pending<'_, i32> {
        Box::pin(PairClient::activate(self, host))
    }

    fn terminate(&self) -> Pending<'_, i32> {
        Box::pin(PairClient::terminate(self))
    }
}

impl Central for CentralClient {
    fn map(&self, key: i32) -> Pending<'_, String> {
        Box::pin(CentralClient::map(self, key))
    }

    fn terminate(&self) -> Pending<'_, i32> {
        Box::pin(CentralClient::terminate(self))
    }
}
