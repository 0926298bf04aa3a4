//! What waits for the next batch, and which tickets it stands for.

use std::collections::VecDeque;

use crate::format::record_bytes;
use crate::record::{RECORD_BYTES_MAX, Record};

/// The records that were appended and are in no batch yet.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(u64, Record)>,
    appended: u64,
    /// Length of what waits.
    bytes: usize,
}

/// The first records of the queue, as many as go together.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub count: usize,
    pub payload_bytes: usize,
}

impl Queue {
    /// Adds the records of one append and returns its ticket.
    pub(crate) fn push(&mut self, records: Vec<Record>) -> u64 {
        self.appended += 1;
        for record in records {
            assert!(record.body.len() <= RECORD_BYTES_MAX, "a record of {} bytes", record.body.len());
            self.bytes += record_bytes(&record);
            self.waiting.push_back((self.appended, record));
        }
        self.appended
    }

    /// The next batch: what fits in `payload_bytes_max`, and the first record in any case.
    pub(crate) fn plan(&self, payload_bytes_max: usize) -> Option<Plan> {
        let mut plan = Plan { count: 0, payload_bytes: 0 };
        for (_, record) in &self.waiting {
            let payload_bytes = plan.payload_bytes + record_bytes(record);
            if plan.count > 0 && payload_bytes > payload_bytes_max {
                break;
            }
            plan = Plan { count: plan.count + 1, payload_bytes };
        }
        (plan.count > 0).then_some(plan)
    }

    /// Takes the records of a plan.
    pub(crate) fn take(&mut self, plan: Plan) -> Vec<Record> {
        self.bytes -= plan.payload_bytes;
        self.waiting.drain(..plan.count).map(|(_, record)| record).collect()
    }

    /// The highest ticket with nothing left in the queue, its own records and those of all before it.
    pub(crate) fn taken(&self) -> u64 {
        self.waiting.front().map_or(self.appended, |(ticket, _)| ticket - 1)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
