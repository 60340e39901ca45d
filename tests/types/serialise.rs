//! `serde::Serialize` on the types that describe segments and locks.

#![cfg(feature = "serde")]

use std::os::fd::AsRawFd;

use serde_json::{Value, json, to_value};
use shm_sync::inspect::{self, Scope};
use shm_sync::{Removal, Segment, ShmCondvar, ShmMutex, ShmSafe};

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
fn types_and_values_are_serialised() {
    let segment = Segment::anonymous((ShmMutex::new(-7_i16), u128::MAX)).unwrap();
    let fd = Segment::as_fd(&segment).unwrap().as_raw_fd();
    let address = format!("/proc/{}/fd/{fd}", std::process::id());
    let address = address.parse().unwrap();
    let types = to_value(inspect::types(&address).unwrap()).unwrap();
    let all = types["all"].as_array().unwrap();
    let root = all.last().unwrap();
    assert_eq!(root["kind"], "tuple");
    assert_eq!(root["fields"][0]["name"], "0");
    let mutex = all.iter().find(|of| of["kind"] == "ShmMutex").unwrap();
    assert_eq!(
        mutex["fields"][0]["offset"],
        size_of::<ShmMutex<()>>() as u64
    );
    assert_eq!(
        mutex["fields"][0]["fingerprint"],
        i16::FINGERPRINT.to_string()
    );

    let values = to_value(inspect::values(&address, 9).unwrap()).unwrap();
    assert_eq!(values["is_cut"], false);
    assert_eq!(values["fields"][0]["path"], ".0.data");
    assert_eq!(values["fields"][0]["value"]["Signed"], -7);
    assert_eq!(
        values["fields"][1]["value"]["Unsigned"],
        u128::MAX.to_string()
    );
}

#[test]
fn states_of_a_segment_are_serialised() {
    let segment = Segment::<ShmMutex<u64>>::options()
        .removal(Removal::UntilLastDetach)
        .create_system_v_private(ShmMutex::new(0))
        .unwrap();
    let guard = segment.lock().unwrap();
    let holder = to_value(segment.holder()).unwrap();
    assert_eq!(holder["pid"], std::process::id());
    drop(guard);
    let status = to_value(Segment::system_v_status(&segment).unwrap()).unwrap();
    assert_eq!(status["attached"], 1);
    assert_eq!(status["is_removed"], false);
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
