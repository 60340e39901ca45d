//! A published value of 64 bytes, beside a mutex around one.

use std::hint::black_box;

use shm_sync::{Error, Published, Segment, ShmMutex};

use super::one_thread::{self, Batch};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{SHM_SYNC, Series, Survives};
use crate::workloads::rounds::{Entry, run_rounds};

type Value = [u64; 8];

const MUTEX: &str = "ShmMutex";

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let entries = vec![
        published_read()?,
        mutex_read()?,
        published_publish()?,
        mutex_replace()?,
    ];
    run_rounds(
        plan,
        "published",
        entries,
        one_thread::rounds(plan),
        progress,
    )
}

fn published_read() -> Result<Entry, Failure> {
    let value = Segment::anonymous(Published::<Value>::new([1; 8]))?;
    Ok(entry("read", SHM_SYNC, move || {
        black_box(value.read());
        Ok(())
    }))
}

fn mutex_read() -> Result<Entry, Failure> {
    let value = Segment::anonymous(ShmMutex::<Value>::new([1; 8]))?;
    Ok(entry("read", MUTEX, move || {
        let copy = *value.lock().map_err(Error::from)?;
        black_box(copy);
        Ok(())
    }))
}

fn published_publish() -> Result<Entry, Failure> {
    let value = Segment::anonymous(Published::<Value>::new([1; 8]))?;
    Ok(entry("replace", SHM_SYNC, move || {
        value.publish(black_box([2; 8]))?;
        Ok(())
    }))
}

fn mutex_replace() -> Result<Entry, Failure> {
    let value = Segment::anonymous(ShmMutex::<Value>::new([1; 8]))?;
    Ok(entry("replace", MUTEX, move || {
        *value.lock().map_err(Error::from)? = black_box([2; 8]);
        Ok(())
    }))
}

fn entry(
    column: &'static str,
    contestant: &'static str,
    operate: impl FnMut() -> Result<(), Failure> + 'static,
) -> Entry {
    let contestant = (contestant, Survives::Kills);
    one_thread::entry(
        "published/64 bytes",
        column,
        contestant,
        Batch::Long,
        operate,
    )
}
