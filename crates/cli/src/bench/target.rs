//! Who is asked: a cluster of Capstan, or of etcd, for which the same clients ask the same keys.

use std::sync::Arc;
use std::time::Duration;

use dialects::etcd;
use kv::{Answer, Error, Key, Op, Value};
use tokio::task::JoinSet;

use super::cpu::{self, Process};
use crate::connect::Store;
use crate::options::Options;

/// A cluster under load.
pub enum Target {
    /// Capstan.
    Capstan {
        /// The cluster.
        store: Arc<dyn Store>,
        /// How requests are asked.
        options: Options,
    },
    /// etcd.
    Etcd {
        /// The cluster.
        client: Arc<etcd::Client>,
        /// How long to wait for an answer.
        patience: Duration,
    },
}

impl Target {
    /// Stores a value for so long; `None` = for good, which is all that etcd is asked.
    pub async fn put(&self, key: Key, value: Value, ttl: Option<Duration>) -> Result<(), Error> {
        match self {
            Target::Capstan { store, options } => {
                let op = Op::Put { key, value, deadline: None, previous: false };
                store.call(options.request(op), ttl).await.map(drop)
            }
            Target::Etcd { client, patience } => client.put(key, value, *patience).await,
        }
    }

    /// Reads a value.
    pub async fn get(&self, key: Key) -> Result<(), Error> {
        match self {
            Target::Capstan { store, options, .. } => {
                store.call(options.request(Op::Get { key, at: None }), None).await.map(drop)
            }
            Target::Etcd { client, patience } => client.get(key, *patience).await.map(drop),
        }
    }

    /// Deletes a value, which only Capstan is asked.
    pub async fn delete(&self, key: Key) -> Result<(), Error> {
        match self {
            Target::Capstan { store, options } => {
                let op = Op::Delete { key, previous: false };
                store.call(options.request(op), None).await.map(drop)
            }
            Target::Etcd { .. } => Err(Error::Invalid("etcd is asked to put and to get".into())),
        }
    }

    /// Stores many values, for good.
    pub async fn put_all(&self, rows: Vec<(Key, Value)>) -> Result<(), Error> {
        match self {
            Target::Capstan { store, options, .. } => {
                let reply = store.call(options.request(Op::PutAll { rows }), None).await?;
                match reply.answer {
                    Answer::Many(many) => many.into_iter().try_for_each(|each| each.result.map(drop)),
                    _ => Ok(()),
                }
            }
            Target::Etcd { client, patience } => {
                let mut puts = JoinSet::new();
                for (key, value) in rows {
                    let (client, patience) = (client.clone(), *patience);
                    puts.spawn(async move { client.put(key, value, patience).await });
                }
                puts.join_all().await.into_iter().collect()
            }
        }
    }

    /// Only whether it is there.
    pub async fn echo(&self) -> Result<(), Error> {
        match self {
            Target::Capstan { store, .. } => store.health_check().await,
            // It was found by asking who leads.
            Target::Etcd { .. } => Ok(()),
        }
    }

    /// The processes of its nodes, where it can say which they are.
    pub async fn processes(&self) -> Result<Vec<Process>, Error> {
        match self {
            Target::Capstan { store, .. } => store.status().await.map(|status| cpu::nodes(&status)),
            Target::Etcd { .. } => Ok(Vec::new()),
        }
    }
}
