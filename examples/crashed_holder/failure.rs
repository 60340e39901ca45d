//! The error type of this example.

use std::error::Error;

/// Any error. `main` prints it and its sources to standard error.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;
