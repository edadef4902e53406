//! The shapes of what is told, and that nobody is told what they did not ask for.

use std::sync::Arc;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{ConnectionId, Epoch, Serial};
use crate::base::name::Channel;
use crate::base::time::{Nanos, UnixMillis};
use crate::broker::versioned::{About, Annotate, Annotation, Summarizer};
use crate::broker::{Member, Tags};
use crate::config::webhooks::{Format, ReceiverRow};

const APP: AppIndex = AppIndex(0);

fn reports(format: Format, types: &[&str]) -> Reports {
    let mut config = Config::development();
    let row = ReceiverRow {
        format,
        types: types.iter().map(|it| (*it).to_owned()).collect(),
        ..ReceiverRow::default()
    };
    config.sections.set(Webhooks { receivers: vec![row], ..Webhooks::default() });
    Reports::of(&config)
}

fn event(name: &str, happening: Happening) -> Event {
    Event {
        channel: Channel { app: APP, name: name.into() },
        serial: Serial(7),
        epoch: None,
        id: EventId(1),
        at: UnixMillis(5),
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: None,
        guarded: false,
        happening,
    }
}

fn kept(happening: Happening) -> Event {
    Event { epoch: Some(Epoch(3)), ..event("room", happening) }
}

fn payload(text: &'static str) -> Payload {
    Payload(Bytes::from_static(text.as_bytes()))
}

fn sent(name: &str, sender: Option<Sender>) -> Happening {
    Happening::Message { name: name.into(), data: payload(r#"{"x":1}"#), sender }
}

fn presence(info: Option<&'static str>) -> Arc<Presence> {
    let member = Member { user_id: "ann \"1\"".into(), info: info.map(payload) };
    Arc::new(Presence { member: Arc::new(member), members: Vec::new() })
}

fn mutated(action: Action) -> Happening {
    Happening::Mutated(Arc::new(Mutated {
        message: MessageRef { id: EventId(9), serial: Serial(2) },
        action,
        name: None,
        data: None,
        fragment: None,
        keeps_type: false,
        about: About::default(),
    }))
}

fn annotated(takes_back: Option<EventId>) -> Happening {
    Happening::Annotated(Arc::new(Annotated {
        annotation: Annotation {
            message: MessageRef { id: EventId(9), serial: Serial(2) },
            kind: "reactions:distinct.v1".into(),
            summarizer: Summarizer::Distinct,
            name: Some("like".into()),
            client_id: None,
            count: None,
            data: None,
            encoding: None,
        },
        takes_back,
    }))
}

fn told(it: &Reports, event: &Event) -> Vec<String> {
    let mut out = Vec::new();
    it.tell(event, &mut out);
    let body = |report: &Report| {
        assert_eq!(report.channel.as_deref(), Some(&*event.channel.name));
        json::parse(&report.body.0).expect("JSON");
        String::from_utf8_lossy(&report.body.0).into_owned()
    };
    out.iter().map(body).collect()
}

#[test]
fn each_thing_is_told_in_its_shape() {
    let it = reports(Format::Sockudo, &[]);
    let socket = ConnectionId::from_pair(1, 2);
    let sender = |user_id: Option<&str>| {
        Some(Sender { connection: socket, user_id: user_id.map(Name::from) })
    };
    let (v, m) = (EventId(1).to_string(), EventId(9).to_string());
    let client = |rest: &str| {
        format!(
            r#"{{"name":"client_event","channel":"room","event":"client-e","data":{{"x":1}},"socket_id":"{socket}"{rest}}}"#
        )
    };
    let version = |message: &str, version: &str, action: &str| {
        format!(
            r#"{{"name":"message_version_created","channel":"room","message_serial":"{message}","version_serial":"{version}","action":"message.{action}"}}"#
        )
    };
    let annotation = |what: &str, rest: &str| {
        format!(
            r#"{{"name":"annotation_{what}","channel":"room","message_serial":"{m}-2","annotation_serial":"{v}","annotation_type":"reactions:distinct.v1"{rest}}}"#
        )
    };
    let taken = format!(r#","deleted_annotation_serial":"{}""#, EventId(4));
    let created = format!("{v}-7");
    let member = |what: &str, rest: &str| {
        vec![format!(
            r#"{{"name":"member_{what}","channel":"presence-p","user_id":"ann \"1\""{rest}}}"#
        )]
    };
    let one = |text: &str| vec![text.to_owned()];
    for (event, expected) in [
        (
            event("room", Happening::Occupied),
            one(r#"{"name":"channel_occupied","channel":"room"}"#),
        ),
        (
            event("presence-p", Happening::Vacated),
            one(r#"{"name":"channel_vacated","channel":"presence-p"}"#),
        ),
        (
            event("room", Happening::SubscriptionCount(3)),
            one(r#"{"name":"subscription_count","channel":"room","subscription_count":3}"#),
        ),
        (event("presence-p", Happening::SubscriptionCount(3)), vec![]),
        (event("presence-p", Happening::MemberAdded(presence(Some("1")))), member("added", "")),
        (event("presence-p", Happening::MemberRemoved(presence(None))), member("removed", "")),
        (
            event("presence-p", Happening::MemberUpdated(presence(Some("[1]")))),
            member("updated", r#","user_info":[1]"#),
        ),
        (
            event("presence-p", Happening::MemberUpdated(presence(None))),
            member("updated", r#","user_info":{}"#),
        ),
        // Of the engine's own channels, of those that tell of others, and of another protocol's nothing is told.
        (event("#server-to-user-1", Happening::MemberAdded(presence(None))), vec![]),
        (event("presence.p", Happening::MemberAdded(presence(None))), vec![]),
        (event("#server-to-user-1", Happening::Occupied), vec![]),
        (event("[meta]room", Happening::Occupied), vec![]),
        (event("room", sent("client-e", sender(None))), one(&client(""))),
        (event("room", sent("client-e", sender(Some("ann")))), one(&client(r#","user_id":"ann""#))),
        // A back end's event of such a name is none, nor is what peers of other protocols send under other names.
        (event("room", sent("client-e", None)), vec![]),
        (event("room", sent("e", sender(None))), vec![]),
        (kept(sent("e", None)), vec![version(&created, &created, "create")]),
        (
            kept(sent("client-e", sender(None))),
            vec![client(""), version(&created, &created, "create")],
        ),
        (kept(mutated(Action::Update)), vec![version(&format!("{m}-2"), &v, "update")]),
        (kept(mutated(Action::Append)), vec![version(&format!("{m}-2"), &v, "append")]),
        (kept(mutated(Action::Delete)), vec![version(&format!("{m}-2"), &v, "delete")]),
        (kept(annotated(None)), vec![annotation("created", "")]),
        (kept(annotated(Some(EventId(4)))), vec![annotation("deleted", &taken)]),
    ] {
        assert_eq!(told(&it, &event), expected, "{event:?}");
    }
    let miss = it.cache_miss(APP, "cache-é").expect("it is wanted");
    assert_eq!(
        &miss.body.0[..],
        r#"{"name":"cache_miss","channel":"cache-é","data":"{}"}"#.as_bytes()
    );
    assert_eq!(&*miss.kind, "sockudo.cache_miss");
    let fields: Vec<_> = miss.fields.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(fields, [("X-Sockudo-Event", "cache_miss"), ("X-Sockudo-Channel", "cache-%C3%A9")]);
}

#[test]
fn what_nobody_wants_costs_nothing_and_is_not_told() {
    let none = reports(Format::Ringmain, &["else.*"]);
    assert!(!none.any() && none.about_message(APP).is_none());
    assert!(none.cache_miss(APP, "cache-c").is_none());
    assert!(told(&none, &event("room", Happening::Occupied)).is_empty());
    let some = reports(Format::Sockudo, &["channel_*", "client_event"]);
    assert!(some.any() && some.about_client_event(APP).is_some());
    assert!(some.about_message(APP).is_none());
    assert_eq!(told(&some, &event("room", Happening::Vacated)).len(), 1);
    assert!(told(&some, &kept(sent("e", None))).is_empty());
    // In our own form the kinds are spelled out, and none are all.
    assert!(reports(Format::Ringmain, &["sockudo.member_added"]).wants(APP, What::MemberAdded));
    assert!(!reports(Format::Ringmain, &["member_added"]).any());
    let all = reports(Format::Ringmain, &[]);
    let taking_back = || {
        let channel = Channel { app: APP, name: "room".into() };
        let message = MessageRef { id: EventId(9), serial: Serial(2) };
        let what = Annotating::TakeBack { message, id: EventId(4), only_of: None };
        Command::Annotate(Box::new(Annotate { channel, what, summary_bytes_max: 0, report: None }))
    };
    let is_told = |it: &Reports| match it.with(taking_back()) {
        Command::Annotate(it) => it.report.is_some(),
        _ => false,
    };
    assert!(is_told(&all) && !is_told(&some));
    assert!(!some.wants(AppIndex(9), What::ClientEvent));
}
