//! Errors between [`kv::Error`], the gRPC status with its google.rpc details, and the message `Error`.
//!
//! What goes out as an error comes back as the same error: [`from_status`] of [`to_status`] is the identity, except that
//! texts longer than [`TEXT_BYTES_MAX`] are cut (a status travels in HTTP/2 headers, and clients take 16 KiB of them).
//! The table of reasons and codes stands at the top of `capstan.proto`.
//!
//! In doubt is DEADLINE_EXCEEDED: of all codes it is the one that promises nothing about the effect ("may be returned
//! even if the operation has completed"), and no library retries it unasked, as many do UNAVAILABLE.

use std::collections::HashMap;
use std::time::Duration;

use kv::{Error, Outcome, Version};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{cluster_id, proto};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "capstan";
/// The longest text of a status, in bytes: it goes into headers of 16 KiB, percent-encoded and again in the details.
pub const TEXT_BYTES_MAX: usize = 1 << 10;
/// When it makes sense to ask again after a transient failure: an election takes longer, a full queue less.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The status that tells an error.
pub fn to_status(error: &Error) -> Status {
    let text = cut(error.to_string());
    let (code, reason, metadata) = parts(error);
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    match error {
        Error::Invalid(_) => {
            details.add_bad_request_violation("request", &text);
        }
        Error::TooLarge { what, .. } => {
            details.add_bad_request_violation(cut(what.clone()), &text);
        }
        Error::Conflict(_) => {
            details.add_precondition_failure_violation("VALUE", "the present value of the key", &text);
        }
        Error::Unavailable(_) | Error::WrongNode { .. } => {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Error::OverQuota(_) => {
            details.add_quota_failure_violation("keyspace", &text);
        }
        Error::Trimmed { .. } | Error::Future { .. } | Error::NoKeyspace(_) | Error::InDoubt(_) => {}
    }
    Status::with_error_details(code, text, details)
}

/// The error that a status tells; `None` when Capstan did not make it (the transport did, or a proxy).
pub fn from_status(status: &Status) -> Option<Error> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN {
        return None;
    }
    from_parts(&info.reason, &info.metadata, status.message())
}

/// The message that tells an error.
pub(super) fn to_message(error: &Error) -> proto::Error {
    let (code, reason, metadata) = parts(error);
    proto::Error { code: code.into(), message: cut(error.to_string()), reason: reason.into(), metadata }
}

/// The error that a message tells. Of an unknown reason it says at least what became of the request.
pub(super) fn from_message(message: proto::Error) -> Error {
    from_parts(&message.reason, &message.metadata, &message.message).unwrap_or_else(|| {
        match message.metadata.get("outcome").map(String::as_str) {
            Some("failed") => Error::Unavailable(message.message),
            _ => Error::InDoubt(message.message),
        }
    })
}

/// Code, reason and metadata of an error.
pub(super) fn parts(error: &Error) -> (Code, &'static str, HashMap<String, String>) {
    let outcome = match error.outcome() {
        Outcome::Failed => "failed",
        Outcome::InDoubt => "in_doubt",
    };
    let mut metadata = HashMap::from([("outcome".to_owned(), outcome.to_owned())]);
    let mut tell = |name: &str, value: String| metadata.insert(name.to_owned(), cut(value));
    let (code, reason) = match error {
        Error::Invalid(_) => (Code::InvalidArgument, "INVALID"),
        Error::TooLarge { what, size, limit } => {
            tell("what", what.clone());
            tell("size", size.to_string());
            tell("limit", limit.to_string());
            (Code::InvalidArgument, "TOO_LARGE")
        }
        Error::Conflict(_) => (Code::FailedPrecondition, "CONFLICT"),
        Error::Trimmed { asked, oldest } => {
            tell("asked", asked.to_string());
            tell("oldest", oldest.to_string());
            (Code::OutOfRange, "TRIMMED")
        }
        Error::Future { asked, newest } => {
            tell("asked", asked.to_string());
            tell("newest", newest.to_string());
            (Code::OutOfRange, "FUTURE")
        }
        Error::OverQuota(_) => (Code::ResourceExhausted, "OVER_QUOTA"),
        Error::NoKeyspace(name) => {
            tell("keyspace", name.clone());
            (Code::NotFound, "NO_KEYSPACE")
        }
        Error::WrongNode { try_next } => {
            if let Some(address) = try_next {
                tell("try_next", address.clone());
            }
            (Code::Unavailable, "WRONG_NODE")
        }
        Error::Unavailable(_) => (Code::Unavailable, "UNAVAILABLE"),
        Error::InDoubt(_) => (Code::DeadlineExceeded, "IN_DOUBT"),
    };
    (code, reason, metadata)
}

fn from_parts(reason: &str, metadata: &HashMap<String, String>, text: &str) -> Option<Error> {
    let number = |name: &str| metadata.get(name)?.parse().ok();
    let version = |name: &str| metadata.get(name)?.parse::<Version>().ok();
    Some(match reason {
        "INVALID" => Error::Invalid(text.into()),
        "TOO_LARGE" => Error::TooLarge {
            what: metadata.get("what")?.clone(),
            size: number("size")?,
            limit: number("limit")?,
        },
        "CONFLICT" => Error::Conflict(text.into()),
        "TRIMMED" => Error::Trimmed { asked: version("asked")?, oldest: version("oldest")? },
        "FUTURE" => Error::Future { asked: version("asked")?, newest: version("newest")? },
        "OVER_QUOTA" => Error::OverQuota(text.into()),
        "NO_KEYSPACE" => Error::NoKeyspace(metadata.get("keyspace")?.clone()),
        "WRONG_NODE" => Error::WrongNode { try_next: metadata.get("try_next").cloned() },
        "UNAVAILABLE" | cluster_id::REASON => Error::Unavailable(text.into()),
        "IN_DOUBT" => Error::InDoubt(text.into()),
        _ => return None,
    })
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text, whole characters of it.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use kv::ReplicaId;

    use super::*;

    fn version(micros: u64) -> Version {
        Version::new(micros, ReplicaId(3))
    }

    fn all() -> Vec<(Error, Code, &'static str)> {
        vec![
            (Error::Invalid("the key is empty: ärger %\n".into()), Code::InvalidArgument, "INVALID"),
            (
                Error::TooLarge { what: "the value".into(), size: 9, limit: 8 },
                Code::InvalidArgument,
                "TOO_LARGE",
            ),
            (Error::Conflict("no number".into()), Code::FailedPrecondition, "CONFLICT"),
            (Error::Trimmed { asked: version(1), oldest: version(2) }, Code::OutOfRange, "TRIMMED"),
            (Error::Future { asked: version(2), newest: version(1) }, Code::OutOfRange, "FUTURE"),
            (Error::NoKeyspace("other".into()), Code::NotFound, "NO_KEYSPACE"),
            (Error::OverQuota("full".into()), Code::ResourceExhausted, "OVER_QUOTA"),
            (Error::WrongNode { try_next: None }, Code::Unavailable, "WRONG_NODE"),
            (Error::WrongNode { try_next: Some("127.0.0.1:7402".into()) }, Code::Unavailable, "WRONG_NODE"),
            (Error::Unavailable("no leader".into()), Code::Unavailable, "UNAVAILABLE"),
            (Error::InDoubt("no answer".into()), Code::DeadlineExceeded, "IN_DOUBT"),
        ]
    }

    #[test]
    fn status_of_every_error_has_its_code_reason_text_and_outcome() {
        for (error, code, reason) in all() {
            let status = to_status(&error);
            assert_eq!((status.code(), status.message()), (code, error.to_string().as_str()));
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, DOMAIN));
            let outcome = if matches!(error, Error::InDoubt(_)) { "in_doubt" } else { "failed" };
            assert_eq!(info.metadata["outcome"], outcome);
        }
    }

    #[test]
    fn status_and_message_of_every_error_come_back_as_the_error() {
        for (error, _, _) in all() {
            assert_eq!(from_status(&to_status(&error)).as_ref(), Some(&error));
            assert_eq!(from_message(to_message(&error)), error);
        }
    }

    #[test]
    fn status_tells_what_to_repair_or_when_to_retry() {
        let details = |error: Error| to_status(&error).get_error_details();
        assert!(details(Error::Invalid("x".into())).bad_request().is_some());
        assert!(details(Error::Conflict("x".into())).precondition_failure().is_some());
        assert!(details(Error::Unavailable("x".into())).retry_info().is_some());
        assert!(details(Error::InDoubt("x".into())).retry_info().is_none());
    }

    #[test]
    fn status_text_too_long_is_cut_at_a_character() {
        let text = "ä".repeat(TEXT_BYTES_MAX);
        let status = to_status(&Error::Unavailable(format!("x{text}")));
        assert_eq!(status.message().len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn status_of_others_is_no_error_of_ours() {
        assert_eq!(from_status(&Status::unavailable("proxy")), None);
        let details = ErrorDetails::with_error_info("UNAVAILABLE", "example.com", HashMap::new());
        assert_eq!(from_status(&Status::with_error_details(Code::Unavailable, "x", details)), None);
    }

    #[test]
    fn message_of_unknown_reason_keeps_its_outcome() {
        let message = |outcome: &str| proto::Error {
            reason: "NEW".into(),
            metadata: HashMap::from([("outcome".into(), outcome.into())]),
            ..Default::default()
        };
        assert_eq!(from_message(message("failed")).outcome(), Outcome::Failed);
        assert_eq!(from_message(message("in_doubt")).outcome(), Outcome::InDoubt);
        assert_eq!(from_message(proto::Error::default()).outcome(), Outcome::InDoubt);
    }
}
