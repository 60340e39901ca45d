//! shm-sync: segments with a mutex that guards a number.

use shm_sync::{Error, Segment, SegmentOptions, ShmMutex};

use super::api::{Backing, SharedMemoryApi};
use crate::failure::Failure;
use crate::series::Survives;

/// A segment with this backing.
pub(super) struct ShmSync(pub(super) Backing);

impl SharedMemoryApi for ShmSync {
    const NAME: &'static str = "shm-sync";
    const SURVIVES: Survives = Survives::Kills;
    type Attachment = Segment<ShmMutex<u64>>;

    fn create(&self) -> Result<Self::Attachment, Failure> {
        let value = ShmMutex::new(7);
        Ok(match self.0 {
            Backing::Memfd => Segment::anonymous(value)?,
            named => Segment::create(named.address(), value)?,
        })
    }

    fn open(&self, first: &Self::Attachment) -> Result<Self::Attachment, Failure> {
        let second: Self::Attachment = match (self.0, Segment::as_fd(first)) {
            (Backing::Memfd, Some(file)) => {
                let copy = file.try_clone_to_owned().map_err(Failure::os("dup"))?;
                SegmentOptions::new().from_fd(copy)?
            }
            (named, _) => Segment::open(named.address())?,
        };
        let number = *second.lock().map_err(Error::from)?;
        match number {
            7 => Ok(second),
            number => Err(Failure::WrongResult {
                contestant: Self::NAME,
                what: format!("read {number}, which no process stored"),
            }),
        }
    }

    fn open_or_create(&self) -> Option<Result<Self::Attachment, Failure>> {
        match self.0 {
            Backing::Memfd => None,
            named => Some(
                Segment::open_or_create(named.address(), || ShmMutex::new(0))
                    .map_err(Failure::from),
            ),
        }
    }

    fn remove(&self) -> Result<(), Failure> {
        match self.0 {
            Backing::Memfd => Ok(()),
            named => Ok(shm_sync::unlink(named.address())?),
        }
    }
}
