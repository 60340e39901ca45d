//! A structural hash of a type, computed at compile time.

use std::fmt;

/// A hash over the structure of a type: its field names, their types, offsets and
/// sizes, recursively.
///
/// Two programs with the same fingerprint have the same layout of the type. The
/// fingerprint ignores the type's own name and module, so that two crates may contain
/// the declaration.
///
/// ```
/// use shm_sync::{Fingerprint, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// const POINT: Fingerprint = Point::FINGERPRINT;
/// assert_ne!(POINT, <[f64; 2]>::FINGERPRINT);
/// assert_eq!(POINT.to_string(), format!("{:032x}", POINT.to_bits()));
/// ```
///
/// # Guarantees
///
/// Types with different descriptions are hashed as different messages. The hash is
/// SipHash-2-4 with 128 bits and a public key, so different messages do not have the
/// same hash by accident. It does not protect against malice: a process that may write
/// to a segment can write any fingerprint into its header.
/// [`ShmSafe`](crate::ShmSafe#fingerprints) lists what else it does not guarantee.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Returns the hash as a number, as headers contain it.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Serialises the fingerprint as its digits.
#[cfg(feature = "serde")]
impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
