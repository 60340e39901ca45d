//! Entry points of the fuzzer: objects with any bytes.

mod system_v;

use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

use super::locks;
use super::reader::{Opened, Source};
use super::types::Epoch;
use crate::os::mem::Pages;
use crate::os::{mem::memfd, regular_file};

pub use system_v::{Choices, system_v};

/// Reads an object with these bytes as the tool does: header, lock table, and every
/// lock.
///
/// # Panics
///
/// If the numbers contradict each other.
pub fn object(bytes: &[u8]) {
    let Some(len) = NonZeroUsize::new(bytes.len()) else {
        return;
    };
    let file = memfd::create("shm-sync-fuzz", Pages::Normal).unwrap();
    regular_file::set_len(&file, len).unwrap();
    let file = std::fs::File::from(file);
    file.write_all_at(bytes, 0).unwrap();
    let Ok(opened) = Opened::new(Source::File(file.into()), bytes.len() as u64) else {
        return;
    };
    let sum = locks::count(&opened, Epoch::Past);
    assert!(sum.counted <= sum.objects);
    assert!(sum.held + sum.dead <= sum.counted && sum.stopped <= sum.held);
    let (listed, omitted) = locks::list(&opened, Epoch::Past, 10);
    assert!(listed.len() as u64 <= sum.objects);
    assert!(omitted <= sum.objects);
    for object in listed {
        let _ = locks::find(&opened, Epoch::Past, &object.path);
    }
}
