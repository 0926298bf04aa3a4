//! The deadline of a gRPC request.

use std::time::Duration;

use tonic::codegen::http::HeaderValue;
use tonic::metadata::MetadataMap;

/// The header of a request that says how long its answer is waited for.
pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// How long before the gRPC deadline the answer should leave.
const ANSWER_TIME: Duration = Duration::from_millis(50);
/// 8 digits.
const COUNT_MAX: u128 = 99_999_999;

/// The time that the gRPC deadline leaves to the store: a little less than all, so that the store's own word on what
/// became of the request is there before the transport cuts it off.
pub(crate) fn time_left(metadata: &MetadataMap) -> Option<Duration> {
    grpc_timeout(metadata).map(|time| time - (time / 10).min(ANSWER_TIME))
}

/// A time as the gRPC deadline says it: in the finest unit of which 8 digits are enough; a part of one is cut off.
pub(super) fn grpc_timeout_of(time: Duration) -> HeaderValue {
    let seconds = u128::from(time.as_secs());
    let units = [
        (time.as_nanos(), 'n'),
        (time.as_micros(), 'u'),
        (time.as_millis(), 'm'),
        (seconds, 'S'),
        (seconds / 60, 'M'),
        (seconds / 3600, 'H'),
    ];
    let fits = units.into_iter().find(|(count, _)| *count <= COUNT_MAX);
    let (count, unit) = fits.unwrap_or((COUNT_MAX, 'H'));
    format!("{count}{unit}").parse().expect("digits and a letter are a header")
}

/// The gRPC deadline of a request, as time left: digits and a unit (see "Timeout" in gRPC's PROTOCOL-HTTP2.md).
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get(GRPC_TIMEOUT)?.to_str().ok()?;
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

    #[test]
    fn grpc_timeout_of_a_time_is_read_as_that_time() {
        let cases = [
            (Duration::ZERO, "0n"),
            (Duration::from_millis(20), "20000000n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(60), "60000000u"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::from_secs(1_000_000_000), "16666666M"),
        ];
        for (time, text) in cases {
            assert_eq!(grpc_timeout_of(time), text);
        }
        assert_eq!(timeout("3600000m"), Some(Duration::from_secs(3600)));
        assert_eq!(grpc_timeout_of(Duration::MAX), "99999999H");
    }
}
