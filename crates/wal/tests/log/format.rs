//! The decoders take any bytes.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wal::format::{BatchHeader, SegmentHeader, decode_records, encode_batch};
use wal::{MemoryDisk, Record};

use crate::harness::{BLOCK, open};

fn records() -> impl Strategy<Value = Vec<Record>> {
    let body = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let record = (any::<u32>(), any::<u8>(), body);
    prop::collection::vec(record.prop_map(|(stream, kind, body)| Record { stream, kind, body }), 0..40)
}

fn header(sequence: u64, previous: u32) -> BatchHeader {
    BatchHeader { log_id: 1, segment: 1, offset: BLOCK, sequence, previous, ..BatchHeader::default() }
}

/// The same cases at every run: a failure is told by its seed and its case.
fn cases() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(0xCA95),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn batch_encoded_decodes_the_same(records in records(), sequence: u64, previous: u32) {
        let (header, batch) = encode_batch(header(sequence, previous), &records);
        prop_assert_eq!(batch.len() as u64 % BLOCK, 0);
        prop_assert_eq!(BatchHeader::decode(&batch), Ok(header));
        prop_assert_eq!(header.check(&batch), Ok(()));
        let mut decoded = Vec::new();
        let payload = &batch[64..][..header.payload_bytes as usize];
        decode_records(payload, header.records, &mut |_, record| decoded.push(record)).unwrap();
        prop_assert_eq!(decoded, records);
    }

    #[test]
    fn batch_with_any_change_is_refused(records in records(), at: prop::sample::Index, change in 1u8..) {
        let (_, batch) = encode_batch(header(1, 0), &records);
        let mut batch = batch.to_vec();
        let at = at.index(batch.len());
        batch[at] ^= change;
        let check = BatchHeader::decode(&batch).and_then(|header| header.check(&batch));
        prop_assert!(check.is_err());
    }

    #[test]
    fn segment_header_encoded_decodes_the_same(log_id: u64, segment: u64, first_sequence: u64, chain: u32) {
        let header = SegmentHeader { log_id, segment, first_sequence, chain };
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn decoders_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..5000), count: u32) {
        let _ = SegmentHeader::decode(&bytes);
        if let Ok(header) = BatchHeader::decode(&bytes) {
            let _ = header.check(&bytes);
        }
        let mut visited = 0;
        let decoded = decode_records(&bytes, count, &mut |_, _| visited += 1);
        prop_assert_eq!(visited, if decoded.is_ok() { count } else { 0 });
    }

    #[test]
    fn decoders_take_sound_headers_over_any_bytes(
        rest in prop::collection::vec(any::<u8>(), 0..5000), payload_bytes: u32, records: u32, payload_crc: u32,
    ) {
        let header = BatchHeader { payload_bytes, records, payload_crc, ..header(1, 0) };
        let bytes = [&header.encode()[..], &rest].concat();
        let decoded = BatchHeader::decode(&bytes).unwrap();
        let _ = decoded.check(&bytes);

        let segment = SegmentHeader { log_id: 0xCA95, segment: 1, first_sequence: 1, chain: 0 };
        let header = BatchHeader { log_id: 0xCA95, ..header };
        let mut disk = MemoryDisk::new();
        disk.put(1, &[&segment.encode()[..], &header.encode(), &rest].concat());
        prop_assert_eq!(open(&mut disk).map(|opened| opened.read.len()), Ok(0));
    }

    #[test]
    fn segments_of_any_bytes_open_empty(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let mut disk = MemoryDisk::new();
        disk.put(1, &bytes);
        let opened = open(&mut disk).unwrap();
        prop_assert!(opened.read.is_empty());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn format_stays_as_it_is() {
    let record = Record { stream: 3, kind: 4, body: Bytes::from_static(b"five") };
    let (_, batch) = encode_batch(header(6, 7), &[record]);
    assert_eq!(batch.len(), 4096);
    let golden = "435342310209af600100000000000000010000000000000000100000000000000600000000000000\
                  0d00000001000000070000004a7aaf0700000000000000000400000003000000046669766500\
                  0000";
    assert_eq!(hex(&batch[..80]), golden);
    let segment = SegmentHeader { log_id: 1, segment: 2, first_sequence: 3, chain: 4 }.encode();
    assert_eq!(segment.len(), 4096);
    let golden = "43415053544c4f473253148a0100000001000000000000000200000000000000030000000000000004000000\
                  00000000";
    assert_eq!(hex(&segment[..48]), golden);
}
