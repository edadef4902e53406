//! What an application shows providers to send in its name. Kept sealed; nobody is ever told the secret parts again.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Provider, stored};

/// The id of credentials that are given without one.
pub const DEFAULT_ID: &str = "default";

/// The secret part, by provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are said with their variant")]
pub enum Material {
    /// The JSON file of a service account, as Google gives it out.
    Fcm { service_account: String },
    /// A signing key (PKCS #8, PEM) with its id and that of the team, and the topic: the bundle id of the app.
    ApnsToken {
        team_id: String,
        key_id: String,
        private_key: String,
        topic: String,
        is_sandbox: bool,
    },
    /// A certificate with its key (PKCS #12, base64).
    ApnsCertificate { p12: String, password: String, topic: String, is_sandbox: bool },
    /// A VAPID key pair (uncompressed point and scalar, base64url), and whom a push service may write to.
    WebPush { public_key: String, private_key: String, subject: String },
    /// An app of AppGallery Connect.
    Hms { app_id: String, client_secret: String },
    /// A package of the Windows Store.
    Wns { package_sid: String, client_secret: String },
}

impl Material {
    /// For whom.
    pub fn provider(&self) -> Provider {
        match self {
            Self::Fcm { .. } => Provider::Fcm,
            Self::ApnsToken { .. } | Self::ApnsCertificate { .. } => Provider::Apns,
            Self::WebPush { .. } => Provider::WebPush,
            Self::Hms { .. } => Provider::Hms,
            Self::Wns { .. } => Provider::Wns,
        }
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "material for {} ***", self.provider().as_str())
    }
}

/// Credentials, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The id of the app.
    pub app: String,
    /// What they are called.
    pub id: String,
    /// Goes up with each change.
    pub version: u64,
    /// The rest.
    pub material: Material,
    fingerprint: Fingerprint,
}

/// SHA-256 of the secret part. What is remembered of credentials is remembered under it: their version begins anew when
/// they were removed.
pub type Fingerprint = [u8; 32];

impl Credential {
    /// Credentials of an app.
    pub fn new(
        app: impl Into<String>,
        id: impl Into<String>,
        version: u64,
        material: Material,
    ) -> Self {
        let fingerprint = Sha256::digest(stored::encode(&material)).into();
        Self { app: app.into(), id: id.into(), version, material, fingerprint }
    }

    /// The same for the same material, and for no other.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// What may be told of credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialFacts {
    /// For whom.
    pub provider: Provider,
    /// What they are called.
    pub id: String,
    /// Goes up with each change.
    pub version: u64,
    /// When they were given, in milliseconds since 1970.
    pub updated_at: u64,
}
