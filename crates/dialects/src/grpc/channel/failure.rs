//! Why a request has no answer, by what that leaves open.

use tonic::{Code, Status};

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server has not begun with it: it has not left, or not as a whole, or the server refused it unseen.
    Unsent(String),
    /// It has left, and nothing came back: the server may have done it.
    Lost(String),
    /// The server's word; or ours about a message that is none or beyond the limit, as gRPC has it.
    Status(Status),
}

impl Failure {
    /// What came back is no answer of gRPC.
    pub(super) fn malformed(what: impl std::fmt::Display) -> Failure {
        Failure::Status(Status::new(Code::Internal, format!("the answer is malformed: {what}")))
    }

    /// A message is beyond the limit of all messages.
    pub(super) fn too_large(what: &str, bytes: usize, limit: usize) -> Failure {
        Failure::Status(Status::new(
            Code::OutOfRange,
            format!("{what} of {bytes} bytes is over {limit} bytes"),
        ))
    }
}
