//! Which way to the kernel: the settings name it and the reactor obeys it.

/// Which driver a shard should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or refuse to start.
    Uring,
    /// epoll.
    Epoll,
}
