//! The words by which readers and writers of a readers-writer lock take turns.

/// The phase of a readers-writer lock: the note of the writer's seat. The thread in
/// that seat writes it.
///
/// | bits | meaning |
/// |---|---|
/// | 0 | closed: a writer is inside, or waits for the readers inside |
/// | 1 | the thread in the writer's seat reads, because it has downgraded its access |
/// | 2–62 | the number of the phase; wraps around |
///
/// A phase is open, then closed by a writer. The end of the writer, or its downgrade,
/// begins the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase(pub(super) u64);

impl Phase {
    const CLOSED: u64 = 1;
    const DOWNGRADED: u64 = 2;
    const NUMBER_AT: u32 = 2;
    const NUMBER: u64 = (1 << 61) - 1;

    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.0 & Self::CLOSED == 0
    }

    pub(super) fn number(self) -> u64 {
        self.0 >> Self::NUMBER_AT & Self::NUMBER
    }

    /// Returns whether the thread in the writer's seat reads.
    pub(super) fn is_downgraded(self) -> bool {
        self.0 & Self::DOWNGRADED != 0
    }

    /// Returns the same phase, closed.
    pub(super) fn close(self) -> Self {
        Self(self.not_downgraded().0 | Self::CLOSED)
    }

    /// Returns the same phase without the thread that has downgraded its access.
    pub(super) fn not_downgraded(self) -> Self {
        Self(self.0 & !Self::DOWNGRADED)
    }

    /// Returns the next phase, open.
    pub(super) fn next(self) -> Self {
        let number = self.number().wrapping_add(1) & Self::NUMBER;
        Self(number << Self::NUMBER_AT)
    }

    /// Returns the next phase, open, in which the writer of this one reads.
    pub(super) fn downgraded(self) -> Self {
        Self(self.next().0 | Self::DOWNGRADED)
    }
}

/// The note of a reader's seat.
///
/// | bits | meaning |
/// |---|---|
/// | 0–11 | how many more read guards the thread has, besides the first one |
/// | 12 | the occupant waits for the end of a phase, or has waited for it |
/// | 13–62 | the low bits of the number of that phase |
///
/// The bits stay after the occupant has left. That does no harm to a later occupant: if
/// that phase is still closed, it is not inside; if another phase has begun, the bits
/// do not match its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReaderNote(pub(super) u64);

impl ReaderNote {
    const MORE_GUARDS: u64 = (1 << 12) - 1;
    const WAITS: u64 = 1 << 12;
    const NUMBER_AT: u32 = 13;
    const NUMBER: u64 = (1 << 50) - 1;

    /// Returns the note of a reader that waits for the end of `phase`.
    pub(super) fn waiting_for_end_of(phase: Phase) -> Self {
        let number = phase.number() & Self::NUMBER;
        Self(number << Self::NUMBER_AT | Self::WAITS)
    }

    /// Returns whether the occupant waits for the end of `phase`.
    pub(super) fn waits_for_end_of(self, phase: Phase) -> bool {
        self.without_more_guards() == Self::waiting_for_end_of(phase)
    }

    #[inline]
    pub(super) fn more_guards(self) -> u64 {
        self.0 & Self::MORE_GUARDS
    }

    pub(super) fn without_more_guards(self) -> Self {
        Self(self.0 & !Self::MORE_GUARDS)
    }

    /// Returns the note with one guard more, or `None` if it can't count more.
    pub(super) fn with_guard(self) -> Option<Self> {
        (self.more_guards() < Self::MORE_GUARDS).then(|| Self(self.0 + 1))
    }

    /// Returns the note with one guard less, or `None` if there is only the first one.
    pub(super) fn without_guard(self) -> Option<Self> {
        (self.more_guards() > 0).then(|| Self(self.0 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn smoke() {
        let first = Phase(0);
        assert!(first.is_open() && !first.close().is_open());
        assert_eq!(first.close().number(), 0);
        assert_eq!(first.close().next(), first.next());
        assert_eq!((first.next().number(), first.next().is_open()), (1, true));
    }

    #[test]
    fn downgraded_phase_is_open() {
        let phase = Phase(0).close().downgraded();
        assert!(phase.is_open() && phase.is_downgraded());
        assert_eq!(phase.number(), 1);
        assert_eq!(phase.not_downgraded(), Phase(0).next());
        assert!(!phase.close().is_downgraded(), "its thread has died");
        assert!(!phase.next().is_downgraded());
    }

    #[test]
    fn numbers_wrap_around() {
        let last = Phase(u64::MAX >> 1);
        assert!(!last.is_open());
        assert_eq!(last.next(), Phase(0));
    }

    #[test]
    fn note_names_one_phase() {
        let phase = Phase(0).close();
        assert!(
            !ReaderNote(0).waits_for_end_of(phase),
            "a new seat waits for no phase"
        );
        let note = ReaderNote::waiting_for_end_of(phase);
        assert!(note.waits_for_end_of(phase));
        assert!(!note.waits_for_end_of(phase.next().close()));
        assert!(note.0 >> 63 == 0, "bit 63 belongs to the seat");
    }

    #[test]
    fn note_counts_guards() {
        let phase = Phase(7 << 2).close();
        let mut note = ReaderNote::waiting_for_end_of(phase);
        assert_eq!(note.without_guard(), None);
        let mut guards = 0;
        while let Some(more) = note.with_guard() {
            note = more;
            guards += 1;
        }
        assert_eq!((note.more_guards(), guards), (4095, 4095));
        assert!(note.waits_for_end_of(phase));
        assert_eq!(
            note.without_guard().map(ReaderNote::more_guards),
            Some(4094)
        );
        assert_eq!(note.without_more_guards().more_guards(), 0);
    }

    #[test]
    fn numbers_are_documented() {
        documented::bits(
            "phase",
            &[
                ("CLOSED", Phase::CLOSED),
                ("DOWNGRADED", Phase::DOWNGRADED),
                ("NUMBER", Phase::NUMBER << Phase::NUMBER_AT),
            ],
        );
        documented::bits(
            "note of a reader",
            &[
                ("MORE_GUARDS", ReaderNote::MORE_GUARDS),
                ("WAITS", ReaderNote::WAITS),
                ("NUMBER", ReaderNote::NUMBER << ReaderNote::NUMBER_AT),
            ],
        );
    }
}
