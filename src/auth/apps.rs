//! The table of apps, and the seats their connections take.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::sign::SigningKey;
use crate::base::ids::AppIndex;
use crate::config;

/// Every app, by index, id and key. Built once at start and shared by all shards.
pub struct Apps {
    apps: Vec<Arc<App>>,
    by_id: HashMap<String, AppIndex>,
    by_key: HashMap<String, AppIndex>,
    /// Stands in for the key of an app that does not exist, so that asking for one takes as long.
    decoy: SigningKey,
}

/// One app: what it was configured with, its secret ready for use, and its open connections.
pub struct App {
    /// Its place in the table.
    pub index: AppIndex,
    /// What it was configured with.
    pub settings: config::App,
    /// Its secret, ready for use.
    pub signing_key: SigningKey,
    /// Shared by all shards: touched once when a connection opens and once when it ends.
    connections: AtomicU32,
}

impl Apps {
    /// Builds the table; an app's index is its position in `apps`. Of two apps with the same id or
    /// key the first is found (the settings refuse that earlier).
    pub fn new(apps: &[config::App]) -> Self {
        assert!(apps.len() <= usize::from(u16::MAX), "an app index has 16 bits");
        let mut by_id = HashMap::with_capacity(apps.len());
        let mut by_key = HashMap::with_capacity(apps.len());
        let apps: Vec<_> = apps
            .iter()
            .enumerate()
            .map(|(i, settings)| {
                let index = AppIndex(i as u16);
                by_id.entry(settings.id.clone()).or_insert(index);
                by_key.entry(settings.key.clone()).or_insert(index);
                Arc::new(App {
                    index,
                    settings: settings.clone(),
                    signing_key: SigningKey::new(settings.secret.0.as_bytes()),
                    connections: AtomicU32::new(0),
                })
            })
            .collect();
        Self { apps, by_id, by_key, decoy: SigningKey::new(b"no such app") }
    }

    /// The app at an index that this table gave out.
    pub fn app(&self, index: AppIndex) -> Option<&Arc<App>> {
        self.apps.get(usize::from(index.0))
    }

    /// The app with this id.
    pub fn with_id(&self, id: &str) -> Option<&Arc<App>> {
        self.by_id.get(id).and_then(|&index| self.app(index))
    }

    /// The app with this public key.
    pub fn with_key(&self, key: &str) -> Option<&Arc<App>> {
        self.by_key.get(key).and_then(|&index| self.app(index))
    }

    /// Every app, in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.iter()
    }

    /// A signing key that nobody has.
    pub(super) fn decoy(&self) -> &SigningKey {
        &self.decoy
    }
}

impl App {
    /// Connections that hold a seat now.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// One connection's place in its app; given back when it is dropped.
pub struct Seat(Arc<App>);

impl Seat {
    /// Takes a seat, unless the app has as many connections as it may have.
    pub fn try_take(app: &Arc<App>) -> Option<Self> {
        let max = match app.settings.connections_max {
            0 => u32::MAX,
            max => max,
        };
        // Relaxed is enough: the count orders nothing else.
        app.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then(|| n + 1))
            .ok()
            .map(|_| Self(app.clone()))
    }
}

impl Deref for Seat {
    type Target = App;
    fn deref(&self) -> &App {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.connections.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a seat was given back that nobody took");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Secret;

    /// An app with every feature on and small limits.
    pub(crate) fn settings(id: &str, key: &str, secret: &str) -> config::App {
        config::App {
            id: id.into(),
            key: key.into(),
            secret: Secret(secret.into()),
            enabled: true,
            client_events: true,
            client_events_per_second_max: 0,
            client_events_terminate: false,
            user_events_per_second_max: 0,
            publishes_per_second_max: 0,
            reads_per_second_max: 0,
            user_authentication: true,
            watchlist: true,
            watchlist_users_max: 100,
            subscription_counts: false,
            connections_max: 0,
            presence_members_max: 100,
            presence_member_bytes_max: 2048,
            channel_name_bytes_max: 200,
            event_name_bytes_max: 200,
            event_payload_bytes_max: 100 * 1024,
            event_channels_max: 100,
            event_batch_max: 10,
            allowed_origins: Vec::new(),
            namespaces: Vec::new(),
            bridge: Vec::new(),
        }
    }

    #[test]
    fn an_app_is_found_by_id_and_key() {
        let apps = Apps::new(&[settings("1", "k1", "s"), settings("2", "k2", "s")]);
        assert_eq!(apps.with_id("2").map(|app| app.index), Some(AppIndex(1)));
        assert_eq!(apps.with_key("k1").map(|app| app.index), Some(AppIndex(0)));
        assert!(apps.with_id("k1").is_none() && apps.with_key("1").is_none());
        assert_eq!(apps.iter().count(), 2);
    }

    #[test]
    fn seats_are_bounded_and_given_back() {
        let mut one = settings("1", "k", "s");
        one.connections_max = 2;
        let apps = Apps::new(&[one]);
        let app = apps.with_id("1").unwrap();
        let first = Seat::try_take(app).unwrap();
        let _second = Seat::try_take(app).unwrap();
        assert!(Seat::try_take(app).is_none());
        drop(first);
        assert_eq!(app.connections(), 1);
        assert!(Seat::try_take(app).is_some());
    }
}
