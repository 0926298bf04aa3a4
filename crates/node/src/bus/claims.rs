//! Which number each node has that is known by a bus alone.
//!
//! # The problem
//!
//! Versions carry the number of who made them, ten bits, and no two who make any may have the same. A directory gives such numbers
//! out. Nodes that know nothing of each other but a bus have nobody who does, and messages on a bus are lost, late and repeated; two may start
//! at the same moment.
//!
//! # How
//!
//! As hosts give themselves addresses on a link (RFC 3927, "Dynamic Configuration of IPv4 Link-Local Addresses"; zeroconf): who wants a
//! number says that it claims it, again and again for a while; who holds it objects. Whoever hears no objection for as long as answers
//! take, with the bus up all the time, writes it down and has it. Each node is known by its bus id, random and as durable as its folder.
//!
//! ```text
//!   7f.. has nothing     33.. has 12
//!   Who ────────────────▶
//!   ◀──────────────────── Held [33.. 12]        7f.. keeps that in its log
//!   Claim [7f.. 12] ────▶                       had it not heard that
//!   ◀──────────────────── Held [33.. 12]        the objection: 7f.. draws again
//!   Claim [7f.. 40] ────▶   a quiet time: 7f.. writes 40 down, and has it
//!   Held [33.. 12, 7f.. 40] ────▶               33.. keeps that in its log
//! ```
//!
//! - Of two who claim a number at once the lower id keeps it, and the other draws again.
//! - All members say all holders that they know durably, so one that is away is spoken for by the others.
//! - A node that was alone on its side of a cut may hold what another holds. Of two holders the earlier stays: whose claim names fewer
//!   members that it knew, then the lower id. The other draws again for its later versions.
//!
//! # What holds
//!
//! Of nodes that hear each other, or have a member that hears both, no two hold a number once a quiet time has passed. What is said to be held
//! is in the log of who says it.
//!
//! # Caveats
//!
//! Two that claimed the same number while no message passed between them may have made different rows of a key in the same microsecond:
//! of these the bytes decide. A number is free again when its holder draws another one.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_list, put_uint};
use replication::Instant;

use crate::session::mix;

/// Numbers that can be held are 1 to this one: what a version has room for.
pub const NUMBER_MAX: u16 = 1023;
/// An objection takes no longer than this, with the bus up.
pub const QUIET_MICROS: u64 = 3_000_000;
/// A claim is said again after so long, for messages are lost.
const AGAIN_MICROS: u64 = 500_000;
/// Who holds a number says so after so long: whoever missed it hears it then.
const HELD_MICROS: u64 = 10_000_000;

/// Who a node is to others on a bus: random, for the life of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BusId(pub u64);

/// A number that a node holds, or claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// How many members it knew when it began to claim it: of two holders the one that knew fewer was earlier.
    pub known: u32,
    /// Who.
    pub id: BusId,
    /// Which number; 1 to [`NUMBER_MAX`].
    pub number: u16,
}

/// What nodes say to all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Who is there?
    Who,
    /// The sender wants this number: does anybody hold it?
    Claim(Claim),
    /// These hold these, as the sender knows durably.
    Held(Vec<Claim>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Tell all others.
    Say(Word),
    /// Write this holder to the log, in place of what was written of it before; then [`Claims::durable`].
    Keep(Claim),
    /// This node has a number from now on, until it has another one.
    Have(u16),
}

/// A node's part.
#[derive(Debug)]
pub struct Claims {
    me: BusId,
    /// The highest number that there is.
    most: u16,
    random: u64,
    /// The bus is there, since then.
    up: Option<Instant>,
    /// Who is known durably, this node with it once it holds a number.
    held: BTreeMap<BusId, Claim>,
    /// On their way to the log, in order.
    keeping: Vec<Claim>,
    trying: Option<Trying>,
    /// When it said last who holds what.
    told: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Trying {
    claim: Claim,
    /// Nobody has objected since then, and the bus was there.
    since: Instant,
    said: Instant,
}

impl Claims {
    /// Of a node whose log names these holders, where numbers are 1 to `most`.
    pub fn new(me: BusId, most: u16, seed: u64, held: impl IntoIterator<Item = Claim>) -> Claims {
        let held = held.into_iter().map(|claim| (claim.id, claim)).collect();
        let (keeping, told) = (Vec::new(), Instant::default());
        Claims { me, most, random: seed, up: None, held, keeping, trying: None, told }
    }

    /// The number that this node has.
    pub fn number(&self) -> Option<u16> {
        self.held.get(&self.me).map(|claim| claim.number)
    }

    /// Who is known durably, in the order of their ids.
    pub fn holders(&self) -> impl Iterator<Item = &Claim> {
        self.held.values()
    }

    /// The bus is there.
    pub fn up(&mut self, now: Instant, todo: &mut Vec<Todo>) {
        self.up = Some(now);
        todo.push(Todo::Say(Word::Who));
        if self.number().is_some() {
            self.say_held(now, todo);
        }
    }

    /// The bus is away: silence says nothing.
    pub fn down(&mut self) {
        self.up = None;
        self.trying = None;
    }

    /// It is now.
    pub fn tick(&mut self, now: Instant, todo: &mut Vec<Todo>) {
        let Some(up) = self.up else { return };
        let has_one = self.number().is_some();
        if has_one && now.since(self.told) >= HELD_MICROS {
            self.say_held(now, todo);
        }
        if self.is_keeping_own() {
            return;
        }
        match &mut self.trying {
            None if has_one => {}
            // Whoever is there says so before a number is drawn: fewer are drawn twice.
            None if now.since(up) >= AGAIN_MICROS => self.draw(now, todo),
            None => {}
            Some(trying) if now.since(trying.since) >= QUIET_MICROS => {
                let claim = trying.claim;
                self.keep(claim, todo);
            }
            Some(trying) if now.since(trying.said) >= AGAIN_MICROS => {
                trying.said = now;
                todo.push(Todo::Say(Word::Claim(trying.claim)));
            }
            Some(_) => {}
        }
    }

    /// When it wants the time next.
    pub fn due(&self) -> Instant {
        let Some(up) = self.up else { return Instant::MAX };
        let tells = self.number().map_or(Instant::MAX, |_| self.told.plus(HELD_MICROS));
        let tries = match &self.trying {
            _ if self.is_keeping_own() => Instant::MAX,
            Some(trying) => trying.since.plus(QUIET_MICROS).min(trying.said.plus(AGAIN_MICROS)),
            None if self.number().is_some() => Instant::MAX,
            None => up.plus(AGAIN_MICROS),
        };
        tells.min(tries)
    }

    /// Another node says something.
    pub fn hear(&mut self, now: Instant, word: &Word, todo: &mut Vec<Todo>) {
        match word {
            Word::Who if self.held.is_empty() => {}
            Word::Who => self.say_held(now, todo),
            Word::Claim(claim) => self.hear_claim(now, *claim, todo),
            Word::Held(held) => held.iter().for_each(|claim| self.hear_held(now, *claim, todo)),
        }
    }

    /// The first of what was to be kept is in the log.
    pub fn durable(&mut self, now: Instant, todo: &mut Vec<Todo>) {
        let claim = self.keeping.remove(0);
        self.held.insert(claim.id, claim);
        if claim.id != self.me {
            return;
        }
        self.trying = None;
        todo.push(Todo::Have(claim.number));
        self.say_held(now, todo);
        // What was heard while it was written down.
        let other = self.held.values().find(|other| other.id != self.me && other.number == claim.number);
        if let Some(other) = other.copied() {
            self.hear_held(now, other, todo);
        }
    }

    /// Somebody wants a number: whoever knows that another one holds it objects.
    fn hear_claim(&mut self, now: Instant, claim: Claim, todo: &mut Vec<Todo>) {
        if claim.id == self.me {
            return;
        }
        let held = self.held.values().chain(&self.keeping);
        if held.into_iter().any(|held| held.number == claim.number && held.id != claim.id) {
            self.say_held(now, todo);
        }
        if let Some(trying) = self.trying.filter(|trying| trying.claim.number == claim.number) {
            match trying.claim.id < claim.id {
                true => todo.push(Todo::Say(Word::Claim(trying.claim))),
                false => self.draw(now, todo),
            }
        }
    }

    /// Somebody holds a number.
    fn hear_held(&mut self, now: Instant, claim: Claim, todo: &mut Vec<Todo>) {
        if claim.id == self.me {
            return;
        }
        let known = self.held.values().chain(&self.keeping).rfind(|known| known.id == claim.id);
        // Who draws again knows more members than before.
        if known.is_none_or(|known| known.known < claim.known) && self.held.len() < usize::from(self.most) {
            self.keep(claim, todo);
        }
        if self.trying.is_some_and(|trying| trying.claim.number == claim.number) && !self.is_keeping_own() {
            self.draw(now, todo);
        }
        let own = self.held.get(&self.me).copied().filter(|own| own.number == claim.number);
        match own {
            // It goes on under the old number until it has a new one.
            Some(own) if claim < own && self.trying.is_none() => self.draw(now, todo),
            Some(own) if claim > own => self.say_held(now, todo),
            _ => {}
        }
    }

    /// Claims a number that nobody is known to hold.
    fn draw(&mut self, now: Instant, todo: &mut Vec<Todo>) {
        let held: Vec<u16> = self.held.values().chain(&self.keeping).map(|claim| claim.number).collect();
        let tried = self.trying.map(|trying| trying.claim.number);
        let free: Vec<u16> =
            (1..=self.most).filter(|number| !held.contains(number) && tried != Some(*number)).collect();
        self.random = mix(self.random ^ self.me.0);
        let Some(number) = free.get((self.random % free.len().max(1) as u64) as usize) else {
            self.trying = None;
            return;
        };
        // Who draws again has known more since.
        let before = self.held.get(&self.me).map_or(0, |own| own.known + 1);
        let claim = Claim { known: before.max(held.len() as u32), id: self.me, number: *number };
        self.trying = Some(Trying { claim, since: now, said: now });
        todo.push(Todo::Say(Word::Claim(claim)));
    }

    fn keep(&mut self, claim: Claim, todo: &mut Vec<Todo>) {
        self.keeping.push(claim);
        todo.push(Todo::Keep(claim));
    }

    fn is_keeping_own(&self) -> bool {
        self.keeping.iter().any(|claim| claim.id == self.me)
    }

    fn say_held(&mut self, now: Instant, todo: &mut Vec<Todo>) {
        self.told = now;
        todo.push(Todo::Say(Word::Held(self.held.values().copied().collect())));
    }
}

impl Word {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        match self {
            Word::Who => into.put_u8(1),
            Word::Claim(claim) => {
                into.put_u8(2);
                put_claim(&mut into, claim);
            }
            Word::Held(held) => {
                into.put_u8(3);
                put_list(&mut into, held, put_claim);
            }
        }
        into.freeze()
    }

    /// A word from its bytes.
    pub fn decode(bytes: &Bytes) -> Result<Word, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let word = match reader.u8()? {
            1 => Word::Who,
            2 => Word::Claim(claim(&mut reader)?),
            3 => Word::Held(reader.list(claim)?),
            _ => return Err(Malformed("a word on a bus has an unknown tag")),
        };
        reader.end().map(|()| word)
    }
}

fn put_claim(into: &mut BytesMut, claim: &Claim) {
    put_uint(into, u64::from(claim.known));
    into.put_u64(claim.id.0);
    put_uint(into, u64::from(claim.number));
}

fn claim(reader: &mut Reader) -> Result<Claim, Malformed> {
    let claim = Claim { known: reader.u32()?, id: BusId(reader.u64()?), number: reader.u16()? };
    let fits = (1..=NUMBER_MAX).contains(&claim.number);
    if fits { Ok(claim) } else { Err(Malformed("a number that no version has room for is claimed")) }
}

#[cfg(test)]
mod tests;
