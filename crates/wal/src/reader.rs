//! Reads one segment in chunks, so that recovery's memory is bounded by a chunk or one batch.

use bytes::Bytes;

use crate::disk::{Disk, Operation};
use crate::format::{BLOCK_BYTES, BatchHeader, is_zero};
use crate::recovery::{OpenError, failed};
use crate::segments::Segment;

/// How much is read at a time: long enough that the disk streams.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

pub(crate) struct Reader {
    segment: Segment,
    window: Bytes,
    /// Where the window lies.
    start: u64,
}

impl Reader {
    pub(crate) fn new(segment: Segment) -> Reader {
        Reader { segment, window: Bytes::new(), start: 0 }
    }

    pub(crate) fn segment(&self) -> Segment {
        self.segment
    }

    /// Bytes of the segment, fewer where it ends.
    pub(crate) fn view(&mut self, disk: &mut dyn Disk, offset: u64, len: usize) -> Result<Bytes, OpenError> {
        let end = (offset + len as u64).min(self.segment.bytes);
        if end <= offset {
            return Ok(Bytes::new());
        }
        if offset < self.start || end > self.start + self.window.len() as u64 {
            let rest = self.segment.bytes - offset;
            let len = rest.min(len.max(CHUNK_BYTES) as u64) as usize;
            let number = self.segment.number;
            self.window = disk.read(number, offset, len).map_err(failed(Operation::Read, number))?;
            assert_eq!(self.window.len(), len, "bytes that the disk reads at {number}:{offset}");
            self.start = offset;
        }
        Ok(self.window.slice((offset - self.start) as usize..(end - self.start) as usize))
    }

    /// Shows each sound batch header at a block boundary from an offset on. Returns where the last byte ends that is not
    /// zero, 0 when there is none.
    pub(crate) fn search(
        &mut self,
        disk: &mut dyn Disk,
        from: u64,
        found: &mut dyn FnMut(u64, BatchHeader) -> Result<(), OpenError>,
    ) -> Result<u64, OpenError> {
        assert!(from.is_multiple_of(BLOCK_BYTES as u64), "batches begin on boundaries, and {from} is none");
        let (mut offset, mut dirty) = (from, 0);
        while offset < self.segment.bytes {
            let block = self.view(disk, offset, BLOCK_BYTES)?;
            if !is_zero(&block) {
                let zeros = block.iter().rev().take_while(|&&byte| byte == 0).count();
                dirty = offset + (block.len() - zeros) as u64;
                if let Ok(header) = BatchHeader::decode(&block) {
                    found(offset, header)?;
                }
            }
            offset += BLOCK_BYTES as u64;
        }
        Ok(dirty)
    }
}
