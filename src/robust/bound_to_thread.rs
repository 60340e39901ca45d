//! The mark of values that must stay in the thread that locked.

use std::marker::PhantomData;

/// Names, in the compiler's message, why a guard can't be sent to another thread. The
/// lock is on the robust list of the thread that locked, so only that thread can
/// unlock.
pub(crate) enum GuardIsBoundToItsThread {}

/// Makes the type that contains it `!Send` and `!Sync`.
pub(crate) type BoundToThread = PhantomData<*const GuardIsBoundToItsThread>;
