//! The usual way: tokio (one thread), a task and a queue per connection, tokio-tungstenite for the frames.
//!
//! Each event is rendered once and shared; each connection's task writes and flushes it on its own. A queue
//! holds [`QUEUE_FRAMES_MAX`] frames; a connection whose queue is full is closed and counted on standard error.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Write};
use std::rc::Rc;

use futures_util::{SinkExt, StreamExt};
use ringmain_perf::{sys, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

const QUEUE_FRAMES_MAX: usize = 4096;

type Members = RefCell<HashMap<String, Vec<mpsc::Sender<Utf8Bytes>>>>;

#[derive(Default)]
struct Hub {
    channels: Members,
    dropped: Cell<u64>,
}

async fn websocket(stream: TcpStream, hub: Rc<Hub>) -> Option<()> {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    socket.send(Message::Text(wire::ESTABLISHED.into())).await.ok()?;
    let (queue, mut queued) = mpsc::channel(QUEUE_FRAMES_MAX);
    loop {
        tokio::select! {
            frame = queued.recv() => socket.send(Message::Text(frame?)).await.ok()?,
            message = socket.next() => {
                let message = message?.ok()?;
                if let Message::Text(text) = &message
                    && let Some(channel) = wire::subscribed(text.as_bytes())
                {
                    hub.channels.borrow_mut().entry(channel.into()).or_default().push(queue.clone());
                    socket.send(Message::Text(wire::succeeded(channel).into())).await.ok()?;
                }
            }
        }
    }
}

fn publish(hub: &Hub, body: &[u8]) {
    let mut channels = hub.channels.borrow_mut();
    for (channel, payload) in wire::events(body) {
        let Some(members) = channels.get_mut(channel) else { continue };
        let Ok(text) = Utf8Bytes::try_from(wire::rendered(channel, payload)) else { continue };
        members.retain(|member| match member.try_send(text.clone()) {
            Ok(()) => true,
            Err(error) => {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    hub.dropped.set(hub.dropped.get() + 1);
                    eprintln!(
                        "tokio-tungstenite: slow consumer dropped, {} so far",
                        hub.dropped.get()
                    );
                }
                false
            }
        });
    }
}

async fn connection(mut stream: TcpStream, hub: Rc<Hub>) -> Option<()> {
    let mut held = Vec::new();
    loop {
        if stream.read_buf(&mut held).await.ok()? == 0 {
            return None;
        }
        while let Some(request) = wire::request(&held) {
            if let Some(head) = wire::upgrade(request.head) {
                stream.write_all(head.as_bytes()).await.ok()?;
                drop(held);
                return websocket(stream, hub).await;
            }
            publish(&hub, request.body);
            let len = request.len;
            held.drain(..len);
            stream.write_all(wire::OK).await.ok()?;
        }
    }
}

fn main() -> io::Result<()> {
    sys::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = std::net::TcpListener::bind(wire::listen_argument())?;
        listener.set_nonblocking(true)?;
        sys::listen_again(std::os::fd::AsRawFd::as_raw_fd(&listener), 4096)?;
        let listener = TcpListener::from_std(listener)?;
        println!("listening on {}", listener.local_addr()?);
        io::stdout().flush()?;
        let hub = Rc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(connection(stream, hub.clone()));
        }
    })
}
