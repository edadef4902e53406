//! Certificates with their keys, as applications give them: PKCS #12 or PEM.

mod p12;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::provider::sign;
use crate::outbound::tls::Identity;

/// Certificates of a chain, at most.
const CHAIN_MAX: usize = 8;

/// Opens what holds a certificate and its key: PEM texts of both, or a PKCS #12 file in base64. The error says what is
/// wrong.
pub fn open(said: &str, password: &str) -> Result<Identity, String> {
    let (chain, keys) = match said.contains("-----BEGIN ") {
        true => open_pem(&said.replace("\\n", "\n"))?,
        false => {
            let packed: String = said.split_whitespace().collect();
            let file = sign::any_base64(&packed).ok_or("it is neither PEM nor base64")?;
            p12::open(&file, password)?
        }
    };
    let key = keys.into_iter().next().ok_or("there is no private key that is not encrypted")?;
    whole(chain, key)
}

type Opened = (Vec<CertificateDer<'static>>, Vec<PrivateKeyDer<'static>>);

fn open_pem(text: &str) -> Result<Opened, String> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).take(CHAIN_MAX).collect();
    let chain = chain.map_err(|error| format!("the PEM text: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok();
    Ok((chain, key.into_iter().collect()))
}

/// The key's own certificate goes first; tools write chains in any order.
fn whole(
    mut chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Identity, String> {
    if chain.is_empty() {
        return Err("there is no certificate".to_owned());
    }
    let mut wrong = String::new();
    for first in 0..chain.len() {
        chain.swap(0, first);
        let identity = Identity { chain: chain.clone(), key: key.clone_key() };
        match identity.check() {
            Ok(()) => return Ok(identity),
            Err(error) => wrong = error,
        }
        chain.swap(0, first);
    }
    Err(wrong)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
