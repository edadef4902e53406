//! The same minimal fan-out server on monoio: a reading and a writing task per connection, one write per frame.

use std::io::{self, Write};
use std::rc::Rc;

use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedWriteHalf, Splitable};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use ringmain_perf::fanout::{Frame, Hub, Queue};
use ringmain_perf::sys;
use ringmain_perf::wire::{self, Asked, Peer};

const READ_BYTES: usize = 1024;

struct Owned(Frame);

// SAFETY: the bytes are behind an `Rc` that is never written, so they neither move nor change.
unsafe impl IoBuf for Owned {
    fn read_ptr(&self) -> *const u8 {
        self.0.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.bytes().len()
    }
}

async fn writer(mut half: OwnedWriteHalf<TcpStream>, queue: Rc<Queue>) {
    while let Some(frame) = queue.next().await {
        let (result, _) = half.write_all(Owned(frame)).await;
        if result.is_err() {
            queue.close();
        }
    }
}

async fn connection(stream: TcpStream, hub: Rc<Hub>) {
    let (mut read, write) = stream.into_split();
    let queue = Rc::new(Queue::default());
    monoio::spawn(writer(write, queue.clone()));
    let mut peer = Peer::default();
    let mut asked = Vec::new();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        let (result, filled) = read.read(buffer).await;
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
    let mut runtime =
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(1024).build()?;
    runtime.block_on(async {
        let options = ListenerOpts::new().backlog(4096).reuse_port(false);
        let listener = TcpListener::bind_with_config(wire::listen_argument(), &options)?;
        println!("listening on {}", listener.local_addr()?);
        io::stdout().flush()?;
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(connection(stream, hub.clone()));
        }
    })
}
