//! Creating a segment under an address, again if another process is in the way.

use std::ptr::NonNull;

use crate::error::{Error, Unsupported};
use crate::segment::address::Target;
use crate::segment::backing::Hold;
use crate::segment::backing::file::{self, Unpublished};
use crate::segment::backing::sysv::{self, Creation};
use crate::segment::content::SegmentContent;
use crate::segment::options::SegmentOptions;

/// A creation that may have to be tried more than once, with a value that can be
/// made only once.
pub(super) struct Attempt<T: SegmentContent + ?Sized, W> {
    write: Option<W>,
    built: Option<Unpublished<T>>,
}

impl<T: SegmentContent + ?Sized, W: FnOnce(NonNull<T>, usize)> Attempt<T, W> {
    pub(super) fn new(write: W) -> Self {
        Self {
            write: Some(write),
            built: None,
        }
    }

    /// `None` if the address is taken.
    pub(super) fn create(
        &mut self,
        options: &SegmentOptions,
        target: &Target,
        len: usize,
    ) -> Result<Option<(NonNull<T>, Hold)>, Error> {
        match target {
            Target::File(path) => {
                let built = match (self.built.take(), self.write.take()) {
                    (Some(built), _) => built,
                    (None, Some(write)) => Unpublished::build(options, path, len, write)?,
                    (None, None) => unreachable!("what was written is built"),
                };
                let directory = file::durable_directory(path);
                match built.publish(options, path) {
                    Ok(done) => {
                        // If it fails, the segment is there all the same: to say
                        // otherwise would be wrong.
                        let _ = directory.map(|directory| directory.sync_all());
                        Ok(Some(done))
                    }
                    Err((again, Error::AlreadyExists)) => {
                        self.built = Some(again);
                        Ok(None)
                    }
                    Err((_, error)) => Err(error),
                }
            }
            Target::SystemVKey(key) => {
                match sysv::create(options, Some(*key), len, &mut self.write)? {
                    Creation::Done(value, hold) => Ok(Some((value, hold))),
                    Creation::Exists => Ok(None),
                }
            }
            Target::SystemVId(_) => Err(Error::Unsupported(Unsupported::CreationById)),
        }
    }
}
