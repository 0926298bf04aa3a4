//! Which mutant this process has.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Mutant;

/// The place of the chosen one in [`Mutant::ALL`], from 1. 0 = none.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// From now on this defect is there, and no other; `None` = none is.
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.store(mutant.map_or(0, number), Ordering::Relaxed);
}

/// Whether this defect is switched on.
#[inline]
pub fn is(mutant: Mutant) -> bool {
    CHOSEN.load(Ordering::Relaxed) == number(mutant)
}

fn number(mutant: Mutant) -> usize {
    mutant as usize + 1
}
