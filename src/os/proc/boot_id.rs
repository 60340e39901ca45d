//! The id of the current boot of the machine: [`proc_sys_kernel(5)`].
//!
//! [`proc_sys_kernel(5)`]: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html

use std::fs::File;
use std::io;

use nix::unistd::read;

use crate::os::retry_on_eintr;

/// More bytes than the line has, which are 37.
const LINE: usize = 64;

/// Returns the UUID that the kernel chooses at each boot: `random/boot_id`.
///
/// Lock words and thread ids in memory are valid only in the boot in which they were
/// written. All containers of a machine have the same boot id, unless another file is
/// mounted over it. A `/proc` that was mounted with `subset=pid` does not contain it,
/// and no other interface of the kernel returns it.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    let file = File::open("/proc/sys/kernel/random/boot_id")?;
    let mut line = [0; LINE];
    // One call returns the whole line. The file may be another one, on FUSE.
    let len = retry_on_eintr(|| read(&file, &mut line))?;
    let text = String::from_utf8_lossy(&line[..len]);
    let id = match len {
        LINE => None, // too long
        _ => parse_uuid(text.trim_end()),
    };
    id.ok_or_else(|| {
        let message = format!("not a boot id: {text:?}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Reads 8-4-4-4-12 hexadecimal digits.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits = groups.concat();
    if digits.starts_with('+') {
        return None; // `from_str_radix` accepts a sign
    }
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn smoke() {
        let id = boot_id().unwrap();
        assert_ne!(id, [0; 16]);
        assert_eq!(id, boot_id().unwrap());
    }

    #[test]
    fn uuid_is_read_from_left_to_right() {
        let id = parse_uuid("00112233-4455-6677-8899-aAbBcCdDeEfF");
        let expected = std::array::from_fn(|i| i as u8 * 0x11);
        assert_eq!(id, Some(expected));
    }

    #[test]
    fn other_texts_are_refused() {
        let texts = [
            "",
            "-",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeff0",
            "001122334455-6677-8899-aabbccddeeff--",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-8899-aabbccddee-f",
            "00112233-4455-6677-8899-aabbccddeeżż",
            "00112233-4455-6677-8899-aabbccddeeż",
            "+0112233-4455-6677-8899-aabbccddeeff",
        ];
        for text in texts {
            assert_eq!(parse_uuid(text), None, "{text:?}");
        }
    }

    /// Returns whether the text has the form of a UUID, character by character.
    fn is_uuid(text: &str) -> bool {
        const FORM: &str = "dddddddd-dddd-dddd-dddd-dddddddddddd";
        text.chars().count() == FORM.len()
            && text
                .chars()
                .zip(FORM.chars())
                .all(|(found, form)| match form {
                    'd' => found.is_ascii_hexdigit(),
                    other => found == other,
                })
    }

    fn hyphenated(id: u128) -> String {
        let mut text = format!("{id:032x}");
        for at in [20, 16, 12, 8] {
            text.insert(at, '-');
        }
        text
    }

    proptest! {
        #[test]
        fn every_uuid_is_read(id in any::<u128>()) {
            let text = hyphenated(id);
            prop_assert_eq!(parse_uuid(&text), Some(id.to_be_bytes()));
            prop_assert_eq!(parse_uuid(&text.to_uppercase()), Some(id.to_be_bytes()));
        }

        #[test]
        fn only_the_form_of_a_uuid_is_read(
            id in any::<u128>(),
            changes in proptest::collection::vec((0..36_usize, "[0-9a-fA-Fg+ż -]"), 0..4),
            length in 30..40_usize,
        ) {
            let mut text: Vec<String> = hyphenated(id).chars().map(String::from).collect();
            for (at, character) in changes {
                text[at] = character;
            }
            let whole = text.concat();
            prop_assert_eq!(parse_uuid(&whole).is_some(), is_uuid(&whole), "{:?}", whole);
            text.resize(length, "0".to_owned());
            let resized = text.concat();
            prop_assert_eq!(parse_uuid(&resized).is_some(), is_uuid(&resized), "{:?}", resized);
        }
    }
}
