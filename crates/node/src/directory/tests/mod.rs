//! The directory alone: scripted answers, leaders that come and go, and what it makes of what it sees.

mod desk;
mod drawn;
mod duties;
mod follow;
mod leader;
mod names;
mod room;
mod ruling;
