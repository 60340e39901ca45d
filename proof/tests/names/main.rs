//! All interleavings of what processes do to a name: publication, attachment,
//! removal, birth, revival, renewal.
//!
//! Each protocol is a model: the world as the kernel and the memory see it, and
//! processes that take one system call or one access to shared memory at a time. The
//! search takes every step that any process can take in every world, and in every one
//! lets any process die. A process that is stopped is one that takes no step.
//!
//! A check that has never failed proves nothing. So each model has mutations, planted
//! bugs, of which the search must find every one, by the property that is named beside
//! it. Those that are harmless say why.
//!
//! What they say is printed with `--nocapture`:
//!
//! ```sh
//! cargo test -p shm-sync-proof --test names -- --nocapture
//! # with a schedule for each planted bug
//! SHM_SYNC_MODEL_SCHEDULES=1 cargo test -p shm-sync-proof --test names -- --nocapture
//! # more processes and tasks: minutes, and gigabytes of memory
//! SHM_SYNC_MODEL_SIZE=large cargo test --release -p shm-sync-proof --test names -- --nocapture
//! ```

mod kit;
mod publication;
mod renewal;
mod revival;
mod system_v;

use kit::Size;

#[test]
fn smoke() {
    publication::check_alone();
}

#[test]
fn a_name_leads_to_a_whole_object_and_goes_with_its_last_user() {
    publication::check(Size::chosen());
}

#[test]
fn a_system_v_segment_is_used_whole_and_goes_with_its_last_user() {
    system_v::check(Size::chosen());
}

#[test]
fn locks_are_revived_exactly_when_nobody_uses_them() {
    revival::check(Size::chosen());
}

#[test]
fn system_v_locks_are_renewed_only_when_nobody_uses_them() {
    renewal::check(Size::chosen());
}

#[test]
fn planted_bugs_in_renewal_are_found() {
    renewal::check_mutations();
}

#[test]
fn planted_bugs_in_publication_are_found() {
    publication::check_mutations();
}

#[test]
fn planted_bugs_in_system_v_are_found() {
    system_v::check_mutations();
}

#[test]
fn planted_bugs_in_revival_are_found() {
    revival::check_mutations();
}
