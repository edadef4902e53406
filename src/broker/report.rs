//! A report as bytes for the store, and back: what waits on [`Shelf::Outbox`](crate::store::Shelf) until the world
//! outside has heard it.
//!
//! A byte for the layout, eight for the time, then the parts, each behind its length in four bytes, little end first:
//! app, kind, channel (empty for none), body, and for each field its name and its value. The first layout had no channel.

use bytes::{BufMut, Bytes, BytesMut};

use super::Report;
use crate::base::name::Name;
use crate::base::time::UnixMillis;

const LAYOUT: u8 = 2;
const LAYOUT_WITHOUT_CHANNEL: u8 = 1;

/// A report, as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// When it happened: who is not told grows old with it.
    pub at: UnixMillis,
    /// The id of the app whose receivers hear it, as configured: it outlives the process, unlike an index.
    pub app: Name,
    /// What kind of thing happened; receivers choose by it.
    pub kind: Name,
    /// In which channel; receivers choose by it, too.
    pub channel: Option<Name>,
    /// More for the head of the request: field names and values.
    pub fields: Vec<(Name, Name)>,
    /// One JSON value.
    pub body: Bytes,
}

/// A report as it is stored; `app_id` is the id of its app, `at` when it happened.
pub fn encode(report: &Report, app_id: &str, at: UnixMillis) -> Bytes {
    let Report { app: _, kind, channel, fields, body } = report;
    let channel = channel.as_deref().unwrap_or_default();
    let of_fields: usize = fields.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
    let bytes = 25 + app_id.len() + kind.len() + channel.len() + body.0.len() + of_fields;
    let mut out = BytesMut::with_capacity(bytes);
    out.put_u8(LAYOUT);
    out.put_u64_le(at.0);
    let mut part = |bytes: &[u8]| {
        out.put_u32_le(bytes.len() as u32);
        out.put_slice(bytes);
    };
    part(app_id.as_bytes());
    part(kind.as_bytes());
    part(channel.as_bytes());
    part(&body.0);
    for (name, value) in fields {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    out.freeze()
}

/// The report that was stored so; none: these bytes are none, or of a layout this version does not know.
pub fn decode(stored: &[u8]) -> Option<StoredReport> {
    let (&layout, mut rest) = stored.split_first()?;
    if !matches!(layout, LAYOUT | LAYOUT_WITHOUT_CHANNEL) {
        return None;
    }
    let (at, behind) = rest.split_first_chunk::<8>()?;
    let at = UnixMillis(u64::from_le_bytes(*at));
    rest = behind;
    let app = text(part(&mut rest)?)?;
    let kind = text(part(&mut rest)?)?;
    let channel = match layout {
        LAYOUT => Some(text(part(&mut rest)?)?).filter(|it| !it.is_empty()),
        _ => None,
    };
    let body = Bytes::copy_from_slice(part(&mut rest)?);
    let mut fields = Vec::new();
    while !rest.is_empty() {
        fields.push((text(part(&mut rest)?)?, text(part(&mut rest)?)?));
    }
    Some(StoredReport { at, app, kind, channel, fields, body })
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(part)
}

fn text(bytes: &[u8]) -> Option<Name> {
    std::str::from_utf8(bytes).ok().map(Name::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::AppIndex;
    use crate::broker::Payload;

    fn report(fields: &[(&'static str, &str)]) -> Report {
        Report {
            app: AppIndex(3),
            kind: "a.kind".into(),
            channel: (!fields.is_empty()).then(|| "rüm".into()),
            fields: fields.iter().map(|&(name, value)| (name, value.into())).collect(),
            body: Payload(Bytes::from_static(b"{\"a\":1}")),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for fields in [&[][..], &[("x-channel", "r%20")], &[("a", ""), ("b", "é"), ("a", "c")]] {
            let report = report(fields);
            let stored = decode(&encode(&report, "app-id", UnixMillis(1 << 40)));
            let named = |it: &(&'static str, Box<str>)| (it.0.into(), (&*it.1).into());
            let fields = report.fields.iter().map(named).collect();
            let StoredReport { at, app, kind, channel, body, .. } =
                stored.clone().expect("a report");
            assert_eq!(at, UnixMillis(1 << 40));
            assert_eq!((&*app, &*kind, &body), ("app-id", "a.kind", &report.body.0));
            assert_eq!(channel, report.channel);
            assert_eq!(stored, Some(StoredReport { at, app, kind, channel, fields, body }));
        }
    }

    #[test]
    fn a_cut_or_newer_one_is_no_report() {
        let stored = encode(&report(&[("a", "b")]), "app-id", UnixMillis(7));
        let bare = Report { fields: Vec::new(), ..report(&[("a", "b")]) };
        let without_fields = encode(&bare, "app-id", UnixMillis(7)).len();
        for end in 0..stored.len() {
            assert_eq!(decode(&stored[..end]).is_some(), end == without_fields, "{end}");
        }
        // What the first layout wrote is still told.
        let mut first = vec![LAYOUT_WITHOUT_CHANNEL];
        first.extend_from_slice(&7u64.to_le_bytes());
        for part in ["app-id", "a.kind", "{}", "a", "b"] {
            first.extend_from_slice(&(part.len() as u32).to_le_bytes());
            first.extend_from_slice(part.as_bytes());
        }
        let first = decode(&first).expect("a report");
        assert_eq!((first.channel, &*first.kind, &first.body[..]), (None, "a.kind", &b"{}"[..]));
        assert_eq!(first.fields, [("a".into(), "b".into())]);
        let newer = [&[LAYOUT + 1], &stored[1..]].concat();
        assert_eq!(decode(&newer), None);
        assert_eq!(decode(&[&stored[..], b"x"].concat()), None);
    }
}
