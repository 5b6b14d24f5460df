use std::io::{PipeReader, Read as _, pipe};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

/// Reads until `text` has arrived.
fn read_until(reader: &mut PipeReader, text: &str) -> String {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = reader.read(&mut chunk).unwrap();
        assert!(length > 0, "the pipe ended before {text}");
        read.extend_from_slice(&chunk[..length]);
        let so_far = String::from_utf8_lossy(&read);
        if so_far.contains(text) {
            return so_far.into_owned();
        }
    }
}

#[test]
fn a_stalled_reader_delays_no_writer_and_learns_how_many_lines_it_missed() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    static REPORTED: AtomicU64 = AtomicU64::new(0);
    const LINES: u64 = 20_000;
    let (mut reader, writer) = pipe().unwrap();
    let output = Output::start(
        writer,
        64 * 1024,
        |lines| {
            DROPPED.fetch_add(lines, Ordering::SeqCst);
        },
        |lines| {
            REPORTED.fetch_add(lines, Ordering::SeqCst);
        },
    )
    .unwrap();
    let mut lines = output.clone();
    for number in 0..LINES {
        lines.write_all(format!("line {number:06} {}\n", "x".repeat(50)).as_bytes()).unwrap();
    }
    assert!(!output.flush_within(Duration::from_millis(10)), "the reader has not read anything");
    let dropped = DROPPED.load(Ordering::SeqCst);
    assert!(dropped > LINES / 2, "{dropped}");

    let drained = thread::spawn(move || {
        let mut read = read_until(&mut reader, "the end\n");
        assert_eq!(read.pop(), Some('\n'));
        read
    });
    assert!(output.flush_within(DEADLINE));
    lines.write_all(b"the end\n").unwrap();
    let read = drained.join().unwrap();
    assert_eq!(read.lines().count() as u64, LINES - dropped + 1, "whole lines, and the others are counted");
    assert!(read.lines().all(|line| line == "the end" || (line.starts_with("line ") && line.len() == 62)));
    assert_eq!(REPORTED.load(Ordering::SeqCst), dropped);
}

#[test]
fn the_line_about_dropped_lines_always_fits() {
    static AGAIN: Mutex<Option<Output>> = Mutex::new(None);
    let (mut reader, writer) = pipe().unwrap();
    let report = |dropped| {
        let output = AGAIN.lock().unwrap().clone().unwrap();
        // The others fill the buffer again before the writer reports.
        let mut other = output.clone();
        thread::spawn(
            move || while other.write(&[b'y'; 100]).is_ok() && other.shared.lock().waiting.len() < 900 {},
        )
        .join()
        .unwrap();
        let line = format!("missed {dropped}\n");
        output.clone().write_all(line.as_bytes()).unwrap();
    };
    let mut output = Output::start(writer, 1000, |_| {}, report).unwrap();
    *AGAIN.lock().unwrap() = Some(output.clone());
    // More than the pipe and the buffer hold.
    let line = [b'x'; 500];
    for _ in 0..1000 {
        output.write_all(&line).unwrap();
    }
    read_until(&mut reader, "missed ");
}

#[test]
fn a_closed_pipe_ends_nothing_and_is_counted() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (reader, writer) = pipe().unwrap();
    let mut output = Output::start(
        writer,
        BUFFER,
        |lines| {
            DROPPED.fetch_add(lines, Ordering::SeqCst);
        },
        |_| {},
    )
    .unwrap();
    drop(reader);
    for number in 1..=3 {
        output.write_all(b"nobody reads this\n").unwrap();
        assert!(output.flush_within(DEADLINE), "nothing is left to write");
        assert_eq!(DROPPED.load(Ordering::SeqCst), number);
    }
}
