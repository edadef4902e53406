//! The same minimal fan-out server on tokio-uring: a reading and a writing task per connection, one write
//! per frame.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use ringmain_perf::fanout::{Frame, Hub, Queue};
use ringmain_perf::sys;
use ringmain_perf::wire::{self, Asked, Peer};
use tokio_uring::buf::IoBuf;
use tokio_uring::net::{TcpListener, TcpStream};

const READ_BYTES: usize = 1024;

struct Owned(Frame);

// SAFETY: the bytes are behind an `Rc` that is never written, so they neither move nor change.
unsafe impl IoBuf for Owned {
    fn stable_ptr(&self) -> *const u8 {
        self.0.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.bytes().len()
    }

    fn bytes_total(&self) -> usize {
        self.0.bytes().len()
    }
}

async fn writer(stream: Rc<TcpStream>, queue: Rc<Queue>) {
    while let Some(frame) = queue.next().await {
        let (result, _) = stream.write_all(Owned(frame)).await;
        if result.is_err() {
            queue.close();
        }
    }
}

async fn connection(stream: Rc<TcpStream>, hub: Rc<Hub>) {
    let queue = Rc::new(Queue::default());
    tokio_uring::spawn(writer(stream.clone(), queue.clone()));
    let mut peer = Peer::default();
    let mut asked = Vec::new();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        let (result, filled) = stream.read(buffer).await;
        buffer = filled;
        match result {
            Ok(count) if count > 0 => peer.handle(&buffer[..count], &mut asked),
            _ => break,
        }
        for one in asked.drain(..) {
            match one {
                Asked::Reply(bytes) => drop(queue.push(bytes.as_slice().into())),
                Asked::Subscribe(channel, bytes) => {
                    hub.subscribe(channel, &queue);
                    queue.push(bytes.as_slice().into());
                }
                Asked::Publish(frames) => {
                    hub.publish(frames);
                    queue.push(wire::OK.into());
                }
                Asked::Close => queue.close(),
            }
        }
    }
    queue.close();
}

fn main() -> io::Result<()> {
    sys::raise_descriptors();
    let listener = std::net::TcpListener::bind(wire::listen_argument())?;
    sys::listen_again(listener.as_raw_fd(), 4096)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    tokio_uring::builder().entries(1024).start(async move {
        let listener = TcpListener::from_std(listener);
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(connection(Rc::new(stream), hub.clone()));
        }
    })
}
