//! The dialects this server speaks.

use std::sync::Arc;

use super::Dialect;
use super::pusher::Pusher;
use crate::auth::Apps;
use crate::config::Config;
use crate::observe::Metrics;

/// Every dialect, in the order in which they are asked about a request. The last takes what nobody
/// else wants.
pub fn all(config: &Config, _metrics: Arc<Metrics>) -> Vec<Arc<dyn Dialect>> {
    let apps = Arc::new(Apps::new(&config.apps));
    vec![Arc::new(Pusher::new(config, apps))]
}
