//! Monitors whether a connection makes progress.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::hyper_refusal;

/// Counts the writes to a connection. Reads do not count, so that a client cannot keep a connection open by
/// sending headers byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Activity(AtomicU64);

impl Activity {
    /// Counts one write.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves after `time` without a write, at the latest after twice `time`.
    pub(crate) async fn ceased(&self, time: Duration) {
        let mut seen = None;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if seen == Some(now) {
                return;
            }
            seen = Some(now);
            tokio::time::sleep(time).await;
        }
    }
}

/// A connection whose writes are counted, whose reader can put bytes back, and on which hyper's own error
/// answers are [replaced by problem documents](crate::http::hyper_refusal).
pub(crate) struct MonitoredStream<S> {
    stream: S,
    activity: Arc<Activity>,
    unread: BytesMut,
    /// The unwritten part of a replacement answer. hyper believes that its own answer was written.
    refusal: BytesMut,
    linger: Linger,
}

/// How far a connection that ends with an error answer has closed. If it were closed while the client still
/// sends, the operating system would reset it and discard the part of the answer that the client has not
/// read.
enum Linger {
    /// There is no such answer.
    No,
    /// The answer is to be written, and the write side closed.
    Answering,
    /// Up to this many bytes are read and discarded until the client closes.
    Reading(usize),
}

/// Bytes that a client may send after an error answer before the connection is closed.
const LINGER_LEN_MAX: usize = 1024 * 1024;

impl<S> MonitoredStream<S> {
    /// Wraps `stream` and counts its writes in `activity`.
    #[must_use]
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, unread: BytesMut::new(), refusal: BytesMut::new(), linger: Linger::No }
    }

    /// Puts `bytes` back, to be read first. They replace bytes that were put back earlier.
    pub(crate) fn put_back(&mut self, bytes: BytesMut) {
        self.unread = bytes;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.has_remaining() {
            let length = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> MonitoredStream<S> {
    fn poll_write_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.refusal.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.refusal))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.refusal.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.note();
        if let Some(refusal) = hyper_refusal::replaced(bytes) {
            self.refusal.extend_from_slice(&refusal);
            self.linger = Linger::Answering;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.note();
        // hyper's own error answers have no body, so they end the last slice.
        if let Some(last) = slices.last()
            && let Some(refusal) = hyper_refusal::replaced(last)
        {
            for slice in slices.iter().rev().skip(1).rev() {
                self.refusal.extend_from_slice(slice);
            }
            self.refusal.extend_from_slice(&refusal);
            self.linger = Linger::Answering;
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_refusal(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.linger {
                Linger::No => return Pin::new(&mut this.stream).poll_shutdown(context),
                Linger::Answering => {
                    ready!(this.poll_write_refusal(context))?;
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    this.linger = Linger::Reading(LINGER_LEN_MAX);
                }
                Linger::Reading(left) => {
                    let mut bytes = [0; 4096];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer))?;
                    *left = left.saturating_sub(buffer.filled().len());
                    if buffer.filled().is_empty() || *left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}
