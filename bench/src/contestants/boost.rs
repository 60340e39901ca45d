//! Boost.Interprocess: `interprocess_mutex` and `interprocess_condition`.
//!
//! They are C++ templates and inline functions, so `bench/boost/interprocess.cpp` wraps
//! them in C functions. The benchmark compiles this file to a shared library when it
//! runs. It needs a C++ compiler and the headers of Boost. Each call goes through a
//! function pointer, which costs about a nanosecond. A C++ program would call pthread
//! directly.

use std::ffi::c_void;
use std::mem::size_of;
use std::sync::OnceLock;

use super::guarded::{ForeignObject, Guarded};
use super::lock::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::foreign;
use crate::series::Survives;
use crate::shared::Shared;

/// The table of functions in `interprocess.cpp`. The functions that end in `new` take
/// memory for an object. The others take an object that those have created.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Functions {
    /// 107400 for 1.74.0.
    pub(crate) version: usize,
    mutex_size: usize,
    condition_size: usize,
    pub(crate) mutex_new: unsafe extern "C" fn(*mut c_void),
    pub(crate) mutex_lock: unsafe extern "C" fn(*mut c_void),
    pub(crate) mutex_unlock: unsafe extern "C" fn(*mut c_void),
    pub(crate) condition_new: unsafe extern "C" fn(*mut c_void),
    /// Takes the condition variable, and the mutex, which the caller holds.
    pub(crate) condition_wait: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub(crate) condition_notify_one: unsafe extern "C" fn(*mut c_void),
    pub(crate) condition_notify_all: unsafe extern "C" fn(*mut c_void),
}

/// Memory for a mutex or a condition variable, which are pthread objects.
pub(crate) type Room = [u64; 6];

/// Returns the functions, or the reason why Boost cannot be used on this machine.
pub(crate) fn functions() -> Result<&'static Functions, Failure> {
    static FUNCTIONS: OnceLock<Result<&'static Functions, String>> = OnceLock::new();
    FUNCTIONS
        .get_or_init(compile_and_load)
        .as_ref()
        .copied()
        .map_err(|why| Failure::Unavailable(why.clone()))
}

fn compile_and_load() -> Result<&'static Functions, String> {
    let source = include_bytes!("../../boost/interprocess.cpp");
    let options = "-O2 -DNDEBUG -std=c++17 -x c++";
    let library = foreign::compile_and_load("c++", options, source).map_err(|error| {
        if error.contains("boost/") {
            "the headers of Boost are missing: install libboost-dev".to_owned()
        } else {
            error
        }
    })?;
    // SAFETY: `interprocess.cpp` defines the symbol as a table with this layout.
    let table = unsafe { library.get::<&'static Functions>(b"shm_sync_bench_boost\0") };
    let functions = *table.map_err(|error| error.to_string())?;
    if functions.mutex_size.max(functions.condition_size) > size_of::<Room>() {
        return Err("the objects of Boost are larger than those of pthread".to_owned());
    }
    Ok(functions)
}

/// An `interprocess_mutex`.
#[derive(Debug)]
pub(crate) struct Boost {
    functions: &'static Functions,
    shared: Shared<Guarded<ForeignObject<Room>>>,
}

impl Lock for Boost {
    const PROFILE: Profile = Profile {
        name: "Boost.Interprocess",
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<libc::pthread_mutex_t>(),
    };

    fn create() -> Result<Self, Failure> {
        let functions = functions()?;
        let shared = Shared::<Guarded<ForeignObject<Room>>>::zeroed()?;
        // SAFETY: the memory is large enough for a mutex, and no thread uses it yet.
        unsafe { (functions.mutex_new)(shared.lock.get().cast()) };
        Ok(Self { functions, shared })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let mutex = self.shared.lock.get().cast();
        // SAFETY: `create` has created a mutex there.
        unsafe { (self.functions.mutex_lock)(mutex) };
        // SAFETY: this worker holds the lock and has no other reference.
        let result = inside(unsafe { self.shared.value() });
        // SAFETY: this thread holds the mutex.
        unsafe { (self.functions.mutex_unlock)(mutex) };
        result
    }
}
