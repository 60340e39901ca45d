//! Compiles peers, once for all test processes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::support::{C_COMPILERS, foreign_c_compiler, is_usable_compiler};

/// A compiler and its options.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    /// The program, such as `gcc`.
    pub(crate) program: String,
    pub(crate) language: Language,
    /// Options beside those that all builds have.
    pub(crate) options: &'static [&'static str],
    /// A name for the files of this build.
    pub(crate) label: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Cpp,
}

impl Language {
    /// The programs to look for, the first one first.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::C => &C_COMPILERS,
            Self::Cpp => &["g++", "clang++", "c++"],
        }
    }

    /// Warnings are errors. Those that only one language knows differ.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::C => &["-std=c11", "-Wstrict-prototypes", "-Wold-style-definition"],
            Self::Cpp => &["-std=c++17"],
        }
    }
}

const OPTIONS: [&str; 13] = [
    "-O2",
    "-g",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wundef",
    "-Wcast-align",
    "-Wunused",
    "-Werror",
];

/// Options with which a mistake ends the program.
#[cfg(target_env = "gnu")]
pub(crate) const SANITIZERS: &[&str] = &[
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-O0",
];

/// Options with which a mistake ends the program. gcc has no libraries of its
/// sanitizers for musl, so undefined behaviour executes an invalid instruction.
#[cfg(target_env = "musl")]
pub(crate) const SANITIZERS: &[&str] = &[
    "-fsanitize=undefined",
    "-fsanitize-undefined-trap-on-error",
    "-fno-omit-frame-pointer",
    "-O1",
];

/// What the compiler makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Program,
    Library,
}

impl Compiler {
    /// Returns a compiler by its name. Returns `None`, and prints why, if it is not
    /// installed or is for another libc.
    pub(crate) fn named(
        program: &str,
        language: Language,
        options: &'static [&'static str],
        label: &'static str,
    ) -> Option<Self> {
        is_usable_compiler(program).then(|| Self {
            program: program.to_owned(),
            language,
            options,
            label,
        })
    }

    /// Returns the compiler of the machine for the libc of this program. Returns
    /// `None`, and prints why, if there is none.
    pub(crate) fn any(language: Language) -> Option<Self> {
        let mut programs = language.programs().iter();
        programs.find_map(|program| Self::named(program, language, &[], "plain"))
    }

    /// Returns a C compiler for another libc, if this machine has one.
    pub(crate) fn foreign() -> Option<Self> {
        foreign_c_compiler().map(|program| Self {
            program: program.to_owned(),
            language: Language::C,
            options: &[],
            label: "foreign",
        })
    }

    /// Compiles `source` and the second unit. Returns the file. Does nothing if the
    /// file is newer than all sources. Of several processes, one does it.
    pub(crate) fn compile(&self, source: &Path, product: Product) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages");
        fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
        let stem = source.file_stem().expect("a file has a name");
        let name = format!(
            "{}-{:?}-{}-{}",
            stem.to_string_lossy(),
            self.language,
            self.program.replace('/', "_"),
            self.label
        );
        let target = folder.join(name);
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let here = manifest.join("languages");
        let include = manifest.join("../include");
        let header = include.join("shm_sync.h");
        let second = here.join("second_unit.c");
        let sources = [
            source,
            &second,
            &header,
            &here.join("world.h"),
            &here.join("image.h"),
            &here.join("build.rs"),
        ];
        let lock = File::create(target.with_extension("lock"));
        let lock = lock.expect("the folder for temporary files is writable");
        lock.lock().expect("the file system has locks");
        let newest = sources.map(modified).into_iter().max();
        if fs::metadata(&target).is_ok() && Some(modified(&target)) > newest {
            return target;
        }
        // Two threads of this process may compile the same file as well.
        static BUILDS: AtomicU32 = AtomicU32::new(0);
        let number = BUILDS.fetch_add(1, Ordering::Relaxed);
        let temporary = target.with_extension(format!("{}-{number}", std::process::id()));
        let mut command = Command::new(&self.program);
        command.args(OPTIONS).args(self.language.options());
        command.args(self.options);
        if product == Product::Library {
            command.args(["-shared", "-fPIC"]);
        }
        command.arg("-I").arg(&include).arg("-I").arg(&here);
        command.arg("-x").arg(match self.language {
            Language::C => "c",
            Language::Cpp => "c++",
        });
        command.arg(source).arg(&second).arg("-o").arg(&temporary);
        let output = command.output().expect("the compiler can be started");
        assert!(
            output.status.success(),
            "{command:?}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(&temporary, &target).expect("the new file can be renamed");
        target
    }
}

fn modified(path: &Path) -> SystemTime {
    let metadata = fs::metadata(path);
    let metadata = metadata.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.modified().expect("the file system has times")
}
