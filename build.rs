//! Refuses a target on which the crate can't work, before anything is compiled for it.
//! So the compiler's answer is one sentence, and not a list of what is missing there.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |fact| std::env::var(format!("CARGO_CFG_TARGET_{fact}")).unwrap_or_default();
    let is_supported = target("OS") == "linux"
        && target("POINTER_WIDTH") == "64"
        && ["gnu", "musl"].contains(&&*target("ENV"));
    if !is_supported {
        println!("cargo::error=shm-sync supports 64-bit Linux with glibc or musl only");
    }
}
