//! What the monoio and the tokio-uring server share: queues between tasks of one thread.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A finished frame, shared by all who get it.
#[derive(Clone)]
pub struct Frame(Rc<[u8]>);

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// Frames waiting for one connection's writer task.
#[derive(Default)]
pub struct Queue {
    frames: RefCell<VecDeque<Frame>>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

/// A queue this long ends its connection.
const QUEUE_FRAMES_MAX: usize = 4096;

impl Queue {
    /// Adds a frame; false if the connection is, or now gets, closed.
    pub fn push(&self, frame: Frame) -> bool {
        if self.frames.borrow().len() >= QUEUE_FRAMES_MAX && !self.closed.get() {
            eprintln!("slow consumer closed");
            self.close();
        }
        if self.closed.get() {
            return false;
        }
        self.frames.borrow_mut().push_back(frame);
        self.wake();
        true
    }

    pub fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next frame, `None` once closed.
    pub async fn next(&self) -> Option<Frame> {
        poll_fn(|context| {
            if self.closed.get() {
                return Poll::Ready(None);
            }
            match self.frames.borrow_mut().pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => {
                    *self.waker.borrow_mut() = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Who is subscribed to what.
#[derive(Default)]
pub struct Hub(RefCell<HashMap<String, Vec<Rc<Queue>>>>);

impl Hub {
    pub fn subscribe(&self, channel: String, queue: &Rc<Queue>) {
        self.0.borrow_mut().entry(channel).or_default().push(queue.clone());
    }

    pub fn publish(&self, frames: Vec<(String, Vec<u8>)>) {
        let mut channels = self.0.borrow_mut();
        for (channel, frame) in frames {
            if let Some(members) = channels.get_mut(&channel) {
                let frame = Frame::from(frame.as_slice());
                members.retain(|member| member.push(frame.clone()));
            }
        }
    }
}
