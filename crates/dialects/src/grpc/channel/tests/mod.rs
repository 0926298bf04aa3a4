//! What the client's side of a connection promises, against a server that is driven by hand.

mod answers;
mod ends;
mod limits;
mod server;
