//! The models of what processes do to a segment with a name or a key, with deaths at
//! any step.
//!
//! | model | what it has |
//! |---|---|
//! | `file` | a POSIX object or file: publication, attachment, removal |
//! | `file_reinit` | its locks, after another boot or in another pid namespace |
//! | `sysv` | a System V segment: creation, attachment, removal |
//! | `sysv_reinit` | its locks, in another pid namespace |

mod file;
mod file_reinit;
mod search;
mod sysv;
mod sysv_reinit;
