//! Names of segments, checked once.

use crate::error::{Error, NameError};
use crate::os::posix_shm;

/// The longest file name that Linux takes (`NAME_MAX`), in bytes.
const NAME_MAX: usize = 255;

/// Proof that a name is one that `shm_open` takes: a slash, then 1 to 254 bytes
/// without a slash or NUL, which are not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn parse(name: &str) -> Result<Self, Error> {
        match check(name) {
            Ok(()) => Ok(Self(name.to_owned())),
            Err(reason) => Err(Error::InvalidName {
                name: name.to_owned(),
                reason,
            }),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), NameError> {
    let Some(rest) = name.strip_prefix('/') else {
        return Err(NameError::NoLeadingSlash);
    };
    match rest {
        "" | "." | ".." => Err(NameError::Empty),
        _ if rest.contains('/') => Err(NameError::InnerSlash),
        _ if rest.contains('\0') => Err(NameError::Nul),
        _ if name.len() > NAME_MAX => Err(NameError::TooLong),
        _ => Ok(()),
    }
}

/// Takes the name of a segment away. Processes that have it open keep it; the
/// memory is freed when the last of them drops it or dies.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::PermissionDenied`], [`Error::InvalidName`],
/// [`Error::Os`].
///
/// # Example
///
/// ```
/// let missing = shm_sync::unlink("/shm-sync-doc-no-such-segment");
/// assert!(matches!(missing, Err(shm_sync::Error::NotFound)));
/// ```
pub fn unlink(name: &str) -> Result<(), Error> {
    let name = Name::parse(name)?;
    posix_shm::unlink(name.as_str()).map_err(|source| from_os("shm_unlink", source))
}

/// What the system says about names, in this crate's words.
pub(super) fn from_os(call: &'static str, source: std::io::Error) -> Error {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::NotFound => Error::NotFound,
        ErrorKind::AlreadyExists => Error::AlreadyExists,
        ErrorKind::PermissionDenied => Error::PermissionDenied,
        _ => Error::Os { call, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn smoke() {
        assert_eq!(Name::parse("/jobs").unwrap().as_str(), "/jobs");
        assert_eq!(check("/.hidden"), Ok(()));
        assert_eq!(check("/zażółć"), Ok(()));
    }

    #[test]
    fn each_fault_has_its_name() {
        assert_eq!(check(""), Err(NameError::NoLeadingSlash));
        assert_eq!(check("jobs"), Err(NameError::NoLeadingSlash));
        assert_eq!(check("/"), Err(NameError::Empty));
        assert_eq!(check("/."), Err(NameError::Empty));
        assert_eq!(check("/.."), Err(NameError::Empty));
        assert_eq!(check("/a/b"), Err(NameError::InnerSlash));
        assert_eq!(check("//a"), Err(NameError::InnerSlash));
        assert_eq!(check("/a\0b"), Err(NameError::Nul));
        assert_eq!(
            check(&format!("/{}", "a".repeat(255))),
            Err(NameError::TooLong)
        );
        assert_eq!(check(&format!("/{}", "a".repeat(254))), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_a_typed_error(text in ".*") {
            match Name::parse(&text) {
                Ok(name) => prop_assert_eq!(name.as_str(), text),
                Err(Error::InvalidName { name, .. }) => prop_assert_eq!(name, text),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
