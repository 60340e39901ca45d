//! `PendingCreate`: creates a segment under an address, in several attempts if another
//! process is faster.

use std::ptr::NonNull;

use crate::error::{Error, Unsupported};
use crate::segment::address::Target;
use crate::segment::backing::Attachment;
use crate::segment::backing::file::{self, Unpublished};
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::sysv;
use crate::segment::settings::Settings;
use crate::shm_safe::SegmentContent;

/// A creation that may need several attempts, with a value that can be written only
/// once.
pub(super) struct PendingCreate<T: SegmentContent + ?Sized, W> {
    write: Option<W>,
    built: Option<Unpublished<T>>,
}

impl<T: SegmentContent + ?Sized, W: FnOnce(NonNull<T>, usize)> PendingCreate<T, W> {
    pub(super) fn new(write: W) -> Self {
        Self {
            write: Some(write),
            built: None,
        }
    }

    /// Creates the object. Returns `None` if the address is taken.
    pub(super) fn create(
        &mut self,
        settings: &Settings,
        target: &Target,
        len: usize,
    ) -> Result<Option<Mapped<T, Attachment>>, Error> {
        match target {
            Target::File(path) => {
                let built = match (self.built.take(), self.write.take()) {
                    (Some(built), _) => built,
                    (None, Some(write)) => Unpublished::build(settings, path, len, write)?,
                    (None, None) => unreachable!("what was written is built"),
                };
                let directory = file::durable_directory(path);
                match built.publish(settings.removal, path) {
                    Ok(created) => {
                        // An error is ignored, because the segment exists anyway.
                        let _ = directory.map(|directory| directory.sync_all());
                        Ok(Some(created.into_any()))
                    }
                    Err((again, Error::AlreadyExists { .. })) => {
                        self.built = Some(again);
                        Ok(None)
                    }
                    Err((_, error)) => Err(error),
                }
            }
            Target::SystemVKey(key) => {
                let created = sysv::create(settings, Some(*key), len, &mut self.write)?;
                Ok(created.map(Mapped::into_any))
            }
            Target::SystemVId(_) => Err(Unsupported::CreationById.into()),
        }
    }
}
