//! File systems of a test's own, in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::users::is_root_for;

/// Gives this process mounts and System V segments of its own, so that it may mount
/// what it likes and run `gc`. If it may not have them, says that `test` is not run.
pub fn has_own_mounts_for(test: &str) -> bool {
    let has_them = is_root_for(test)
        && unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC).is_ok()
        && run("mount", &["--make-rprivate", "/"]);
    if !has_them {
        println!("skipped: no mounts of its own to be had: {test}");
    }
    has_them
}

/// Runs a tool of the system. If it is missing or fails, says why, and returns `false`.
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

/// A directory in which a test mounts what it needs. It is in memory, so it is gone
/// with the last process of the mount namespace.
#[derive(Debug)]
pub struct Stand(PathBuf);

impl Stand {
    /// Needs [mounts of its own](has_own_mounts_for).
    pub fn new() -> Self {
        let path = Path::new("/mnt");
        let path = match path.is_dir() {
            true => path.to_owned(),
            false => std::env::temp_dir(),
        };
        assert!(run(
            "mount",
            &["-t", "tmpfs", "tmpfs", path.to_str().unwrap()]
        ));
        Self(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A new directory in it, in which every user may do everything.
    pub fn directory(&self, name: &str) -> String {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        open_to_all(&path);
        path
    }

    /// A new file system made by `mkfs.KIND`, mounted in it. `None` where that can't be
    /// had: says that `test` is not run.
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
        println!("skipped: no {kind} to be had (mkfs.{kind}, a loop device): {test}");
        None
    }

    /// A new overlay file system, mounted in it. `None` where that can't be had: says
    /// that `test` is not run.
    pub fn overlay(&self, test: &str) -> Option<String> {
        let [lower, upper, work, at] =
            ["lower", "upper", "work", "overlay"].map(|name| self.directory(name));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        if run("mount", &["-t", "overlay", "-o", &options, "overlay", &at]) {
            return Some(at);
        }
        println!("skipped: no overlay file system to be had: {test}");
        None
    }
}

/// Lets every user do everything in a directory.
pub fn open_to_all(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}
