//! Receive buffers: one region per shard, cut into equal buffers that come back by being dropped.
//!
//! The region is mapped lazily, so buffers never used cost no memory, and the pool is a stack, so
//! those that are used stay few and warm. Counts are plain: a pool belongs to one thread.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

/// Buffers in one pool: what a ring of provided buffers can hold.
pub const BUFFERS_MAX: u16 = 1 << 15;

/// A stack of equal buffers. Clones share it.
#[derive(Clone, Debug)]
pub struct Pool(Rc<Region>);

struct Region {
    base: NonNull<u8>,
    bytes: usize,
    count: u16,
    buffer_bytes: u32,
    /// The buffers nobody holds, the warmest last. An id is here, with the kernel, or inside one `Buffer`; never
    /// in two of these places. That is what makes a `Buffer` the only owner of its bytes.
    free: RefCell<Vec<u16>>,
}

impl Pool {
    /// Maps `count` buffers (1 to [`BUFFERS_MAX`]) of `buffer_bytes` each; no page is touched yet.
    ///
    /// Fails if the numbers are out of range or the machine has no address space left.
    pub fn new(count: u16, buffer_bytes: u32) -> io::Result<Self> {
        if count == 0 || count > BUFFERS_MAX || buffer_bytes == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bytes = usize::from(count) * buffer_bytes as usize;
        let base = map(bytes)?;
        let free = RefCell::new((0..count).rev().collect());
        Ok(Self(Rc::new(Region { base, bytes, count, buffer_bytes, free })))
    }

    /// Bytes of one buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.0.buffer_bytes as usize
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.0.count
    }

    /// How many of them nobody holds.
    pub fn free(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// An empty buffer to fill, or none if all are held.
    pub fn take(&self) -> Option<Buffer> {
        let id = self.0.free.borrow_mut().pop()?;
        Some(Buffer { region: Rc::clone(&self.0), id, len: 0 })
    }

    /// A buffer that holds as much of `bytes` as fits, or none if all are held.
    pub fn fill(&self, bytes: &[u8]) -> Option<Buffer> {
        let mut buffer = self.take()?;
        let len = bytes.len().min(self.buffer_bytes());
        buffer.space()[..len].copy_from_slice(&bytes[..len]);
        buffer.truncate_to(len);
        Some(buffer)
    }

    /// Takes a buffer's id out of the stack, to hand the buffer to the kernel. It comes back through
    /// [`Pool::claim`], or never.
    pub(super) fn take_id(&self) -> Option<u16> {
        self.0.free.borrow_mut().pop()
    }

    /// Where a buffer lies.
    pub(super) fn address(&self, id: u16) -> *mut u8 {
        self.0.address(id)
    }

    /// The buffer that the kernel has filled with `len` bytes.
    ///
    /// # Safety
    /// `id` came from [`Pool::take_id`], was not claimed since, and the kernel is done with it.
    pub(super) unsafe fn claim(&self, id: u16, len: usize) -> Buffer {
        assert!(id < self.0.count && len <= self.buffer_bytes(), "buffer {id} with {len} bytes");
        Buffer { region: Rc::clone(&self.0), id, len: len as u32 }
    }
}

impl Region {
    fn address(&self, id: u16) -> *mut u8 {
        assert!(id < self.count, "buffer {id} of {}", self.count);
        // SAFETY: `id < count`, so the offset lies inside the mapping of `count * buffer_bytes` bytes.
        unsafe { self.base.as_ptr().add(usize::from(id) * self.buffer_bytes as usize) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are what `map` returned and was asked for; every `Buffer` holds
        // an `Rc` of this region, so none is left.
        unsafe { unmap(self.base, self.bytes) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} B, {} free", self.count, self.buffer_bytes, self.free.borrow().len())
    }
}

/// Received bytes, in a buffer that goes back to its pool when dropped.
pub struct Buffer {
    region: Rc<Region>,
    id: u16,
    len: u32,
}

impl Buffer {
    /// The whole buffer, to be filled.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let bytes = self.region.buffer_bytes as usize;
        // SAFETY: as in `deref_mut`, for the whole buffer; the region was born zeroed, so every byte
        // has a value.
        unsafe { std::slice::from_raw_parts_mut(self.region.address(self.id), bytes) }
    }

    /// Says how many bytes from the start were filled.
    pub(super) fn truncate_to(&mut self, len: usize) {
        assert!(len <= self.region.buffer_bytes as usize, "{len} bytes in a buffer");
        self.len = len as u32;
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes lie inside the region, which this `Rc` keeps mapped; `len` is at most the
        // buffer's size; nobody else holds this id (see `Region::free`).
        unsafe { std::slice::from_raw_parts(self.region.address(self.id), self.len as usize) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(self.region.address(self.id), self.len as usize) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.region.free.borrow_mut().push(self.id);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(not(miri))]
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing of ours.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Huge pages would make one touched buffer cost two megabytes. Only a hint, so its failure is none.
    // SAFETY: exactly the mapping made above.
    unsafe { libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE) };
    NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// # Safety
/// `base` and `bytes` are of one `map`, and nothing refers to it any more.
#[cfg(not(miri))]
unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
}

// Miri has no huge-page advice; the heap stands in for the mapping.
#[cfg(miri)]
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let layout = std::alloc::Layout::from_size_align(bytes, 4096).map_err(io::Error::other)?;
    // SAFETY: `Pool::new` refuses a size of zero.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
        .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// # Safety
/// `base` and `bytes` are of one `map`, and nothing refers to it any more.
#[cfg(miri)]
unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
    let layout =
        std::alloc::Layout::from_size_align(bytes, 4096).expect("the layout `map` was given");
    // SAFETY: the caller's promise.
    unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_comes_back_and_others_keep_their_bytes() {
        let pool = Pool::new(4, 8).unwrap();
        let mut first = pool.fill(b"first").unwrap();
        let second = pool.fill(b"longer than it").unwrap();
        assert_eq!((&*first, &*second), (&b"first"[..], &b"longer t"[..]));
        first[0] = b'F';
        drop(second);
        let rest: Vec<_> = std::iter::from_fn(|| pool.fill(b"x")).collect();
        assert_eq!((rest.len(), pool.free(), &*first), (3, 0, &b"First"[..]));
        drop((rest, first));
        assert_eq!(pool.free(), 4);
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let pool = Pool::new(1, 16).unwrap();
        let held = pool.fill(b"still here").unwrap();
        drop(pool);
        assert_eq!(&*held, b"still here");
    }

    #[test]
    fn the_last_dropped_is_the_next_taken() {
        let pool = Pool::new(64, 8).unwrap();
        let first = pool.take_id().unwrap();
        // SAFETY: just taken, and no kernel has seen it.
        drop(unsafe { pool.claim(first, 0) });
        assert_eq!(pool.take_id(), Some(first));
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for (count, bytes) in [(0, 1), (1, 0), (BUFFERS_MAX + 1, 1)] {
            assert!(Pool::new(count, bytes).is_err(), "{count} x {bytes}");
        }
    }
}
