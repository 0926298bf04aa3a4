//! One heir: what it has of the shard that is handed over to it, and what it needs next.

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_uint};
use kv::{Entry, Epoch, Index, Position, Version};
use mutant::Mutant;
use replication::Instant;

use crate::record::{Gone, Made};
use crate::seat::Seat;

/// A question that was not answered is asked again after this: the frame, or who was asked, may be lost.
const ASK_MICROS: u64 = 500_000;
/// The first byte of the header of a copy: none that a protocol puts before a snapshot begins like this.
const COPY: u8 = 0xff;

/// The replica of a shard that is to be, on this node.
#[derive(Debug)]
pub(in crate::driver) struct Heir {
    /// What it becomes.
    pub seat: Seat,
    /// What the log says of its rows until it has inherited: they are of no use.
    pub gone: Gone,
    /// The append that says so: before it is durable there are no rows.
    pub ticket: u64,
    pub stage: Stage,
    /// The map says that the members change over: nothing but its heirs can go on with the shard.
    pub may_open: bool,
    /// The last question, and when it was asked.
    asked: Option<(Question, Instant)>,
    /// Questions without an answer since the last one that had one.
    pub turns: usize,
    /// The newest version of its rows, and when the shard has something due.
    pub last: Version,
    pub due: Option<u64>,
}

/// How far an heir is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Stage {
    /// It has nothing, and asks for a copy.
    Wanting,
    /// A copy comes in on a stream; so many of its pieces are being written.
    Coming { stream: u64, at: Position, jobs: u64 },
    /// All of it has come, and is flushed.
    Flushing { stream: u64, at: Position },
    /// The table loads it.
    Loading { stream: u64, at: Position },
    /// It has applied what is up to `at`, has been given what is up to `given`, and asks for more.
    Following { at: Position, given: Position, sealed: Option<Position> },
    /// It has everything, which is flushed.
    Ending { at: Position },
    /// The append of this ticket says that it is the replica, and is not durable yet.
    Inheriting { at: Position, ticket: u64 },
}

/// What an heir asks those who hand the shard over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Question {
    Copy,
    Tail { above: Position },
}

/// What is said before a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) struct CopyHeader {
    /// The epoch that ends with it.
    pub epoch: Epoch,
    /// The last entry that is in it.
    pub at: Position,
}

impl CopyHeader {
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        into.put_u8(COPY);
        put_uint(&mut into, self.epoch.0);
        put_uint(&mut into, self.at.index.0);
        put_uint(&mut into, self.at.term.0);
        into.freeze()
    }

    pub fn decode(bytes: &Bytes) -> Result<CopyHeader, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        if reader.u8()? != COPY {
            return Err(Malformed("a snapshot for a replica is no copy for an heir"));
        }
        let (epoch, at) = (Epoch(reader.uint()?), Position::new(reader.uint()?, reader.uint()?));
        reader.end()?;
        Ok(CopyHeader { epoch, at })
    }
}

impl Heir {
    /// One that has nothing; its rows will be of the last generation that the log says is of no use.
    pub fn new(seat: Seat, gone: Gone, ticket: u64) -> Heir {
        assert_eq!(seat.view.members.len(), 1, "heirs of one shard would have to wait for each other");
        assert!(
            seat.inherits.is_some_and(|before| before < seat.view.epoch),
            "an epoch ends before the next"
        );
        Heir {
            seat,
            gone,
            ticket,
            stage: Stage::Wanting,
            may_open: false,
            asked: None,
            turns: 0,
            last: Version::ZERO,
            due: None,
        }
    }

    /// The epoch whose replicas hand the shard over.
    pub fn inherits(&self) -> Epoch {
        self.seat.inherits.expect("an heir inherits")
    }

    /// The generation of its rows.
    pub fn generation(&self) -> u32 {
        self.gone.generation
    }

    /// How it is made, once it has inherited.
    pub fn made(&self) -> Made {
        let Seat { number, revision, .. } = self.seat;
        Made { number, revision, generation: self.generation() }
    }

    /// What to ask now, if anything; all appends up to `durable` are synced.
    pub fn question(&mut self, durable: u64, now: Instant) -> Option<Question> {
        let question = match self.stage {
            Stage::Wanting if self.ticket <= durable => Question::Copy,
            Stage::Following { at, given, sealed } if at == given && sealed != Some(at) => {
                Question::Tail { above: at }
            }
            _ => return None,
        };
        if let Some((before, at)) = self.asked
            && before == question
        {
            if now.since(at) < ASK_MICROS {
                return None;
            }
            self.turns += 1;
        }
        self.asked = Some((question, now));
        Some(question)
    }

    /// A copy begins to come in. Whether it is taken.
    pub fn begins(&mut self, stream: u64, header: &CopyHeader) -> bool {
        let is_wanted = self.stage == Stage::Wanting && header.epoch == self.inherits();
        if is_wanted {
            self.stage = Stage::Coming { stream, at: header.at, jobs: 1 };
        }
        is_wanted
    }

    /// A piece of it comes. Whether it is taken.
    pub fn comes(&mut self, of: u64) -> bool {
        match &mut self.stage {
            Stage::Coming { stream, jobs, .. } if *stream == of => {
                *jobs += 1;
                true
            }
            _ => false,
        }
    }

    /// A piece was written; the stream that it came on.
    pub fn installed(&mut self) -> u64 {
        let Stage::Coming { stream, jobs, .. } = &mut self.stage else {
            panic!("a piece is written of a copy that comes in, not in {:?}", self.stage)
        };
        assert!(*jobs > 0, "a piece is written once");
        *jobs -= 1;
        *stream
    }

    /// It has come whole. Whether that is so: all pieces are written.
    pub fn ended(&mut self, of: u64) -> bool {
        match self.stage {
            Stage::Coming { stream, at, jobs: 0 } if stream == of => {
                self.stage = Stage::Flushing { stream, at };
                true
            }
            _ => false,
        }
    }

    /// Whether a stream is the one that its copy comes on.
    pub fn is_on(&self, of: u64) -> bool {
        match self.stage {
            Stage::Coming { stream, .. } | Stage::Flushing { stream, .. } | Stage::Loading { stream, .. } => {
                stream == of
            }
            _ => false,
        }
    }

    /// The copy is flushed. Whether it is to be loaded.
    pub fn flushed(&mut self, of: u64) -> bool {
        match self.stage {
            Stage::Flushing { stream, at } if stream == of => {
                self.stage = Stage::Loading { stream, at };
                true
            }
            _ => false,
        }
    }

    /// The copy is loaded; the stream that it came on.
    pub fn loaded(&mut self, last: Version, due: Option<u64>) -> u64 {
        let Stage::Loading { stream, at } = self.stage else {
            panic!("what is loaded has come in, not {:?}", self.stage)
        };
        (self.last, self.due) = (last, due);
        self.stage = Stage::Following { at, given: at, sealed: None };
        stream
    }

    /// What came after a copy that has applied what is up to `above`, and where it ends, if that is known; the entries that the
    /// table is to apply. An error says why it cannot go on: a new copy is needed.
    pub fn take_tail(
        &mut self,
        above: Position,
        entries: Option<Vec<(Position, Bytes)>>,
        sealed: Option<Position>,
    ) -> Result<Vec<(Position, Bytes)>, &'static str> {
        let Stage::Following { at, given, sealed: known } = &mut self.stage else { return Ok(Vec::new()) };
        // An answer that comes late, or twice, says nothing new.
        if *at != above || *at != *given {
            return Ok(Vec::new());
        }
        let entries = entries.ok_or("what came after the copy is not in memory any more")?;
        let mut before = *at;
        for (at, entry) in &entries {
            let follows = at.index.0.checked_sub(1) == Some(before.index.0) && at.term >= before.term;
            if !follows || !(entry.is_empty() || Entry::decode(entry).is_ok()) {
                return Err("what came after the copy does not follow it");
            }
            before = *at;
        }
        if sealed.is_some_and(|sealed| sealed.index < before.index) {
            return Err("the copy has what was never acknowledged");
        }
        if before != *at || sealed.is_some() {
            (*given, *known, self.asked, self.turns) = (before, sealed, None, 0);
        }
        Ok(entries)
    }

    /// The table has applied an entry.
    pub fn applied(&mut self, index: Index, last: Version, due: Option<u64>) {
        let Stage::Following { at, given, .. } = &mut self.stage else {
            panic!("entries are applied to a copy that follows, not in {:?}", self.stage)
        };
        assert!(at.index.next() == index && index <= given.index, "entries are applied in order");
        *at = if index == given.index { *given } else { Position { index, ..*at } };
        (self.last, self.due) = (last, due);
    }

    /// Whether it has all that the epoch before ever had, and nobody else goes on with the shard.
    pub fn has_everything(&self) -> bool {
        match self.stage {
            Stage::Following { at, given, sealed } => {
                let is_sealed = sealed == Some(at) || mutant::is(Mutant::HeirOpensUnsealed);
                self.may_open && at == given && is_sealed
            }
            _ => false,
        }
    }

    /// It has everything, which is to be flushed.
    pub fn end(&mut self) {
        let Stage::Following { at, .. } = self.stage else {
            panic!("an heir ends that follows, not in {:?}", self.stage)
        };
        assert!(self.has_everything(), "an heir ends when nothing is missing");
        self.stage = Stage::Ending { at };
    }

    /// The last flush came to nothing: it is to be tried again.
    pub fn goes_on(&mut self) {
        let Stage::Ending { at } = self.stage else { return };
        self.stage = Stage::Following { at, given: at, sealed: Some(at) };
    }

    /// Everything is flushed, and the append of this ticket will say that it is the replica; where it begins.
    pub fn inherit(&mut self, ticket: u64) -> Position {
        let Stage::Ending { at } = self.stage else {
            panic!("an heir inherits what is flushed, not in {:?}", self.stage)
        };
        self.stage = Stage::Inheriting { at, ticket };
        at
    }
}
