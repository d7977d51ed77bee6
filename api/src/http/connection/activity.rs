//! Monitors whether a connection makes progress: what it waits for, and for how long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadline::Deadline;
use super::head_scan::HeadScan;
use super::hyper_refusal;

/// The first byte of a connection must arrive within this time. Later requests may come as late as the
/// connection may be idle.
pub(crate) const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(5);
/// The head of a request must be complete within this time after its first byte.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// A client that takes nothing of an answer for this long is disconnected.
pub(crate) const STALL_TIME_MAX: Duration = Duration::from_secs(30);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The first byte.
    Opened,
    /// The rest of a head.
    Head,
    /// The answer to a request whose head is complete.
    Answer,
    /// The first byte of the next request.
    Idle,
}

impl Phase {
    /// The longest wait for bytes from the client, if the wait is bounded here.
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Opened => Some(FIRST_BYTE_TIME_MAX),
            Self::Head => Some(HEAD_TIME_MAX),
            Self::Answer | Self::Idle => None,
        }
    }
}

/// Counts the writes to a connection, and knows what it waits for. Reads do not count, so that a client
/// cannot keep a connection open by sending headers byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    writes: AtomicU64,
    /// A [`Phase`]. Only the connection's task changes it.
    phase: AtomicU8,
    /// Whether the head that was read last has a `Content-Length`.
    has_content_length: AtomicBool,
}

impl Activity {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            it if it == Phase::Opened as u8 => Phase::Opened,
            it if it == Phase::Head as u8 => Phase::Head,
            it if it == Phase::Answer as u8 => Phase::Answer,
            _ => Phase::Idle,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Notes that the head of a request is complete.
    pub(crate) fn head_complete(&self) {
        self.enter(Phase::Answer);
    }

    /// Whether the last head has a `Content-Length`, also one that hyper dropped. It misses a request that
    /// was sent before the previous one was answered.
    pub(crate) fn has_content_length(&self) -> bool {
        self.has_content_length.load(Ordering::Relaxed)
    }

    /// Counts one write.
    fn note(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves after `time` without a write, at the latest after twice `time`.
    pub(crate) async fn ceased(&self, time: Duration) {
        let mut seen = None;
        loop {
            let now = self.writes.load(Ordering::Relaxed);
            if seen == Some(now) {
                return;
            }
            seen = Some(now);
            tokio::time::sleep(time).await;
        }
    }
}

/// A connection whose writes are counted, whose waits are bounded, whose reader can put bytes back, and on
/// which hyper's own error answers are [replaced by problem documents](super::hyper_refusal).
pub(crate) struct MonitoredStream<S> {
    stream: S,
    activity: Arc<Activity>,
    unread: BytesMut,
    /// The limit of the wait for bytes from the client, and of the waits until it takes some.
    reading: Deadline,
    writing: Deadline,
    flushing: Deadline,
    /// Set once hyper reads.
    scan: Option<HeadScan>,
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
        Self {
            stream,
            activity,
            unread: BytesMut::new(),
            reading: Deadline::default(),
            writing: Deadline::default(),
            flushing: Deadline::default(),
            scan: None,
            refusal: BytesMut::new(),
            linger: Linger::No,
        }
    }

    /// Puts `bytes` back, to be read first, and leaves the connection to hyper.
    pub(crate) fn hand_over(&mut self, bytes: BytesMut) {
        self.scan = Some(HeadScan::default());
        if !bytes.is_empty() {
            self.received(&bytes);
        }
        self.unread = bytes;
    }

    /// Notes bytes that the client has sent.
    fn received(&mut self, bytes: &[u8]) {
        let phase = self.activity.phase();
        let is_next = matches!(phase, Phase::Opened | Phase::Idle);
        if is_next {
            self.activity.enter(Phase::Head);
            self.reading.clear();
        }
        if let Some(scan) = &mut self.scan
            && phase != Phase::Answer
        {
            if is_next {
                scan.restart();
            }
            scan.read(bytes);
            self.activity.has_content_length.store(scan.has_content_length(), Ordering::Relaxed);
        }
    }

    /// Notes an attempt to write.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.activity.enter(Phase::Idle);
        }
        stalled(&mut self.writing, context, written)
    }
}

/// Ends a wait for the client to take something when it has lasted too long.
fn stalled<T>(
    deadline: &mut Deadline,
    context: &mut Context<'_>,
    taken: Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    if taken.is_ready() {
        deadline.clear();
        return taken;
    }
    deadline.poll_passed(context, STALL_TIME_MAX).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
        let this = &mut *self;
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            let received = buffer.filled().get(before..).unwrap_or_default();
            if !received.is_empty() {
                this.received(received);
            }
            return Poll::Ready(read);
        }
        match this.activity.phase().limit() {
            Some(limit) => {
                this.reading.poll_passed(context, limit).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            None => Poll::Pending,
        }
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_refusal(context))?;
        // TLS holds a part of an answer back until it is flushed.
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        stalled(&mut self.flushing, context, flushed)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, advance};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection() -> (DuplexStream, MonitoredStream<DuplexStream>, Arc<Activity>) {
        let (client, server) = duplex(64);
        let activity = Arc::new(Activity::default());
        (client, MonitoredStream::new(server, Arc::clone(&activity)), activity)
    }

    async fn read(stream: &mut MonitoredStream<DuplexStream>) -> io::Result<usize> {
        stream.read(&mut [0; 64]).await
    }

    fn is_over<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_must_come_soon() {
        let (_client, mut stream, _) = connection();
        let begun = Instant::now();
        assert!(is_over(read(&mut stream).await));
        assert_eq!(begun.elapsed().as_secs(), FIRST_BYTE_TIME_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_be_complete_soon_however_its_bytes_arrive() {
        let (mut client, mut stream, activity) = connection();
        for _ in 0..2 {
            let begun = Instant::now();
            let dripping = tokio::spawn(async move {
                while client.write_all(b"x").await.is_ok() && begun.elapsed() < HEAD_TIME_MAX * 2 {
                    tokio::time::sleep(SECOND).await;
                }
                client
            });
            let ended = loop {
                if let Err(error) = read(&mut stream).await {
                    break error;
                }
            };
            assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
            assert_eq!(begun.elapsed().as_secs(), HEAD_TIME_MAX.as_secs());
            // The same connection again, as if the head had been answered.
            client = dripping.await.unwrap();
            while tokio::time::timeout(SECOND, read(&mut stream)).await.is_ok_and(|it| it.is_ok()) {}
            stream.write_all(b"answer").await.unwrap();
            assert_eq!(activity.phase(), Phase::Idle);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn neither_an_idle_connection_nor_a_body_is_bounded_by_it() {
        let (mut client, mut stream, activity) = connection();
        client.write_all(b"head").await.unwrap();
        read(&mut stream).await.unwrap();
        activity.head_complete();
        let waits = tokio::time::timeout(HEAD_TIME_MAX * 10, read(&mut stream)).await;
        assert!(waits.is_err(), "a body may come later: {waits:?}");
        stream.write_all(b"answer").await.unwrap();
        let waits = tokio::time::timeout(HEAD_TIME_MAX * 10, read(&mut stream)).await;
        assert!(waits.is_err(), "so may the next request: {waits:?}");
        client.write_all(b"next").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_disconnected() {
        let (mut client, mut stream, _) = connection();
        // Whoever takes a little now and then is not.
        for _ in 0..10 {
            stream.write_all(&[b'x'; 64]).await.unwrap();
            let taking = tokio::spawn(async move {
                advance(STALL_TIME_MAX - SECOND).await;
                client.read_exact(&mut [0; 64]).await.unwrap();
                client
            });
            stream.write_all(b"more").await.unwrap();
            client = taking.await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
        }
        let begun = Instant::now();
        assert!(is_over(stream.write_all(&[b'x'; 65]).await));
        assert_eq!(begun.elapsed().as_secs(), STALL_TIME_MAX.as_secs());
    }

    #[tokio::test]
    async fn both_lengths_of_a_head_are_seen_once_hyper_reads() {
        let (mut client, mut stream, activity) = connection();
        stream.hand_over(BytesMut::from(&b"POST / HTTP/1.1\r\ncontent-"[..]));
        client.write_all(b"length: 1\r\n\r\n").await.unwrap();
        for _ in 0..2 {
            read(&mut stream).await.unwrap();
        }
        assert!(activity.has_content_length());
        stream.write_all(b"answer").await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
        read(&mut stream).await.unwrap();
        assert!(!activity.has_content_length());
    }
}
