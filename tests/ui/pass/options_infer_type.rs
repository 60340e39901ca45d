//! The type of options is inferred from the value or from the segment.

use std::path::Path;

use shm_sync::{Removal, Segment, SegmentOptions, ShmMutex};

const OPTIONS: SegmentOptions<ShmMutex<u64>> =
    SegmentOptions::new().removal(Removal::UntilLastDetach);

fn main() -> Result<(), shm_sync::Error> {
    let name = format!("/shm-sync-test-infer-{}", std::process::id());
    let created = SegmentOptions::new().create(&name, ShmMutex::new(0_u64))?;
    // The literal gets the type of the options.
    let opened = OPTIONS.open_or_create(&name, || ShmMutex::new(1))?;
    let again: Segment<ShmMutex<u64>> = SegmentOptions::new().open(name.as_str())?;
    *again.lock()? += 7;
    assert_eq!(*created.lock()?, 7);
    assert_eq!(*opened.lock()?, 7);
    shm_sync::unlink(&name)?;

    let missing = Segment::<ShmMutex<u64>>::open(Path::new("/no-such-directory/jobs"));
    assert!(missing.is_err());
    let slots = SegmentOptions::new().anonymous_with_len("slots", 3, |slots: &mut [u64]| {
        slots[2] = 2;
    })?;
    assert_eq!(slots.len(), 3);
    Ok(())
}
