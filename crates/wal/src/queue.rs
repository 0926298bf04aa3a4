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

    /// The next batch: the appends that fit in `payload_bytes_max` whole; of a first append that alone is longer, the
    /// records that fit, and the first record in any case.
    pub(crate) fn plan(&self, payload_bytes_max: usize) -> Option<Plan> {
        let mut plan = Plan { count: 0, payload_bytes: 0 };
        let mut whole = plan;
        let mut previous = None;
        for (ticket, record) in &self.waiting {
            if previous != Some(ticket) {
                whole = plan;
                previous = Some(ticket);
            }
            let payload_bytes = plan.payload_bytes + record_bytes(record);
            if plan.count > 0 && payload_bytes > payload_bytes_max {
                return Some(if whole.count > 0 { whole } else { plan });
            }
            plan = Plan { count: plan.count + 1, payload_bytes };
        }
        (plan.count > 0).then_some(plan)
    }

    /// Takes the records of a plan.
    pub(crate) fn take(&mut self, plan: Plan) -> Vec<Record> {
        let waiting = self.waiting.len();
        assert!(plan.count <= waiting, "a plan of {} records, and {waiting} wait", plan.count);
        assert!(plan.payload_bytes <= self.bytes, "a plan of {} bytes of {}", plan.payload_bytes, self.bytes);
        self.bytes -= plan.payload_bytes;
        let records = self.waiting.drain(..plan.count).map(|(_, record)| record).collect();
        assert!(
            !self.waiting.is_empty() || self.bytes == 0,
            "nothing waits, and it has {} bytes",
            self.bytes
        );
        records
    }

    /// The highest ticket with nothing left in the queue, its own records and those of all before it.
    pub(crate) fn taken(&self) -> u64 {
        let Some((ticket, _)) = self.waiting.front() else { return self.appended };
        assert!(
            (1..=self.appended).contains(ticket),
            "ticket {ticket} waits, the newest is {}",
            self.appended
        );
        ticket - 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: usize) -> Vec<Record> {
        (0..count)
            .map(|_| Record { stream: 1, kind: 1, body: bytes::Bytes::from_static(&[0; 100]) })
            .collect()
    }

    #[test]
    fn plan_append_that_does_not_fit_goes_whole_with_the_next_batch() {
        let mut queue = Queue::default();
        queue.push(records(2));
        queue.push(records(3));
        let four = 4 * record_bytes(&records(1)[0]);
        assert_eq!(queue.plan(four).unwrap().count, 2);
        assert_eq!(queue.plan(usize::MAX).unwrap().count, 5);
    }

    #[test]
    fn plan_append_longer_than_a_batch_is_split() {
        let mut queue = Queue::default();
        queue.push(records(3));
        let two = 2 * record_bytes(&records(1)[0]);
        assert_eq!(queue.plan(two).unwrap().count, 2);
        assert_eq!(queue.plan(1).unwrap().count, 1);
    }
}
