//! The texts of errors: each names the segment, and says what to do.

use std::fs;

use crate::support::{TestAddress, TestName, on_stage, spawn};
use shm_sync::{
    Backing, Error, Segment, SegmentOptions, ShmMutex, ShmSafe, ToAddress, inspect, unlink,
};

type Counter = ShmMutex<u64>;

/// Asserts that an error has this address, and that both texts name it.
#[track_caller]
fn assert_names(error: &Error, address: impl ToAddress) {
    let address = address.to_address().unwrap().to_string();
    assert_eq!(error.address(), Some(&*address), "{error:?}");
    for text in [error.to_string(), format!("{error:?}")] {
        let quoted = format!("\"{}\"", inspect::printable(&address));
        assert!(text.contains(&quoted), "{text:?} lacks {quoted}");
    }
}

/// Returns the errors of all calls that open an object of this crate or another one.
fn opening_errors(address: &str) -> [Error; 5] {
    let options = Segment::<Counter>::options();
    [
        options.open(address).unwrap_err(),
        options.open_read_only(address).unwrap_err(),
        options.open_snapshot(address).unwrap_err(),
        Segment::<Counter>::open(address).unwrap_err(),
        Segment::<Counter>::open_read_only(address).unwrap_err(),
    ]
}

#[test]
fn missing_segment_is_named() {
    for address in TestAddress::of_each_kind("missing") {
        for error in opening_errors(&address) {
            assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
            assert_names(&error, &address);
        }
        assert_names(&unlink(&address).unwrap_err(), &address);
        let address = address.to_address().unwrap();
        assert_names(&inspect::object(&address).unwrap_err(), &address);
        assert_names(&inspect::details(&address, 1).unwrap_err(), &address);
        assert_names(&inspect::sync_object(&address, "").unwrap_err(), &address);
        assert_names(&inspect::remove(&address).unwrap_err(), &address);
    }
}

#[test]
fn existing_segment_is_named() {
    for address in TestAddress::of_each_kind("existing") {
        let _segment = Segment::create(&address, Counter::new(0)).unwrap();
        let options = Segment::<[Counter]>::options();
        for error in [
            Segment::create(&address, Counter::new(0)).unwrap_err(),
            options.create_with_len(&address, 1, |_| ()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error:?}");
            assert_names(&error, &address);
        }
        for error in [
            options.open(&address).unwrap_err(),
            options
                .open_or_create_with_len(&address, 1, |_| ())
                .unwrap_err(),
        ] {
            assert!(matches!(error, Error::LayoutMismatch { .. }), "{error:?}");
            assert_names(&error, &address);
        }
        let error = inspect::remove(&address.to_address().unwrap()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
        assert_names(&error, &address);
    }
}

#[test]
fn foreign_object_is_named() {
    let name = TestName::new("foreign");
    name.write(b"no segment");
    for error in opening_errors(&name) {
        assert!(matches!(error, Error::NotASegment { .. }), "{error:?}");
        assert_names(&error, &name);
    }
    name.write(&[7; 1000]);
    assert_names(&Segment::<Counter>::open(&name).unwrap_err(), &name);
}

#[test]
fn control_characters_are_escaped() {
    let error = Segment::<Counter>::open("/shm-sync-test-\x1b[2J").unwrap_err();
    assert_eq!(error.address(), Some("/shm-sync-test-\x1b[2J"));
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.contains("\\u{1b}[2J"), "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }
    let error = Segment::<Counter>::open("a\x1b").unwrap_err();
    assert_eq!(
        error.address(),
        Some("a\x1b"),
        "an invalid name is an address as well"
    );
    assert!(!error.to_string().contains('\x1b'), "{error}");
}

#[test]
fn anonymous_segment_has_no_address() {
    let error = SegmentOptions::new()
        .anonymous("label\0", 0_u8)
        .unwrap_err();
    assert_eq!(error.address(), None);
    let file = fs::File::open("/dev/null").unwrap();
    let error = SegmentOptions::<u8>::new().from_fd(file.into());
    assert_eq!(error.unwrap_err().address(), None);
}

#[test]
fn mismatch_names_the_difference() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Small {
        lock: Counter,
    }
    mod other {
        use shm_sync::ShmSafe;

        #[derive(ShmSafe)]
        #[repr(C)]
        pub(super) struct Small {
            pub(super) lock: super::Counter,
            pub(super) more: u64,
        }
    }
    let name = TestName::new("difference");
    let lock = Counter::new(0);
    let _segment = Segment::create(&name, Small { lock }).unwrap();
    let text = Segment::<other::Small>::open(&name)
        .unwrap_err()
        .to_string();
    let size = format!("({} bytes, aligned to 8)", size_of::<Small>());
    assert!(text.contains("holds ") && text.contains(&size), "{text}");
    assert!(
        text.contains("let all programs use one type for it"),
        "{text}"
    );
    let _more = |small: other::Small| (small.lock, small.more);
}

on_stage! {
    fn smoke() {
        let address = TestAddress::new(Backing::Posix, "main");
        let fail = || -> Result<(), Error> {
            Segment::<Counter>::open(&address)?;
            Ok(())
        };
        let text = format!("{:?}", fail().unwrap_err());
        let shown = format!(
            "NotFound: there is no segment \"{}\": create it first, or use open_or_create",
            &*address
        );
        assert_eq!(text, shown);
    }

    fn full_memory_is_named() {
        let name = TestName::new("full");
        spawn(|| {
            let options = SegmentOptions::<[u8]>::new();
            let error = options.create_with_len(&name, 1 << 50, |_| ()).unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
            assert_names(&error, &name);
        })
        .join();
    }
}
