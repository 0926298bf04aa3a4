//! The brokers of a node: one connection to each that the map names for a keyspace with a replica here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use kv::cluster::BusStatus;
use kv::keyspace::Broker;
use kv::{NodeId, ShardId};
use node::Input;
use node::bus::{Sender, filter, topic};
use node::wire::Frame;
use placement::map::Map;
use tokio::runtime::Handle;

use super::{Bus, Take, UNPOISONED};
use crate::faults::Faults;
use crate::inbox::Inboxes;
use crate::transport::Identities;

/// For all cores.
pub(crate) struct Buses {
    me: Sender,
    incarnation: u64,
    inboxes: Inboxes,
    identities: Arc<Identities>,
    faults: Arc<Faults>,
    runtime: Handle,
    present: RwLock<Present>,
}

/// As the map has it.
#[derive(Default)]
struct Present {
    /// By their whole addresses.
    buses: BTreeMap<String, Arc<Bus>>,
    /// Where replicas of a shard publish.
    shards: BTreeMap<ShardId, (Arc<Bus>, String)>,
}

impl Buses {
    /// By the map that the node starts with, on the current runtime.
    pub fn start(
        map: &Map,
        incarnation: u64,
        inboxes: Inboxes,
        (identities, faults): (Arc<Identities>, Arc<Faults>),
    ) -> Buses {
        let me = Sender { node: identities.me(), life: crate::random() };
        let (runtime, present) = (Handle::current(), RwLock::default());
        let buses = Buses { me, incarnation, inboxes, identities, faults, runtime, present };
        buses.follow(map);
        buses
    }

    /// There is a later map: connects to brokers that it names for the first time, and lets go of those that it names no more.
    pub fn follow(&self, map: &Map) {
        let mut present = self.present.write().expect(UNPOISONED);
        let wanted = wanted(map, self.me.node);
        if wanted.is_empty() && present.buses.is_empty() {
            return;
        }
        let _runtime = self.runtime.enter();
        let mut buses = BTreeMap::new();
        let mut filters = BTreeMap::<String, BTreeSet<String>>::new();
        let mut shards = BTreeMap::new();
        for Wanted { shard, broker, topic, filter } in wanted {
            let url = broker.url();
            let mut before = || present.buses.remove(&url);
            let start = || Arc::new(self.bus(broker.clone()));
            let bus = buses.entry(url.clone()).or_insert_with(|| before().unwrap_or_else(start));
            shards.insert(shard, (bus.clone(), topic));
            filters.entry(url).or_default().insert(filter);
        }
        for (url, filters) in filters {
            buses[&url].subscribe(filters);
        }
        *present = Present { buses, shards };
    }

    /// Publishes what a replica here tells all others of its shard; what no map names a broker for is lost.
    pub fn publish(&self, shard: ShardId, frame: Bytes) {
        if let Some((bus, topic)) = self.present.read().expect(UNPOISONED).shards.get(&shard) {
            bus.publish(topic.clone(), frame);
        }
    }

    /// How each is.
    pub fn status(&self) -> Vec<BusStatus> {
        let present = self.present.read().expect(UNPOISONED);
        present.buses.values().map(|bus| bus.status()).collect()
    }

    fn bus(&self, broker: Broker) -> Bus {
        let (inboxes, nodes, faults) = (self.inboxes.clone(), self.identities.nodes(), self.faults.clone());
        // Members of the cluster say what protocols say, and nothing else: not all who can publish there are believed all.
        let take = move |sender: Sender, bytes: Bytes| {
            let is_member = nodes.borrow().members.contains_key(&sender.node);
            if is_member && Frame::is_of_protocol(&bytes) && !faults.cuts(sender.node) {
                inboxes.input(Input::Frame { from: sender.node, bytes });
            }
        };
        let take: Take = Box::new(take);
        Bus::start(broker, self.me, self.incarnation, take)
    }
}

/// A shard with a replica here whose replicas tell each other by a broker.
struct Wanted {
    shard: ShardId,
    broker: Broker,
    topic: String,
    filter: String,
}

fn wanted(map: &Map, me: NodeId) -> Vec<Wanted> {
    let Some(cluster) = map.cluster else { return Vec::new() };
    let is_here = |id: &ShardId| {
        let change = map.changes.get(id).map(|change| &change.to);
        let members = map.shards.get(id).map(|shard| &shard.members);
        members.into_iter().chain(change).flatten().any(|member| member.node == me)
    };
    let parts = |id: &ShardId| map.parts_of(*id).iter().map(|part| part.shard).collect::<Vec<_>>();
    let here = map.shards.keys().filter(|id| is_here(id));
    let all = here.flat_map(|id| std::iter::once(*id).chain(parts(id)));
    let wanted = all.filter_map(|shard| {
        let (broker, keyspace, slots) = map.broker_of(shard)?;
        let topic = topic(broker.prefix(), cluster, keyspace, (slots.first.0, slots.last.0));
        let filter = filter(broker.prefix(), cluster, keyspace);
        Some(Wanted { shard, broker: broker.clone(), topic, filter })
    });
    wanted.collect()
}
