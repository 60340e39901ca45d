//! `export-c`: the header compiles as C11 and as C++17, and has the compiler's offsets.

use std::collections::BTreeSet;
use std::fs;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU64};

use crate::run::{refusal, stdout};
use crate::support::{
    TestAddress, TestFile, TestName, TypeTable, c_compiler, is_usable_compiler, on_stage,
};
use shm_sync::{
    Backing, CachePadded, Lifelines, PthreadCondvar, Published, Segment, SegmentContent,
    ShmBarrier, ShmChannel, ShmCondvar, ShmEvent, ShmLifeline, ShmMutex, ShmOnceLock, ShmOption,
    ShmPipe, ShmRwLock, ShmSafe, ShmSemaphore, ShmString, ShmVec, WithTail,
};

/// The compilers, and a directory for headers and programs.
struct Compilers {
    c: &'static str,
    /// There may be none for the libc of this program.
    cpp: Option<&'static str>,
    directory: PathBuf,
}

/// A compiler, a language and its standard.
type Build = (&'static str, Language, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    C,
    Cpp,
}

impl Compilers {
    /// Returns `None`, and prints why, if there is no C compiler.
    fn new() -> Option<Self> {
        let Some(c) = c_compiler() else {
            println!("skipped: there is no C compiler for this libc");
            return None;
        };
        let cpp = is_usable_compiler("c++").then_some("c++");
        let directory = TestName::new("export").path().replace("/dev/shm", "/tmp");
        let directory = PathBuf::from(directory);
        fs::create_dir(&directory).expect("the name is new");
        Some(Self { c, cpp, directory })
    }

    /// Returns the standards in both languages, for the compilers that there are.
    fn builds(&self, c: &[&'static str], cpp: &[&'static str]) -> Vec<Build> {
        let c = c.iter().map(|standard| (self.c, Language::C, *standard));
        let cpp = cpp
            .iter()
            .filter_map(|standard| Some((self.cpp?, Language::Cpp, *standard)));
        c.chain(cpp).collect()
    }

    fn compile(&self, compiler: &str, arguments: &[&str], source: &Path) {
        let output = Command::new(compiler)
            .args(arguments)
            .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread", "-I"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"))
            .args(["-o", "program"])
            .arg(source)
            .current_dir(&self.directory)
            .output()
            .expect("there is a compiler");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler} {source:?}: {text}");
    }

    /// Compiles a program that includes the header, in both languages, and returns what
    /// it prints.
    #[track_caller]
    fn run(&self, header: &str, body: &str, arguments: &[&str]) -> String {
        fs::write(self.directory.join("value.h"), header).expect("there is room");
        let program = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include \"value.h\"\n\
             int main(int argc, char **argv) {{\n(void)argc; (void)argv;\n{body}\nreturn 0;\n}}\n"
        );
        let mut outputs = Vec::new();
        for (compiler, language, standard) in self.builds(&["-std=c11"], &["-std=c++17"]) {
            let source = self.source("program", language);
            fs::write(&source, &program).expect("there is room");
            let strict: &[&str] = match language {
                Language::C => &[standard, "-Wconversion"],
                Language::Cpp => &[standard],
            };
            self.compile(compiler, strict, &source);
            let output = Command::new(self.directory.join("program"))
                .args(arguments)
                .output();
            let output = output.expect("the program can be started");
            assert!(output.status.success(), "{output:?}");
            outputs.push(String::from_utf8(output.stdout).expect("it prints ASCII"));
        }
        for other in &outputs {
            assert_eq!(other, &outputs[0], "C and C++ agree");
        }
        outputs.swap_remove(0)
    }

    fn source(&self, name: &str, language: Language) -> PathBuf {
        let extension = match language {
            Language::C => "c",
            Language::Cpp => "cc",
        };
        self.directory.join(name).with_extension(extension)
    }

    /// Returns what the preprocessor makes of a program that includes `shm_sync.h`.
    fn preprocess(&self, arguments: &[&str]) -> String {
        let source = self.directory.join("empty.c");
        fs::write(&source, "#include \"shm_sync.h\"\n").expect("there is room");
        let output = Command::new(self.c)
            .args(["-std=gnu11", "-E", "-I"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"))
            .args(arguments)
            .arg(source)
            .output();
        let output = output.expect("there is a compiler");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("headers are ASCII")
    }

    /// Compiles a program that includes these headers, as several standards.
    fn check(&self, headers: &[String]) {
        let mut program = String::new();
        for (number, header) in headers.iter().enumerate() {
            let name = format!("part{number}.h");
            fs::write(self.directory.join(&name), header).expect("there is room");
            program += &format!("#include \"{name}\"\n");
        }
        program += "int main(void) { return 0; }\n";
        let standards = [["-std=c11", "-std=gnu11"], ["-std=c++17", "-std=gnu++17"]];
        for (compiler, language, standard) in self.builds(&standards[0], &standards[1]) {
            let source = self.source("check", language);
            fs::write(&source, &program).expect("there is room");
            self.compile(compiler, &[standard], &source);
        }
    }
}

impl Drop for Compilers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns the header for a segment.
fn exported<T: SegmentContent + ?Sized>(segment: &Segment<T>, prefix: &str) -> String {
    let fd = Segment::as_fd(segment).expect("it is a memfd").as_raw_fd();
    let address = format!("/proc/{}/fd/{fd}", std::process::id());
    stdout(&["export-c", &address, "--prefix", prefix])
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u8)]
#[allow(dead_code, reason = "C names them")]
enum Plain {
    Idle = 3,
    Busy,
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(i64)]
#[allow(dead_code, reason = "C names them")]
enum Far {
    Least = i64::MIN,
    Low = -5_000_000_000,
    Small = -1,
    High = i64::MAX,
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u16)]
#[allow(dead_code, reason = "C names them")]
enum Tagged {
    Empty,
    Pair(u8, u64),
    Named { class: u8, value: [u16; 3] } = 77,
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(C, u8)]
#[allow(dead_code, reason = "C names them")]
enum CTagged {
    Byte(u8),
    Wide { low: u8, wide: u128 },
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u8, align(32))]
#[allow(dead_code, reason = "C names them")]
enum Aligned {
    One = 1,
    Two(u16),
}

#[derive(ShmSafe, Clone, Copy)]
#[repr(C, align(16))]
struct Inner {
    number: u16,
    // Keywords of C and of C++, and names of the header.
    int: u8,
    template: u8,
    r#type: u8,
    uint8_t: u8,
    errno: u8,
}

#[derive(ShmSafe)]
#[repr(C)]
struct All {
    byte: u8,
    wide: u128,
    signed_wide: i128,
    small: i8,
    float: f32,
    double: f64,
    flag: bool,
    letter: char,
    size: usize,
    unit: (),
    phantom: PhantomData<u64>,
    nothing: [u32; 0],
    grid: [[u16; 3]; 2],
    tuple: (u8, u64, u16),
    inner: Inner,
    inners: [Inner; 2],
    mutex: ShmMutex<(u64, u64)>,
    wide_mutex: ShmMutex<CachePadded<u8>>,
    empty_mutex: ShmMutex<()>,
    mutexes: [ShmMutex<u32>; 2],
    condvar: ShmCondvar,
    event: ShmEvent,
    pthread_condvar: PthreadCondvar,
    semaphore: ShmSemaphore<3>,
    lifeline: ShmLifeline,
    lifelines: [Lifelines<2>; 2],
    barrier: ShmBarrier<2>,
    rwlock: ShmRwLock<u32>,
    once: ShmOnceLock<u64>,
    published: Published<u64>,
    channel: ShmChannel<u64, 4>,
    pipe: ShmPipe<10>,
    text: ShmString<13>,
    list: ShmVec<u16, 5>,
    option: ShmOption<u64>,
    padded: CachePadded<[u8; 3]>,
    atomic: AtomicU64,
    atomic_flag: AtomicBool,
    atomic_number: AtomicI16,
    non_zero: NonZero<u32>,
    maybe: MaybeUninit<[u32; 2]>,
    plain: Plain,
    far: Far,
    tagged: Tagged,
    c_tagged: CTagged,
    aligned: Aligned,
    // In C++, a member can't have the name of its type.
    all: u8,
    żółw: u8,
}

#[derive(ShmSafe, Clone, Copy)]
#[repr(C)]
struct Job {
    kind: u16,
    number: u64,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Objects {
    jobs: ShmChannel<Job, 8>,
    results: ShmChannel<u64, 4, 1, 3>,
    empty: ShmChannel<(), 3>,
    log: ShmPipe<10>,
    permits: ShmSemaphore<3>,
    lines: [ShmPipe<7>; 2],
    rwlock: ShmRwLock<u8>,
    lifeline: ShmLifeline,
}

fn all() -> All {
    let inner = Inner {
        number: 1,
        int: 2,
        template: 3,
        r#type: 4,
        uint8_t: 5,
        errno: 6,
    };
    let text = ShmString::try_from("shared").expect("it fits");
    let mut list = ShmVec::new();
    list.try_extend_from_slice(&[7, 8]).expect("it fits");
    All {
        byte: 200,
        wide: 1 << 64 | 5,
        signed_wide: -1,
        small: -8,
        float: 1.5,
        double: -2.5,
        flag: true,
        letter: 'ż',
        size: 1 << 40,
        unit: (),
        phantom: PhantomData,
        nothing: [],
        grid: [[1, 2, 3], [4, 5, 6]],
        tuple: (1, 2, 3),
        inner,
        inners: [inner; 2],
        mutex: ShmMutex::new((11, 12)),
        wide_mutex: ShmMutex::new(CachePadded::new(13)),
        empty_mutex: ShmMutex::new(()),
        mutexes: [14, 15].map(ShmMutex::new),
        condvar: ShmCondvar::new(),
        event: ShmEvent::manual_reset(),
        pthread_condvar: PthreadCondvar::new(),
        semaphore: ShmSemaphore::new(),
        lifeline: ShmLifeline::new(),
        lifelines: [Lifelines::new(), Lifelines::new()],
        barrier: ShmBarrier::new(),
        rwlock: ShmRwLock::new(0),
        once: ShmOnceLock::new(),
        published: Published::new(0),
        channel: ShmChannel::new(),
        pipe: ShmPipe::new(),
        text,
        list,
        option: ShmOption::some(16),
        padded: CachePadded::new([17; 3]),
        atomic: AtomicU64::new(18),
        atomic_flag: AtomicBool::new(true),
        atomic_number: AtomicI16::new(-19),
        non_zero: NonZero::<u32>::MAX,
        maybe: MaybeUninit::new([20, 21]),
        plain: Plain::Busy,
        far: Far::Low,
        tagged: Tagged::Named {
            class: 22,
            value: [23, 24, 25],
        },
        c_tagged: CTagged::Wide { low: 26, wide: 27 },
        aligned: Aligned::Two(28),
        all: 29,
        żółw: 30,
    }
}

/// Returns C code that prints the offset of each field, and the offsets in Rust.
macro_rules! offsets {
    ($($field:ident $(as $name:literal)?),+ $(,)?) => {{
        let mut code = String::new();
        let mut expected = String::new();
        $(
            let name = [$($name,)? stringify!($field)][0];
            code += &format!("printf(\"{name} %zu\\n\", offsetof(all, {name}));\n");
            expected += &format!("{name} {}\n", offset_of!(All, $field));
        )+
        code += "printf(\"size %zu\\n\", sizeof(all));";
        expected += &format!("size {}\n", size_of::<All>());
        (code, expected)
    }};
}

on_stage! {
    fn smoke() {
        let name = TestName::new("shm-sync-runs");
        let _runs = Segment::create(&name, ShmMutex::new((1_u64, 2_u64))).unwrap();
        let header = stdout(&["export-c", &name, "--prefix", "runs"]);
        let fingerprint = <ShmMutex<(u64, u64)> as ShmSafe>::FINGERPRINT;
        for line in [
            format!("#define RUNS_FINGERPRINT \"{fingerprint}\""),
            format!("#define RUNS_ADDRESS \"{}\"", &*name),
            "    shm_sync_mutex lock;".to_owned(),
            "    runs_data data;".to_owned(),
            "    uint64_t f0;".to_owned(),
            "#include \"shm_sync.h\"".to_owned(),
        ] {
            assert!(header.lines().any(|found| found == line), "{line} is in {header}");
        }
        let Some(compilers) = Compilers::new() else {
            return;
        };
        let body = "runs value; value.data.f1 = 7; printf(\"%d %zu\", (int)value.data.f1, sizeof value);";
        assert_eq!(compilers.run(&header, body, &[]), "7 80");
    }

    fn offsets_and_values_agree_for_a_large_struct() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        let file = TestFile::new("export");
        let segment = Segment::create(&*file, all()).unwrap();
        let header = stdout(&["export-c", &file, "--prefix", "all"]);
        let (code, expected) = offsets!(
            byte, wide, signed_wide, small, float as "float_", double as "double_", flag, letter,
            size, grid, tuple, inner, inners, mutex, wide_mutex, empty_mutex, mutexes, condvar,
            event, pthread_condvar, semaphore, lifeline, lifelines, barrier, rwlock, once,
            published, channel, pipe, text, list, option, padded, atomic, atomic_flag,
            atomic_number, non_zero, maybe, plain, far, tagged, c_tagged, aligned, all as "all_",
            żółw as "___w_"
        );
        assert_eq!(compilers.run(&header, &code, &[]), expected, "{header}");

        let bytes = fs::read(&*file).unwrap();
        let offset = u64::from_le_bytes(bytes[32..40].try_into().unwrap()).to_string();
        let body = r#"
            static all value;
            FILE *file = fopen(argv[1], "rb");
            if (!file || fseek(file, atol(argv[2]), SEEK_SET)) return 1;
            if (fread(&value, sizeof value, 1, file) != 1) return 2;
            printf("%d %d %d ", value.byte, (int)value.wide.high, (int)value.wide.low);
            printf("%d %d ", (int)value.signed_wide.high, value.small);
            printf("%.1f %.1f %d ", (double)value.float_, value.double_, value.flag);
            printf("%x %llx ", (unsigned)value.letter, (unsigned long long)value.size);
            printf("%d%d ", value.grid[0][2], value.grid[1][0]);
            printf("%d %d %d ", value.tuple.f0, (int)value.tuple.f1, value.tuple.f2);
            printf("%d%d", value.inner.int_, value.inner.template_);
            printf("%d%d%d ", value.inners[1].type, value.inners[1].uint8_t_, value.inners[1].errno_);
            printf("%d %d ", (int)value.mutex.data.f0, (int)value.mutex.data.f1);
            printf("%d ", value.wide_mutex.data.value);
            printf("%d %d ", (int)value.mutexes[0].data, (int)value.mutexes[1].data);
            printf("%.*s ", (int)value.text.len, (const char *)value.text.bytes);
            printf("%d %d ", (int)value.list.len, value.list.elements[1]);
            printf("%d %d ", value.option.is_some, (int)value.option.value);
            printf("%d %d ", value.padded.value[2], (int)value.atomic);
            printf("%d %d ", value.atomic_flag, value.atomic_number);
            printf("%u %d ", (unsigned)value.non_zero, (int)value.maybe[1]);
            printf("%d ", value.plain == all_plain_Busy);
            printf("%d %d ", value.far == all_far_Low, all_far_Small);
            printf("%d ", value.tagged.tag == all_tagged_Named_tag);
            printf("%d %d ", value.tagged.Named.class_, value.tagged.Named.value[2]);
            printf("%d ", value.c_tagged.tag == all_c_tagged_Wide_tag);
            printf("%d %d ", value.c_tagged.Wide.low, (int)value.c_tagged.Wide.wide.low);
            printf("%d %d ", value.aligned.tag == all_aligned_Two_tag, value.aligned.Two.f0);
            printf("%d %d", value.all_, value.___w_);
        "#;
        let printed = compilers.run(&header, body, &[&file, &offset]);
        let expected = "200 1 5 -1 -8 1.5 -2.5 1 17c 10000000000 34 1 2 3 23456 11 12 13 14 15 \
                        shared 2 8 1 16 17 18 1 -19 4294967295 21 1 1 -1 1 22 25 1 26 27 1 28 29 30";
        assert_eq!(printed, expected, "{header}");
        drop(segment);
    }

    fn objects_have_descriptions() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        let objects = Objects {
            jobs: ShmChannel::new(),
            results: ShmChannel::new(),
            empty: ShmChannel::new(),
            log: ShmPipe::new(),
            permits: ShmSemaphore::new(),
            lines: [const { ShmPipe::new() }; 2],
            rwlock: ShmRwLock::new(0),
            lifeline: ShmLifeline::new(),
        };
        let address = TestName::new("export-objects");
        let segment = Segment::create(&address, objects).unwrap();
        let header = stdout(&["export-c", &address, "--prefix", "some"]);
        for text in [
            "/* .rwlock: ShmRwLock; C programs can't use it */",
            "/* .lifeline: ShmLifeline; C programs can't use it */",
            "/* .jobs: ShmChannel; 8 messages some_jobs_message; some_jobs_object describes it */",
            "/* a message of .jobs: struct */",
            "/* .results: ShmChannel; 4 messages uint64_t; some_results_object describes it */",
            "/* .empty: ShmChannel; 3 messages without bytes; some_empty_object describes it */",
            "/* .log: ShmPipe; 10 bytes; some_log_object describes it */",
            "/* .permits: ShmSemaphore; 3 permits; some_permits_object describes it */",
        ] {
            assert!(header.contains(text), "{text} is in {header}");
        }
        // Each description is as the segment itself describes the object.
        let body = r#"
            shm_sync_segment segment;
            if (shm_sync_open(&segment, argv[1], SOME_FINGERPRINT) != SHM_SYNC_OK) return 1;
            some *value = (some *)segment.value;
            const char *paths[] = {"jobs", "results", "empty", "log", "permits", "lines[1]"};
            shm_sync_object described[] = {
                some_jobs_object(&value->jobs), some_results_object(&value->results),
                some_empty_object(&value->empty), some_log_object(&value->log),
                some_permits_object(&value->permits), some_lines_object(&value->lines[1]),
            };
            for (unsigned i = 0; i < sizeof described / sizeof *described; i++) {
                shm_sync_object found;
                shm_sync_object *it = &described[i];
                if (shm_sync_find(&segment, paths[i], it->kind, &found) != SHM_SYNC_OK) return 2;
                bool equal = found.at == it->at && found.size == it->size &&
                    found.data == it->data && found.data_size == it->data_size &&
                    found.count == it->count && found.senders == it->senders &&
                    found.receivers == it->receivers &&
                    found.i_senders == it->i_senders && found.i_receivers == it->i_receivers;
                printf("%s %d\n", paths[i], equal);
            }
            some_jobs_message job;
            memset(&job, 0, sizeof job);
            job.kind = 7;
            job.number = 8;
            shm_sync_sender sender;
            if (shm_sync_sender_open(&described[0], &sender) != SHM_SYNC_OK) return 3;
            if (shm_sync_send(&sender, &job) != SHM_SYNC_OK) return 4;
            if (shm_sync_sender_close(&sender) != SHM_SYNC_OK) return 5;
            if (shm_sync_close(&segment) != SHM_SYNC_OK) return 6;
        "#;
        let printed = compilers.run(&header, body, &[&address]);
        let expected = "jobs 1\nresults 1\nempty 1\nlog 1\npermits 1\nlines[1] 1\n";
        assert_eq!(printed, expected, "{header}");
        let receiver = segment.jobs.receiver().expect("there is a seat");
        // One program in each language.
        for _ in 0..1 + usize::from(compilers.cpp.is_some()) {
            let job = receiver.recv().expect("the program sent one");
            assert_eq!((job.kind, job.number), (7, 8));
        }
    }

    fn variable_lengths_have_functions() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        type Slice = [(u32, ShmMutex<u8>)];
        type Table = WithTail<u16, ShmMutex<[[u64; 2]]>>;
        type Guarded = ShmMutex<WithTail<u16, [u32]>>;

        let options = Segment::<Slice>::options();
        let slice = options.anonymous_with_len("slice", 3, |_| {}).unwrap();
        let header = exported(&slice, "slot");
        let body = "slot all[3]; printf(\"%zu %zu\", sizeof all, offsetof(slot, f1));";
        let expected = format!(
            "{} {}",
            size_of::<[(u32, ShmMutex<u8>); 3]>(),
            offset_of!((u32, ShmMutex<u8>), 1)
        );
        assert_eq!(compilers.run(&header, body, &[]), expected, "{header}");

        let options = Segment::<[[u16; 3]]>::options();
        let rows = options.anonymous_with_len("rows", 3, |_| {}).unwrap();
        let header = exported(&rows, "row");
        assert_eq!(compilers.run(&header, "printf(\"%zu\", sizeof(row));", &[]), "6");

        let options = Segment::<Table>::options();
        let table = options.anonymous_with_len("table", 3, |_| {}).unwrap();
        let header = exported(&table, "table");
        let body = r#"
            static unsigned char bytes[256];
            table *in = (table *)(void *)bytes;
            uint64_t *row = table_tail_get_data(table_get_tail(in))[1];
            printf("%d", (int)((unsigned char *)row - bytes));
        "#;
        assert_eq!(compilers.run(&header, body, &[]), (8 + size_of::<ShmMutex<()>>() + 16).to_string(), "{header}");

        let options = Segment::<Guarded>::options();
        let guarded = options.anonymous_with_len("guarded", 3, |_| {}).unwrap();
        let header = exported(&guarded, "guarded");
        let body = r#"
            static unsigned char bytes[256];
            guarded *in = (guarded *)(void *)bytes;
            guarded_data_get_tail(guarded_get_data(in))[2] = 0x01020304;
            printf("%d", bytes[atoi(argv[1]) + 4 + 8]);
        "#;
        let mutex = size_of::<ShmMutex<()>>().to_string();
        assert_eq!(compilers.run(&header, body, &[&mutex]), "4", "{header}");
    }

    fn scalars_and_arrays_are_values() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        fn size_of_value<T: ShmSafe>(compilers: &Compilers, value: T) -> String {
            let header = exported(&Segment::anonymous(value).unwrap(), "value");
            compilers.run(&header, "printf(\"%zu\", sizeof(value));", &[])
        }
        assert_eq!(size_of_value(&compilers, 0_u64), "8");
        assert_eq!(size_of_value(&compilers, [[0_u8; 3]; 5]), "15");
        assert_eq!(size_of_value(&compilers, [const { ShmMutex::new(0_u8) }; 2]), "144");
        assert_eq!(size_of_value(&compilers, NonZero::<u16>::MAX), "2");
        assert_eq!(size_of_value(&compilers, Plain::Idle), "1");
        assert_eq!(size_of_value(&compilers, Tagged::Empty), size_of::<Tagged>().to_string());
        assert_eq!(size_of_value(&compilers, ShmCondvar::new()), "16");
        assert_eq!(size_of_value(&compilers, 0_u128), "16");
        assert_eq!(size_of_value(&compilers, ShmSemaphore::<2>::new()), "256");
        assert_eq!(size_of_value(&compilers, MaybeUninit::new((0_u8, 0_u16))), "4");
    }

    /// Another user may have chosen any names, also equal ones.
    fn headers_with_any_names_compile() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        let names = [
            "*/ evil /*", "\u{1b}[2J\n#error x", "", "0", "00", "class", "any", "any_class_",
            "f0", "padding", "lock", "tag", "bytes", "uint8_t", "NULL", "\\", "\"", "??/", "ż", "ź",
            "shm_sync_mutex", "any_H", "ANY_H", "__x", "_X", "stdin", "a", "a", "a", "a_", "a_2",
        ];
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let mut fields = Vec::new();
        let mut variants = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let number = number as u64;
            let inner = table.add("struct", 2, 1, &[(name, 0, byte), (name, 1, byte)]);
            let opaque = table.add(&format!("{name}{number}"), 1, 1, &[]);
            fields.extend([(*name, number * 3, inner), (*name, number * 3 + 2, opaque)]);
            variants.push([(*name, 1, inner), ("b", 3, opaque)]);
        }
        let listed: Vec<_> = (0..).zip(&variants).zip(names).collect();
        let listed: Vec<_> = listed
            .iter()
            .map(|((number, fields), name)| (*name, *number, &fields[..]))
            .collect();
        let choice = table.add_enum("enum", 4, 1, &[("u8", 0, byte)], &listed);
        let plain: Vec<_> = (0..).zip(names).map(|(number, name)| (name, number, &[][..])).collect();
        let plain = table.add_enum("enum", 1, 1, &[("u8", 0, byte)], &plain);
        // Fields that overlap, in the wrong order, and a gap at the start.
        let overlapping = table.add("tuple", 2, 1, &[("0", 0, byte), ("1", 0, byte)]);
        let reordered = table.add("tuple", 4, 2, &[("0", 3, byte), ("1", 1, byte)]);
        // An enum that is larger than its variants.
        let loose = [("A", 0, &[("x", 1, byte)][..])];
        let loose = table.add_enum("enum", 9, 1, &[("u8", 0, byte)], &loose);
        let end = 3 * names.len() as u64;
        let parts = [("choice", end, choice), ("plain", end + 4, plain),
            ("overlapping", end + 5, overlapping), ("loose", end + 7, loose)];
        fields.extend(parts);
        table.add("struct", end + 16, 1, &fields);
        let name = table.create(&vec![0; end as usize + 16], 1);
        let header = stdout(&["export-c", &name, "--prefix", "any"]);
        let body = "printf(\"%zu\", sizeof(any));";
        assert_eq!(compilers.run(&header, body, &[]), (end + 16).to_string(), "{header}");

        table.add("struct", 4, 4, &[("0", 0, reordered)]);
        let name = table.create(&[0; 4], 4);
        let header = stdout(&["export-c", &name, "--prefix", "any"]);
        let body = "printf(\"%zu %zu\", sizeof(any), offsetof(any_f0, f0));";
        assert_eq!(compilers.run(&header, body, &[]), "4 3", "{header}");
    }

    /// The name of a segment, alone or with that of a field, is often that of a
    /// function or of a type of libc.
    fn names_of_functions_and_types_are_avoided() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        let mut headers = Vec::new();
        for name in ["read", "index", "stat", "timespec", "RUNS", "log", "int", "std", "no"] {
            let path = compilers.directory.join(name);
            let segment = Segment::create(&path, (0_u8, (1_u8, 2_u16))).unwrap();
            headers.push(stdout(&["export-c", &path.to_string_lossy()]));
            drop(segment);
        }
        let text = compilers.preprocess(&[]);
        let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words: BTreeSet<&str> = text.split(|c| !of_word(c)).collect();
        let mut count = 0;
        for prefix in ["pthread", "pid", "uint64", "sched", "timer", "posix"] {
            let start = format!("{prefix}_");
            let parts = words.iter().filter_map(|word| word.strip_prefix(&start));
            let parts = parts.filter(|part| !part.is_empty());
            let mut table = TypeTable::default();
            let byte = table.add("u8", 1, 1, &[]);
            let mut fields = Vec::new();
            for (number, part) in (0..).zip(parts) {
                let inner = table.add("struct", 1, 1, &[(&format!("of_{part}"), 0, byte)]);
                fields.push((part, number, inner));
            }
            let size = fields.len();
            count += size;
            table.add("struct", size as u64, 1, &fields);
            let name = table.create(&vec![0; size], 1);
            headers.push(stdout(&["export-c", &name, "--prefix", prefix]));
        }
        assert!(count > 50, "libc has more names than {count}");
        compilers.check(&headers);
    }

    /// The headers that `shm_sync.h` includes define hundreds of macros.
    fn names_of_macros_are_avoided() {
        let Some(compilers) = Compilers::new() else {
            return;
        };
        let text = compilers.preprocess(&["-dM"]);
        let defined = text.lines().filter_map(|line| line.strip_prefix("#define "));
        let names: Vec<&str> = defined
            .filter_map(|line| line.split([' ', '(']).next())
            .collect();
        for name in ["EAGAIN", "O_RDONLY", "INT64_MAX", "SYS_futex"] {
            assert!(names.contains(&name), "{name} is a macro");
        }
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let tag = table.add("u16", 2, 2, &[]);
        let count = names.len() as u64;
        let fields: Vec<_> = (0..).zip(&names).map(|(at, name)| (*name, at, byte)).collect();
        let whole = table.add("struct", count, 1, &fields);
        let plain = (0..).zip(&names).map(|(number, name)| (*name, number, &[][..]));
        let plain = table.add_enum("enum", 2, 2, &[("u16", 0, tag)], &plain.collect::<Vec<_>>());
        let inside: Vec<_> = names.iter().map(|name| [(*name, 2, byte)]).collect();
        let tagged = (0..).zip(&names).zip(&inside);
        let tagged: Vec<_> = tagged
            .map(|((number, name), fields)| (*name, number, &fields[..]))
            .collect();
        let tagged = table.add_enum("enum", 4, 2, &[("u16", 0, tag)], &tagged);
        let start = count.next_multiple_of(2);
        let parts = [("whole", 0, whole), ("plain", start, plain), ("tagged", start + 2, tagged)];
        table.add("struct", start + 6, 2, &parts);
        let name = table.create(&vec![0; start as usize + 6], 2);
        compilers.check(&[stdout(&["export-c", &name, "--prefix", "any"])]);
    }

    fn what_has_no_header_is_refused() {
        let name = TestName::new("export-unit");
        let _unit = Segment::create(&name, ()).unwrap();
        let (text, code) = refusal(&["export-c", &name]);
        assert!(code == 1 && text.contains("has no bytes"), "{text}");
        let prefixes = ["int", "a b", "", "1x", "shm_sync_x", "*/", "read", "time_t", "_x", "RUNS"];
        for prefix in prefixes {
            assert_eq!(refusal(&["export-c", &name, "--prefix", prefix]).1, 2, "{prefix}");
        }
        let (text, code) = refusal(&["export-c", "/shm-sync-test-nothing"]);
        assert!(code == 1 && text.contains("no such object"), "{text}");
        let address = TestAddress::new(Backing::File, "export-foreign");
        fs::write(address.to_string(), "foreign").unwrap();
        let (text, code) = refusal(&["export-c", &address]);
        assert!(code == 1 && text.contains("not a segment"), "{text}");
    }
}
