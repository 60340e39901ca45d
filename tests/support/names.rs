//! Names and addresses that only one test uses, and that are removed when dropped.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use shm_sync::{Address, Backing, Error, ToAddress};

/// An address of a kind that has names. Its object is removed when it is dropped.
#[derive(Debug)]
pub struct TestAddress {
    text: String,
    kind: Backing,
}

impl TestAddress {
    pub fn new(kind: Backing, what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let name = format!("shm-sync-test-{what}-{pid}-{count}");
        let text = match kind {
            Backing::Posix => format!("/{name}"),
            Backing::File => format!("{}/{name}", std::env::temp_dir().display()),
            _ => format!(
                "sysv:{:#x}",
                1 << 29 | (pid & 0x1f_ffff) << 8 | count & 0xff
            ),
        };
        Self { text, kind }
    }

    /// Returns an address of each kind.
    pub fn of_each_kind(what: &str) -> [Self; 3] {
        [Backing::Posix, Backing::File, Backing::SystemV].map(|kind| Self::new(kind, what))
    }

    pub fn kind(&self) -> Backing {
        self.kind
    }

    /// Returns whether an object of any kind has this name.
    pub fn exists(&self) -> bool {
        let path = match self.kind {
            Backing::Posix => format!("/dev/shm{}", self.text),
            Backing::File => self.text.clone(),
            _ => return self.system_v_id().is_some(),
        };
        fs::symlink_metadata(path).is_ok()
    }

    pub fn system_v_key(&self) -> i32 {
        let digits = self.text.strip_prefix("sysv:0x").unwrap();
        i32::from_str_radix(digits, 16).unwrap()
    }

    /// Overwrites some bytes of a System V segment.
    pub fn overwrite_system_v(&self, at: usize, bytes: &[u8]) {
        let id = self.system_v_id().expect("the segment exists");
        // SAFETY: the null pointer lets the kernel choose the address.
        let base: *mut u8 = unsafe { libc::shmat(id, std::ptr::null(), 0) }.cast();
        assert_ne!(base.addr(), usize::MAX);
        // SAFETY: callers write to the header, which every segment has.
        let to = unsafe { base.add(at) };
        // SAFETY: the target is in the header of an attached segment. The source is
        // other memory of the same length.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        // SAFETY: attached above, and not used afterwards.
        unsafe { libc::shmdt(base.cast()) };
    }

    pub fn system_v_id(&self) -> Option<i32> {
        // SAFETY: the call takes and returns numbers.
        let id = unsafe { libc::shmget(self.system_v_key(), 0, 0) };
        (id >= 0).then_some(id)
    }
}

impl std::ops::Deref for TestAddress {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Drop for TestAddress {
    fn drop(&mut self) {
        let _ = shm_sync::unlink(&self.text);
    }
}

/// Implements `ToAddress` for types that dereference to the text of an address.
macro_rules! impl_to_address {
    ($($name:ty),*) => {$(
        impl ToAddress for $name {
            fn to_address(&self) -> Result<Address, Error> {
                (**self).to_address()
            }
        }
    )*};
}

impl_to_address!(TestAddress, TestName, TestFile, TestKey);

/// A name in `/dev/shm`. Its object is removed when it is dropped.
#[derive(Debug)]
pub struct TestName(String);

impl TestName {
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!(
            "/shm-sync-test-{what}-{}-{count}",
            std::process::id()
        ))
    }

    /// Returns the path of the object.
    pub fn path(&self) -> String {
        format!("/dev/shm{}", self.0)
    }

    /// Creates a file with these bytes under the name.
    pub fn write(&self, bytes: &[u8]) {
        let mut file = fs::File::create(self.path()).unwrap();
        file.write_all(bytes).unwrap();
        let mut mode = file.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
        file.set_permissions(mode).unwrap();
    }
}

impl std::ops::Deref for TestName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TestName {
    fn drop(&mut self) {
        let _ = shm_sync::unlink(&self.0);
    }
}

/// A path in the temporary directory. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct TestFile(String);

impl TestFile {
    pub fn new(what: &str) -> Self {
        let directory = std::env::temp_dir();
        // A test name is a valid file name.
        let name = TestName::new(what);
        Self(format!("{}{}", directory.display(), &*name))
    }
}

impl std::ops::Deref for TestFile {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The address of a System V key. Its segment is removed when it is dropped.
#[derive(Debug)]
pub struct TestKey(String);

impl TestKey {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Process ids have 22 bits; a test needs few keys.
        let key = 1 << 30 | (std::process::id() & 0x3f_ffff) << 8 | count & 0xff;
        Self(format!("sysv:{key:#010x}"))
    }

    /// Returns the key as a number.
    pub fn number(&self) -> i32 {
        let digits = self.0.trim_start_matches("sysv:0x");
        i32::from_str_radix(digits, 16).unwrap()
    }
}

impl std::ops::Deref for TestKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TestKey {
    fn drop(&mut self) {
        let _ = shm_sync::unlink(&self.0);
    }
}
