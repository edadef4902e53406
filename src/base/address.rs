//! Which addresses are somewhere in the open, and which are somebody's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address leads to this machine, to a network that is not the public one, or to nobody in particular.
///
/// An IPv6 address that stands for an IPv4 one is as that is. Source: IANA's registries of special-purpose addresses
/// for IPv4 and IPv6, all that is not globally reachable, and multicast.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => is_private_v4(it),
        IpAddr::V6(it) => is_private_v6(it),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127 | 224.., ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [192, 0, 2, _] => true,
        // Two of these are anycast and public; nobody's application is there.
        [192, 0, 0, _] => true,
        _ => false,
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let of_v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // An IPv4 address mapped, translated, or in a tunnel of its own.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => of_v4(high, low),
        // What is public begins with these three bits and has some reserved blocks.
        [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => true,
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

/// Whether a host of a URL, an address without its brackets or a name, leads nowhere public whatever anyone is asked
/// about it. Names are looked up when something is sent there.
pub fn is_private_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_local = ["localhost", "local", "internal"]
        .iter()
        .any(|it| name.strip_suffix(it).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    // What begins like a number is an address in one of its odd spellings to somebody: no top-level domain does.
    let is_number = |name: &str| {
        let last = name.rsplit('.').next().unwrap_or_default();
        last.is_empty() || last.as_bytes()[0].is_ascii_digit()
    };
    // A zone, or something that is only a host when it is spelled out.
    is_local
        || name.contains('%')
        || match name.parse::<IpAddr>() {
            Ok(address) => is_private(address),
            Err(_) => is_number(&name),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_private_are_seen_in_odd_spellings() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "127.0.0.0x1",
            "127.0.0.1e",
            "127.0.0.1%2e",
            "%6cocalhost",
            "::1",
            "fe80::1%25lo",
            "fe80::1",
            "localhost",
            "LOCALHOST.",
            "a.local",
            "metadata.google.internal",
            "",
            "a..",
        ] {
            assert!(is_private_host(host), "{host}");
        }
        for host in [
            "example.com",
            "a.example.",
            "1.1.1.1",
            "2606:4700::1111",
            "1e100.net",
            "mylocalhost.com",
        ] {
            assert!(!is_private_host(host), "{host}");
        }
    }

    #[test]
    fn somebodys_own_addresses_are_told_from_public_ones() {
        for (private, texts) in [
            (
                true,
                "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 \
                 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 \
                 203.0.113.9 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:10.1.1.1 ::10.0.0.1 \
                 64:ff9b::a00:1 64:ff9b:1::1 100::1 2001::1 2001:10::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 \
                 3fff::1 4000::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1",
            ),
            (
                false,
                "1.1.1.1 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.0.1 \
                 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 192.169.0.1 198.17.0.1 198.20.0.1 223.255.255.255 \
                 ::ffff:1.1.1.1 64:ff9b::101:101 2001:200::1 2001:4860:4860::8888 2002:101:101::1 2606:4700::1111 \
                 2a00:1450::1 3ffe::1",
            ),
        ] {
            for text in texts.split_whitespace() {
                assert_eq!(is_private(text.parse().expect(text)), private, "{text}");
            }
        }
    }
}
