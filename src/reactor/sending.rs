//! What of a send the kernel has not taken yet. Both kernel drivers keep one per socket.

use std::collections::VecDeque;
use std::ptr;

use super::GATHER_FRAMES_MAX;
use crate::base::frame::Frame;

/// Frames of a small gather; most sends that are gathered at all have no more.
const SMALL_FRAMES_MAX: usize = 8;
/// Small gathers kept for reuse: about 300 bytes each.
const SMALL_KEPT_MAX: usize = 4096;
/// Large gathers kept for reuse: about 1.6 KiB each.
const LARGE_KEPT_MAX: usize = 512;

/// The send in flight of one socket.
///
/// The kernel may read the bytes, the vectors and the header until the send's last completion. None of
/// them moves meanwhile: the bytes belong to a shared frame held here, the rest is boxed.
pub(super) enum Sending {
    Nothing,
    /// One frame, which needs no vectors, and how many of its bytes have gone.
    One {
        frame: Frame,
        gone: u32,
    },
    Many(Box<Gather>),
}

/// Several frames in one send.
pub(super) struct Gather {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
    frames: Vec<Frame>,
    /// The first vector that is not through.
    first: usize,
    bytes: usize,
    left: usize,
}

/// Gathers that wait for reuse, so that a send in steady state allocates nothing.
#[derive(Default)]
pub(super) struct Gathers {
    // Boxed, because a gather's header must stay where it is while the kernel may read it.
    #[allow(clippy::vec_box)]
    small: Vec<Box<Gather>>,
    #[allow(clippy::vec_box)]
    large: Vec<Box<Gather>>,
}

impl Gathers {
    /// Takes up to [`GATHER_FRAMES_MAX`] frames off the front of `queue`, which is not empty.
    pub(super) fn take(&mut self, queue: &mut VecDeque<Frame>) -> Sending {
        let count = queue.len().min(GATHER_FRAMES_MAX);
        if count == 1
            && let Some(frame) = queue.pop_front_if(|frame| u32::try_from(frame.len()).is_ok())
        {
            return Sending::One { frame, gone: 0 };
        }
        let (kept, size) = if count <= SMALL_FRAMES_MAX {
            (&mut self.small, SMALL_FRAMES_MAX)
        } else {
            (&mut self.large, GATHER_FRAMES_MAX)
        };
        let mut gather = kept.pop().unwrap_or_else(|| Box::new(Gather::new(size)));
        gather.fill(queue.drain(..count));
        Sending::Many(gather)
    }

    /// Lets go of the frames of a send that has ended.
    pub(super) fn give_back(&mut self, sending: Sending) {
        let Sending::Many(mut gather) = sending else { return };
        gather.frames.clear();
        gather.vectors.clear();
        if gather.frames.capacity() < GATHER_FRAMES_MAX {
            if self.small.len() < SMALL_KEPT_MAX {
                self.small.push(gather);
            }
        } else if self.large.len() < LARGE_KEPT_MAX {
            self.large.push(gather);
        }
    }
}

impl Sending {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Sending::Nothing)
    }

    /// Bytes handed over in all.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Sending::Nothing => 0,
            Sending::One { frame, .. } => frame.len(),
            Sending::Many(gather) => gather.bytes,
        }
    }

    /// Bytes the kernel has not taken.
    pub(super) fn left(&self) -> usize {
        match self {
            Sending::Nothing => 0,
            Sending::One { frame, gone } => frame.len() - *gone as usize,
            Sending::Many(gather) => gather.left,
        }
    }

    /// Notes that the kernel took `count` more bytes, which is at most [`Sending::left`].
    pub(super) fn advance(&mut self, count: usize) {
        assert!(count <= self.left(), "{count} bytes sent of {}", self.left());
        match self {
            Sending::Nothing => {}
            Sending::One { gone, .. } => *gone += count as u32,
            Sending::Many(gather) => gather.advance(count),
        }
    }
}

impl Gather {
    fn new(frames_max: usize) -> Self {
        Self {
            header: libc::msghdr {
                msg_name: ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: ptr::null_mut(),
                msg_iovlen: 0,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            vectors: Vec::with_capacity(frames_max),
            frames: Vec::with_capacity(frames_max),
            first: 0,
            bytes: 0,
            left: 0,
        }
    }

    fn fill(&mut self, frames: impl Iterator<Item = Frame>) {
        (self.first, self.bytes) = (0, 0);
        for frame in frames {
            self.bytes += frame.len();
            self.vectors.push(libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            });
            self.frames.push(frame);
        }
        self.left = self.bytes;
    }

    fn advance(&mut self, count: usize) {
        self.left -= count;
        let mut rest = count;
        while let Some(vector) = self.vectors.get_mut(self.first) {
            if vector.iov_len > rest {
                vector.iov_base = vector.iov_base.cast::<u8>().wrapping_add(rest).cast();
                vector.iov_len -= rest;
                break;
            }
            rest -= vector.iov_len;
            self.first += 1;
        }
    }

    /// The header that describes what is left. Valid until the gather is advanced, given back or dropped.
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = self.vectors[self.first..].as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len() - self.first;
        &raw const self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(lengths: &[usize]) -> VecDeque<Frame> {
        lengths.iter().map(|length| Frame::from(vec![1; *length])).collect()
    }

    /// What the header describes, in bytes.
    fn described(sending: &mut Sending) -> usize {
        let Sending::Many(gather) = sending else { panic!("one frame") };
        gather.header();
        gather.vectors[gather.first..].iter().map(|vector| vector.iov_len).sum()
    }

    #[test]
    fn any_short_count_leaves_exactly_the_rest() {
        for lengths in [&[3, 0, 5, 1][..], &[0, 0], &[1; 64], &[2; 70]] {
            for step in 1..9 {
                let mut queue = queue(lengths);
                let mut sending = Gathers::default().take(&mut queue);
                assert_eq!(queue.len(), lengths.len().saturating_sub(GATHER_FRAMES_MAX));
                let mut left = lengths.iter().take(GATHER_FRAMES_MAX).sum::<usize>();
                assert_eq!(sending.bytes(), left);
                while left > 0 {
                    assert_eq!((sending.left(), described(&mut sending)), (left, left));
                    sending.advance(step.min(left));
                    left -= step.min(left);
                }
                assert_eq!((sending.left(), described(&mut sending)), (0, 0));
            }
        }
    }

    #[test]
    fn a_gather_given_back_lets_its_frames_go_and_is_used_again() {
        let mut gathers = Gathers::default();
        for length in [2, 8, 9, 64] {
            let frame = Frame::from(vec![1]);
            let first = gathers.take(&mut (0..length).map(|_| frame.clone()).collect());
            let Sending::Many(gather) = &first else { panic!("one frame") };
            let place = ptr::from_ref(&**gather);
            gathers.give_back(first);
            assert!(frame.is_last());
            let second = gathers.take(&mut queue(&vec![1; length]));
            let Sending::Many(gather) = &second else { panic!("one frame") };
            assert!(ptr::eq(place, &**gather), "{length}");
        }
        assert!(matches!(gathers.take(&mut queue(&[5])), Sending::One { .. }));
        assert!(size_of::<Sending>() <= 16);
    }
}
