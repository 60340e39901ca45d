//! The ids of a thread, as the words of a lock store them.

/// A process id and a thread id in one word.
///
/// | bits | meaning |
/// |---|---|
/// | 0–29 | thread id |
/// | 30–59 | process id |
/// | 60–63 | zero: free for the word that embeds this one |
///
/// Thirty bits hold every id, because the kernel's futex word has no more for a thread
/// id (`FUTEX_TID_MASK`). If all bits are 0, the word names no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadId(u64);

impl ThreadId {
    const ID_BITS: u32 = 30;
    const ID_MASK: u64 = (1 << Self::ID_BITS) - 1;
    /// The bits that an id uses.
    pub(crate) const MASK: u64 = (1 << (2 * Self::ID_BITS)) - 1;
    /// No thread.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn new(pid: u32, tid: u32) -> Self {
        Self((u64::from(pid) & Self::ID_MASK) << Self::ID_BITS | (u64::from(tid) & Self::ID_MASK))
    }

    /// Reads the ids from a word. Ignores the bits outside [`MASK`](Self::MASK).
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word & Self::MASK)
    }

    pub(crate) fn to_word(self) -> u64 {
        self.0
    }

    pub(crate) fn pid(self) -> u32 {
        (self.0 >> Self::ID_BITS) as u32
    }

    pub(crate) fn tid(self) -> u32 {
        (self.0 & Self::ID_MASK) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn smoke() {
        for (pid, tid) in [(1, 1), (4_194_304, 4_194_303), (0x3fff_ffff, 0x3fff_ffff)] {
            let id = ThreadId::new(pid, tid);
            assert_eq!((id.pid(), id.tid()), (pid, tid));
            assert_eq!(ThreadId::from_word(id.to_word()), id);
            assert_eq!(ThreadId::from_word(id.to_word() | 3 << 60), id);
        }
    }

    #[test]
    fn numbers_are_documented() {
        let tid = ThreadId::new(0, u32::MAX).to_word();
        let pid = ThreadId::new(u32::MAX, 0).to_word();
        documented::bits("holder", &[("tid", tid), ("pid", pid)]);
    }
}
