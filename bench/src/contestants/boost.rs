//! Boost.Interprocess: `interprocess_mutex` and `interprocess_condition`.
//!
//! They are C++ templates and inline functions, so a small C++ file wraps them in C
//! functions (`bench/boost/interprocess.cpp`). It is compiled when the benchmark runs,
//! to a shared library beside the program, if there are a C++ compiler and Boost's
//! headers. Each call goes through a function pointer, where a C++ program would have
//! it inlined down to the call of pthread: that costs it about a nanosecond.

use std::ffi::c_void;
use std::io::Write;
use std::mem::size_of;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::guarded::{Foreign, Guarded};
use super::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// The table of functions in `interprocess.cpp`. All take objects that were made by
/// those that end in `new`, which take room for one.
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
    /// Takes the condition variable and the mutex, which the caller holds.
    pub(crate) condition_wait: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub(crate) condition_notify_one: unsafe extern "C" fn(*mut c_void),
    pub(crate) condition_notify_all: unsafe extern "C" fn(*mut c_void),
}

/// Room for a mutex or a condition variable. (They are the pthread objects.)
pub(crate) type Room = [u64; 6];

/// The functions, if Boost can be used here. Says why if not.
pub(crate) fn functions() -> Result<&'static Functions, Failure> {
    static FUNCTIONS: OnceLock<Result<&'static Functions, String>> = OnceLock::new();
    FUNCTIONS
        .get_or_init(compile_and_load)
        .as_ref()
        .copied()
        .map_err(|why| Failure::NotHere(why.clone()))
}

fn compile_and_load() -> Result<&'static Functions, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let name = format!("libshm-sync-bench-boost-{}.so", std::process::id());
    let library = program.with_file_name(name);
    let loaded = compile(&library).and_then(|()| load(&library));
    // Once it is loaded, its name is not needed any more.
    let _ = std::fs::remove_file(&library);
    loaded
}

fn compile(library: &Path) -> Result<(), String> {
    let mut compiler = Command::new("c++")
        .args("-O2 -DNDEBUG -std=c++17 -pthread -shared -fPIC -x c++ - -o".split(' '))
        .arg(library)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("c++ can't be run: {error}"))?;
    if let Some(mut stdin) = compiler.stdin.take() {
        // A compiler that does not read it all says why.
        let _ = stdin.write_all(include_bytes!("../../boost/interprocess.cpp"));
    }
    let output = compiler
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find(|line| line.contains("error"));
    Err(format!("c++: {}", error.unwrap_or("failed")))
}

fn load(library: &Path) -> Result<&'static Functions, String> {
    // SAFETY: it is what `compile` made, and loading it runs nothing of it.
    let library = unsafe { libloading::Library::new(library) };
    // It stays loaded until the end.
    let library = Box::leak(Box::new(library.map_err(|error| error.to_string())?));
    // SAFETY: the source has it as a table of this layout.
    let table = unsafe { library.get::<&'static Functions>(b"shm_sync_bench_boost\0") };
    let functions = *table.map_err(|error| error.to_string())?;
    if functions.mutex_size.max(functions.condition_size) > size_of::<Room>() {
        return Err("its objects are larger than those of pthread".to_owned());
    }
    Ok(functions)
}

/// An `interprocess_mutex`.
#[derive(Debug)]
pub(crate) struct Boost {
    functions: &'static Functions,
    shared: Shared<Guarded<Foreign<Room>>>,
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

    fn make() -> Result<Self, Failure> {
        let functions = functions()?;
        let shared = Shared::<Guarded<Foreign<Room>>>::zeroed()?;
        // SAFETY: there is room for one, and nobody uses it yet.
        unsafe { (functions.mutex_new)(shared.lock.get().cast()) };
        Ok(Self { functions, shared })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let mutex = self.shared.lock.get().cast();
        // SAFETY: `make` made one there.
        unsafe { (self.functions.mutex_lock)(mutex) };
        // SAFETY: the lock is held.
        let result = inside(unsafe { self.shared.value() });
        // SAFETY: this thread holds it.
        unsafe { (self.functions.mutex_unlock)(mutex) };
        result
    }
}
