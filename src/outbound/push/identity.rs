//! Certificates with their keys, as applications give them: PKCS #12 or PEM.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::outbound::tls::Identity;

/// Certificates of a chain, at most.
const CHAIN_MAX: usize = 8;

/// Opens what holds a certificate and its key: PEM texts of both, or PKCS #12 in base64. The error says what is wrong.
pub fn open(said: &str, password: &str) -> Result<Identity, String> {
    match said.contains("-----BEGIN ") {
        true => open_pem(&said.replace("\\n", "\n")),
        false => open_p12(said, password),
    }
}

fn open_pem(text: &str) -> Result<Identity, String> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).take(CHAIN_MAX).collect();
    let chain = chain.map_err(|error| format!("the PEM text: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "there is no private key that is not encrypted".to_owned())?;
    whole(chain, key)
}

fn open_p12(_said: &str, _password: &str) -> Result<Identity, String> {
    Err("PKCS #12 is not read; give certificate and key in PEM".to_owned())
}

fn whole(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Identity, String> {
    if chain.is_empty() {
        return Err("there is no certificate".to_owned());
    }
    let identity = Identity { chain, key };
    identity.check()?;
    Ok(identity)
}
