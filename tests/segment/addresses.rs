//! The types that name a segment, and paths that are not UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::support::{TestFile, TestName};
use shm_sync::{Address, Backing, Error, Segment, ShmMutex, ToAddress, inspect, unlink};

type Counter = ShmMutex<u64>;

/// Asserts that an address of any type leads to the segment with this number.
#[track_caller]
fn assert_leads_to(address: impl ToAddress, number: u64) {
    let opened = Segment::<Counter>::open(address).unwrap();
    assert_eq!(*opened.lock().unwrap(), number);
}

#[test]
fn smoke() {
    let name = TestName::new("types");
    let _segment = Segment::create(&name, Counter::new(7)).unwrap();
    let text: &str = &name;
    let address: Address = text.parse().unwrap();
    assert_leads_to(text, 7);
    let owned = text.to_owned();
    assert_leads_to(&owned, 7);
    assert_leads_to(owned, 7);
    assert_leads_to(OsStr::new(text), 7);
    assert_leads_to(&address, 7);
    assert_leads_to(Segment::address(&_segment).unwrap(), 7);
    assert_leads_to(address, 7);
}

#[test]
fn path_is_address_of_file() {
    let file = TestFile::new("paths");
    let path = PathBuf::from(&*file);
    let segment = Segment::create(&path, Counter::new(8)).unwrap();
    assert_eq!(Segment::backing(&segment), Backing::File);
    assert_leads_to(path.as_path(), 8);
    assert_leads_to(&*file, 8);
    unlink(Path::new(&path)).unwrap();
    let missing = Segment::<Counter>::open_read_only(path);
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}

#[test]
fn path_need_not_be_utf8() {
    let directories = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    for directory in directories {
        let pid = std::process::id().to_string();
        let name = [b"shm-sync-test-\xff-", pid.as_bytes()].concat();
        let path = directory.join(OsString::from_vec(name));
        let segment = Segment::create(&path, Counter::new(9)).unwrap();
        assert_leads_to(&path, 9);
        assert!(Segment::is_linked(&segment).unwrap());

        let address = Segment::address(&segment).unwrap();
        assert_eq!(address.to_str(), None);
        assert_eq!(address, &Address::try_from(address.as_os_str()).unwrap());
        let object = inspect::object(address).unwrap();
        // A child that another test forks has the mapping until it calls `exec`.
        assert!(object.users.pids.contains(&std::process::id()));
        let again = object.address.expect("the object has an address");
        assert_leads_to(&again, 9);
        let listed = inspect::attachments_of(std::process::id(), inspect::Scope::Segments);
        let listed = listed.unwrap();
        let is_found = listed
            .iter()
            .any(|attachment| attachment.object.address.as_ref() == Some(&again));
        assert!(is_found, "{again:?} is not in {listed:?}");

        drop(segment);
        unlink(&path).unwrap();
        let error = Segment::<Counter>::open(&path).unwrap_err();
        assert!(error.to_string().contains('\u{fffd}'), "{error}");
    }
}

#[test]
fn posix_name_need_not_be_utf8() {
    let pid = std::process::id().to_string();
    let name = [b"/shm-sync-test-\xfe-", pid.as_bytes()].concat();
    let name = OsStr::from_bytes(&name);
    let segment = Segment::create(name, Counter::new(1)).unwrap();
    assert_eq!(Segment::backing(&segment), Backing::Posix);
    assert_leads_to(name, 1);
    unlink(name).unwrap();
}

#[test]
fn own_type_can_be_address() {
    struct Queue(String);
    impl ToAddress for Queue {
        fn to_address(&self) -> Result<Address, Error> {
            self.0.to_address()
        }
    }
    let name = TestName::new("own");
    let queue = Queue(name.to_string());
    let _segment = Segment::create(&queue, Counter::new(2)).unwrap();
    assert_leads_to(queue, 2);
}
