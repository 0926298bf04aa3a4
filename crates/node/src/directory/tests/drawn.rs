//! Leaders that come and go at random, answers that get lost, nodes that live and die: the rows stay one history of sound maps.

use std::collections::{BTreeMap, VecDeque};

use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, NodeDuty};
use kv::{Error, NodeId};
use placement::map::Map;

use super::room::{Room, STEP_MICROS, joining};
use crate::directory::Input;
use crate::session::mix;

const NODES: u64 = 3;
const STEPS: usize = 400;

struct Drawn {
    room: Room,
    random: u64,
    /// The incarnation that each node's id was given to.
    given: BTreeMap<NodeId, u64>,
    asked: BTreeMap<u64, u64>,
}

impl Drawn {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = mix(self.random);
        self.random % bound
    }

    /// Each node believes what it likes about who leads.
    fn reassign(&mut self) {
        for id in 1..=NODES {
            let (leads, believes) = (self.below(3) == 0, 1 + self.below(NODES));
            let place = self.room.place(id);
            (place.leads, place.believes) = (leads, Some(NodeId(believes)).filter(|other| other.0 != id));
        }
    }

    /// One that is asked for is answered, late: as the store does, or in doubt, whether it was done or not.
    fn answer_some(&mut self) {
        let id = 1 + self.below(NODES);
        let Some((number, op)) = self.room.place(id).held.as_mut().unwrap().pop_front() else { return };
        let result = match self.below(6) {
            0 => Err(Error::InDoubt("lost on its way".into())),
            1 => {
                self.room.store.run(&op);
                Err(Error::InDoubt("its answer is lost".into()))
            }
            _ => Ok(self.room.store.run(&op)),
        };
        self.room.step(NodeId(id), Input::Answered { number, result });
    }

    fn ask_some(&mut self) {
        let (at, which) = (1 + self.below(NODES), 1 + self.below(8));
        let name = format!("n{which}");
        let duty = [NodeDuty::Serve, NodeDuty::Drain, NodeDuty::Leave][self.below(3) as usize];
        let ask = match self.below(5) {
            0 | 1 => joining(which),
            2 => Ask::Replace { name, lose: false, dry_run: false },
            3 => Ask::Node { name, duty, fewer: false, dry_run: false },
            _ => Ask::Moves,
        };
        let incarnation = if let Ask::Join(joining) = &ask { joining.incarnation } else { 0 };
        let client = self.room.ask(at, ask);
        self.asked.insert(client, incarnation);
    }

    fn see_some(&mut self) {
        let id = 1 + self.below(8);
        let state = [Some(Liveness::Alive), Some(Liveness::Alive), Some(Liveness::Dead), None]
            [self.below(4) as usize];
        self.room.hear(id, state);
        for (shard, _) in self.room.store_map().map_or_else(Default::default, |map: Map| map.changes) {
            if self.below(4) == 0 {
                self.room.go_on(shard);
            }
        }
    }

    /// The ids that were answered are each one folder's.
    fn take_answers(&mut self) {
        for (client, answer) in std::mem::take(&mut self.room.answers) {
            if let Ok(Answer::Joined { node, .. }) = answer {
                let incarnation = self.asked[&client];
                assert_eq!(
                    *self.given.entry(node).or_insert(incarnation),
                    incarnation,
                    "an id is given once"
                );
            }
        }
    }
}

impl Room {
    fn store_map(&self) -> Option<Map> {
        (!self.store.rows.is_empty()).then(|| self.store.map())
    }
}

#[test]
fn rows_are_one_history_of_sound_maps_whoever_leads() {
    let mut sometimes = BTreeMap::new();
    for seed in 0..60 {
        let mut drawn =
            Drawn { room: Room::new(NODES, 3), random: seed, given: BTreeMap::new(), asked: BTreeMap::new() };
        (1..=NODES).for_each(|id| drawn.room.place(id).held = Some(VecDeque::new()));
        let mut before = Map::default();
        for _ in 0..STEPS {
            match drawn.below(10) {
                0 => drawn.reassign(),
                1 => drawn.ask_some(),
                2 => drawn.see_some(),
                _ => drawn.answer_some(),
            }
            let micros = STEP_MICROS * drawn.below(6);
            drawn.room.pass(micros);
            drawn.take_answers();
            // A map that cannot be read fails in here.
            let Some(map) = drawn.room.store_map() else { continue };
            assert!(map == before || map.revision > before.revision, "seed {seed}: the map goes on");
            assert!(map.next_node >= before.next_node && map.next_shard >= before.next_shard, "seed {seed}");
            *sometimes.entry("a change is under way").or_insert(0) += map.changes.len();
            *sometimes.entry("a node has joined").or_insert(0) +=
                usize::from(map.nodes.len() > before.nodes.len());
            *sometimes.entry("a node is gone").or_insert(0) +=
                usize::from(map.nodes.len() < before.nodes.len());
            before = map;
        }
        *sometimes.entry("an id is given").or_insert(0) += drawn.given.len();
    }
    assert!(sometimes.values().all(|count| *count > 0), "{sometimes:?}");
}
