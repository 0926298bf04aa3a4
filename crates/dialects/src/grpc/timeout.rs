//! The deadline of a gRPC request.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How long before the gRPC deadline the answer should leave.
const ANSWER_TIME: Duration = Duration::from_millis(50);

/// The time that the gRPC deadline leaves to the store: a little less than all, so that the store's own word on what
/// became of the request is there before the transport cuts it off.
pub(crate) fn time_left(metadata: &MetadataMap) -> Option<Duration> {
    grpc_timeout(metadata).map(|time| time - (time / 10).min(ANSWER_TIME))
}

/// The gRPC deadline of a request, as time left: digits and a unit (see "Timeout" in gRPC's PROTOCOL-HTTP2.md).
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        grpc_timeout(&metadata)
    }

    #[test]
    fn grpc_timeout_of_every_unit_is_read() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(timeout("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(timeout("6n"), Some(Duration::from_nanos(6)));
    }

    #[test]
    fn grpc_timeout_garbled_or_absent_is_none() {
        assert_eq!(grpc_timeout(&MetadataMap::new()), None);
        for text in ["S", "1", "1x", "-1S", "1.5S"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }
}
