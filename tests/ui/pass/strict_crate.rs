//! The derived code passes the lints of a strict crate, and does not depend on names
//! that the crate may have given to other items.

#![no_implicit_prelude]
#![forbid(unsafe_code, unused, missing_docs, nonstandard_style, future_incompatible)]
#![deny(warnings)]
#![deny(missing_debug_implementations, unreachable_pub, unused_qualifications)]
#![deny(let_underscore_drop, trivial_casts, trivial_numeric_casts, single_use_lifetimes)]

/// A macro that shadows the one of the standard library.
#[macro_export]
macro_rules! assert {
    ($($any:tt)*) => {
        compile_error!("the derived code used a macro of the crate");
    };
}

/// Items with the names of items of the standard library and of the derived code.
pub mod names {
    /// A struct.
    #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
    #[repr(C)]
    pub struct Drop {
        /// A field.
        pub at: u8,
        /// A field.
        pub report: Option,
    }

    /// A generic struct.
    #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
    #[repr(C)]
    pub struct Sized<T> {
        /// A field.
        pub at: T,
    }

    /// An enum.
    #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
    #[repr(u8)]
    pub enum Option {
        /// A variant.
        Some(u8),
        /// A variant.
        None = 7,
    }

    /// A struct with a private field of a private type.
    #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
    #[repr(C)]
    pub struct T {
        private: Private,
    }

    #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
    #[repr(C)]
    struct Private {
        value: u8,
    }

    impl T {
        /// Creates a value.
        pub const fn one() -> Self {
            Self {
                private: Private { value: 1 },
            }
        }

        /// Returns the value of the private field.
        pub const fn value(&self) -> u8 {
            self.private.value
        }
    }
}

macro_rules! declare {
    ($name:ident, $repr:ident, $align:literal, $($field:ident: $type:ty),+) => {
        #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
        #[repr($repr, align($align))]
        struct $name {
            $($field: $type),+
        }
    };
}

declare!(Declared, C, 16, first: u8, second: [u16; 2]);

fn main() {
    #[derive(::shm_sync::ShmSafe, ::std::fmt::Debug)]
    #[repr(C)]
    struct Local {
        declared: Declared,
    }

    let local = Local {
        declared: Declared {
            first: 1,
            second: [2, 3],
        },
    };
    let drop = names::Drop {
        at: 1,
        report: names::Option::Some(2),
    };
    let sized = names::Sized {
        at: names::Option::None,
    };
    let value = (local, drop, sized, names::T::one());
    let segment = ::shm_sync::Segment::anonymous(value);
    if let ::std::result::Result::Ok(segment) = segment {
        ::std::assert_eq!(segment.0.declared.second[1], 3);
        ::std::assert_eq!(segment.3.value(), 1);
    }
}
