//! What a connection is called on the wire, and the secret that goes with it.
//!
//! Both follow from where the connection is and from keys that the process drew at its start: nothing is
//! remembered, and an id that was not made here is known at once. Source: our reference, section 3.2.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::auth::sign::SigningKey;
use crate::base::ids::{ConnectionId, ShardId};

/// How long an id is: URL-safe Base64 of 11 bytes, with its padding.
pub const ID_CHARS: usize = 16;
/// How long a secret is.
pub const SECRET_CHARS: usize = 20;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The keys of a process.
pub struct Ids {
    check: [u64; 2],
    secret: SigningKey,
}

impl Ids {
    /// Ids and secrets that follow from these bytes, which are to be drawn by chance.
    pub fn new(seed: &[u8; 32]) -> Self {
        let secret = SigningKey::new(seed);
        let tag = secret.tag(&[b"connection ids"]);
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| tag[at + i]));
        Self { check: [half(0), half(8)], secret }
    }

    /// A connection's id.
    pub fn id(&self, connection: ConnectionId) -> [u8; ID_CHARS] {
        let (first, second) = connection.to_pair();
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        bytes[4..8].copy_from_slice(&second.to_be_bytes());
        let check = self.check(&bytes[..8]);
        bytes[8..11].copy_from_slice(&check);
        let mut text = [b'='; ID_CHARS];
        for (letters, three) in text.chunks_exact_mut(4).zip(bytes.chunks_exact(3)) {
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for (i, letter) in letters.iter_mut().enumerate() {
                *letter = BASE64[(bits >> (18 - 6 * i) & 63) as usize];
            }
        }
        // The twelfth byte is padding.
        text[ID_CHARS - 1] = b'=';
        text
    }

    /// Whose id it is, if it was made here and names one of so many shards.
    pub fn connection(&self, id: &str, shards: u16) -> Option<ConnectionId> {
        let letters: &[u8; ID_CHARS] = id.as_bytes().try_into().ok()?;
        if letters[ID_CHARS - 1] != b'=' {
            return None;
        }
        let mut bytes = [0; 12];
        for (i, &letter) in letters[..ID_CHARS - 1].iter().enumerate() {
            let six = BASE64.iter().position(|&it| it == letter)? as u32;
            let at = 6 * i;
            // Six bits lie in one byte or two.
            let wide = six << (10 - at % 8);
            bytes[at / 8] |= (wide >> 8) as u8;
            bytes[at / 8 + 1] |= wide as u8;
        }
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        let connection = ConnectionId::from_pair(word(0), word(4));
        // Exactly this spelling: the two bits that belong to no byte are zero in it.
        let is_ours = &self.id(connection) == letters && connection.shard < ShardId(shards);
        is_ours.then_some(connection)
    }

    /// A connection's secret: 119 bits.
    pub fn secret(&self, connection: ConnectionId) -> [u8; SECRET_CHARS] {
        let (first, second) = connection.to_pair();
        let tag = self.secret.tag(&[b"secret", &first.to_be_bytes(), &second.to_be_bytes()]);
        let mut rest = u128::from_le_bytes(tag);
        std::array::from_fn(|_| {
            let letter = BASE62[(rest % 62) as usize];
            rest /= 62;
            letter
        })
    }

    /// Whether it is a connection's secret; takes the same time wherever it differs.
    pub fn is_secret(&self, connection: ConnectionId, secret: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        bool::from(self.secret(connection)[..].ct_eq(secret))
    }

    /// What one request of a connection is called in reports: the `count`th.
    pub fn request(&self, connection: ConnectionId, count: u64) -> String {
        let (first, second) = connection.to_pair();
        let parts: [&[u8]; 4] =
            [b"request", &first.to_be_bytes(), &second.to_be_bytes(), &count.to_be_bytes()];
        let bits = u128::from_le_bytes(self.secret.tag(&parts));
        crate::base::ids::Epoch(bits).to_string()
    }

    fn check(&self, bytes: &[u8]) -> [u8; 3] {
        let mut hasher = SipHasher13::new_with_keys(self.check[0], self.check[1]);
        hasher.write(bytes);
        let hash = hasher.finish().to_be_bytes();
        [hash[0], hash[1], hash[2]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(shard: u16, slot: u32, generation: u32) -> ConnectionId {
        ConnectionId { shard: ShardId(shard), slot, generation }
    }

    #[test]
    fn an_id_reads_back_and_no_other_does() {
        let ids = Ids::new(&[7; 32]);
        for it in [
            connection(0, 0, 0),
            connection(3, 77, 4_000_000_000),
            connection(255, 0xff_ffff, u32::MAX),
        ] {
            let id = String::from_utf8(ids.id(it).to_vec()).unwrap();
            assert!(id.len() == 16 && id.ends_with('=') && !id.contains(['+', '/']), "{id}");
            assert_eq!(ids.connection(&id, 256), Some(it));
            assert_eq!(ids.connection(&id, it.shard.0), None);
            assert_eq!(Ids::new(&[8; 32]).connection(&id, 256), None);
            for at in 0..16 {
                let mut other = id.clone().into_bytes();
                other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                let other = String::from_utf8(other).unwrap();
                assert_eq!(ids.connection(&other, 256), None, "{other}");
            }
            assert_eq!(ids.connection(&id[..15], 256), None);
        }
        for bad in ["", "=", "AAAAAAAAAAAAAAA=", "ä", "AAAAAAAAAAAAAA=="] {
            assert_eq!(ids.connection(bad, 256), None);
        }
    }

    #[test]
    fn secrets_are_a_connections_own() {
        let ids = Ids::new(&[7; 32]);
        let (one, two) = (connection(0, 1, 1), connection(0, 1, 2));
        let secret = ids.secret(one);
        assert!(secret.iter().all(u8::is_ascii_alphanumeric));
        assert!(ids.is_secret(one, &secret) && !ids.is_secret(two, &secret));
        assert!(!ids.is_secret(one, &secret[..19]) && !ids.is_secret(one, b""));
        assert_ne!(ids.request(one, 1), ids.request(one, 2));
    }
}
