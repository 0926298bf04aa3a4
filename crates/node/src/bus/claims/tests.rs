//! Some nodes on a bus that loses, repeats, delays and reorders, is cut and is away; and nodes that crash.

use std::collections::BTreeSet;

use super::*;

/// Few, so that nodes meet at them.
const NUMBERS: u16 = 9;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = mix(self.0.wrapping_add(1));
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

struct Host {
    claims: Claims,
    id: BusId,
    log: BTreeMap<BusId, Claim>,
    /// What is to be in the log from then on, in order.
    syncs: Vec<(u64, Claim)>,
    has: Option<u16>,
}

struct World {
    rng: Rng,
    now: u64,
    hosts: Vec<Host>,
    /// When it arrives, where, what.
    flying: Vec<(u64, usize, Word)>,
    /// Hosts on different sides do not hear each other.
    sides: Vec<u8>,
    is_weak: bool,
}

impl World {
    fn new(seed: u64, hosts: usize) -> World {
        let mut rng = Rng(seed);
        let host = |id: u64| {
            let (id, log) = (BusId(id), BTreeMap::new());
            Host { claims: Claims::new(id, NUMBERS, id.0, []), id, log, syncs: Vec::new(), has: None }
        };
        let hosts: Vec<Host> = (0..hosts).map(|_| host(rng.next())).collect();
        World { rng, now: 0, sides: vec![0; hosts.len()], hosts, flying: Vec::new(), is_weak: true }
    }

    fn with(&mut self, place: usize, act: impl FnOnce(&mut Claims, Instant, &mut Vec<Todo>)) {
        let mut todo = Vec::new();
        act(&mut self.hosts[place].claims, Instant(self.now), &mut todo);
        for todo in todo {
            match todo {
                Todo::Say(word) => {
                    assert_eq!(Word::decode(&word.encode()), Ok(word.clone()));
                    self.say(place, &word);
                }
                Todo::Keep(claim) => {
                    let at = self.now + self.rng.below(200_000);
                    self.hosts[place].syncs.push((at, claim));
                }
                Todo::Have(number) => self.hosts[place].has = Some(number),
            }
        }
    }

    fn say(&mut self, from: usize, word: &Word) {
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            let is_lost = self.is_weak && self.rng.one_in(5) || self.sides[from] != self.sides[to];
            let times = if self.is_weak && self.rng.one_in(10) { 2 } else { 1 };
            for _ in 0..if is_lost { 0 } else { times } {
                let at = self.now + self.rng.below(400_000);
                self.flying.push((at, to, word.clone()));
            }
        }
    }

    /// A host starts anew from its log.
    fn crash(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        host.claims = Claims::new(host.id, NUMBERS, self.rng.next(), host.log.values().copied());
        host.syncs.clear();
        host.has = host.claims.number();
        self.flying.retain(|(_, to, _)| *to != place);
        self.with(place, Claims::up);
    }

    fn run(&mut self, micros: u64) {
        let end = self.now + micros;
        while self.now < end {
            self.now += 50_000;
            let now = self.now;
            let (come, rest): (Vec<_>, Vec<_>) = self.flying.drain(..).partition(|(at, ..)| *at <= now);
            self.flying = rest;
            for (_, to, word) in come {
                self.with(to, |claims, now, todo| claims.hear(now, &word, todo));
            }
            for place in 0..self.hosts.len() {
                while self.hosts[place].syncs.first().is_some_and(|(at, _)| *at <= now) {
                    let host = &mut self.hosts[place];
                    let (_, claim) = host.syncs.remove(0);
                    host.log.insert(claim.id, claim);
                    self.with(place, Claims::durable);
                }
                if self.hosts[place].claims.due() <= Instant(now) {
                    self.with(place, Claims::tick);
                }
            }
        }
    }

    fn numbers(&self) -> Vec<Option<u16>> {
        self.hosts.iter().map(|host| host.has).collect()
    }

    /// All have numbers, no two the same, and know all of them.
    fn settled(&self) -> Result<(), String> {
        let numbers: BTreeSet<u16> = self.numbers().into_iter().flatten().collect();
        if numbers.len() != self.hosts.len() {
            return Err(format!("numbers are {:?}", self.numbers()));
        }
        let known = |host: &Host| host.claims.holders().copied().collect::<Vec<_>>();
        match self
            .hosts
            .iter()
            .all(|host| known(host) == known(&self.hosts[0]) && host.claims.number() == host.has)
        {
            true => Ok(()),
            false => Err("they know different holders".into()),
        }
    }
}

#[test]
fn one_alone_has_a_number_after_a_quiet_time_and_keeps_it() {
    let mut world = World::new(1, 1);
    world.with(0, Claims::up);
    world.run(QUIET_MICROS);
    assert_eq!(world.numbers(), [None], "an objection may be on its way");
    world.run(QUIET_MICROS);
    let had = world.numbers();
    assert!(had[0].is_some());
    world.crash(0);
    world.run(QUIET_MICROS);
    assert_eq!(world.numbers(), had);
}

#[test]
fn nobody_has_a_number_while_the_bus_is_away() {
    let mut world = World::new(2, 1);
    world.run(10 * QUIET_MICROS);
    world.with(0, Claims::up);
    world.run(QUIET_MICROS);
    world.hosts[0].claims.down();
    world.run(10 * QUIET_MICROS);
    assert_eq!(world.numbers(), [None], "silence of a bus that is away says nothing");
}

#[test]
fn of_two_that_claim_at_once_the_lower_id_keeps_the_number() {
    let claim = |id| Claim { known: 0, id: BusId(id), number: 7 };
    let trying = |id| {
        let mut claims = Claims::new(BusId(id), NUMBERS, 1, []);
        claims.up = Some(Instant(0));
        claims.trying = Some(Trying { claim: claim(id), since: Instant(0), said: Instant(0) });
        claims
    };
    let (mut low, mut high, mut todo) = (trying(1), trying(2), Vec::new());
    low.hear(Instant(1), &Word::Claim(claim(2)), &mut todo);
    assert_eq!(todo, [Todo::Say(Word::Claim(claim(1)))]);
    high.hear(Instant(1), &Word::Claim(claim(1)), &mut todo);
    let other = high.trying.expect("it draws again").claim;
    assert_ne!(other.number, 7);
}

#[test]
fn of_two_that_hold_a_number_the_later_draws_another_and_the_earlier_keeps_it() {
    let held = |id, known| Claim { known, id: BusId(id), number: 7 };
    // The one with the higher id knew nobody when it claimed, so it was first.
    let (earlier, later) = (held(9, 0), held(1, 3));
    let mut world = World::new(3, 2);
    for (host, claim) in world.hosts.iter_mut().zip([earlier, later]) {
        host.id = claim.id;
        host.log.insert(claim.id, claim);
    }
    (0..2).for_each(|place| world.crash(place));
    assert_eq!(world.numbers(), [Some(7), Some(7)]);
    world.run(20 * QUIET_MICROS);
    assert_eq!(world.numbers()[0], Some(7));
    world.settled().expect("the other one has another number");
}

#[test]
fn numbers_differ_in_the_end_whatever_the_bus_and_crashes_do() {
    for seed in 0..100 {
        let hosts = 2 + (seed % 6) as usize;
        let mut world = World::new(seed, hosts);
        (0..hosts).for_each(|place| world.crash(place));
        for _ in 0..10 {
            match world.rng.below(4) {
                0 => (0..hosts).for_each(|place| world.sides[place] = world.rng.below(2) as u8),
                1 => world.sides.fill(0),
                2 => {
                    let place = world.rng.below(hosts as u64) as usize;
                    world.crash(place);
                }
                _ => {
                    let place = world.rng.below(hosts as u64) as usize;
                    world.hosts[place].claims.down();
                    world.run(1_000_000);
                    world.with(place, Claims::up);
                }
            }
            let pause = world.rng.below(2 * QUIET_MICROS);
            world.run(pause);
        }
        world.is_weak = false;
        world.sides.fill(0);
        world.run(60_000_000);
        if let Err(why) = world.settled() {
            panic!("seed {seed}, {hosts} nodes: {why}");
        }
    }
}
