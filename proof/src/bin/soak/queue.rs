//! A bounded queue that shows a lost or half-moved item.

use shm_sync::ShmSafe;

use crate::checked_mutex::{CheckedData, step};
use crate::findings::Site;

/// A bounded queue of numbers. It is consistent if `produced == consumed + len`, and
/// each queued item is what was put in.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub(crate) struct Queue {
    produced: u64,
    consumed: u64,
    len: u64,
    items: [u64; Self::CAPACITY as usize],
}

impl Queue {
    /// Small, so that producers and consumers wait often.
    const CAPACITY: u64 = 3;

    /// Returns the item with this number.
    fn item(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == Self::CAPACITY
    }

    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(crate) fn begin_put(&mut self) {
        self.items[(self.produced % Self::CAPACITY) as usize] = Self::item(self.produced);
        step();
        self.len += 1;
        step();
    }

    pub(crate) fn end_put(&mut self) {
        step();
        self.produced += 1;
    }

    pub(crate) fn begin_take(&mut self) {
        self.consumed += 1;
        step();
    }

    pub(crate) fn end_take(&mut self) {
        step();
        self.len -= 1;
    }
}

impl CheckedData for Queue {
    const SITE: Site = Site::Queue;

    fn fault(&self) -> Option<String> {
        let Self {
            produced,
            consumed,
            len,
            items,
        } = self;
        if *produced != consumed + len || *len > Self::CAPACITY {
            return Some(format!(
                "{produced} produced, {consumed} consumed, {len} queued"
            ));
        }
        let is_wrong =
            |number: &u64| items[(number % Self::CAPACITY) as usize] != Self::item(*number);
        let wrong = (*consumed..*produced).find(is_wrong);
        wrong.map(|number| format!("item {number} is not what was put in"))
    }

    fn repair(&mut self) {
        // A half-put item is dropped: it was never counted as produced. A half-taken
        // item is gone.
        self.len = self.produced - self.consumed;
    }
}
