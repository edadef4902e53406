//! How often one address may ask.

use std::net::{IpAddr, SocketAddr};

use super::table::number;
use super::{Config, SectionOf};
use crate::base::time::Millis;

/// The settings, checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Requests of the signed HTTP API from one address within its time; 0: any number.
    pub api_requests_max: u32,
    /// That time.
    pub api_window: Millis,
    /// WebSockets that one address opens within their time; 0: any number.
    pub upgrades_max: u32,
    /// That time.
    pub upgrades_window: Millis,
    /// Proxies in front whose word about the address counts.
    pub proxies: u32,
}

impl Rates {
    /// The settings in force.
    pub fn of(config: &Config) -> Self {
        config.sections.get::<Self>().copied().unwrap_or_else(|| SECTION.blank())
    }

    /// The address that asks: the peer's, or the one that the outermost of our proxies saw, as the lists in
    /// `X-Forwarded-For` say, in order; else `X-Real-IP`. What is no address, or too short a list, leaves the peer's.
    pub fn address<'a>(
        &self,
        peer: SocketAddr,
        forwarded: impl Iterator<Item = &'a str>,
        real: Option<&str>,
    ) -> IpAddr {
        let peer = peer.ip().to_canonical();
        let Some(before) = (self.proxies as usize).checked_sub(1) else { return peer };
        let hops: Vec<_> = forwarded.flat_map(|list| list.split(',')).map(str::trim).collect();
        let told = match hops.len().checked_sub(1 + before) {
            Some(at) => Some(hops[at]),
            None => real.map(str::trim),
        };
        told.and_then(|it| it.parse::<IpAddr>().ok()).map_or(peer, |it| it.to_canonical())
    }
}

const SECOND: u64 = 1_000;

/// The section of the settings.
pub static SECTION: SectionOf<Rates> = SectionOf {
    name: "rates",
    about: "How often one address may ask; every shard counts together. Off unless set: a proxy that all requests come \
            through is one address, unless `rates.proxies` says so.",
    settings: &[
        number!("rates.api_requests_max", api_requests_max, Count, 0, 1, 1_000_000_000,
            zero: Some("any number"),
            "Requests of the signed HTTP API from one address within rates.api_window_s; a further one is answered 429."),
        number!(
            "rates.api_window_s",
            api_window,
            Seconds,
            60 * SECOND,
            SECOND,
            86_400 * SECOND,
            "The time it counts in, from an address's first request on."
        ),
        number!("rates.upgrades_max", upgrades_max, Count, 0, 1, 1_000_000_000,
            zero: Some("any number"),
            "WebSockets of the Pusher protocol that one address may open within rates.upgrades_window_s; a further one is answered 429."),
        number!(
            "rates.upgrades_window_s",
            upgrades_window,
            Seconds,
            60 * SECOND,
            SECOND,
            86_400 * SECOND,
            "The time it counts in, from an address's first one on."
        ),
        number!(
            "rates.proxies",
            proxies,
            Count,
            0,
            0,
            16,
            "Proxies in front: with n, the n-th address from the right of X-Forwarded-For counts, else X-Real-IP; with 0 the peer's own."
        ),
    ],
    tables: &[],
    blank: Rates::default,
    check: |_, _| Vec::new(),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_what_a_proxy_of_ours_saw() {
        for (proxies, forwarded, real, expected) in [
            (0, &["1.1.1.1"][..], Some("2.2.2.2"), "9.9.9.9"),
            (1, &["1.1.1.1"], None, "1.1.1.1"),
            (1, &["6.6.6.6, 1.1.1.1"], None, "1.1.1.1"),
            (2, &["6.6.6.6, 1.1.1.1"], None, "6.6.6.6"),
            (2, &["6.6.6.6", "1.1.1.1"], None, "6.6.6.6"),
            (2, &["1.1.1.1"], Some("2.2.2.2"), "2.2.2.2"),
            (1, &[], Some("2.2.2.2"), "2.2.2.2"),
            (1, &[], None, "9.9.9.9"),
            (1, &["unknown"], None, "9.9.9.9"),
            (1, &["::ffff:1.1.1.1"], None, "1.1.1.1"),
        ] {
            let rates = Rates { proxies, ..Rates::default() };
            let peer = "9.9.9.9:80".parse().unwrap();
            let address = rates.address(peer, forwarded.iter().copied(), real);
            assert_eq!(address.to_string(), expected, "{proxies} {forwarded:?} {real:?}");
        }
    }
}
