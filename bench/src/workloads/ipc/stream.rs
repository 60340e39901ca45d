//! Complete messages over byte streams, which may split them.

use std::io;
use std::os::fd::AsFd;

use nix::unistd::{read, write};

use crate::failure::Failure;

/// Writes all of `bytes`.
pub(in crate::workloads) fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let written = write(&to, bytes).map_err(Failure::os("write"))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads until `bytes` is full.
pub(in crate::workloads) fn read_all(from: impl AsFd, mut bytes: &mut [u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let read = read(&from, bytes).map_err(Failure::os("read"))?;
        if read == 0 {
            return Err(Failure::os("read")(io::Error::from(
                io::ErrorKind::UnexpectedEof,
            )));
        }
        bytes = &mut bytes[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial] // A forked process would keep the pipe open.
    fn smoke() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        write_all(&writer, b"in two").unwrap();
        write_all(&writer, b" pieces").unwrap();
        let mut read = [0; 13];
        read_all(&reader, &mut read).unwrap();
        assert_eq!(&read, b"in two pieces");
        drop(writer);
        read_all(&reader, &mut read).unwrap_err();
    }
}
