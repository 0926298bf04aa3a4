//! The driver, tested from outside: a few of them in one thread.

mod cluster;
mod faults;
mod walk;
