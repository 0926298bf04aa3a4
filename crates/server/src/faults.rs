//! The faults that a user put on this node, carried out: responses are held back, frames are let go. What becomes of each, [`node::faults`]
//! decides.
//!
//! A node that is no lab has none and takes none. In a lab all that leaves or comes in asks here first:
//!
//! ```text
//!   drivers ──▶ Transport::send ──▶ passage ──┬──▶ queue of the other node
//!                                             ├──▶ held, then the queue        a response of a slow node
//!   drivers ──▶ an answer ────────▶ late ─────┴──▶ held, then the client
//!   another node ──▶ a frame, a connection ──▶ cuts: read and forgotten, or closed
//! ```
//!
//! # Caveats
//!
//! What is held back leaves in the order of its times only as far as the runtime wakes tasks so: protocols bear that, as they bear any
//! network. A node that stops holds nothing back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kv::fault::{self, Fault};
use kv::watch::{Take, Watcher};
use kv::{Error, NodeId};
use node::faults::{Faults as Standing, Passage};
use node::identity::Nodes;
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

/// So many bytes of frames are held back at most, of all nodes together; what is more is lost, as a network may lose it.
const HELD_BYTES_MAX: usize = 64 << 20;
/// The process ends so long after it was asked to: the answer leaves first.
const KILL_DELAY: Duration = Duration::from_millis(50);

/// The faults of this node.
pub(crate) struct Faults {
    /// Whether it takes any.
    lab: bool,
    /// This node, and all that there are.
    me: NodeId,
    nodes: watch::Receiver<Nodes>,
    standing: watch::Sender<Standing>,
    /// Bytes of frames that are held back.
    held: Arc<AtomicUsize>,
    /// Where what is held back waits.
    runtime: Handle,
}

impl Faults {
    /// None yet. Call it on a runtime that lives as long as the node.
    pub fn new(lab: bool, me: NodeId, nodes: watch::Receiver<Nodes>) -> Arc<Faults> {
        Arc::new(Faults {
            lab,
            me,
            nodes,
            standing: watch::Sender::default(),
            held: Arc::default(),
            runtime: Handle::current(),
        })
    }

    /// Puts a fault on this node, or takes it off; which are in force then.
    pub fn put(&self, fault: Option<Fault>) -> Result<fault::Faults, Error> {
        let nodes = self.nodes.borrow().clone();
        if let Some(fault) = fault {
            self.check_lab()?;
            let mut put = Ok(());
            self.standing.send_if_modified(|standing| {
                put = standing.put(&fault, self.me, &nodes);
                put.is_ok()
            });
            put?;
            tracing::warn!(?fault, "a fault is put on this node, or taken off");
            if fault == Fault::Kill {
                thread::spawn(kill);
            }
        }
        Ok(fault::Faults { lab: self.lab, ..self.standing.borrow().told(self.me, &nodes) })
    }

    fn check_lab(&self) -> Result<(), Error> {
        match self.lab {
            true => Ok(()),
            false => Err(Error::Invalid(
                "this node takes no faults: they are for labs. Start it with 'capstan up --lab', or 'capstan serve --lab'".into(),
            )),
        }
    }

    /// Whether it takes any: it never does later when it does not now.
    pub fn may_be(&self) -> bool {
        self.lab
    }

    /// What becomes of a frame to another node.
    pub fn passage(&self, to: NodeId, is_response: bool) -> Passage {
        if self.lab { self.standing.borrow().passage(to, is_response) } else { Passage::Now }
    }

    /// Whether all that goes between this node and another one is lost.
    pub fn cuts(&self, other: NodeId) -> bool {
        self.lab && self.standing.borrow().cuts(other)
    }

    /// Until this node is cut off from another one.
    pub async fn cut_off(&self, other: NodeId) {
        // The sender is here.
        let _ = self.standing.subscribe().wait_for(|faults| faults.cuts(other)).await;
    }

    /// Lets a response leave, late where responses are.
    pub fn respond(&self, leave: impl FnOnce() + Send + 'static) {
        match self.lab.then(|| self.standing.borrow().slow_micros()) {
            None | Some(0) => leave(),
            Some(micros) => {
                let held = hold(self.standing.subscribe(), micros);
                self.runtime.spawn(async move {
                    held.await;
                    leave();
                });
            }
        }
    }

    /// A watch whose batches leave late where responses do.
    pub fn watched(self: &Arc<Faults>, watch: Box<dyn Watcher>) -> Box<dyn Watcher> {
        if self.lab { Box::new(Late { watch, faults: self.clone() }) } else { watch }
    }

    /// Holds a frame back for so many microseconds, then gives it to who sends it.
    pub fn hold_frame(
        self: &Arc<Faults>,
        frame: Bytes,
        micros: u64,
        send: impl FnOnce(Bytes) + Send + 'static,
    ) {
        let bytes = frame.len();
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes > HELD_BYTES_MAX {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        let (held, wait) = (self.held.clone(), hold(self.standing.subscribe(), micros));
        self.runtime.spawn(async move {
            wait.await;
            held.fetch_sub(bytes, Ordering::Relaxed);
            send(frame);
        });
    }

    /// The node stops: nothing is held back any more.
    pub fn end(&self) {
        let restore = |faults: &mut Standing| *faults = Standing::default();
        self.standing.send_modify(restore);
    }
}

/// A watch at a node that may be slow.
struct Late {
    watch: Box<dyn Watcher>,
    faults: Arc<Faults>,
}

impl Watcher for Late {
    fn next(&mut self, take: Take) {
        let faults = self.faults.clone();
        self.watch.next(Box::new(move |batch| faults.respond(move || take(batch))));
    }
}

/// Until the time is over, or nothing is held back any more.
async fn hold(mut standing: watch::Receiver<Standing>, micros: u64) {
    let restored = standing.wait_for(|faults| faults.slow_micros() == 0);
    let _ = timeout(Duration::from_micros(micros), restored).await;
}

fn kill() {
    thread::sleep(KILL_DELAY);
    // Nothing stands behind it: the process is gone.
    let killed = kill_process(getpid(), Signal::KILL);
    unreachable!("a process may kill itself: {killed:?}");
}
