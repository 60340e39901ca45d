//! File systems that a test mounts in its own mount namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::timing::poll;
use super::users::is_root_for;

/// Gives this process its own mounts and System V segments, so that it may mount file
/// systems and run `gc`. If that is not permitted, prints that `test` is not run.
pub fn has_own_mounts_for(test: &str) -> bool {
    let has_them = is_root_for(test)
        && unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC).is_ok()
        && run("mount", &["--make-rprivate", "/"]);
    if !has_them {
        println!("skipped, because a mount namespace is not permitted: {test}");
    }
    has_them
}

/// Runs a tool of the system. If it is missing or fails, prints why and returns
/// `false`.
pub fn run(tool: &str, arguments: &[&str]) -> bool {
    match Command::new(tool).args(arguments).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            println!("{tool}: {error}");
            false
        }
    }
}

/// A directory for the mounts of a test. It is in memory, so it is removed with the
/// last process of the mount namespace.
#[derive(Debug)]
pub struct Stand(PathBuf);

impl Stand {
    /// Creates the directory, which requires [its own mounts](has_own_mounts_for).
    pub fn new() -> Self {
        let path = Path::new("/mnt");
        let path = if path.is_dir() {
            path.to_owned()
        } else {
            std::env::temp_dir()
        };
        assert!(run(
            "mount",
            &["-t", "tmpfs", "tmpfs", path.to_str().unwrap()]
        ));
        Self(path)
    }

    /// Returns a path in the directory.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Creates a directory in which every user may do everything.
    pub fn directory(&self, name: &str) -> String {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        open_to_all(&path);
        path
    }

    /// Creates a file system with `mkfs.KIND` and mounts it. If that is not possible,
    /// returns `None` and prints that `test` is not run.
    pub fn file_system(&self, kind: &str, mib: u64, test: &str) -> Option<String> {
        let image = self.path(&format!("{kind}.image"));
        fs::File::create(&image)
            .unwrap()
            .set_len(mib << 20)
            .unwrap();
        let at = self.directory(kind);
        if run(&format!("mkfs.{kind}"), &[&image]) && run("mount", &["-o", "loop", &image, &at]) {
            open_to_all(&at);
            return Some(at);
        }
        println!("skipped, because mkfs.{kind} or a loop device is missing: {test}");
        None
    }

    /// Mounts a new overlay file system. If that is not possible, returns `None` and
    /// prints that `test` is not run.
    pub fn overlay(&self, test: &str) -> Option<String> {
        let [lower, upper, work, at] =
            ["lower", "upper", "work", "overlay"].map(|name| self.directory(name));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        if run("mount", &["-t", "overlay", "-o", &options, "overlay", &at]) {
            return Some(at);
        }
        println!("skipped, because an overlay file system cannot be mounted: {test}");
        None
    }
}

/// A FUSE file system that is mounted as long as this value exists.
#[derive(Debug)]
pub struct Fuse {
    server: Child,
    at: String,
}

impl Fuse {
    /// Starts a server, which must not go to the background, and waits until it has
    /// mounted the file system at `at`. If that is not possible, returns `None` and
    /// prints that `test` is not run.
    pub fn start(server: &str, arguments: &[&str], at: &str, test: &str) -> Option<Self> {
        let started = Command::new(server)
            .args(arguments)
            .arg("-f")
            .arg(at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(server) = started else {
            println!("skipped, because {server} is not installed: {test}");
            return None;
        };
        let mut fuse = Self {
            server,
            at: at.to_owned(),
        };
        let below = fs::metadata(Path::new(at).parent().unwrap()).unwrap().dev();
        let is_mounted = || fs::metadata(at).is_ok_and(|at| at.dev() != below);
        poll(|| is_mounted() || !matches!(fuse.server.try_wait(), Ok(None)));
        if is_mounted() {
            return Some(fuse);
        }
        println!("skipped, because FUSE is not permitted: {test}");
        None
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.at]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Lets every user do everything in a directory.
pub fn open_to_all(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}
