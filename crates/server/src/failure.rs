//! Why a node ended, and whether starting it again may help.

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something must be changed first: another start would end the same way.
    #[error("{0}")]
    Refused(String),
    /// It may work when started again.
    #[error("{0}")]
    Failed(String),
    /// It has left its cluster, and its data folder is of no use any more.
    #[error("{0}")]
    Left(String),
}

impl Failure {
    /// The process' exit code: 2 = do not start it again as it is, 1 = it may be started again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) | Failure::Left(_) => 2,
            Failure::Failed(_) => 1,
        }
    }
}
