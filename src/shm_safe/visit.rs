//! The walk over the sync objects inside a value.

use std::fmt;

use crate::shm_safe::sync_ops::SyncOps;

/// Receives each sync object that a walk finds, with its path.
#[doc(hidden)]
pub type Visitor<'a> = dyn FnMut(&FieldPath<'_>, &'static SyncOps) + 'a;

/// The path from a value to a part of it, with the offset of the part.
///
/// It is a list of stack frames, so that a walk allocates nothing. Displayed, it reads
/// like Rust: `.workers[3].lock`.
///
/// A walk from [`pattern`](Self::pattern) visits the element type of each array once,
/// for every length of the array: `.workers[].lock`.
#[doc(hidden)]
#[derive(Debug)]
pub struct FieldPath<'a> {
    /// In a pattern, the offset of the first element that it stands for.
    offset: usize,
    step: Step,
    walk: Walk,
    parent: Option<&'a FieldPath<'a>>,
}

/// The last part of a path.
#[derive(Debug)]
enum Step {
    Root,
    Field(&'static str),
    Index(usize),
    /// All elements of an array; `stride` is in bytes.
    Array {
        count: usize,
        stride: usize,
    },
}

/// The treatment of arrays by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    /// It visits every element.
    Elements,
    /// It visits each array once.
    Arrays,
}

impl<'a> FieldPath<'a> {
    /// Returns the path of the value itself, for a walk that visits every element.
    #[must_use]
    pub const fn root() -> Self {
        Self::start(Walk::Elements)
    }

    /// Returns the path of the value itself, for a walk that visits each array once.
    #[must_use]
    pub const fn pattern() -> Self {
        Self::start(Walk::Arrays)
    }

    const fn start(walk: Walk) -> Self {
        Self {
            offset: 0,
            step: Step::Root,
            walk,
            parent: None,
        }
    }

    /// Returns the path of a field; `offset` is in bytes from the start of this part.
    #[must_use]
    pub const fn field(&'a self, name: &'static str, offset: usize) -> Self {
        self.child(Step::Field(name), offset)
    }

    /// Returns the path of an array element; `offset` is in bytes from the start of
    /// this part.
    #[must_use]
    pub const fn index(&'a self, index: usize, offset: usize) -> Self {
        self.child(Step::Index(index), offset)
    }

    /// Returns the path that stands for all `count` elements of an array, `stride`
    /// bytes apart.
    #[must_use]
    pub const fn array(&'a self, count: usize, stride: usize) -> Self {
        self.child(Step::Array { count, stride }, 0)
    }

    const fn child(&'a self, step: Step, offset: usize) -> Self {
        Self {
            offset: self.offset + offset,
            step,
            walk: self.walk,
            parent: Some(self),
        }
    }

    /// Returns whether the walk visits arrays by [`array`](Self::array) instead of
    /// their elements by [`index`](Self::index).
    #[must_use]
    pub const fn is_pattern(&self) -> bool {
        matches!(self.walk, Walk::Arrays)
    }

    /// Returns the count and the stride in bytes of each array on this path, outermost
    /// first. It is empty for a path that is no pattern.
    pub(crate) fn array_dims(&self) -> Vec<(u64, u64)> {
        let mut dims = self.parent.map_or_else(Vec::new, Self::array_dims);
        if let Step::Array { count, stride } = self.step {
            dims.push((count as u64, stride as u64));
        }
        dims
    }

    /// Returns the offset in bytes from the start of the value.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Array { .. } => f.write_str("[]"),
        }
    }
}
