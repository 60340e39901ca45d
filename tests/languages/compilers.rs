//! The header with each compiler, and with sanitizers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::build::{Compiler, Language, Product, SANITIZERS};
use crate::peer::{Peer, peers};
use crate::world::Place;

/// A build of a peer.
struct Build {
    compiler: &'static str,
    language: Language,
    options: &'static [&'static str],
    label: &'static str,
}

const fn build(
    compiler: &'static str,
    language: Language,
    options: &'static [&'static str],
    label: &'static str,
) -> Build {
    Build {
        compiler,
        language,
        options,
        label,
    }
}

const BUILDS: [Build; 9] = [
    build("gcc", Language::C, &[], "plain"),
    build("clang", Language::C, &["-O3"], "O3"),
    build("g++", Language::Cpp, &[], "plain"),
    build("clang++", Language::Cpp, &["-std=c++20"], "cpp20"),
    build("gcc", Language::C, SANITIZERS, "sanitized"),
    build("g++", Language::Cpp, SANITIZERS, "sanitized"),
    build("musl-gcc", Language::C, &[], "plain"),
    build("musl-gcc", Language::C, &["-O3"], "O3"),
    build("musl-gcc", Language::C, SANITIZERS, "sanitized"),
];

/// Does everything once, together with the peer in Rust.
fn try_everything(peer: &Peer) {
    let place = Place::new("languages-builds");
    let mut tested = peer.open(&place.name);
    let mut rust = peers()[0].open(&place.name);
    for it in [&mut tested, &mut rust] {
        it.tell("increment 5000");
    }
    for it in [&mut tested, &mut rust] {
        it.expect_reply("ok 0");
    }
    tested.tell("hand_over 1 2 500");
    rust.tell("hand_over 2 1 500");
    place
        .segment
        .ledger
        .lock()
        .expect("no holder has died")
        .turn = 1;
    place.segment.changed.notify_all();
    tested.expect_reply("ok");
    rust.expect_reply("ok");

    let mut killed = peer.open(&place.name);
    killed.expect_ok("lock");
    killed.expect_ok("tear");
    tested.tell("wait 77");
    tested.wait_until_asleep();
    killed.kill();
    assert!(
        tested.reply().starts_with("poisoned owner_died "),
        "{peer:?}"
    );
    tested.expect_ok("fail");
    assert!(
        rust.ask("lock").starts_with("poisoned panicked "),
        "{peer:?}"
    );
    rust.expect_ok("recover");
    rust.expect_ok("unlock");
    tested.expect("wait_for 88 5", "timed_out");
    tested.expect_ok("worker 2 10");

    assert!(tested.ask("acquire").starts_with("ok "), "{peer:?}");
    tested.expect("available", "ok 2");
    tested.expect_ok("release");
    tested.expect_ok("set gate");
    tested.expect_ok("await gate 0");
    tested.expect_ok("reset gate");
    tested.expect("await gate 5", "timed_out");
    tested.expect_ok("sender");
    rust.expect_ok("receiver");
    tested.expect_ok("send 9");
    rust.expect("recv", "ok 9");
    tested.expect_ok("close_sender");
    tested.expect_ok("receiver");
    rust.expect_ok("sender");
    rust.expect_ok("close_receiver");
    rust.expect_ok("send 8");
    tested.expect("recv", "ok 8");
    tested.expect_ok("close_receiver");
    tested.expect_ok("close");
    rust.expect_ok("close");
    // A sanitizer reports a leak or another mistake by the exit status.
    tested.end();
    rust.end();
    place.segment.ledger();
}

/// The header is the reference of its names, among many internal ones.
#[test]
fn index_of_the_header_has_all_names() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/shm_sync.h");
    let header = fs::read_to_string(header).expect("the header is there");
    let (_, rest) = header.split_once(" * INDEX\n").expect("it has an index");
    let (index, code) = rest
        .split_once(" * REQUIREMENTS\n")
        .expect("a section follows");
    let is_public = |word: &str| {
        word.strip_prefix("shm_sync_")
            .is_some_and(|rest| !rest.starts_with("i_") && !rest.is_empty())
    };
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words
            .filter(|word| is_public(word))
            .map(str::to_owned)
            .collect()
    };
    let (index, code) = (names(index), names(code));
    assert!(code.len() > 60, "{code:?}");
    let missing: Vec<_> = code.symmetric_difference(&index).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn builds_of_all_compilers_work() {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/peers");
    let mut count = 0;
    for build in BUILDS {
        let Build {
            compiler,
            language,
            options,
            label,
        } = build;
        let Some(found) = Compiler::named(compiler, language, options, label) else {
            continue;
        };
        let source = match language {
            Language::C => "peer.c",
            Language::Cpp => "peer.cpp",
        };
        let program = found.compile(&peers.join(source), Product::Program);
        let name = format!("{compiler} {label}");
        println!("{name}");
        try_everything(&Peer::of_program(name, program));
        count += 1;
    }
    assert!(
        count > 0 || Compiler::any(Language::C).is_none(),
        "a compiler is used"
    );
}
