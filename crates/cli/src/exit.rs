//! What a command ends with: an exit code for scripts, an error for people.

use std::io;
use std::process::ExitCode;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done as asked.
    Done = 0,
    /// Nothing is wrong, but the key was not there or a condition did not hold.
    NotMet = 1,
    /// It cannot work as it was asked: wrong usage, wrong value, beyond a limit.
    Usage = 2,
    /// Not now; nothing happened.
    Unavailable = 3,
    /// It may have happened or may yet happen.
    InDoubt = 4,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store said so.
    #[error("{prefix}{0}", prefix = doubt(.0))]
    Store(#[from] kv::Error),
    /// The output cannot be written, and it was all that the command is for.
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
    /// It is done, as the code says, but what it printed cannot be written.
    #[error("writing the output: {error}; the exit code tells how it went all the same")]
    Untold {
        /// How it went.
        code: Code,
        /// Why that cannot be written.
        error: io::Error,
    },
    /// The command cannot work as it was given.
    #[error("{0}")]
    Usage(String),
    /// Something that it needs is not there now.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// Its exit code.
    pub fn code(&self) -> Code {
        match self {
            Error::Store(error) => code_of(error),
            Error::Output(_) if self.is_broken_pipe() => Code::Done,
            Error::Output(_) => Code::Unavailable,
            Error::Untold { code, .. } => *code,
            Error::Usage(_) => Code::Usage,
            Error::Unavailable(_) => Code::Unavailable,
        }
    }

    /// Whether the reader of data went away, which is nobody's fault and no news to anybody.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Output(_)) && self.is_closed_pipe()
    }

    /// Whether the reader of the output went away, whatever the output was for.
    pub fn is_closed_pipe(&self) -> bool {
        let (Error::Output(error) | Error::Untold { error, .. }) = self else { return false };
        error.kind() == io::ErrorKind::BrokenPipe
    }
}

/// The exit code of an error of the store.
pub fn code_of(error: &kv::Error) -> Code {
    match error {
        kv::Error::Conflict(_) => Code::NotMet,
        kv::Error::Invalid(_)
        | kv::Error::TooLarge { .. }
        | kv::Error::Trimmed { .. }
        | kv::Error::Future { .. }
        | kv::Error::NoKeyspace(_)
        | kv::Error::OverQuota(_) => Code::Usage,
        kv::Error::Unavailable(_) | kv::Error::WrongNode { .. } => Code::Unavailable,
        kv::Error::InDoubt(_) => Code::InDoubt,
    }
}

fn doubt(error: &kv::Error) -> &'static str {
    match error.outcome() {
        kv::Outcome::InDoubt => "in doubt: ",
        kv::Outcome::Failed => "",
    }
}

#[cfg(test)]
mod tests {
    use kv::Version;

    use super::*;

    #[test]
    fn code_of_each_error_is_as_documented() {
        let text = || "x".to_string();
        let one = Version::ZERO;
        assert_eq!(code_of(&kv::Error::Invalid(text())), Code::Usage);
        assert_eq!(code_of(&kv::Error::TooLarge { what: text(), size: 2, limit: 1 }), Code::Usage);
        assert_eq!(code_of(&kv::Error::Trimmed { asked: one, oldest: one }), Code::Usage);
        assert_eq!(code_of(&kv::Error::Future { asked: one, newest: one }), Code::Usage);
        assert_eq!(code_of(&kv::Error::NoKeyspace(text())), Code::Usage);
        assert_eq!(code_of(&kv::Error::Conflict(text())), Code::NotMet);
        assert_eq!(code_of(&kv::Error::Unavailable(text())), Code::Unavailable);
        assert_eq!(code_of(&kv::Error::WrongNode { try_next: None }), Code::Unavailable);
        assert_eq!(code_of(&kv::Error::InDoubt(text())), Code::InDoubt);
    }

    #[test]
    fn code_of_output_that_fails_is_of_what_was_done() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Error::from(full()).code(), Code::Unavailable);
        assert_eq!(Error::from(closed()).code(), Code::Done);
        for error in [full(), closed()] {
            assert_eq!(Error::Untold { code: Code::NotMet, error }.code(), Code::NotMet);
        }
    }

    #[test]
    fn error_in_doubt_says_so() {
        assert_eq!(Error::from(kv::Error::InDoubt("lost".into())).to_string(), "in doubt: lost");
    }
}
