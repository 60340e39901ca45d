//! `Settings`: the options that a backing needs to create an object.

use crate::os::mem::Pages;
use crate::segment::memory_policy::MemoryPolicy;
use crate::segment::permissions::Permissions;
use crate::segment::policy::Removal;

/// The part of [`SegmentOptions`](crate::SegmentOptions) that reaches the backings.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct Settings {
    pub(in crate::segment) permissions: Permissions,
    pub(in crate::segment) memory: MemoryPolicy,
    pub(in crate::segment) removal: Removal,
    pub(in crate::segment) pages: Pages,
}

impl Settings {
    pub(in crate::segment) const DEFAULT: Self = Self {
        permissions: Permissions::DEFAULT,
        memory: MemoryPolicy::DEFAULT,
        removal: Removal::Persistent,
        pages: Pages::Normal,
    };
}
