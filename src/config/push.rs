//! Push notifications: whether, through whom, how fast and how patiently.

use super::push_rules::{self, PushRule};
use super::section::Wrong;
use super::table::{Setting, number, switch};
use super::value::{Applies, Kind, SecretFrom};
use super::{Config, Secret, SectionOf};
use crate::base::time::Millis;

/// The settings, checked.
#[derive(Clone, Debug, Default)]
pub struct PushSettings {
    /// Whether there are push notifications at all.
    pub enabled: Enabled,
    /// When messages are written to the log instead of being sent.
    pub log: Logging,
    /// Nobody configured an app: what [`Logging::Auto`] looks at. No setting of its own.
    pub is_development: bool,
    /// Seals credentials at rest: 32 bytes, in base64 or hexadecimal digits, or any text of 32 bytes and more, digested.
    pub encryption_key: Option<Secret>,
    /// Endpoints of devices may be on private addresses.
    pub allow_private: bool,
    /// Where providers are.
    pub urls: ProviderUrls,
    /// Publishes accepted in a second, of each app.
    pub publishes_per_second_max: u32,
    /// Publishes of the process that are not finished; a further one is refused.
    pub publishes_open_max: u32,
    /// Devices of one app.
    pub devices_max: u64,
    /// Devices a day that one app may send to; 0: any number.
    pub deliveries_per_day_max: u64,
    /// Devices that are planned and not finished, of the whole process: what bounds memory.
    pub pending_max: u32,
    /// Requests under way with one provider.
    pub concurrency_max: u32,
    /// Requests a second to one provider; 0: any number.
    pub requests_per_second_max: u32,
    /// How long an answer may take.
    pub timeout: Millis,
    /// The pause after a first failure; each further one is twice as long ...
    pub retry_first: Millis,
    /// ... up to this.
    pub retry_longest: Millis,
    /// Tries for one device, the first included.
    pub attempts_max: u32,
    /// Failures in a row after which a device is sent nothing until it registers again.
    pub failures_max: u32,
    /// How long what came of a publish is kept, and its keys are remembered for a day at least.
    pub retention: Millis,
    /// Dead letters kept; above it the oldest go.
    pub dead_letters_max: u64,
    /// How long a publish with `sync` is waited for.
    pub sync_wait: Millis,
    /// Events that a notification goes with by itself; the first row that matches counts.
    pub rules: Vec<PushRule>,
}

/// Whether there are push notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabled {
    /// Where the store is open anyway, or there is a key for credentials.
    #[default]
    Auto,
    /// Yes; the store is opened for it.
    On,
    /// No.
    Off,
}

/// When messages are written to the log and the console instead of being sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logging {
    /// In development mode, for providers that there are no credentials for.
    #[default]
    Auto,
    /// All, always.
    On,
    /// Never.
    Off,
}

/// Where providers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderUrls {
    /// FCM.
    pub fcm: String,
    /// APNs.
    pub apns: String,
    /// APNs for apps in development.
    pub apns_sandbox: String,
    /// APNs, broadcast channels.
    pub apns_channels: String,
    /// The same for apps in development.
    pub apns_channels_sandbox: String,
    /// HMS.
    pub hms: String,
    /// Where HMS gives out access tokens.
    pub hms_token: String,
    /// Where WNS does.
    pub wns_token: String,
}

impl PushSettings {
    /// The settings in force.
    pub fn of(config: &Config) -> Self {
        let mut it = config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank());
        it.urls.fill();
        it.is_development = config.development;
        it
    }

    /// Whether the store is opened for push notifications, whoever else needs it.
    pub fn needs_store(&self) -> bool {
        match self.enabled {
            // Who gives a key for credentials wants to give credentials, and what goes with an event has to be kept.
            Enabled::Auto => self.encryption_key.is_some() || !self.rules.is_empty(),
            Enabled::On => true,
            Enabled::Off => false,
        }
    }

    /// Whether a message is written to the log instead of being sent, with or without credentials for its provider.
    pub fn is_logged(&self, has_credential: bool) -> bool {
        match self.log {
            Logging::On => true,
            Logging::Auto => self.is_development && !has_credential,
            Logging::Off => false,
        }
    }
}

impl ProviderUrls {
    /// The real ones. Source: the providers' documentation.
    pub fn real() -> Self {
        let mut urls = Self::default();
        urls.fill();
        urls
    }

    /// Puts the real ones where none is said, and drops slashes at the end of the others.
    fn fill(&mut self) {
        for (url, real) in [
            (&mut self.fcm, "https://fcm.googleapis.com"),
            (&mut self.apns, "https://api.push.apple.com"),
            (&mut self.apns_sandbox, "https://api.sandbox.push.apple.com"),
            (&mut self.apns_channels, "https://api-manage-broadcast.push.apple.com:2196"),
            (
                &mut self.apns_channels_sandbox,
                "https://api-manage-broadcast.sandbox.push.apple.com:2195",
            ),
            (&mut self.hms, "https://push-api.cloud.huawei.com"),
            (&mut self.hms_token, "https://oauth-login.cloud.huawei.com/oauth2/v3/token"),
            (&mut self.wns_token, "https://login.live.com/accesstoken.srf"),
        ] {
            let said = url.trim_end_matches('/');
            *url = if said.is_empty() { real.to_owned() } else { said.to_owned() };
        }
    }
}

/// A row with an address of a provider.
macro_rules! url {
    ($key:literal, $field:ident, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Text {
                what: "an http:// or https:// address",
                put: |it, text| it.urls.$field = text,
                read: |it| &it.urls.$field,
            },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

/// A row of the key that seals credentials.
macro_rules! key {
    ($key:literal, $from:ident, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Secret {
                from: SecretFrom::$from,
                put: |it, text| it.encryption_key = Some(Secret(text)),
            },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;

/// The section of the settings.
pub static SECTION: SectionOf<PushSettings> = SectionOf {
    name: "push",
    about: "Push notifications: docs/push.md says how to register devices and publish. Devices, credentials and publishes are on disk.",
    settings: &[
        Setting {
            key: "push.enabled",
            kind: Kind::Choice {
                default: "auto",
                words: &["auto", "on", "off"],
                put: |it, word| {
                    it.enabled = match word {
                        "on" => Enabled::On,
                        "off" => Enabled::Off,
                        _ => Enabled::Auto,
                    }
                },
                read: |it| match it.enabled {
                    Enabled::Auto => "auto",
                    Enabled::On => "on",
                    Enabled::Off => "off",
                },
            },
            applies: Applies::AtStart,
            help: "Whether there are push notifications; auto: where something is kept on disk anyway, or push.encryption_key is given.",
        },
        Setting {
            key: "push.log",
            kind: Kind::Choice {
                default: "auto",
                words: &["auto", "on", "off"],
                put: |it, word| {
                    it.log = match word {
                        "on" => Logging::On,
                        "off" => Logging::Off,
                        _ => Logging::Auto,
                    }
                },
                read: |it| match it.log {
                    Logging::Auto => "auto",
                    Logging::On => "on",
                    Logging::Off => "off",
                },
            },
            applies: Applies::AtStart,
            help: "Whether messages are written to the log and the console instead of being sent; auto: in development mode, where the provider has no credentials.",
        },
        key!(
            "push.encryption_key",
            Text,
            "Seals credentials on disk: 32 bytes in base64 or hexadecimal digits, or a text of at least 32 bytes. Without it no credentials are taken."
        ),
        key!("push.encryption_key_file", File, "A file that holds it."),
        key!("push.encryption_key_env", Environment, "An environment variable that holds it."),
        switch!(
            "push.allow_private",
            allow_private,
            false,
            "Endpoints of devices and addresses in credentials may be on private addresses."
        ),
        number!(
            "push.publishes_per_second_max",
            publishes_per_second_max,
            Count,
            100,
            1,
            100_000,
            "Publishes taken in a second, of each app; a further one is answered with 429."
        ),
        number!(
            "push.publishes_open_max",
            publishes_open_max,
            Count,
            10_000,
            1,
            1_000_000,
            "Publishes that are not finished, those for later left out; a further one is answered with 429."
        ),
        number!(
            "push.devices_max",
            devices_max,
            Count,
            10_000_000,
            1,
            1_000_000_000,
            "Devices of one app."
        ),
        number!("push.deliveries_per_day_max", deliveries_per_day_max, Count, 0, 1, 1_000_000_000_000, zero: Some("any number"), "Devices that one app may send to in a day (UTC); what is over it is quota_exceeded."),
        number!(
            "push.pending_max",
            pending_max,
            Count,
            2_048,
            16,
            1_000_000,
            "Devices read from the store and not finished, over all publishes: this bounds memory. One app has three quarters of it, at most; devices that are tried again in a second or later are not counted."
        ),
        number!(
            "push.concurrency_max",
            concurrency_max,
            Count,
            256,
            1,
            10_000,
            "Requests under way with one provider; one app has three quarters of them, at most."
        ),
        number!("push.requests_per_second_max", requests_per_second_max, Count, 0, 1, 1_000_000, zero: Some("any number"), "Requests in a second to one provider."),
        number!(
            "push.timeout_s",
            timeout,
            Seconds,
            10 * SECOND,
            100,
            120 * SECOND,
            "How long a provider's answer may take."
        ),
        number!(
            "push.retry_first_s",
            retry_first,
            Seconds,
            SECOND,
            10,
            3_600 * SECOND,
            "The pause after a first failure; each further one is twice as long, up to push.retry_longest_s; up to half of it is left out by chance. Retry-After counts instead, of browsers' push services up to push.retry_longest_s."
        ),
        number!(
            "push.retry_longest_s",
            retry_longest,
            Seconds,
            300 * SECOND,
            10,
            DAY,
            "The longest pause of one device, and how long credentials rest that were refused."
        ),
        number!(
            "push.attempts_max",
            attempts_max,
            Count,
            5,
            1,
            100,
            "Tries for one device, the first included; then there is a dead letter. A provider that throttles takes none, but a browser's push service does: each device chooses its own."
        ),
        number!(
            "push.failures_max",
            failures_max,
            Count,
            10,
            2,
            1_000,
            "Failures in a row after which a device is sent nothing until it registers again."
        ),
        number!(
            "push.retention_s",
            retention,
            Seconds,
            7 * DAY,
            DAY,
            3_650 * DAY,
            "How long what came of a publish is kept."
        ),
        number!(
            "push.dead_letters_max",
            dead_letters_max,
            Count,
            10_000,
            1,
            1_000_000,
            "Dead letters kept; above it the oldest go."
        ),
        number!(
            "push.sync_wait_s",
            sync_wait,
            Seconds,
            15 * SECOND,
            100,
            60 * SECOND,
            "How long a publish with \"sync\" is waited for."
        ),
        url!("push.fcm_url", fcm, "Another server in place of FCM."),
        url!("push.apns_url", apns, "Another server in place of APNs."),
        url!(
            "push.apns_sandbox_url",
            apns_sandbox,
            "Another server in place of APNs for apps in development."
        ),
        url!(
            "push.apns_channels_url",
            apns_channels,
            "Another server in place of APNs' broadcast channels."
        ),
        url!(
            "push.apns_channels_sandbox_url",
            apns_channels_sandbox,
            "The same for apps in development."
        ),
        url!("push.hms_url", hms, "Another server in place of HMS."),
        url!(
            "push.hms_token_url",
            hms_token,
            "Another server in place of the one that gives out access tokens of HMS."
        ),
        url!(
            "push.wns_token_url",
            wns_token,
            "Another server in place of the one that gives out access tokens of WNS."
        ),
    ],
    tables: &[&push_rules::TABLE],
    blank: PushSettings::default,
    check,
};

/// Bytes of the key that seals credentials, at least, before it is digested.
const KEY_BYTES_MIN: usize = 32;

fn check(it: &PushSettings, config: &Config) -> Vec<Wrong> {
    let mut wrong = push_rules::check(it, config);
    if it.retry_longest < it.retry_first {
        let allowed = "no shorter than push.retry_first_s".to_owned();
        wrong.push(("push.retry_longest_s", format!("{} ms", it.retry_longest.0), allowed));
    }
    if it.encryption_key.as_ref().is_some_and(|it| it.0.trim().len() < KEY_BYTES_MIN) {
        let allowed = "32 bytes in base64 or hexadecimal digits, or a text of at least 32 bytes \
                       (`ringmain push keys` makes one)";
        wrong.push(("push.encryption_key", "***".to_owned(), allowed.to_owned()));
    }
    let urls = &it.urls;
    for (key, url) in [
        ("push.fcm_url", &urls.fcm),
        ("push.apns_url", &urls.apns),
        ("push.apns_sandbox_url", &urls.apns_sandbox),
        ("push.apns_channels_url", &urls.apns_channels),
        ("push.apns_channels_sandbox_url", &urls.apns_channels_sandbox),
        ("push.hms_url", &urls.hms),
        ("push.hms_token_url", &urls.hms_token),
        ("push.wns_token_url", &urls.wns_token),
    ] {
        if !url.is_empty() && !is_address(url) {
            wrong.push((key, url.clone(), "an http:// or https:// address".to_owned()));
        }
    }
    wrong
}

/// An address with a host, and without what a path could not be put behind.
fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']))
        && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Sources, load};
    use crate::config::{Machine, Section};

    const ONLY: &[&dyn Section] = &[&SECTION];

    fn read(text: &str, is_development: bool) -> Result<PushSettings, String> {
        let apps = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
        let apps = if is_development { "" } else { apps };
        let sources = Sources {
            file: Some(("x.toml".into(), format!("{apps}[push]\n{text}"))),
            environment: vec![("KEY".into(), "k".repeat(32))],
            flags: Vec::new(),
            machine: Machine::small(),
            sections: ONLY,
        };
        match load(&sources) {
            Ok(loaded) => Ok(PushSettings::of(&loaded.config)),
            Err(wrong) => Err(wrong.iter().map(|it| it.to_string()).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn settings_are_read_with_their_defaults() {
        let push = read("", false).unwrap();
        assert_eq!((push.enabled, push.log), (Enabled::Auto, Logging::Auto));
        assert_eq!(push.urls, ProviderUrls::real());
        assert_eq!((push.retry_first, push.attempts_max), (Millis(1_000), 5));
        assert_eq!(push.deliveries_per_day_max, 0);
        assert!(push.encryption_key.is_none() && !push.allow_private);
        let text =
            "encryption_key_env = \"KEY\"\nfcm_url = \"http://127.0.0.1:9/\"\nenabled = \"off\"\n";
        let push = read(text, false).unwrap();
        assert_eq!(push.encryption_key.map(|it| it.0), Some("k".repeat(32)));
        assert_eq!(push.urls.fcm, "http://127.0.0.1:9");
        assert_eq!(push.enabled, Enabled::Off);
        for (text, needs_store) in [
            ("", false),
            ("enabled = \"on\"", true),
            ("encryption_key_env = \"KEY\"", true),
            ("encryption_key_env = \"KEY\"\nenabled = \"off\"", false),
        ] {
            assert_eq!(read(text, false).unwrap().needs_store(), needs_store, "{text}");
        }
    }

    #[test]
    fn what_is_logged_instead_of_sent_depends_on_mode_setting_and_credentials() {
        for (is_development, log, with, without) in [
            (true, "auto", false, true),
            (false, "auto", false, false),
            (true, "on", true, true),
            (false, "on", true, true),
            (true, "off", false, false),
            (false, "off", false, false),
        ] {
            let push = read(&format!("log = \"{log}\""), is_development).unwrap();
            assert_eq!(push.is_logged(true), with, "{is_development} {log}");
            assert_eq!(push.is_logged(false), without, "{is_development} {log}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        for (text, parts) in [
            ("enabled = \"perhaps\"", &["push.enabled", "auto"][..]),
            ("encryption_key = \"hush\"", &["push.encryption_key", "***", "32 bytes"]),
            ("retry_first_s = 9\nretry_longest_s = 1", &["push.retry_longest_s"]),
            ("fcm_url = \"fcm.example\"", &["push.fcm_url", "https://"]),
            ("apns_url = \"https:///3\"", &["push.apns_url"]),
            ("hms_url = \"https://x/?a=b\"", &["push.hms_url"]),
            ("wns_token_url = \"https://x/ y\"", &["push.wns_token_url"]),
            ("attempts_max = 0", &["push.attempts_max", "1"]),
            ("timeout_s = 0", &["push.timeout_s"]),
            ("pending_max = 1", &["push.pending_max", "16"]),
            ("encryption_ke = \"x\"", &["push.encryption_ke", "encryption_key"]),
        ] {
            let wrong = read(text, false).map(|_| ()).expect_err(text);
            for part in parts {
                assert!(wrong.contains(part), "{text}: {wrong}");
            }
            assert!(!wrong.contains("hush"), "a key is told to nobody: {wrong}");
        }
    }
}
