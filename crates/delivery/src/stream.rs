//! A connection's bytes, with or without TLS.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::{fmt, io};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::h2_settings::FirstSettings;
use crate::head::{self, Flaws, Found};

/// A connection to a receiver. It counts what it has received, which tells whether an answer has begun, and rewrites the
/// heads of HTTP/1.1 responses that have flaws.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    received: Received,
    settings: Option<(FirstSettings, oneshot::Sender<usize>)>,
    heads: Option<Heads>,
}

/// The head of the next response on an HTTP/1.1 connection.
#[derive(Debug, Default)]
struct Heads {
    expected: Expected,
    /// What has arrived of it.
    held: Vec<u8>,
    /// What is to be read before anything else, from `read` on.
    ready: Vec<u8>,
    read: usize,
}

/// Whether the head of a response is expected, and what was wrong with it. Shared by a connection and its stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected(Arc<ExpectedHead>);

#[derive(Debug, Default)]
struct ExpectedHead {
    expected: AtomicBool,
    lines: AtomicUsize,
    length: AtomicBool,
    cut: AtomicBool,
}

impl Expected {
    /// The next bytes are the head of a response.
    pub(crate) fn begin(&self) {
        self.0.lines.store(0, Ordering::Relaxed);
        self.0.length.store(false, Ordering::Relaxed);
        self.0.cut.store(false, Ordering::Relaxed);
        self.0.expected.store(true, Ordering::Release);
    }

    /// Returns what was wrong with the head.
    pub(crate) fn flaws(&self) -> Flaws {
        Flaws {
            lines: self.0.lines.load(Ordering::Acquire),
            length: self.0.length.load(Ordering::Acquire),
            cut: self.0.cut.load(Ordering::Acquire),
        }
    }

    fn is_expected(&self) -> bool {
        self.0.expected.load(Ordering::Acquire)
    }

    fn note(&self, flaws: Flaws) {
        self.0.lines.fetch_add(flaws.lines, Ordering::AcqRel);
        self.0.length.fetch_or(flaws.length, Ordering::AcqRel);
        self.0.cut.fetch_or(flaws.cut, Ordering::AcqRel);
    }

    fn end(&self) {
        self.0.expected.store(false, Ordering::Release);
    }
}

impl Heads {
    /// Takes bytes that have just been read into the end of `buffer`, unless they can stay there.
    fn take(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if self.held.is_empty()
            && let Found::AsIs { more: false, .. } = head::read(bytes)
        {
            self.expected.end();
            return;
        }
        self.held.extend_from_slice(bytes);
        buffer.set_filled(before);
        while self.expected.is_expected() {
            let (length, more, head) = match head::read(&self.held) {
                Found::Incomplete => break,
                Found::AsIs { length, more } => (length, more, None),
                Found::Flawed { length, more, head, flaws } => {
                    self.expected.note(flaws);
                    (length, more, Some(head))
                }
            };
            let rest = self.held.split_off(length);
            self.ready.append(&mut head.unwrap_or(std::mem::take(&mut self.held)));
            self.held = rest;
            if !more {
                self.release();
            }
        }
    }

    /// Lets everything through until the next response is expected.
    fn release(&mut self) {
        self.ready.append(&mut self.held);
        self.expected.end();
    }

    /// Copies what is ready, and returns whether there was anything.
    fn copy(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let left = self.ready.get(self.read..).unwrap_or_default();
        let copied = left.len().min(buffer.remaining());
        buffer.put_slice(left.get(..copied).unwrap_or_default());
        self.read += copied;
        if self.read == self.ready.len() {
            (self.ready, self.read) = (Vec::new(), 0);
        }
        copied > 0
    }
}

/// What a connection has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    /// One more than the number of the TLS alert that ended it; 0 without one.
    alert: AtomicU16,
}

impl Received {
    /// Returns the number of bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Returns the TLS alert that has ended the connection. HTTP/2 does not pass on the error that it comes in.
    pub(crate) fn alert(&self) -> Option<AlertDescription> {
        let alert = self.0.alert.load(Ordering::Acquire).checked_sub(1)?;
        u8::try_from(alert).ok().map(AlertDescription::from)
    }

    fn note(&self, error: &io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            self.0.alert.store(u16::from(u8::from(*alert)) + 1, Ordering::Release);
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Stream {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { io: Box::new(io), received: Received::default(), settings: None, heads: None }
    }

    /// Rewrites heads with flaws from now on, on an HTTP/1.1 connection.
    pub(crate) fn heads(&mut self) -> Expected {
        let heads = self.heads.insert(Heads::default());
        heads.expected.clone()
    }

    /// Reports how many requests an HTTP/2 receiver allows at once, as soon as it has said so.
    pub(crate) fn settings(&mut self) -> oneshot::Receiver<usize> {
        let (found, settings) = oneshot::channel();
        self.settings = Some((FirstSettings::default(), found));
        settings
    }

    pub(crate) fn received(&self) -> Received {
        self.received.clone()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("received", &self.received).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if this.heads.as_mut().is_some_and(|heads| heads.copy(buffer)) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let polled = this.read(cx, buffer, before);
            let Some(heads) = this.heads.as_mut().filter(|heads| heads.expected.is_expected()) else {
                return polled;
            };
            if !matches!(polled, Poll::Ready(Ok(()))) {
                return polled;
            }
            if buffer.filled().len() == before {
                // The end. hyper rejects what is incomplete.
                heads.release();
                heads.copy(buffer);
                return polled;
            }
            heads.take(buffer, before);
            if buffer.filled().len() > before || heads.copy(buffer) {
                return polled;
            }
        }
    }
}

impl Stream {
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        before: usize,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.received.0.bytes.fetch_add(read.len() as u64, Ordering::Release);
        if let Poll::Ready(Err(error)) = &polled {
            self.received.note(error);
        }
        if let Some((mut settings, found)) = self.settings.take() {
            match settings.feed(read) {
                // The receiver has gone if the connection is not shared.
                Some(limit) => drop(found.send(limit)),
                None => self.settings = Some((settings, found)),
            }
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}
