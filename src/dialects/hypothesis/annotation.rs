//! An annotation event as it comes in: read, checked, and put into the broker's words.
//!
//! What a socket's filter compares and who may see the annotation become tags of the event; its payload is
//! the annotation as the API has it. Source: `docs/hypothesis.md`, "Publishing".

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;

use super::uri;
use super::{CHANNEL, EVENT_PREFIX, USER_PREFIX};
use crate::auth::App;
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::{Payload, Publish, Tag, Tags};
use crate::dialects::api::{self, Refusal};
use crate::wire::json::{self, Kind, Raw};

/// What an annotation is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its id.
    Id,
    /// The group it is in.
    Group,
    /// Addresses of the annotated document, in normal form.
    Uri,
    /// Ids of what it answers, directly or not.
    References,
}

/// Names of the tags, shared by all of them.
struct Names {
    id: Name,
    group: Name,
    uri: Name,
    references: Name,
    see: Name,
    author: Name,
    origin: Name,
    moderation: Name,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    id: "id".into(),
    group: "group".into(),
    uri: "uri".into(),
    references: "references".into(),
    see: SEE.into(),
    author: AUTHOR.into(),
    origin: ORIGIN.into(),
    moderation: MODERATION.into(),
});

/// Who may see an annotation.
pub const SEE: &str = "see";
/// Who wrote it.
pub const AUTHOR: &str = "author";
/// The client id of who changed it.
pub const ORIGIN: &str = "origin";
/// What its group's moderators are told beside: one JSON value.
pub const MODERATION: &str = "moderation";

impl Field {
    /// The field of a clause.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "/id" => Self::Id,
            "/group" => Self::Group,
            "/uri" => Self::Uri,
            "/references" => Self::References,
            _ => return None,
        })
    }

    /// The name of its tags.
    pub fn name(self) -> Name {
        match self {
            Self::Id => NAMES.id.clone(),
            Self::Group => NAMES.group.clone(),
            Self::Uri => NAMES.uri.clone(),
            Self::References => NAMES.references.clone(),
        }
    }
}

/// Who may see an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum See {
    /// Everyone.
    World,
    /// The members of its group.
    Members,
    /// Its author, and the moderators of its group.
    Moderators,
    /// Its author.
    Author,
}

impl See {
    /// As a tag has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Members => "members",
            Self::Moderators => "moderators",
            Self::Author => "author",
        }
    }

    /// Reads it back.
    pub fn of(text: &str) -> Option<Self> {
        [Self::World, Self::Members, Self::Moderators, Self::Author]
            .into_iter()
            .find(|it| it.as_str() == text)
    }
}

/// Addresses of one document, at most.
const URIS_MAX: usize = 100;

/// The group of annotations that are in none.
const WORLD: &str = "__world__";

/// The channel of what concerns one user.
pub fn user_channel(app: &App, userid: &str) -> Channel {
    Channel { app: app.index, name: format!("{USER_PREFIX}{userid}").as_str().into() }
}

/// Reads one event or a batch of them. `open_groups` are those that everyone may read.
pub(in crate::dialects) fn read(
    app: &App,
    body: &[u8],
    open_groups: &[String],
    now: Now,
) -> Result<Vec<Publish>, Refusal> {
    let reader = Reader { app, open_groups, now };
    api::read_events(body, app.settings.event_batch_max, |event| reader.event(event))
}

struct Reader<'a> {
    app: &'a App,
    open_groups: &'a [String],
    now: Now,
}

impl Reader<'_> {
    fn event(&self, event: Raw<'_>) -> Result<Publish, Refusal> {
        if event.kind() != Kind::Object {
            return Err(Refusal::shape("the event is not an object"));
        }
        let bytes_max = self.app.settings.event_payload_bytes_max;
        if event.text().len() > bytes_max {
            let bytes = event.text().len();
            let text = format!("the event ({bytes} bytes) exceeds the limit ({bytes_max} bytes)");
            return Err(Refusal::new(413, "payload_too_large", text));
        }
        let event = Object::of(event);
        match event.text("kind")?.as_deref() {
            None | Some("annotation") => self.annotation(&event),
            Some("user") => self.user(&event),
            Some(_) => Err(Refusal::invalid("kind is neither annotation nor user")),
        }
    }

    /// A user's groups have changed: told to all of that user's sockets.
    fn user(&self, event: &Object<'_>) -> Result<Publish, Refusal> {
        let userid = event.needed("userid")?;
        // The service calls it `type`.
        let action = match event.text("action")? {
            Some(action) => action,
            None => event.needed("type")?,
        };
        if !matches!(&*action, "group-join" | "group-leave") {
            return Err(Refusal::invalid("action is neither group-join nor group-leave"));
        }
        let model = event.member("model").or(event.member("session_model"));
        let model = model.filter(|it| it.kind() == Kind::Object);
        let model = model.ok_or(Refusal::shape("model is not an object"))?;
        let channel = user_channel(self.app, &userid);
        let (name, data) = (Name::from(&*action), payload(model.text()));
        Ok(Publish::new(channel, name, data, self.now.steady))
    }

    fn annotation(&self, event: &Object<'_>) -> Result<Publish, Refusal> {
        let action = event.needed("action")?;
        if !matches!(&*action, "create" | "update" | "delete") {
            return Err(Refusal::invalid("action is none of create, update, delete"));
        }
        let raw = event.object("annotation")?.ok_or(Refusal::shape("annotation is missing"))?;
        let annotation = Object::of(raw);
        let visibility = event.object("visibility")?.map(Object::of).unwrap_or(Object(Vec::new()));

        let id = annotation.needed("id")?;
        let group = visibility.text("group")?.or(annotation.text("group")?).unwrap_or(WORLD.into());
        let author = visibility.text("author")?.or(annotation.text("user")?);
        let author = author.filter(|it| !it.is_empty());
        let author =
            author.ok_or(Refusal::shape("annotation.user or visibility.author is missing"))?;
        let author = match event.text("authority")? {
            Some(authority) if !author.starts_with("acct:") => {
                format!("acct:{author}@{authority}").into()
            }
            _ => author,
        };
        let see = self.see(&annotation, &visibility, &group)?;

        let mut tags = vec![Field::Id.tag(&id), Field::Group.tag(&group)];
        for reference in annotation.list("references")? {
            tags.push(Field::References.tag(&reference));
        }
        let version = match event.member("version").filter(|it| !it.is_null()) {
            None => None,
            Some(version) => {
                Some(version.as_u64().ok_or(Refusal::shape("version is not a whole number"))?)
            }
        };
        let mut uris = event.list("uris")?;
        if uris.len() > URIS_MAX {
            let text = format!("Cannot give more than {URIS_MAX} uris for one annotation");
            return Err(Refusal::new(400, "limit_exceeded", text));
        }
        if uris.is_empty() {
            uris.extend(annotation.text("uri")?);
        }
        let mut keys: Vec<String> = uris.iter().flat_map(|it| uri::keys_of(it, version)).collect();
        keys.sort_unstable();
        keys.dedup();
        tags.extend(keys.iter().map(|key| Field::Uri.tag(key)));
        let mut say = |name: &Name, value: &str| {
            tags.push(Tag { name: name.clone(), value: value.into() });
        };
        say(&NAMES.see, see.as_str());
        say(&NAMES.author, &author);
        if let Some(origin) = event.text("src_client_id")? {
            say(&NAMES.origin, &origin);
        }
        let moderation = event.object("moderation")?.or(annotation.object("moderation")?);
        let data = if action == "delete" {
            let mut data = b"{\"id\": ".to_vec();
            json::write_str(&mut data, &id);
            data.push(b'}');
            Payload(Bytes::from(data))
        } else {
            if let Some(moderation) = moderation {
                say(&NAMES.moderation, moderation.text());
            }
            without_moderation(raw, &annotation)
        };
        let is_bridged = self.app.settings.bridge.iter().any(|it| **it == *group);
        let channel = if is_bridged { Name::from(&*group) } else { Name::from(CHANNEL) };
        let name = Name::from(format!("{EVENT_PREFIX}{action}").as_str());
        let channel = Channel { app: self.app.index, name: channel };
        Ok(Publish {
            tags: Tags::from(tags),
            // Whoever shares the channel and has no filter of ours may only have what everyone may.
            guarded: see != See::World,
            ..Publish::new(channel, name, data, self.now.steady)
        })
    }

    /// Who may see it: as the event says, else as the annotation's own permissions and state say.
    fn see(
        &self,
        annotation: &Object<'_>,
        visibility: &Object<'_>,
        group: &str,
    ) -> Result<See, Refusal> {
        let shared = match visibility.flag("shared")? {
            Some(shared) => shared,
            None => {
                let permissions = annotation.object("permissions")?.map(Object::of);
                let read = match permissions {
                    Some(permissions) if permissions.member("read").is_some() => {
                        permissions.list("read")?
                    }
                    // Nobody has said who may: better refused than told to everyone.
                    _ => {
                        return Err(Refusal::shape(
                            "visibility.shared or annotation.permissions.read is missing",
                        ));
                    }
                };
                read.iter().any(|it| it.starts_with("group:"))
            }
        };
        let hidden = match visibility.flag("hidden")? {
            Some(hidden) => hidden,
            None => {
                let status = annotation.text("moderation_status")?;
                annotation.flag("hidden")?.unwrap_or(false)
                    || status.is_some_and(|it| it != "APPROVED")
            }
        };
        let world = match visibility.flag("group_world_readable")? {
            Some(world) => world,
            None => group == WORLD || self.open_groups.iter().any(|it| it == group),
        };
        Ok(if !shared || visibility.flag("author_shadowbanned")? == Some(true) {
            See::Author
        } else if hidden {
            See::Moderators
        } else if world {
            See::World
        } else {
            See::Members
        })
    }
}

/// The annotation as everyone may have it: what only moderators are told is taken out.
fn without_moderation(raw: Raw<'_>, annotation: &Object<'_>) -> Payload {
    if annotation.0.iter().all(|(name, _)| name != "moderation") {
        return payload(raw.text());
    }
    let mut data = b"{".to_vec();
    for (name, value) in annotation.0.iter().filter(|(name, _)| name != "moderation") {
        if data.len() > 1 {
            data.extend_from_slice(b", ");
        }
        json::write_str(&mut data, name);
        data.extend_from_slice(b": ");
        data.extend_from_slice(value.text().as_bytes());
    }
    data.push(b'}');
    Payload(Bytes::from(data))
}

/// The one copy of what came in.
fn payload(text: &str) -> Payload {
    Payload(Bytes::copy_from_slice(text.as_bytes()))
}

/// An object whose members are looked up often: its text is walked once.
struct Object<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Object<'a> {
    fn of(raw: Raw<'a>) -> Self {
        Self(raw.members().collect())
    }

    /// A member that is there and not null; the last one if the name repeats.
    fn member(&self, name: &str) -> Option<Raw<'a>> {
        let found = self.0.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| *value).filter(|it| !it.is_null())
    }

    fn object(&self, name: &'static str) -> Result<Option<Raw<'a>>, Refusal> {
        match self.member(name) {
            None => Ok(None),
            Some(value) if value.kind() == Kind::Object => Ok(Some(value)),
            Some(_) => Err(Refusal::shape(format!("{name} is not an object"))),
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.member(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(Refusal::shape(format!("{name} is not a string"))),
            },
        }
    }

    fn needed(&self, name: &'static str) -> Result<Cow<'a, str>, Refusal> {
        match self.text(name)?.filter(|it| !it.is_empty()) {
            Some(text) => Ok(text),
            None => Err(Refusal::shape(format!("{name} is missing"))),
        }
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.member(name) {
            None => Ok(None),
            Some(value) => match value.as_bool() {
                Some(flag) => Ok(Some(flag)),
                None => Err(Refusal::shape(format!("{name} is neither true nor false"))),
            },
        }
    }

    fn list(&self, name: &'static str) -> Result<Vec<Cow<'a, str>>, Refusal> {
        let wrong = || Refusal::shape(format!("{name} is not a list of strings"));
        let Some(list) = self.member(name) else { return Ok(Vec::new()) };
        if list.kind() != Kind::Array {
            return Err(wrong());
        }
        list.items().map(|item| item.as_str().ok_or_else(wrong)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Apps;
    use crate::auth::apps::tests::settings;

    fn read_one(body: &str) -> Result<Publish, Refusal> {
        let mut app = settings("1", "k", "s");
        app.bridge = vec!["hello".into()];
        let apps = Apps::new(&[app]);
        let app = apps.with_id("1").unwrap();
        read(app, body.as_bytes(), &["open".into()], Now::default()).map(|mut it| it.remove(0))
    }

    /// An event with these members of `visibility` and of `annotation`.
    fn event(visibility: &str, annotation: &str) -> String {
        format!(
            r#"{{"action":"create","visibility":{{{visibility}}},"annotation":{{"id":"A","user":"acct:a@h"{annotation}}}}}"#
        )
    }

    #[test]
    fn who_may_see_it_is_as_the_event_or_the_annotation_says() {
        let shared = r#","permissions":{"read":["group:__world__"]}"#;
        for (visibility, annotation, see) in [
            ("", shared, See::World),
            ("", r#","permissions":{"read":["acct:a@h"]}"#, See::Author),
            ("", r#","permissions":{"read":[]}"#, See::Author),
            (r#""shared":true"#, "", See::World),
            (r#""shared":false"#, shared, See::Author),
            (r#""shared":true"#, r#","group":"g""#, See::Members),
            (r#""shared":true"#, r#","group":"open""#, See::World),
            (r#""shared":true,"group_world_readable":true"#, r#","group":"g""#, See::World),
            (r#""shared":true,"group_world_readable":false"#, "", See::Members),
            (r#""shared":true,"group":"g""#, r#","group":"open""#, See::Members),
            (r#""shared":true,"hidden":true"#, "", See::Moderators),
            (r#""shared":true"#, r#","hidden":true"#, See::Moderators),
            (r#""shared":true"#, r#","moderation_status":"PENDING""#, See::Moderators),
            (r#""shared":true"#, r#","moderation_status":"SPAM""#, See::Moderators),
            (r#""shared":true"#, r#","moderation_status":"APPROVED""#, See::World),
            (r#""shared":true,"hidden":false"#, r#","hidden":true"#, See::World),
            (r#""shared":false,"hidden":true"#, "", See::Author),
            (r#""shared":true,"author_shadowbanned":true"#, "", See::Author),
        ] {
            let publish = read_one(&event(visibility, annotation)).unwrap();
            assert_eq!(
                publish.tags.value(SEE).unwrap().to_string(),
                see.as_str(),
                "{visibility} {annotation}"
            );
            assert_eq!(publish.guarded, see != See::World);
        }
    }

    #[test]
    fn an_event_is_read_into_tags_and_payload() {
        let publish = read_one(
            r#"{"action":"update","src_client_id":"c1","version":2,"uris":["http://E.com/a/","https://e.com/a"],
            "authority":"h.org","annotation":{"id":"A","user":"ann","group":"hello","references":["R"],
            "uri":"http://else","text":"x","moderation":{"flagCount":1},"tags":[]},"visibility":{"shared":true,"group_world_readable":true}}"#,
        )
        .unwrap();
        assert_eq!((&*publish.channel.name, &*publish.name), ("hello", "annotation-update"));
        let text = String::from_utf8_lossy(&publish.data.0).into_owned();
        assert!(text.contains(r#""text": "x""#) && !text.contains("moderation"), "{text}");
        let tags: Vec<_> =
            publish.tags.as_slice().iter().map(|it| format!("{}={}", it.name, it.value)).collect();
        assert_eq!(
            tags,
            [
                "id=A",
                "group=hello",
                "references=R",
                "uri=httpx://e.com/a__v2",
                "uri=httpx://e.com/a__vall",
                "see=world",
                "author=acct:ann@h.org",
                "origin=c1",
                r#"moderation={"flagCount":1}"#,
            ]
        );
        let delete = read_one(
            r#"{"action":"delete","annotation":{"id":"A","user":"acct:a@h","text":"secret"},"visibility":{"shared":true}}"#,
        )
        .unwrap();
        assert_eq!((&*delete.channel.name, &delete.data.0[..]), (CHANNEL, &br#"{"id": "A"}"#[..]));
        let user = read_one(
            r#"{"kind":"user","userid":"acct:a@h","action":"group-join","model":{"a":1}}"#,
        )
        .unwrap();
        assert_eq!((&*user.channel.name, &*user.name), ("#hypothesis:user:acct:a@h", "group-join"));
    }

    #[test]
    fn events_are_refused_for_what_is_wrong_with_them() {
        let large = event(r#""shared":true"#, &format!(r#","text":"{}""#, "x".repeat(100 << 10)));
        for (body, status, part) in [
            ("nope", 400, "not JSON"),
            ("[]", 422, "not an object"),
            (r#"{"batch":1}"#, 422, "batch is not a list"),
            (r#"{"batch":[1]}"#, 422, "batch[0]: the event is not an object"),
            (r#"{"kind":"x"}"#, 400, "kind is neither"),
            (r#"{"kind":1}"#, 422, "kind is not a string"),
            ("{}", 422, "action is missing"),
            (r#"{"action":"past"}"#, 400, "action is none of"),
            (r#"{"action":"create"}"#, 422, "annotation is missing"),
            (r#"{"action":"create","annotation":[]}"#, 422, "annotation is not an object"),
            (r#"{"action":"create","annotation":{}}"#, 422, "id is missing"),
            (r#"{"action":"create","annotation":{"id":1}}"#, 422, "id is not a string"),
            (r#"{"action":"create","annotation":{"id":"a"}}"#, 422, "annotation.user"),
            (
                r#"{"action":"create","annotation":{"id":"a","user":"u"}}"#,
                422,
                "visibility.shared or",
            ),
            (&event(r#""shared":1"#, ""), 422, "shared is neither"),
            (&event(r#""shared":true"#, r#","references":"r""#), 422, "references is not a list"),
            (&event("", r#","permissions":{"read":"group:x"}"#), 422, "read is not a list"),
            (&large, 413, "exceeds the limit"),
            (r#"{"kind":"user","action":"group-join"}"#, 422, "userid is missing"),
            (r#"{"kind":"user","userid":"u","action":"x"}"#, 400, "neither group-join"),
            (r#"{"kind":"user","userid":"u","type":"group-leave","model":1}"#, 422, "model is not"),
        ] {
            let refusal = read_one(body).map(|_| ()).unwrap_err();
            assert_eq!(refusal.status, status, "{body}: {}", refusal.text);
            assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
        }
    }
}
