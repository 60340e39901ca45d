//! `ShmPipe`: the traits of `std::io`, the end of the file, and deaths.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::mem::forget;
use std::time::Duration;

use shm_sync::{Error, LockError, RecvError, Segment, ShmPipe};

use crate::support::{Gate, on_stage, spawn};

fn pipe<const N: usize>() -> Segment<ShmPipe<N>> {
    Segment::anonymous(ShmPipe::new()).unwrap()
}

#[test]
fn unplaced_pipe_is_refused() {
    let pipe = ShmPipe::<8>::new();
    let error = pipe.reader().unwrap_err();
    assert!(matches!(error, Error::Lock(LockError::NotPlaced)));
    let error = pipe.writer().unwrap_err();
    assert!(matches!(error, Error::Lock(LockError::NotPlaced)));
}

#[test]
fn bytes_go_through() {
    let pipe = pipe::<8>();
    let (mut reader, mut writer) = (pipe.reader().unwrap(), pipe.writer().unwrap());
    assert_eq!(writer.write(b"").unwrap(), 0);
    assert_eq!(writer.write(b"0123456789").unwrap(), 8, "as much as fits");
    assert_eq!(
        (pipe.len(), pipe.capacity(), pipe.is_empty()),
        (8, 8, false)
    );
    let mut three = [0; 3];
    reader.read_exact(&mut three).unwrap();
    assert_eq!(three, *b"012");
    writer.write_all(b"ab").unwrap();
    writer.flush().unwrap();
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "34567ab");
    assert_eq!(reader.read(&mut three).unwrap(), 0, "the end stays");
    assert!(
        format!("{pipe:?}").contains("ShmPipe") && format!("{reader:?}").contains("PipeReader")
    );
}

#[test]
fn timeouts_end_waits() {
    const SOON: Duration = Duration::from_millis(1);
    let pipe = pipe::<4>();
    let (mut reader, mut writer) = (pipe.reader().unwrap(), pipe.writer().unwrap());
    let mut four = [0; 4];
    let error = reader.read_timeout(&mut four, SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "no byte comes");
    assert_eq!(writer.write_timeout(b"abcdef", SOON).unwrap(), 4);
    let error = writer.write_timeout(b"ef", SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "there is no room");
    assert_eq!(reader.read_timeout(&mut four, SOON).unwrap(), 4);
    assert_eq!(four, *b"abcd");
    assert_eq!(reader.read_timeout(&mut [], SOON).unwrap(), 0);
    assert_eq!(writer.write_timeout(&[], SOON).unwrap(), 0);
    drop(reader);
    let error = writer.write_timeout(b"ef", SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "the reader has closed");
    let mut reader = pipe.reader().unwrap();
    drop(writer);
    assert_eq!(reader.read_timeout(&mut four, SOON).unwrap(), 0, "the end");
    std::thread::scope(|s| {
        s.spawn(|| forget(pipe.writer().unwrap()));
    });
    // The kernel reports the end of the thread a little later.
    let error = loop {
        match reader.read_timeout(&mut four, SOON) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(
        error.kind(),
        ErrorKind::ConnectionAborted,
        "the writer has died"
    );
}

#[test]
fn buffer_is_the_ring() {
    let pipe = pipe::<8>();
    let (mut reader, mut writer) = (pipe.reader().unwrap(), pipe.writer().unwrap());
    writer.write_all(b"abcdef").unwrap();
    assert_eq!(reader.fill_buf().unwrap(), b"abcdef");
    reader.consume(4);
    assert_eq!(pipe.len(), 2);
    writer.write_all(b"ghijkl").unwrap();
    // Reading leaves the buffer in order.
    let mut one = [0];
    assert_eq!(reader.read(&mut one).unwrap(), 1);
    assert_eq!(one, *b"e");
    assert_eq!(reader.fill_buf().unwrap(), b"f", "what it has seen already");
    reader.consume(1);
    assert_eq!(
        reader.fill_buf().unwrap(),
        b"gh",
        "up to the end of the ring"
    );
    reader.consume(2);
    assert_eq!(reader.fill_buf().unwrap(), b"ijkl");
    reader.consume(100);
    assert!(pipe.is_empty(), "no more than there is");
    drop(writer);
    assert_eq!(reader.fill_buf().unwrap(), b"");
}

#[test]
fn closed_reader_breaks_the_pipe() {
    let pipe = pipe::<8>();
    let (reader, mut writer) = (pipe.reader().unwrap(), pipe.writer().unwrap());
    drop(reader);
    let error = writer.write(b"a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(writeln!(writer, "text").is_err());
}

#[test]
fn dead_reader_aborts_the_writer() {
    let pipe = pipe::<8>();
    let mut writer = pipe.writer().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| forget(pipe.reader().unwrap())).join().unwrap();
    });
    let error = writer.write_all(&[7; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn new_writer_continues_after_the_end() {
    let pipe = pipe::<64>();
    let mut reader = pipe.reader().unwrap();
    for round in 0..5 {
        let mut writer = pipe.writer().unwrap();
        assert!(matches!(
            pipe.writer(),
            Err(Error::TooManyEndpoints { limit: 1 })
        ));
        writeln!(writer, "round {round}").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("round {round}\n"));
    }
}

#[test]
fn io_copy_moves_everything() {
    let pipe = pipe::<1000>();
    let data: Vec<u8> = (0..1_000_000_u32)
        .map(|it| (it.wrapping_mul(it) >> 5) as u8)
        .collect();
    let mut copied = Vec::new();
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut writer = pipe.writer().unwrap();
            std::io::copy(&mut &data[..], &mut writer).unwrap();
        });
        let mut reader = pipe.reader().unwrap();
        std::io::copy(&mut reader, &mut copied).unwrap();
    });
    assert!(copied == data);
}

on_stage! {
    fn smoke() {
        let pipe = pipe::<16>();
        let writer = spawn(|| {
            let mut writer = pipe.writer().unwrap();
            writer.write_all(b"from another process, through a small ring").unwrap();
        });
        let mut text = String::new();
        pipe.reader().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "from another process, through a small ring");
        writer.join();
    }

    fn lines_arrive_in_order() {
        const LINES: u32 = 100_000;
        let pipe = pipe::<5_000>();
        let writer = spawn(|| {
            let mut writer = pipe.writer().unwrap();
            for number in 0..LINES {
                writeln!(writer, "{number}: {}", "x".repeat((number % 90) as usize)).unwrap();
            }
        });
        // Once from the ring, and once through a further buffer.
        let mut reader = pipe.reader().unwrap();
        let mut next = 0..LINES;
        let mut check = |line: &str| {
            let number = next.next().unwrap();
            assert_eq!(line, format!("{number}: {}", "x".repeat((number % 90) as usize)));
        };
        let mut line = String::new();
        for _ in 0..LINES / 2 {
            line.clear();
            reader.read_line(&mut line).unwrap();
            check(line.trim_end_matches('\n'));
        }
        BufReader::new(reader).lines().for_each(|line| check(&line.unwrap()));
        assert_eq!(next, LINES..LINES);
        writer.join();
    }

    fn killed_writer_aborts_the_reader() {
        let pipe = pipe::<64>();
        for _ in 0..10 {
            let written = Gate::new();
            let mut writer = spawn(|| {
                let mut writer = pipe.writer().unwrap();
                writer.write_all(b"the rest").unwrap();
                written.open();
                nix::unistd::pause();
            });
            written.pass();
            let reader = spawn(|| {
                let mut reader = pipe.reader().unwrap();
                let mut rest = [0; 8];
                reader.read_exact(&mut rest).unwrap();
                assert_eq!(rest, *b"the rest");
                let error = reader.read(&mut rest).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                let source = error.get_ref().unwrap().downcast_ref().unwrap();
                assert!(matches!(source, RecvError::Disconnected { died: true }));
                assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::ConnectionAborted);
            });
            reader.wait_until_asleep();
            writer.kill();
            reader.join();
        }
    }

    fn exec_aborts_the_reader() {
        let pipe = pipe::<64>();
        let mut reader = pipe.reader().unwrap();
        let mut child = spawn(|| {
            let mut writer = pipe.writer().unwrap();
            writer.write_all(b"a").unwrap();
            let sleep = std::ffi::CString::new("/bin/sleep").unwrap();
            let time = std::ffi::CString::new("60").unwrap();
            let _ = nix::unistd::execv(&sleep, &[&sleep, &time]);
            crate::support::die()
        });
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        child.kill();
    }

    fn forked_child_has_no_end() {
        let pipe = pipe::<64>();
        let (mut reader, mut writer) = (pipe.reader().unwrap(), pipe.writer().unwrap());
        spawn(|| {
            assert_eq!(writer.write(b"a").unwrap_err().kind(), ErrorKind::Other);
            assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::Other);
            assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::Other);
            reader.consume(1);
        })
        .join();
        writer.write_all(b"bc").unwrap();
        assert_eq!(reader.fill_buf().unwrap(), b"bc");
    }

    fn reader_waits_for_the_first_writer() {
        let pipe = pipe::<64>();
        let reader = spawn(|| {
            let mut text = String::new();
            pipe.reader().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "late");
        });
        reader.wait_until_asleep();
        std::thread::sleep(Duration::from_millis(200));
        pipe.writer().unwrap().write_all(b"late").unwrap();
        reader.join();
    }
}
