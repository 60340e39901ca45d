//! This crate's segments, with a mutex around a number in them.

use shm_sync::{Error, Segment, SegmentOptions, ShmMutex};

use super::{Kind, Memory};
use crate::failure::Failure;
use crate::report::Survives;

/// A segment of some kind.
pub(super) struct Ours(pub(super) Kind);

impl Memory for Ours {
    const NAME: &'static str = "shm-sync";
    const SURVIVES: Survives = Survives::Kills;
    type Attached = Segment<ShmMutex<u64>>;

    fn create(&self) -> Result<Self::Attached, Failure> {
        let value = ShmMutex::new(7);
        Ok(match self.0 {
            Kind::Memfd => Segment::anonymous(value)?,
            named => Segment::create(&named.address(), value)?,
        })
    }

    fn open(&self, first: &Self::Attached) -> Result<Self::Attached, Failure> {
        let second: Self::Attached = match (self.0, Segment::as_fd(first)) {
            (Kind::Memfd, Some(file)) => {
                let copy = file.try_clone_to_owned().map_err(Failure::of("dup"))?;
                SegmentOptions::new().from_fd(copy)?
            }
            (named, _) => Segment::open(&named.address())?,
        };
        let number = *second.lock().map_err(Error::from)?;
        match number {
            7 => Ok(second),
            number => Err(Failure::Wrong {
                contestant: Self::NAME,
                what: format!("{number} was never stored"),
            }),
        }
    }

    fn open_or_create(&self) -> Option<Result<Self::Attached, Failure>> {
        match self.0 {
            Kind::Memfd => None,
            named => Some(
                Segment::open_or_create(&named.address(), || ShmMutex::new(0))
                    .map_err(Failure::from),
            ),
        }
    }

    fn remove(&self) -> Result<(), Failure> {
        match self.0 {
            Kind::Memfd => Ok(()),
            named => Ok(shm_sync::unlink(&named.address())?),
        }
    }
}
