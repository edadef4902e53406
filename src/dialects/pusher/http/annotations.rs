//! What is said about messages: what may be said, asked and taken back, and the answers.
//!
//! Source: Sockudo's HTTP API, "Annotations". Members are spelled in its camel case, and in the snake case of its
//! documentation.

use super::super::actor::Actor;
use super::super::capabilities::Op;
use super::super::versions;
use super::fields::{self, Fields};
use super::messages::{self, CLIENT_ID_BYTES_MAX, payload};
use super::publish;
use crate::auth::sign::Query;
use crate::base::event_id::EventId;
use crate::base::ids::ConnectionId;
use crate::base::name::{Channel, Name};
use crate::broker::versioned::{
    Annotate, Annotating, Annotation, Annotations, AnnotationsQuery, MessageRef, Summarizer,
};
use crate::broker::{self, Command, Published};
use crate::config::App;
use crate::dialects::Response;
use crate::dialects::api::{Refusal, respond};
use crate::wire::json;

/// Bytes of a type, and of what is said, at most. Source: as above.
const TYPE_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 256;
/// Bytes of the word for how the data is encoded, at most.
const ENCODING_BYTES_MAX: usize = 128;
/// Annotations of one page, at most. Source: as above.
const ANNOTATIONS_MAX: u32 = 100;

/// Something is to be said about a message, or taken back.
#[derive(Debug)]
pub(super) struct Saying {
    /// The connection that acts; none: the app does.
    pub actor: Option<ConnectionId>,
    annotate: Annotate,
}

impl Saying {
    /// Reads the body of an annotation.
    pub fn read(body: &[u8], channel: Channel, serial: &str, app: &App) -> Result<Self, Refusal> {
        let fields = Fields::read(body)?;
        let message = messages::read_serial(serial, &channel.name)?;
        let kind = fields.text(&["type"])?.ok_or(Refusal::shape("type is missing"))?;
        let summarizer = read_type(&kind)?;
        let name = fields.id(&["name"], NAME_BYTES_MAX)?;
        let client_id = fields.id(&["clientId", "client_id"], CLIENT_ID_BYTES_MAX)?;
        let actor = messages::read_actor(fields.text(&["socketId", "socket_id"])?.as_deref())?;
        let count = fields.number("count")?;
        if count == Some(0) {
            return Err(Refusal::invalid("Annotation count must be greater than 0"));
        }
        let data = fields.any("data");
        if let Some(data) = data {
            publish::check_size(data, "data", app)?;
        }
        let encoding = fields.id(&["encoding"], ENCODING_BYTES_MAX)?;
        use Summarizer::{Distinct, Flag, Multiple, Unique};
        if matches!(summarizer, Distinct | Unique | Multiple) && name.is_none() {
            return Err(Refusal::invalid("annotation name is required for this annotation type"));
        }
        // An acting connection says who it is itself.
        if matches!(summarizer, Flag | Distinct | Unique) && client_id.is_none() && actor.is_none()
        {
            return Err(client_id_required());
        }
        let annotation = Annotation {
            message,
            kind: Name::from(&*kind),
            summarizer,
            name: name.map(|it| Name::from(&*it)),
            client_id: client_id.map(|it| Name::from(&*it)),
            count,
            data: data.map(payload),
            encoding: encoding.map(|it| Name::from(&*it)),
        };
        Ok(Self::new(channel, Annotating::Say(annotation), actor, app))
    }

    /// Reads what is to be taken back.
    pub fn read_taking_back(
        query: &Query<'_>,
        channel: Channel,
        serial: &str,
        annotation: &str,
        app: &App,
    ) -> Result<Self, Refusal> {
        let message = messages::read_serial(serial, &channel.name)?;
        let id = read_serial(annotation, &channel.name)?;
        let actor = messages::read_actor(query.value("socket_id"))?;
        let what = Annotating::TakeBack { message, id, only_of: None };
        Ok(Self::new(channel, what, actor, app))
    }

    fn new(channel: Channel, what: Annotating, actor: Option<ConnectionId>, app: &App) -> Self {
        let summary_bytes_max = app.event_payload_bytes_max;
        Self { actor, annotate: Annotate { channel, what, summary_bytes_max, report: None } }
    }

    /// In which channel.
    pub fn channel(&self) -> &str {
        &self.annotate.channel.name
    }

    /// Lets a connection do it, with the rights that it has.
    pub fn act_as(&mut self, actor: &Actor) -> Result<(), Refusal> {
        match &mut self.annotate.what {
            Annotating::Say(annotation) => {
                if !actor.may(Op::Publish) || !actor.may(Op::AnnotationPublish) {
                    return Err(not_permitted("annotate messages"));
                }
                annotation.client_id.clone_from(&actor.client_id);
                use Summarizer::{Distinct, Flag, Unique};
                if matches!(annotation.summarizer, Flag | Distinct | Unique)
                    && annotation.client_id.is_none()
                {
                    return Err(client_id_required());
                }
            }
            Annotating::TakeBack { only_of, .. } => {
                if !actor.may(Op::AnnotationDeleteAny) {
                    let own = actor.client_id.clone();
                    let own = own.filter(|_| actor.may(Op::AnnotationDeleteOwn));
                    *only_of = Some(own.ok_or(not_permitted("take annotations back"))?);
                }
                if !actor.may(Op::Publish) {
                    return Err(not_permitted("take annotations back"));
                }
            }
        }
        Ok(())
    }

    /// What the broker is asked.
    pub fn command(&self) -> Command {
        Command::Annotate(Box::new(self.annotate.clone()))
    }

    /// The answer once it is done.
    pub fn answer(&self, done: &Published) -> Response {
        let text = match &self.annotate.what {
            Annotating::Say(_) => format!("{{\"annotationSerial\":\"{}\"}}", done.id),
            Annotating::TakeBack { id, .. } => {
                format!(
                    "{{\"annotationSerial\":\"{}\",\"deletedAnnotationSerial\":\"{id}\"}}",
                    done.id
                )
            }
        };
        respond(200, text.into())
    }

    /// The answer if the broker refuses.
    pub fn refused(&self, refusal: broker::Refusal) -> Response {
        match (&self.annotate.what, refusal) {
            (Annotating::TakeBack { id, .. }, broker::Refusal::NotFound) => {
                messages::not_found("Annotation", &id.to_string(), self.channel()).response()
            }
            (_, broker::Refusal::NotOwner) => {
                not_permitted("take others' annotations back").response()
            }
            (Annotating::TakeBack { message, .. }, refusal) => {
                messages::refused_of(refusal, *message, self.channel())
            }
            (Annotating::Say(it), refusal) => {
                messages::refused_of(refusal, it.message, self.channel())
            }
        }
    }
}

fn not_permitted(what: &str) -> Refusal {
    Refusal::new(403, "forbidden", format!("the acting connection may not {what} here"))
}

fn client_id_required() -> Refusal {
    Refusal::invalid("annotation client_id is required for this annotation type")
}

/// Reads an annotation's serial in a path.
fn read_serial(text: &str, channel: &str) -> Result<EventId, Refusal> {
    text.parse().map_err(|_| messages::not_found("Annotation", text, channel))
}

/// Reads a type: `<namespace>:<summarizer>.v1`.
fn read_type(kind: &str) -> Result<Summarizer, Refusal> {
    if kind.len() > TYPE_BYTES_MAX {
        return Err(Refusal::limit(format_args!(
            "annotation type has at most {TYPE_BYTES_MAX} bytes"
        )));
    }
    let shape = || Refusal::invalid("annotation type must use namespace:summarizer.version");
    if kind.chars().any(char::is_whitespace) {
        return Err(Refusal::invalid("annotation type must not contain whitespace"));
    }
    let (namespace, rest) = kind.split_once(':').ok_or_else(shape)?;
    let (summarizer, version) = rest.split_once('.').ok_or_else(shape)?;
    if namespace.is_empty() || summarizer.is_empty() || version.is_empty() {
        return Err(shape());
    }
    let summarizer = match summarizer {
        "total" => Summarizer::Total,
        "flag" => Summarizer::Flag,
        "distinct" => Summarizer::Distinct,
        "unique" => Summarizer::Unique,
        "multiple" => Summarizer::Multiple,
        other => {
            return Err(Refusal::invalid(format!("unsupported annotation summarizer: {other}")));
        }
    };
    if version != "v1" {
        let version = version.strip_prefix('v').unwrap_or(version);
        let text = format!("unsupported annotation summarizer version: {version}");
        return Err(Refusal::invalid(text));
    }
    Ok(summarizer)
}

/// Which annotations are asked for.
#[derive(Debug)]
pub(super) struct AnnotationsAsk {
    /// The connection that asks; none: the app does.
    pub actor: Option<ConnectionId>,
    channel: Channel,
    query: AnnotationsQuery,
}

impl AnnotationsAsk {
    /// Reads the query.
    pub fn read(query: &Query<'_>, channel: Channel, serial: &str) -> Result<Self, Refusal> {
        let message = messages::read_serial(serial, &channel.name)?;
        let actor = messages::read_actor(query.value("socket_id"))?;
        let from = query.value("from_serial").map(|text| {
            text.parse().map_err(|_| Refusal::invalid("from_serial is no annotation's serial"))
        });
        let query = AnnotationsQuery {
            message,
            kind: query.value("type").map(Name::from),
            from: from.transpose()?,
            annotations_max: fields::limit(query.value("limit"), ANNOTATIONS_MAX, "Annotation")?,
        };
        Ok(Self { actor, channel, query })
    }

    /// In which channel.
    pub fn channel(&self) -> &str {
        &self.channel.name
    }

    /// Lets a connection ask, with the rights that it has.
    pub fn act_as(&self, actor: &Actor) -> Result<(), Refusal> {
        let may = actor.may(Op::AnnotationSubscribe);
        may.then_some(()).ok_or(not_permitted("read annotations"))
    }

    /// What the broker is asked.
    pub fn command(&self) -> Command {
        Command::Annotations(self.channel.clone(), Box::new(self.query.clone()))
    }

    /// The answer.
    pub fn answer(&self, found: &Annotations) -> Response {
        let mut out = b"{\"channel\":".to_vec();
        json::write_str(&mut out, &self.channel.name);
        let has_more = found.next.is_some();
        let AnnotationsQuery { message, annotations_max: limit, .. } = &self.query;
        let text = format!(
            ",\"messageSerial\":\"{message}\",\"limit\":{limit},\"hasMore\":{has_more},\"nextCursor\":"
        );
        out.extend_from_slice(text.as_bytes());
        match found.next {
            Some(next) => out.extend_from_slice(format!("\"{next}\"").as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"items\":[");
        for event in &found.events {
            let before = out.len();
            if out.last() != Some(&b'[') {
                out.push(b',');
            }
            if !versions::write_annotation(event, &mut out) {
                out.truncate(before);
            }
        }
        out.extend_from_slice(b"]}");
        respond(200, out.into())
    }

    /// The answer if the broker refuses.
    pub fn refused(&self, refusal: broker::Refusal) -> Response {
        messages::refused_of(refusal, self.message(), self.channel())
    }

    fn message(&self) -> MessageRef {
        self.query.message
    }
}
