//! Which boot of the machine this is.

use std::io;

/// [`proc_sys_kernel(5)`](https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html),
/// `random/boot_id`: a UUID that the kernel draws once per boot.
///
/// What memory says of the running (a lock held, a thread id) means something
/// only in the boot that wrote it. Containers of a machine see the
/// same id, unless something is mounted over it. A `/proc` that shows processes
/// only (`subset=pid`) does not have it, and the kernel tells it nowhere else.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_uuid(text.trim_end()).ok_or_else(|| {
        let message = format!("not a boot id: {text:?}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Reads 8-4-4-4-12 hexadecimal digits.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 {
        return None;
    }
    let mut uuid = 0_u128;
    for (at, character) in text.char_indices() {
        if HYPHENS.contains(&at) {
            if character != '-' {
                return None;
            }
        } else {
            uuid = uuid << 4 | u128::from(character.to_digit(16)?);
        }
    }
    Some(uuid.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let id = boot_id().unwrap();
        assert_ne!(id, [0; 16]);
        assert_eq!(id, boot_id().unwrap());
    }

    #[test]
    fn a_uuid_is_read_from_left_to_right() {
        let id = parse_uuid("00112233-4455-6677-8899-aAbBcCdDeEfF");
        let expected = std::array::from_fn(|i| i as u8 * 0x11);
        assert_eq!(id, Some(expected));
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
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
}
