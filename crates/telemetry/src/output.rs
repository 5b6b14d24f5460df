//! Writing to standard output and standard error without ever waiting for their readers.
//!
//! A pipe whose reader has stalled, such as a blocked container log driver, would otherwise stop every task that logs. Lines
//! go into a bounded buffer, which a thread of its own writes. Lines that do not fit are dropped and counted.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// How many bytes wait for the reader; as many again may be on their way to it.
pub const BUFFER: usize = 4 * 1024 * 1024;

/// The pause before writing again to a descriptor that is in non-blocking mode, which another process that shares it may have set.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Writes lines to a descriptor. Each [`Write::write`] is one line and never blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Output {
    shared: Arc<Shared>,
}

/// Called with a number of dropped lines.
pub type OnDropped = fn(u64);

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// Something is in the buffer.
    filled: Condvar,
    /// A batch has been written, or dropped.
    written: Condvar,
    capacity: usize,
    on_drop: OnDropped,
}

#[derive(Debug, Default)]
struct Buffer {
    waiting: Vec<u8>,
    /// The number of lines in `waiting`.
    lines: u64,
    /// The number of lines that were dropped since the last report.
    dropped: u64,
    is_writing: bool,
    /// The last batch could not be written, so a report could not be either.
    is_broken: bool,
    /// The thread that writes.
    writer: Option<ThreadId>,
}

impl Buffer {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && (self.dropped == 0 || self.is_broken)
    }
}

impl Output {
    /// Writes to standard error.
    ///
    /// `on_drop` is called at once for each dropped line, on the thread that wrote it. `reported` is called with the number
    /// of dropped lines once the reader reads again, and may write a line about them, for which there is always room.
    ///
    /// # Errors
    /// Fails if the descriptor cannot be duplicated or the thread cannot be started.
    pub fn stderr(on_drop: OnDropped, reported: OnDropped) -> io::Result<Self> {
        Self::start(File::from(io::stderr().as_fd().try_clone_to_owned()?), BUFFER, on_drop, reported)
    }

    /// Writes to standard output, and drops silently what its reader does not read.
    ///
    /// # Errors
    /// Fails if the descriptor cannot be duplicated or the thread cannot be started.
    pub fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::start(file, BUFFER, |_| {}, |_| {})
    }

    fn start(
        mut file: impl Write + Send + 'static,
        capacity: usize,
        on_drop: OnDropped,
        reported: OnDropped,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            capacity,
            on_drop,
        });
        let ours = Arc::clone(&shared);
        thread::Builder::new().name("output".to_owned()).spawn(move || ours.run(&mut file, reported))?;
        Ok(Self { shared })
    }

    /// Waits until everything has been written, for up to `limit`. Returns whether it has.
    pub fn flush_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut buffer = self.shared.lock();
        while buffer.is_writing || !buffer.is_done() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            buffer = self.shared.written.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.shared.lock();
        // The line about dropped lines must not be dropped itself.
        let has_room = buffer.waiting.len() + line.len() <= self.shared.capacity
            || buffer.writer == Some(thread::current().id());
        if has_room {
            buffer.waiting.extend_from_slice(line);
            buffer.lines += 1;
        } else {
            buffer.dropped += 1;
        }
        drop(buffer);
        self.shared.filled.notify_one();
        if !has_room {
            (self.shared.on_drop)(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, file: &mut impl Write, reported: OnDropped) {
        self.lock().writer = Some(thread::current().id());
        let mut batch = Vec::new();
        // A batch was cut off within a line.
        let mut is_torn = false;
        loop {
            let (lines, dropped) = self.take(&mut batch);
            if is_torn {
                batch.insert(0, b'\n');
            }
            let result = write_all(file, &batch);
            if let Err(written) = result {
                is_torn |= written > 0;
                (self.on_drop)(lines);
            } else {
                is_torn = false;
                if dropped > 0 {
                    reported(dropped);
                }
            }
            let mut buffer = self.lock();
            buffer.is_writing = false;
            buffer.is_broken = result.is_err();
            if buffer.is_broken {
                buffer.dropped += lines + dropped;
            }
            drop(buffer);
            self.written.notify_all();
        }
    }

    /// Waits for lines, moves them to `batch`, and returns how many they are and how many were dropped after them.
    fn take(&self, batch: &mut Vec<u8>) -> (u64, u64) {
        batch.clear();
        let mut buffer = self.lock();
        while buffer.is_done() {
            buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(batch, &mut buffer.waiting);
        buffer.is_writing = true;
        (mem::take(&mut buffer.lines), mem::take(&mut buffer.dropped))
    }
}

/// Writes all bytes, however long the reader takes. Fails with the number of bytes written: the pipe is closed or the disk
/// is full, and there is no other place for the lines.
fn write_all(file: &mut impl Write, bytes: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err(written),
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
