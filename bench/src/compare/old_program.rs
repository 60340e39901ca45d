//! This benchmark program with shm-sync of another commit.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command;
use crate::failure::Failure;
use crate::progress::check_interrupted;

/// The repository from which this program was compiled.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A program that was compiled in a worktree of another commit, with the `bench/` of
/// this working directory.
///
/// `drop` removes the worktree. `target/compare/build` stays, so that the next
/// comparison compiles only shm-sync and the benchmark.
#[derive(Debug)]
pub(super) struct OldProgram {
    directory: PathBuf,
    worktree: PathBuf,
    program: PathBuf,
    commit: String,
}

impl OldProgram {
    /// Compiles the program. cargo shows its progress and its messages.
    ///
    /// # Errors
    ///
    /// * [`Failure::UnknownCommit`]
    /// * [`Failure::Incompatible`]: the compilation failed.
    /// * [`Failure::NoProgram`]: git or cargo is missing.
    /// * [`Failure::Command`]: git failed for another reason.
    pub(super) fn build(commit: &str) -> Result<Self, Failure> {
        let repository = Path::new(REPOSITORY);
        let name = format!("{commit}^{{commit}}");
        let commit = match git(["rev-parse", "--verify", "--short", &name]) {
            Err(Failure::Command(..)) if is_repository()? => {
                return Err(Failure::UnknownCommit(commit.to_owned()));
            }
            short => short?,
        };
        let directory = repository.join("target/compare");
        let build = directory.join("build");
        let this = Self {
            worktree: directory.join("source"),
            program: build.join("release").join(env!("CARGO_PKG_NAME")),
            directory,
            commit,
        };
        this.check_out(&repository.join("bench"))?;
        let built = Command::new("cargo")
            .args(["build", "--release", "--package", env!("CARGO_PKG_NAME")])
            .arg("--target-dir")
            .arg(&build)
            .current_dir(&this.worktree)
            .status();
        let built = built.map_err(|error| Failure::NoProgram {
            program: "cargo".to_owned(),
            error,
        })?;
        if !built.success() {
            check_interrupted()?;
            return Err(Failure::Incompatible(this.commit.clone()));
        }
        Ok(this)
    }

    /// Creates the worktree, and replaces its `bench/` by `bench`.
    fn check_out(&self, bench: &Path) -> Result<(), Failure> {
        // An earlier run was killed if the worktree exists.
        if self.worktree.exists() {
            fs::remove_dir_all(&self.worktree).map_err(Failure::os("rmdir"))?;
        }
        // git knows the removed worktree still, and needs `--force` to replace it.
        let add = ["worktree", "add", "--force", "--detach"].map(OsStr::new);
        let arguments = [self.worktree.as_os_str(), OsStr::new(&self.commit)];
        git(add.into_iter().chain(arguments))?;
        let own = self.worktree.join("bench");
        if own.exists() {
            fs::remove_dir_all(&own).map_err(Failure::os("rmdir"))?;
        }
        command::output(Command::new("cp").arg("-R").arg(bench).arg(&own))?;
        Ok(())
    }

    /// Returns the directory for the files of a comparison.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self) -> &Path {
        &self.program
    }

    /// Returns the short hash of the commit.
    pub(super) fn commit(&self) -> &str {
        &self.commit
    }
}

impl Drop for OldProgram {
    fn drop(&mut self) {
        // The next comparison removes it if this fails.
        let remove = ["worktree", "remove", "--force"].map(OsStr::new);
        let _ = git(remove.into_iter().chain([self.worktree.as_os_str()]));
    }
}

/// Runs git in the repository, and returns its output.
fn git<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Result<String, Failure> {
    let mut git = Command::new("git");
    command::output(git.args(["-C", REPOSITORY]).args(arguments))
}

/// Returns whether git can read the repository. Fails with the message of git if not.
fn is_repository() -> Result<bool, Failure> {
    git(["rev-parse", "--git-dir"]).map(|_| true)
}
