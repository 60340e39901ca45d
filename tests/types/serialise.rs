//! `serde::Serialize` on the types of `inspect`.

#![cfg(feature = "serde")]

use std::os::fd::AsRawFd;

use serde_json::{Value, json, to_value};
use shm_sync::inspect::{self, Scope};
use shm_sync::{Segment, ShmCondvar, ShmMutex};

fn details(address: &str) -> Value {
    let address = address.parse().unwrap();
    to_value(inspect::details(&address, 10).unwrap()).unwrap()
}

#[test]
fn smoke() {
    let value = (ShmMutex::new(0_u64), ShmCondvar::new());
    let segment = Segment::anonymous(value).unwrap();
    let _guard = segment.0.lock().unwrap();
    let me = std::process::id();
    let fd = Segment::as_fd(&segment).unwrap().as_raw_fd();
    let address = format!("/proc/{me}/fd/{fd}");

    let shown = details(&address);
    let object = &shown["object"];
    assert_eq!(object["address"], address);
    assert_eq!(object["backing"], "Memfd");
    assert_eq!(object["link"], "Nameless");
    assert_eq!(object["users"]["pids"], json!([me]));
    assert_eq!(object["users"]["attachments"], Value::Null);
    let inside = &object["content"]["Segment"];
    let fingerprint = inside["layout"]["fingerprint"].as_str();
    assert_eq!(fingerprint.map(str::len), Some(32));
    assert_eq!(inside["removal"], "Persistent");
    assert_eq!(inside["epoch"], "Current");
    let locks = json!({
        "objects": 2, "counted": 2, "held": 1, "stopped": 0, "dead": 0, "poisoned": 0,
        "occupied": 0, "orphaned": 0
    });
    assert_eq!(inside["locks"], locks);
    assert!(inside["created"]["secs_since_epoch"].as_u64() > Some(1_600_000_000));
    let mutex = &shown["sync_objects"][0]["state"]["Mutex"];
    assert_eq!(mutex["lock"]["Held"]["pid"], me);
    assert_eq!(mutex["lock"]["Held"]["state"], "Alive");
    let condvar = &shown["sync_objects"][1]["state"]["Condvar"];
    assert_eq!(condvar["waiters"], 0);

    let all = inspect::attachments_of(me, Scope::Segments).unwrap();
    let maps = to_value(all).unwrap();
    assert_eq!(maps[0]["access"], "ReadWrite");
    assert!(maps[0]["addresses"]["start"].is_u64(), "{maps}");
}

#[test]
fn errors_are_serialised_as_messages() {
    let file = format!("shm-sync-test-serialise-{}", std::process::id());
    let file = std::env::temp_dir().join(file);
    std::fs::write(&file, b"shmsync\0 and nothing else").unwrap();
    let content = details(file.to_str().unwrap())["object"]["content"].clone();
    std::fs::remove_file(&file).unwrap();
    let message = content["Unreadable"].as_str();
    assert!(
        message.is_some_and(|text| text.contains("version")),
        "{content}"
    );
}
