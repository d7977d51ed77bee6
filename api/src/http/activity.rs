//! Whether a connection gets anywhere.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::hyper_refusal;

/// Counts the pieces that were written to a connection. What a client sends does not count,
/// so that dripping headers byte by byte keeps no connection open.
#[derive(Debug, Default)]
pub(crate) struct Activity(AtomicU64);

impl Activity {
    /// Notes that something was done.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves when nothing was done for `time`, or at most twice as long.
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

/// A connection whose writes are noted, to which bytes that were read can be put back, and on which the HTTP library's own
/// refusals are said [in other words](crate::http::hyper_refusal).
pub(crate) struct NotedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    unread: BytesMut,
    /// What is left to write of a refusal; the library takes its own for written.
    refusal: BytesMut,
    linger: Linger,
}

/// How far a connection has come that ends with a refusal. Closing it while the client still sends would have the system
/// throw away what the client has not read yet.
enum Linger {
    /// Nothing was refused.
    No,
    /// The refusal is to be written, and the other side told that no more comes.
    Told,
    /// The client may send this many bytes more until it closes.
    Reading(usize),
}

/// A client that was refused may send this much before it has to have read the refusal.
const LINGER_LEN_MAX: usize = 1024 * 1024;

impl<S> NotedStream<S> {
    /// Notes the writes of `stream` in `activity`.
    #[must_use]
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, unread: BytesMut::new(), refusal: BytesMut::new(), linger: Linger::No }
    }

    /// Has these bytes read first, in the place of any others that were put back before.
    pub(crate) fn put_back(&mut self, bytes: BytesMut) {
        self.unread = bytes;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NotedStream<S> {
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

impl<S: AsyncWrite + Unpin> NotedStream<S> {
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for NotedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.note();
        if let Some(refusal) = hyper_refusal::in_own_words(bytes) {
            self.refusal.extend_from_slice(&refusal);
            self.linger = Linger::Told;
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
        // The library's own refusals have no body, so they end the last slice.
        if let Some(last) = slices.last()
            && let Some(refusal) = hyper_refusal::in_own_words(last)
        {
            for slice in slices.iter().rev().skip(1).rev() {
                self.refusal.extend_from_slice(slice);
            }
            self.refusal.extend_from_slice(&refusal);
            self.linger = Linger::Told;
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
                Linger::Told => {
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
