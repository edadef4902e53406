//! What devices get: the text of a publish or of its template in their language, with values in its places.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use super::super::provider::Message;
use super::record::Spec;
use crate::push::Provider;
use crate::push::order::Refused;
use crate::push::template::{Template, Text};
use crate::wire::json;

/// Bytes of a title, places filled in. This and the next: Sockudo's push API.
pub const TITLE_MAX: usize = 256;
/// Bytes of a body, places filled in.
pub const BODY_MAX: usize = 4096;
/// Bytes of an icon's address.
pub const ICON_MAX: usize = 2048;
/// Bytes of the name of a sound, of a collapse key.
pub const WORD_MAX: usize = 256;
/// Bytes of all that one device gets.
pub const RENDERED_MAX: usize = 4096;
/// Bytes of what is sent as it is.
pub const OVERRIDE_MAX: usize = 4096;
/// The same for APNs, where some kinds may be larger.
pub const OVERRIDE_APNS_MAX: usize = 5120;
/// Bytes of the values of a template.
pub const TEMPLATE_DATA_MAX: usize = 8192;

/// All that can be told of a publish before it is planned: sizes, and that every language has all its values.
pub fn check(spec: &Spec) -> Result<(), Refused> {
    let content = &spec.intent.content;
    if content.template_data.len() > TEMPLATE_DATA_MAX {
        return Err(too_long("templateData", TEMPLATE_DATA_MAX));
    }
    for text in [&content.template_data, &content.data, &content.live_activity] {
        let is_object = text.is_empty()
            || json::parse_str(text).is_ok_and(|it| it.kind() == json::Kind::Object);
        if !is_object {
            return Err(Refused::invalid("data, templateData and liveActivity must be objects"));
        }
    }
    for (provider, raw) in overrides(spec) {
        let most = match provider {
            Provider::Apns => OVERRIDE_APNS_MAX,
            _ => OVERRIDE_MAX,
        };
        if raw.len() > most {
            return Err(too_long(&format!("the override for {}", provider.as_str()), most));
        }
    }
    let locales = spec.template.iter().flat_map(|it| &it.locales);
    for locale in locales.map(|it| Some(it.0.as_str())).chain([None]) {
        let message = message(spec, locale.unwrap_or_default(), Provider::Fcm)?;
        let Text { title, body, icon, sound, collapse_key } = &message.text;
        for (name, text, most) in [
            ("title", title, TITLE_MAX),
            ("body", body, BODY_MAX),
            ("icon", icon, ICON_MAX),
            ("sound", sound, WORD_MAX),
            ("collapseKey", collapse_key, WORD_MAX),
        ] {
            if text.as_ref().is_some_and(|it| it.len() > most) {
                return Err(too_long(name, most));
            }
        }
        if icon.as_ref().is_some_and(|it| !it.starts_with("https://")) {
            return Err(Refused::invalid("icon must be an https:// address"));
        }
        if message.raw.is_empty() && shown(&message).len() > RENDERED_MAX {
            return Err(too_long("the notification with its data", RENDERED_MAX));
        }
    }
    let is_empty = content.text == Text::default()
        && spec.template.is_none()
        && content.data.is_empty()
        && content.template_data.is_empty()
        && content.live_activity.is_empty()
        && content.overrides.is_empty();
    match is_empty {
        true => Err(Refused::invalid("payload says nothing: neither text, data nor overrides")),
        false => Ok(()),
    }
}

fn too_long(what: &str, most: usize) -> Refused {
    Refused::new(413, "payload_too_large", format!("{what} is longer than {most} bytes"))
}

fn overrides(spec: &Spec) -> impl Iterator<Item = (Provider, &String)> {
    let of_template = spec.template.iter().flat_map(|it| &it.overrides);
    spec.intent.content.overrides.iter().chain(of_template).map(|it| (it.0, &it.1))
}

/// What a provider's devices of one language get. Fails when a value is missing.
pub fn message(spec: &Spec, locale: &str, provider: Provider) -> Result<Message, Refused> {
    let content = &spec.intent.content;
    let raw = overrides(spec).find(|it| it.0 == provider).map(|it| it.1.clone());
    let values = json::parse_str(&content.template_data).ok();
    let of_template = spec.template.as_ref().and_then(|it| text_of(it, locale));
    // Without a template and values, places are what somebody wrote to somebody.
    let fill = |said: &Option<String>, in_template: Option<&Option<String>>| match (said, values) {
        (Some(said), Some(values)) => fill(said, Some(values)).map(Some),
        (Some(said), None) => Ok(Some(said.clone())),
        (None, values) => match in_template {
            Some(Some(text)) => fill(text, values).map(Some),
            _ => Ok(None),
        },
    };
    let said = &content.text;
    let text = Text {
        title: fill(&said.title, of_template.map(|it| &it.title))?,
        body: fill(&said.body, of_template.map(|it| &it.body))?,
        icon: fill(&said.icon, of_template.map(|it| &it.icon))?,
        sound: fill(&said.sound, of_template.map(|it| &it.sound))?,
        collapse_key: fill(&said.collapse_key, of_template.map(|it| &it.collapse_key))?,
    };
    let live_activity = content.live_activity.clone();
    // The values are what devices get beside the text, where nothing else is. Source: Sockudo's push API.
    let data = if content.data.is_empty() { &content.template_data } else { &content.data };
    Ok(Message { text, data: data.clone(), raw: raw.unwrap_or_default(), live_activity })
}

/// The language that a publish asks for, whatever the devices' own are. Source: Sockudo's push API.
pub fn locale_asked(spec: &Spec) -> Option<String> {
    let values = json::parse_str(&spec.intent.content.template_data).ok()?;
    let locale = values.member("locale")?.as_str()?;
    Some(locale.into_owned()).filter(|it| !it.trim().is_empty())
}

/// The tag of the language in which a template speaks to a device: its own, a less exact one, the default.
/// Source: RFC 4647, section 3.4 (lookup).
pub fn locale_of<'a>(template: &'a Template, wanted: &str) -> &'a str {
    let mut wanted: Cow<'_, str> = wanted.replace('_', "-").into();
    while !wanted.is_empty() {
        let has = |it: &&(String, Text)| it.0.replace('_', "-").eq_ignore_ascii_case(&wanted);
        if let Some((tag, _)) = template.locales.iter().find(has) {
            return tag;
        }
        let end = wanted.rfind('-').unwrap_or(0);
        wanted = wanted[..end].to_owned().into();
    }
    &template.default_locale
}

fn text_of<'a>(template: &'a Template, wanted: &str) -> Option<&'a Text> {
    let tag = locale_of(template, wanted);
    let found = template.locales.iter().find(|it| it.0 == tag);
    found.or(template.locales.first()).map(|it| &it.1)
}

/// Puts values in the places of a text: `{{name}}`, or `{{a.b}}` for a member of a member, each also behind `data.`, as Sockudo's
/// templates have it.
fn fill(text: &str, values: Option<json::Raw<'_>>) -> Result<String, Refused> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let Some((name, after)) = behind.split_once("}}") else { break };
        out.push_str(before);
        let name = name.trim();
        let find = |name: &str| name.split('.').try_fold(values?, |it, part| it.member(part));
        let found = find(name).or_else(|| find(name.strip_prefix("data.")?));
        let Some(value) = found.filter(|it| !it.is_null()) else {
            return Err(Refused::invalid(format!("templateData has no \"{name}\"")));
        };
        match value.as_str() {
            Some(said) => out.push_str(&said),
            None => out.push_str(value.text()),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// A message as it is shown to whoever published: a JSON object.
pub fn shown(message: &Message) -> String {
    if !message.raw.is_empty() {
        return message.raw.clone();
    }
    let Text { title, body, icon, sound, collapse_key } = &message.text;
    let mut out = Vec::from(*b"{");
    let name = |out: &mut Vec<u8>, name: &str| {
        if out.len() > 1 {
            out.push(b',');
        }
        json::write_str(out, name);
        out.push(b':');
    };
    for (member, text) in [
        ("title", title),
        ("body", body),
        ("icon", icon),
        ("sound", sound),
        ("collapseKey", collapse_key),
    ] {
        if let Some(text) = text {
            name(&mut out, member);
            json::write_str(&mut out, text);
        }
    }
    for (member, text) in [("data", &message.data), ("liveActivity", &message.live_activity)] {
        if !text.is_empty() {
            name(&mut out, member);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

/// Messages of one publish that were needed so far.
#[derive(Debug, Default)]
pub struct Messages {
    /// By language and provider.
    made: Vec<(String, Provider, Arc<Message>)>,
    /// The language that the publish asks for, once that was looked up.
    asked: OnceCell<Option<String>>,
}

impl Messages {
    /// What a device of this language gets.
    pub fn of(&mut self, spec: &Spec, locale: &str, provider: Provider) -> Arc<Message> {
        let asked = self.asked.get_or_init(|| locale_asked(spec)).as_deref();
        // Bounded: a template has so many languages and no more.
        let tag = spec.template.as_ref().map_or("", |it| locale_of(it, asked.unwrap_or(locale)));
        if let Some(found) = self.made.iter().find(|it| it.0 == tag && it.1 == provider) {
            return Arc::clone(&found.2);
        }
        // All languages were tried when it was accepted.
        let made = Arc::new(message(spec, tag, provider).unwrap_or_default());
        self.made.push((tag.to_owned(), provider, Arc::clone(&made)));
        made
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
