//! A request's way through several shards: it is split into parts, and their results become one answer.
//!
//! Where the parts go, and how their results come back, is the owner's: the server has threads in between, the simulator none.

use std::time::Duration;

use kv::{Charge, Error, Reply, Request, TIMEOUT_MILLIS_MAX};

use crate::Part;
use crate::route::{Keyspaces, Plan, ShardMap};

/// A request in parts.
pub enum Split {
    /// The only part: its result is the request's.
    One(Part),
    /// Several parts, one a shard, and who takes their results by their places.
    Several(Vec<Part>, Gather),
}

/// Splits a request over the shards of its keyspace. Every part is counted against `charge`, and none waits longer than
/// [`TIMEOUT_MILLIS_MAX`]. An error is the answer.
pub fn split(keyspaces: &Keyspaces, request: Request, charge: &Charge) -> Result<Split, Error> {
    split_over(keyspaces.shards(&request.keyspace)?, request, charge)
}

fn split_over(shards: &ShardMap, request: Request, charge: &Charge) -> Result<Split, Error> {
    let Request { op, level, id, timeout, again, here, .. } = request;
    let timeout_micros = timeout.as_micros().min(u128::from(TIMEOUT_MILLIS_MAX) * 1000) as u64;
    let part = |(shard, op)| Part {
        shard,
        op,
        level,
        id,
        timeout_micros,
        charge: charge.clone(),
        in_doubt: again,
        here,
    };
    let mut plan = Plan::new(shards, op)?;
    tracing::trace!("a request has become parts");
    if let Some(single) = plan.take_single() {
        return Ok(Split::One(part(single)));
    }
    if plan.parts.is_empty() {
        return Err(Error::Invalid("the op names no key".into()));
    }
    let parts = plan.parts.iter().cloned().map(part).collect();
    Ok(Split::Several(parts, Gather::new(plan)))
}

/// Plans a part again whose shard is cut, over the shards that it was cut into, under the id that it has. An error is its answer.
pub(crate) fn replan(shards: &ShardMap, part: Part) -> Result<Split, Error> {
    let Part { op, level, id, timeout_micros, charge, in_doubt, here, .. } = part;
    let timeout = Duration::from_micros(timeout_micros);
    let request = Request { level, id, timeout, here, ..Request::new(op) };
    let planned = split_over(shards, request, &charge);
    let doubted = |part: Part| Part { in_doubt, ..part };
    match planned {
        Ok(Split::One(part)) => Ok(Split::One(doubted(part))),
        Ok(Split::Several(parts, gather)) => {
            Ok(Split::Several(parts.into_iter().map(doubted).collect(), gather))
        }
        Err(error) if in_doubt => Err(Error::InDoubt(format!(
            "the request may have been run before its shard was split; now it cannot be sent again: {error}"
        ))),
        Err(error) => Err(error),
    }
}

/// Collects the results of a request's parts.
#[derive(Debug)]
pub struct Gather {
    plan: Option<Plan>,
    results: Vec<Option<Result<Reply, Error>>>,
    missing: usize,
}

impl Gather {
    fn new(plan: Plan) -> Gather {
        let missing = plan.parts.len();
        assert!(missing > 0, "who has no part has no answer");
        Gather { plan: Some(plan), results: vec![None; missing], missing }
    }

    /// Takes the result of the part at a place; with the last one that was missing comes the answer to the request.
    ///
    /// # Panics
    /// When that part has its result already.
    pub fn put(&mut self, index: usize, result: Result<Reply, Error>) -> Option<Result<Reply, Error>> {
        assert!(self.results[index].is_none(), "part {index} of a request was answered before");
        self.results[index] = Some(result);
        self.missing -= 1;
        let plan = self.plan.take_if(|_| self.missing == 0)?;
        Some(plan.merge(self.results.drain(..).flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kv::{Answer, Epoch, Key, KeyAnswer, Level, NodeId, Op, Protocol, Receipt, ShardId, Version};
    use placement::map::Map;
    use placement::{Founder, Founding};

    use super::*;

    /// One keyspace of three shards.
    fn keyspaces() -> Keyspaces {
        let founder = Founder { name: "n1".into(), peer: String::new() };
        let nodes = vec![founder];
        let founding = Founding { cluster: None, nodes, shards: 3, replicas: 1, protocol: Protocol::Raft };
        Keyspaces::new(&Map::founding(&founding))
    }

    fn get_all(keys: &[&str]) -> Request {
        let key = |key: &&str| Key::copy_from_slice(key.as_bytes());
        Request::new(Op::GetAll { keys: keys.iter().map(key).collect(), at: None })
    }

    fn several(request: Request) -> (Vec<Part>, Gather) {
        match split(&keyspaces(), request, &Charge::default()) {
            Ok(Split::Several(parts, gather)) => (parts, gather),
            Ok(Split::One(_)) => panic!("it has several parts"),
            Err(error) => panic!("{error}"),
        }
    }

    /// That none of a part's keys is there.
    fn nothing(part: &Part) -> Result<Reply, Error> {
        let mut answers = Vec::new();
        part.op.for_each_key(&mut |key| answers.push(KeyAnswer { key: key.clone(), result: Ok(None) }));
        let receipt = Receipt {
            version: Version::default(),
            shard: part.shard,
            protocol: Protocol::Single,
            epoch: Epoch(1),
            asked: Level::Linearizable,
            reached: Level::Linearizable,
            copies: 1,
            staleness_micros: 0,
            node: NodeId(1),
        };
        Ok(Reply { answer: Answer::Many(answers), receipt })
    }

    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    #[test]
    fn request_over_shards_is_answered_with_its_last_part_in_any_order() {
        let (parts, mut gather) = several(get_all(&KEYS));
        assert_eq!(parts.iter().map(|part| part.shard).collect::<Vec<_>>(), [1, 2, 3].map(ShardId));
        for index in [2, 0] {
            assert!(gather.put(index, nothing(&parts[index])).is_none(), "a part is missing");
        }
        let answer = gather.put(1, nothing(&parts[1])).expect("it was the last").unwrap().answer;
        let Answer::Many(answers) = answer else { panic!("{answer:?}") };
        assert_eq!(answers.iter().map(|answer| &answer.key[..]).collect::<Vec<_>>(), KEYS.map(str::as_bytes));
    }

    #[test]
    #[should_panic(expected = "answered before")]
    fn part_that_is_answered_twice_is_a_bug() {
        let (parts, mut gather) = several(get_all(&KEYS));
        gather.put(0, nothing(&parts[0]));
        gather.put(0, nothing(&parts[0]));
    }

    #[test]
    fn request_of_one_key_is_its_only_part_with_all_that_was_asked() {
        let get = Op::Get { key: "a".into(), at: None };
        let request = Request {
            level: Some(Level::Local),
            timeout: Duration::from_millis(70),
            ..Request::new(get.clone())
        };
        let Ok(Split::One(part)) = split(&keyspaces(), request, &Charge::default()) else {
            panic!("it has one part")
        };
        assert_eq!((part.op, part.level, part.timeout_micros), (get, Some(Level::Local), 70_000));
    }

    #[test]
    fn no_part_waits_longer_than_the_longest_timeout() {
        for timeout in [Duration::from_secs(601), Duration::MAX] {
            let (parts, _) = several(Request { timeout, ..get_all(&KEYS) });
            assert!(parts.iter().all(|part| part.timeout_micros == TIMEOUT_MILLIS_MAX * 1000), "{timeout:?}");
        }
    }

    #[test]
    fn request_that_names_no_key_is_told_so_and_not_left_without_an_answer() {
        for op in [Op::GetAll { keys: Vec::new(), at: None }, Op::PutAll { rows: Vec::new() }] {
            let split = split(&keyspaces(), Request::new(op), &Charge::default());
            assert!(matches!(split, Err(Error::Invalid(why)) if why.contains("no key")));
        }
    }

    #[test]
    fn request_to_a_keyspace_that_is_not_there_is_told_so() {
        let request = Request { keyspace: "tea".into(), ..get_all(&KEYS) };
        let split = split(&keyspaces(), request, &Charge::default());
        assert!(matches!(split, Err(Error::NoKeyspace(name)) if name == "tea"));
    }
}
