//! Takes in what arrives on a WebSocket: [`Decoder`]. Source: RFC 6455, sections 5 to 8.

use super::mask::unmask;
use super::{MessageKind, Opcode, is_close_code};

/// Which end we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Frames that come in are masked.
    Server,
    /// Frames that come in are not.
    Client,
}

/// What one call yields.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// All input was used; nothing is whole.
    NeedMore,
    /// A whole text message.
    Text(&'b str),
    /// A whole binary message.
    Binary(&'b [u8]),
    /// A whole compressed message, still compressed: [`super::deflate::Inflater`]. A text's UTF-8 is
    /// then the caller's to check.
    Deflated(MessageKind, &'b [u8]),
    /// A ping; its payload belongs into the pong.
    Ping(&'b [u8]),
    /// A pong.
    Pong(&'b [u8]),
    /// The peer's last frame. Whatever else arrives is dropped.
    Close {
        /// Its code, if it gave one.
        code: Option<u16>,
        /// Its reason, perhaps empty.
        reason: &'b str,
    },
}

/// What a peer did wrong; the connection is failed with [`FrameError::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit that no agreed extension uses here.
    ReservedBits,
    /// A reserved opcode.
    Opcode,
    /// A control frame in fragments.
    ControlFragmented,
    /// A control frame above 125 bytes.
    ControlTooLong,
    /// A continuation of nothing.
    ContinuationWithoutStart,
    /// A new message inside one that has not ended.
    StartInsideMessage,
    /// A client's frame without a mask.
    Unmasked,
    /// A server's frame with a mask.
    Masked,
    /// A length that is not written in as few bytes as it could be, or has its top bit set.
    Length,
    /// The message is above its limit.
    TooLarge,
    /// A text or a close reason that is not UTF-8.
    Utf8,
    /// A close frame with a payload of one byte.
    ClosePayload,
    /// A close code that may not be sent.
    CloseCode,
}

impl FrameError {
    /// The close code the peer is told. Source: RFC 6455, section 7.4.1.
    pub fn close_code(self) -> u16 {
        match self {
            Self::TooLarge => 1009,
            Self::Utf8 => 1007,
            _ => 1002,
        }
    }

    /// What is wrong, for the close frame's reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set",
            Self::Opcode => "reserved opcode",
            Self::ControlFragmented => "control frame in fragments",
            Self::ControlTooLong => "control frame too long",
            Self::ContinuationWithoutStart => "continuation without a start",
            Self::StartInsideMessage => "new message inside another",
            Self::Unmasked => "frame without a mask",
            Self::Masked => "frame with a mask",
            Self::Length => "malformed length",
            Self::TooLarge => "message too large",
            Self::Utf8 => "not UTF-8",
            Self::ClosePayload => "malformed close frame",
            Self::CloseCode => "close code not allowed",
        }
    }
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for FrameError {}

/// Where in the stream of frames we are; one per connection, and it owns no memory beside itself.
///
/// A message that arrives whole in one piece of input is unmasked there and handed out as a slice of
/// it. Anything else is put together in `assembly`, a buffer the caller lends: the same one for every
/// call while [`Decoder::is_assembling`], and its content is not the caller's to touch.
///
/// ```
/// use ringmain::wire::websocket::{Decoder, Role, Step};
/// let mut decoder = Decoder::new(Role::Client, 1 << 16, false);
/// let mut assembly = Vec::new();
/// let mut received = *b"\x81\x02hi\x01\x02by\x89\x01!\x80\x01e";
/// let mut input = &mut received[..];
/// let mut heard = String::new();
/// loop {
///     match decoder.next(&mut input, &mut assembly) {
///         Ok(Step::NeedMore) => break,
///         Ok(Step::Text(text)) => heard += text,
///         Ok(Step::Ping(payload)) => assert_eq!(payload, b"!"),
///         other => panic!("{other:?}"),
///     }
/// }
/// assert_eq!(heard, "hibye");
/// if !decoder.is_assembling() {
///     // Between messages the buffer can go back to its pool.
///     assembly = Vec::new();
/// }
/// # let _ = assembly;
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    message_bytes_max: u32,
    /// Payload bytes of the frame under way that have not come.
    left: u32,
    /// Bytes of the assembly that belong to the message under way; a control frame that comes in
    /// pieces is put together behind them.
    message_len: u32,
    /// Bytes of those that are known to be UTF-8.
    utf8_len: u32,
    mask: [u8; 4],
    /// A frame header that has not all come.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    mask_at: u8,
    /// The frame under way.
    frame: Option<Opcode>,
    frame_fin: bool,
    /// The message under way.
    message: Option<MessageKind>,
    message_deflated: bool,
    /// What was handed out of the assembly is still in it.
    spent: bool,
    role: Role,
    deflate: bool,
    closed: bool,
}

/// Two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;
const _: () = assert!(size_of::<Decoder>() <= 48, "every idle connection has one");

impl Decoder {
    /// At the start of a connection. Messages above `message_bytes_max` bytes (as they travel) are
    /// refused; `deflate` says that permessage-deflate was agreed.
    pub fn new(role: Role, message_bytes_max: usize, deflate: bool) -> Self {
        Self {
            message_bytes_max: u32::try_from(message_bytes_max).unwrap_or(u32::MAX),
            left: 0,
            message_len: 0,
            utf8_len: 0,
            mask: [0; 4],
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            mask_at: 0,
            frame: None,
            frame_fin: false,
            message: None,
            message_deflated: false,
            spent: false,
            role,
            deflate,
            closed: false,
        }
    }

    /// Does the assembly hold part of something? If not, the caller may give it away.
    pub fn is_assembling(&self) -> bool {
        self.message.is_some() || self.frame.is_some()
    }

    /// Takes in bytes until something is whole; `input` is what is left of them afterwards.
    ///
    /// Call until it yields [`Step::NeedMore`]. How the input is cut into calls changes nothing. After
    /// an error the connection is failed and the decoder not called again.
    pub fn next<'b, 'a: 'b>(
        &mut self,
        input: &mut &'a mut [u8],
        assembly: &'b mut Vec<u8>,
    ) -> Result<Step<'b>, FrameError> {
        if self.spent {
            self.spent = false;
            assembly.truncate(self.message_len as usize);
        }
        assert!(
            assembly.len() >= self.message_len as usize,
            "the assembly was exchanged inside a message"
        );
        loop {
            if self.closed {
                *input = &mut [];
                return Ok(Step::NeedMore);
            }
            let opcode = match self.frame {
                Some(opcode) => opcode,
                None => match self.read_header(input)? {
                    Some(opcode) => opcode,
                    None => return Ok(Step::NeedMore),
                },
            };
            let here = input.len().min(self.left as usize);
            let (payload, rest) = std::mem::take(input).split_at_mut(here);
            *input = rest;
            if self.role == Role::Server {
                unmask(payload, self.mask, usize::from(self.mask_at));
                self.mask_at = (self.mask_at + (here & 3) as u8) & 3;
            }
            self.left -= here as u32;
            let is_whole = self.left == 0;
            if is_whole {
                self.frame = None;
            }
            let is_last = self.frame_fin && is_whole;
            let (kind, deflated) = match (opcode.is_control(), self.message) {
                (false, Some(kind)) => (kind, self.message_deflated),
                _ => {
                    if is_whole && assembly.len() == self.message_len as usize {
                        return self.control(opcode, payload);
                    }
                    assembly.extend_from_slice(payload);
                    if !is_whole {
                        return Ok(Step::NeedMore);
                    }
                    self.spent = true;
                    return self.control(opcode, &assembly[self.message_len as usize..]);
                }
            };
            if is_last && self.message_len == 0 {
                self.message = None;
                return message(kind, deflated, payload);
            }
            assembly.extend_from_slice(payload);
            self.message_len = assembly.len() as u32;
            if kind == MessageKind::Text && !deflated {
                self.check_utf8(&assembly[self.utf8_len as usize..], is_last)?;
            }
            if is_last {
                (self.message, self.message_len, self.utf8_len) = (None, 0, 0);
                self.spent = true;
                return message(kind, deflated, assembly);
            }
            if !is_whole {
                return Ok(Step::NeedMore);
            }
        }
    }

    /// None: the header has not all come.
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Opcode>, FrameError> {
        if self.header_len == 0
            && let [first, second, ..] = **input
        {
            let opcode = self.check_start(first, second)?;
            let len = header_len(second);
            if input.len() >= len {
                let (header, rest) = std::mem::take(input).split_at_mut(len);
                *input = rest;
                self.begin(opcode, header)?;
                return Ok(Some(opcode));
            }
        }
        let mut opcode = None;
        while let Some((byte, rest)) = std::mem::take(input).split_first_mut() {
            *input = rest;
            self.header[usize::from(self.header_len)] = *byte;
            self.header_len += 1;
            if self.header_len < 2 {
                continue;
            }
            let [first, second, ..] = self.header;
            let known = match opcode {
                Some(known) => known,
                None => *opcode.insert(self.check_start(first, second)?),
            };
            let len = header_len(second);
            if usize::from(self.header_len) == len {
                self.header_len = 0;
                let header = self.header;
                self.begin(known, &header[..len])?;
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// What the first two bytes of a header can do wrong.
    fn check_start(&self, first: u8, second: u8) -> Result<Opcode, FrameError> {
        let fin = first & 0x80 != 0;
        let reserved = first & 0x70;
        let opcode = Opcode::of(first);
        let starts_message = matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        if reserved != 0 && !(reserved == 0x40 && self.deflate && starts_message) {
            return Err(FrameError::ReservedBits);
        }
        let opcode = opcode.ok_or(FrameError::Opcode)?;
        if opcode.is_control() {
            if !fin {
                return Err(FrameError::ControlFragmented);
            }
            if second & 0x7f > 125 {
                return Err(FrameError::ControlTooLong);
            }
        } else {
            match (opcode, self.message) {
                (Opcode::Continuation, None) => return Err(FrameError::ContinuationWithoutStart),
                (Opcode::Text | Opcode::Binary, Some(_)) => {
                    return Err(FrameError::StartInsideMessage);
                }
                _ => {}
            }
        }
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => Err(FrameError::Unmasked),
            (Role::Client, true) => Err(FrameError::Masked),
            _ => Ok(opcode),
        }
    }

    /// Begins a frame whose whole header, its first two bytes checked, is here.
    fn begin(&mut self, opcode: Opcode, header: &[u8]) -> Result<(), FrameError> {
        let after = &header[2..];
        let (len, mask) = match header[1] & 0x7f {
            126 => {
                let (len, mask) = after.split_first_chunk::<2>().ok_or(FrameError::Length)?;
                let len = u64::from(u16::from_be_bytes(*len));
                if len < 126 {
                    return Err(FrameError::Length);
                }
                (len, mask)
            }
            127 => {
                let (len, mask) = after.split_first_chunk::<8>().ok_or(FrameError::Length)?;
                let len = u64::from_be_bytes(*len);
                if len < 1 << 16 || len >> 63 != 0 {
                    return Err(FrameError::Length);
                }
                (len, mask)
            }
            len => (u64::from(len), after),
        };
        if !opcode.is_control()
            && len > u64::from(self.message_bytes_max.saturating_sub(self.message_len))
        {
            return Err(FrameError::TooLarge);
        }
        // At most 125 or `message_bytes_max`, which is a u32.
        self.left = len as u32;
        self.mask = mask.first_chunk().copied().unwrap_or_default();
        self.mask_at = 0;
        self.frame = Some(opcode);
        self.frame_fin = header[0] & 0x80 != 0;
        let kind = match opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            _ => return Ok(()),
        };
        self.message = Some(kind);
        self.message_deflated = header[0] & 0x40 != 0;
        Ok(())
    }

    /// Checks what was not checked yet, and fails at the first byte that cannot become UTF-8: a
    /// fragment may end inside a character, the message may not.
    fn check_utf8(&mut self, unchecked: &[u8], is_last: bool) -> Result<(), FrameError> {
        match std::str::from_utf8(unchecked) {
            Ok(_) => {
                self.utf8_len += unchecked.len() as u32;
                Ok(())
            }
            Err(error) if error.error_len().is_none() && !is_last => {
                self.utf8_len += error.valid_up_to() as u32;
                Ok(())
            }
            Err(_) => Err(FrameError::Utf8),
        }
    }

    fn control<'b>(&mut self, opcode: Opcode, payload: &'b [u8]) -> Result<Step<'b>, FrameError> {
        match opcode {
            Opcode::Ping => return Ok(Step::Ping(payload)),
            Opcode::Pong => return Ok(Step::Pong(payload)),
            _ => {}
        }
        self.closed = true;
        match payload {
            [] => Ok(Step::Close { code: None, reason: "" }),
            [_] => Err(FrameError::ClosePayload),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !is_close_code(code) {
                    return Err(FrameError::CloseCode);
                }
                let reason = std::str::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
                Ok(Step::Close { code: Some(code), reason })
            }
        }
    }
}

fn header_len(second: u8) -> usize {
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 != 0 { 4 } else { 0 }
}

fn message(kind: MessageKind, deflated: bool, payload: &[u8]) -> Result<Step<'_>, FrameError> {
    Ok(match kind {
        _ if deflated => Step::Deflated(kind, payload),
        MessageKind::Binary => Step::Binary(payload),
        MessageKind::Text => {
            Step::Text(std::str::from_utf8(payload).map_err(|_| FrameError::Utf8)?)
        }
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
