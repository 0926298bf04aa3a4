//! Where everything is, and where it should be: the directory's state as a value, and what follows from it.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

pub mod map;
