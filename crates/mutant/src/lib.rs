//! Mutants: named defects, each a line of production code that a test build can switch on, to show that the simulator
//! catches what it must.
//!
//! A site in production code reads `if mutant::is(Mutant::Name) { .. }`. Without the feature `on` that is a constant `false`
//! and the compiler leaves nothing of it. With it, a process chooses at most one mutant ([`choose`]) before it begins;
//! `capstan sim --mutant NAME` does, and `scripts/mutants` runs all of them.
//!
//! # Caveats
//!
//! The choice is the process's: it is made once, before any site is passed.

#[cfg(feature = "on")]
mod choice;
mod list;

#[cfg(feature = "on")]
pub use choice::choose;
pub use list::Mutant;

/// Whether this defect is switched on. Never, but in a test build.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(feature = "on")]
pub use choice::is;
