//! A connection that does not wait for ever: for who does not read, and for who still sends what nobody reads.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Time for which a closed connection is still read, so that its last answer is not lost: a system that gets bytes
/// for a connection that is gone tells the other side to forget what it has not read yet.
const LINGERING: Duration = Duration::from_secs(2);

/// Most bytes that are read and forgotten.
const MOST: usize = 4 << 20;

/// A connection with its patience.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Time that a write may wait for its reader.
    silence: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, silence: Duration) -> Self {
        // the end of an answer does not wait until its beginning is acknowledged, for which a system takes its time
        let _as_it_is = stream.set_nodelay(true);
        Self {
            stream,
            silence,
            waiting: None,
            lingering: None,
        }
    }

    /// Says of a write that waits when it has waited long enough.
    fn patience<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let silence = self.silence;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(silence)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.patience(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some((Box::pin(sleep(LINGERING)), MOST));
        }
        let Self {
            stream, lingering, ..
        } = &mut *self;
        let Some((timer, left)) = lingering else {
            return Poll::Ready(Ok(()));
        };
        let mut space = [0; 8192];
        loop {
            if *left == 0 || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    *left = left.saturating_sub(buf.filled().len())
                }
                // the other side has ended, or broken, the connection
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.patience(cx, written)
    }
}
