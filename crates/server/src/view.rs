//! What the cores of a node show of themselves to those who do not wait for a turn: clients who ask for the cluster's status or
//! the time, and the core that ends the node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use kv::cluster::Status;
use node::Driver;
use node::wire::Announced;

/// What all cores show.
pub(crate) struct View {
    status: Mutex<Status>,
    cores: Vec<Shown>,
}

/// What one core shows.
#[derive(Default)]
struct Shown {
    clock: AtomicU64,
    now_and_then: Mutex<Standing>,
}

/// What it shows now and then, and after each turn while the node stops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    replicas: Vec<Announced>,
    pub handed_over: bool,
    pub open_parts: usize,
}

impl View {
    /// Of so many cores, which have shown nothing yet.
    pub fn new(cores: usize) -> View {
        View { status: Mutex::default(), cores: (0..cores).map(|_| Shown::default()).collect() }
    }

    /// The time that clients count from, in microseconds since 1970: the latest of all cores.
    pub fn clock(&self) -> u64 {
        self.cores.iter().map(|core| core.clock.load(Ordering::Relaxed)).max().unwrap_or_default()
    }

    /// The cluster, as this node last saw it.
    pub fn status(&self) -> Status {
        self.status.lock().expect("no holder of the status panics").clone()
    }

    /// How the core stands.
    pub fn standing(&self, core: usize) -> Standing {
        self.shown(core).clone()
    }

    /// A core shows its clock.
    pub fn show_clock(&self, core: usize, driver: &Driver) {
        self.cores[core].clock.store(driver.clients_micros(), Ordering::Relaxed);
    }

    /// A core shows how it stands; the first one, how the cluster is.
    pub fn show(&self, core: usize, driver: &Driver) {
        if core == 0 {
            let others = (1..self.cores.len()).flat_map(|other| self.shown(other).replicas.clone());
            let status = driver.status(others.collect());
            *self.status.lock().expect("no holder of the status panics") = status;
        }
        *self.shown(core) = Standing {
            replicas: if core == 0 { Vec::new() } else { driver.announced() },
            handed_over: driver.has_handed_over(),
            open_parts: driver.open_parts(),
        };
    }

    fn shown(&self, core: usize) -> MutexGuard<'_, Standing> {
        self.cores[core].now_and_then.lock().expect("no holder of what is shown panics")
    }
}
