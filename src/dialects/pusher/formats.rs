//! What frames of version 2 are written in: JSON, MessagePack or Protobuf.

/// A format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// Text.
    #[default]
    Json,
    /// A MessagePack array of fifteen places.
    MessagePack,
    /// A Protobuf message.
    Protobuf,
}

impl Format {
    /// Appends a finished JSON frame in this format.
    pub fn encode(self, json: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(json);
    }
}
