//! The dialects this server speaks.

use std::sync::Arc;

use super::Dialect;
use super::admin::Admin;
use super::authrequest::{self, AuthRequest};
use super::hotsock::{self, Hotsock};
use super::hypothesis::{self, Hypothesis};
use super::mastodon::{self, Mastodon};
use super::pusher::{self, Pusher};
use crate::auth::Apps;
use crate::config::{Config, Section, history, push, rates, webhooks};
use crate::observe::Metrics;

/// The names of [`all`] dialects, in the same order, for the metrics they are given.
pub const NAMES: [&str; 6] =
    ["hotsock", "authrequest", "hypothesis", "mastodon", "pusher", "admin"];

/// What is declared of settings in sections: those of history, webhooks and rates, and what the dialects declare.
pub const SECTIONS: &[&dyn Section] = &[
    &history::SECTION,
    &webhooks::SECTION,
    &push::SECTION,
    &pusher::settings::SECTION,
    &rates::SECTION,
    &hotsock::settings::SECTION,
    &authrequest::SECTION,
    &hypothesis::settings::SECTION,
    &mastodon::SECTION,
];

/// Every dialect, in the order in which they are asked about a request. The last takes what nobody
/// else wants. Hotsock comes before authrequest, whose root it shares: there it takes only WebSockets with a `token`.
/// Mastodon comes before Pusher, whose are all other paths of an app.
pub fn all(config: &Config, metrics: Arc<Metrics>) -> Vec<Arc<dyn Dialect>> {
    let apps = Arc::new(Apps::new(&config.apps));
    let hotsock = Hotsock::new(config, apps.clone());
    let authrequest = AuthRequest::new(config, apps.clone());
    let hypothesis = Hypothesis::new(config, apps.clone());
    let mastodon = Mastodon::new(config, apps.clone());
    let pusher = Pusher::new(config, apps.clone());
    let mut dialects: Vec<Arc<dyn Dialect>> = vec![
        Arc::new(hotsock),
        Arc::new(authrequest),
        Arc::new(hypothesis),
        Arc::new(mastodon),
        Arc::new(pusher),
    ];
    dialects.push(Arc::new(Admin::new(config, apps, metrics, dialects.clone())));
    dialects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_list() {
        let metrics = Arc::new(Metrics::new(1, &NAMES));
        let names: Vec<_> =
            all(&Config::development(), metrics).iter().map(|it| it.name()).collect();
        assert_eq!(names, NAMES);
    }
}
