//! Any text parses to an address that reads back, or gives a typed error.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    match text.parse::<shm_sync::Address>() {
        Ok(address) => {
            let again: shm_sync::Address = address.to_string().parse().unwrap();
            assert_eq!(again, address);
            let _ = address.backing();
        }
        Err(shm_sync::Error::InvalidName { name, .. }) => assert_eq!(name, text),
        Err(other) => panic!("{other:?}"),
    }
});
