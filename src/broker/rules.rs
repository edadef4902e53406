//! How each channel keeps its events: by app and by patterns of names, first match wins.

use std::sync::Arc;

use crate::base::ids::AppIndex;
use crate::base::name::{Channel, Name};
pub use crate::base::pattern::Pattern;
use crate::base::time::Millis;
use crate::config::history::{ChannelRow, History};
use crate::config::{App, Config};
use crate::store::StreamKey;

use super::{Mode, companion};

/// How the channels of one pattern keep their events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub mode: Mode,
    /// How long; zero: for ever.
    pub age: Millis,
    /// How many; 0: any number.
    pub events_max: u64,
    /// How many bytes of them; 0: any number.
    pub bytes_max: u64,
}

/// The rules of one app.
#[derive(Clone, Debug)]
pub struct AppRules {
    /// The app's id: its name in the store.
    pub id: Name,
    /// In order; the first that matches counts.
    pub rules: Vec<(Pattern, Rule)>,
}

/// The rules of all apps.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    apps: Vec<AppRules>,
    /// What happens to a channel's members is not kept.
    is_without_presence: bool,
}

impl Rules {
    /// Rules of the apps, in the order of their indices.
    pub fn new(apps: Vec<AppRules>) -> Arc<Self> {
        Arc::new(Self { apps, is_without_presence: false })
    }

    /// Whether channels that keep their events keep who came, changed and left, too.
    pub fn keeps_presence(&self) -> bool {
        !self.is_without_presence
    }

    /// The rules that are configured.
    pub fn configured(config: &Config) -> Arc<Self> {
        let history = History::of(config);
        let rule = |row: &ChannelRow| {
            let mode = match row.mode {
                "durable" => Mode::Durable,
                "memory" => Mode::Memory,
                _ => Mode::None,
            };
            let &ChannelRow { age, events_max, bytes_max, .. } = row;
            (Pattern(Name::from(&*row.pattern)), Rule { mode, age, events_max, bytes_max })
        };
        let of_app = |app: &App| {
            let rows =
                history.channels.iter().filter(|row| row.app.is_empty() || row.app == app.id);
            AppRules { id: Name::from(&*app.id), rules: rows.map(rule).collect() }
        };
        let apps = config.apps.iter().map(of_app).collect();
        Arc::new(Self { apps, is_without_presence: !history.presence })
    }

    /// How a channel keeps its events; none: not at all. Names that begin with `#` are the engine's own and keep
    /// none, nor do those that tell of others; but the history of presence is kept as its channel's events are.
    pub fn of(&self, channel: &Channel) -> Option<Rule> {
        self.of_name(&self.apps.get(usize::from(channel.app.0))?.rules, &channel.name)
    }

    /// The same, by the name a channel has in the store.
    pub fn of_stream(&self, stream: &StreamKey) -> Option<Rule> {
        self.of_name(&self.apps.iter().find(|app| app.id == stream.app)?.rules, &stream.channel)
    }

    /// The channel that a stream is of; none if its app is gone.
    pub fn channel(&self, stream: &StreamKey) -> Option<Channel> {
        let app = self.apps.iter().position(|app| app.id == stream.app)?;
        Some(Channel { app: AppIndex(app as u16), name: stream.channel.clone() })
    }

    /// The id of an app: its name in the store.
    pub fn app_id(&self, app: AppIndex) -> Option<&Name> {
        Some(&self.apps.get(usize::from(app.0))?.id)
    }

    /// Whether any channel is kept on disk.
    pub fn any_durable(&self) -> bool {
        self.apps.iter().flat_map(|app| &app.rules).any(|(_, rule)| rule.mode == Mode::Durable)
    }

    /// The name a channel has in the store.
    pub fn stream_key(&self, channel: &Channel) -> StreamKey {
        let AppIndex(app) = channel.app;
        let app = self.apps[usize::from(app)].id.clone();
        StreamKey { app, channel: channel.name.clone() }
    }

    fn of_name(&self, rules: &[(Pattern, Rule)], name: &str) -> Option<Rule> {
        if rules.is_empty() {
            return None;
        }
        let of_presence = companion::of_presence_history(name).filter(|_| self.keeps_presence());
        of(rules, of_presence.unwrap_or(name))
    }
}

fn of(rules: &[(Pattern, Rule)], name: &str) -> Option<Rule> {
    if !companion::is_watchable(name) {
        return None;
    }
    let found = rules.iter().find(|(pattern, _)| pattern.matches(name));
    found.map(|(_, rule)| *rule).filter(|rule| rule.mode != Mode::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rule =
            |pattern: &str, mode| (Pattern(Name::from(pattern)), Rule { mode, ..Rule::default() });
        let shop = AppRules {
            id: Name::from("shop"),
            rules: vec![
                rule("orders-secret", Mode::None),
                rule("orders-*", Mode::Durable),
                rule("*", Mode::Memory),
            ],
        };
        let rules = Rules::new(vec![shop, AppRules { id: Name::from("b"), rules: Vec::new() }]);
        for (app, name, mode) in [
            (0, "orders-1", Some(Mode::Durable)),
            (0, "orders-secret", None),
            (0, "else", Some(Mode::Memory)),
            (0, "#server-to-user-1", None),
            (0, "[meta]orders-1", None),
            (0, "#presence-history:orders-1", Some(Mode::Durable)),
            (0, "#presence-history:orders-secret", None),
            (0, "#presence-history:#x", None),
            (1, "orders-1", None),
            (2, "orders-1", None),
        ] {
            let channel = Channel { app: AppIndex(app), name: Name::from(name) };
            assert_eq!(rules.of(&channel).map(|rule| rule.mode), mode, "{app} {name}");
            if app < 2 {
                let key = rules.stream_key(&channel);
                assert_eq!(rules.of_stream(&key).map(|rule| rule.mode), mode, "{key:?}");
                assert_eq!(rules.app_id(channel.app), Some(&key.app));
                assert_eq!(rules.channel(&key), Some(channel));
            }
        }
    }
}
