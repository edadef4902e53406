//! Credentials: sealed in the store, opened here, at the start and when they are given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::claims::Claim;
use super::order::{Act, Effect, Running, Then, add, later, put, remove};
use super::seen::{Need, Range};
use super::{NoCredential, Registry, keys};
use crate::base::address::is_private_host;
use crate::base::time::{Millis, Nanos, Now};
use crate::outbound::push::provider::form;
use crate::outbound::push::seal::{Key, NONCE_BYTES, Sealed};
use crate::outbound::push::{Note, Step, provider};
use crate::push::Provider;
use crate::push::credential::{Credential, CredentialFacts, DEFAULT_ID, Material};
use crate::push::order::{Refused, Told};
use crate::push::stored;
use crate::store::{self, Answer, Ask, Shelf};
use crate::wire::json;

/// Credentials of one app; further ones are refused.
pub const CREDENTIALS_OF_APP_MAX: u64 = 100;
/// How far above the last one a version may be that is given: it goes up for ever.
const VERSION_STEP_MAX: u64 = 1_000_000;
/// How many credentials an app has.
const COUNT_OF_CREDENTIALS: &[u8] = b"credentials";
/// Credentials read at once at the start.
const PAGE: u32 = 256;
/// Apps with providers that a line names whose credentials cannot be opened.
const SEALED_NAMED_MAX: usize = 32;
/// After the store failed.
const STORE_PAUSE: Millis = Millis(1_000);

/// By app and provider: by id, opened; none: another key sealed them.
type Opened = HashMap<(Arc<str>, Provider), BTreeMap<String, Option<Arc<Credential>>>>;

/// What is known of credentials, and the key.
#[derive(Debug)]
pub(super) struct Vault {
    key: Option<Key>,
    opened: Opened,
    /// What a reading found so far; none: nothing is to be read.
    reading: Option<Opened>,
    /// Behind this key.
    after: Option<Bytes>,
    is_asked: bool,
    /// What is being read was asked before something changed: it is read anew.
    is_void: bool,
    /// Not before this.
    at: Nanos,
    /// All was read once.
    is_read: bool,
    /// Since this was last asked.
    is_changed: bool,
}

impl Vault {
    pub(super) fn new(key: Option<&str>) -> Self {
        Self {
            key: key.and_then(Key::parse),
            opened: Opened::new(),
            reading: Some(Opened::new()),
            after: None,
            is_asked: false,
            is_void: false,
            at: Nanos(0),
            is_read: false,
            is_changed: false,
        }
    }

    /// Reads what is to be read.
    pub(super) fn drive(&mut self, tag: u64, now: Now, out: &mut Vec<Step>) {
        if self.reading.is_none() || self.is_asked || now.steady < self.at {
            return;
        }
        self.is_asked = true;
        let prefix = Bytes::from_static(&[keys::CREDENTIAL]);
        out.push(Step::Ask(tag, Ask::read(Shelf::Push, prefix, self.after.clone(), PAGE)));
    }

    pub(super) fn due(&self, now: Now) -> Option<Nanos> {
        let waits = self.reading.is_some() && !self.is_asked;
        (waits && self.at > now.steady).then_some(self.at)
    }

    /// The first reading is under way, and the store has not failed it yet.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_read && self.is_asked && self.at == Nanos(0)
    }

    /// What is known may not be what is in the store: all is read again, and what was known counts until then.
    pub(super) fn doubt(&mut self) {
        self.reading = Some(Opened::new());
        self.after = None;
        self.is_void = self.is_asked;
    }

    /// Takes a page of what is in the store.
    pub(super) fn answered(&mut self, answer: Answer, now: Now, out: &mut Vec<Step>) {
        self.is_asked = false;
        if std::mem::take(&mut self.is_void) {
            return;
        }
        let Answer::Values { values, has_more } = answer else {
            self.at = now.steady + STORE_PAUSE;
            return;
        };
        let Some(found) = &mut self.reading else { return };
        self.after = values.last().map(|(key, _)| key.clone());
        for (key, value) in values {
            let sealed = stored::decode::<Sealed>(&value);
            let (Some(sealed), Some((app, _))) = (sealed, keys::app_of(keys::CREDENTIAL, &key))
            else {
                out.push(Step::Say(Note::Unreadable(key.escape_ascii().to_string())));
                continue;
            };
            let app = Arc::<str>::from(app);
            let material = self.key.as_ref().and_then(|it| it.open(&app, &sealed));
            let facts = sealed.facts;
            let opened = material.map(|it| opened(&app, &facts, it));
            found.entry((app, facts.provider)).or_default().insert(facts.id, opened);
        }
        if !has_more {
            self.opened = self.reading.take().unwrap_or_default();
            out.extend(self.sealed().map(Step::Say));
            (self.is_read, self.is_changed) = (true, true);
        }
    }

    /// What there is to say of credentials that cannot be opened: all of it at once, as one line.
    fn sealed(&self) -> Option<Note> {
        let is_sealed = |(_, ids): &(_, &BTreeMap<_, Option<_>>)| ids.values().any(Option::is_none);
        let sealed = self.opened.iter().filter(is_sealed).map(|(of, _)| of);
        let mut names: Vec<_> = sealed.map(|(app, it)| format!("{app}/{}", it.as_str())).collect();
        if names.is_empty() {
            return None;
        }
        names.sort();
        let left = names.len().saturating_sub(SEALED_NAMED_MAX);
        names.truncate(SEALED_NAMED_MAX);
        if left > 0 {
            names.push(format!("{left} more"));
        }
        let why = match self.key {
            Some(_) => "another push.encryption_key sealed them",
            None => "there is no push.encryption_key to open them with",
        };
        Some(Note::CredentialsSealed(names.join(", "), why))
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    pub(super) fn put(&mut self, app: &Arc<str>, facts: CredentialFacts, it: Arc<Credential>) {
        self.opened.entry((app.clone(), facts.provider)).or_default().insert(facts.id, Some(it));
        self.changed();
    }

    pub(super) fn remove(&mut self, app: &Arc<str>, provider: Provider, id: &str) {
        let of = (app.clone(), provider);
        if let Some(ids) = self.opened.get_mut(&of) {
            ids.remove(id);
            if ids.is_empty() {
                self.opened.remove(&of);
            }
        }
        self.changed();
    }

    /// A change that was asked before a reading began may be behind what that reads.
    fn changed(&mut self) {
        self.is_changed = true;
        if self.reading.is_some() {
            self.doubt();
        }
    }

    pub(super) fn find(
        &self,
        app: &str,
        provider: Provider,
        id: Option<&str>,
    ) -> Result<Arc<Credential>, NoCredential> {
        if !self.is_read {
            return Err(NoCredential::NotYet);
        }
        let app = Arc::<str>::from(app);
        let of = |provider| self.opened.get(&(app.clone(), provider));
        let ids = of(provider).ok_or(NoCredential::Missing)?;
        let only = || ids.values().next().filter(|_| ids.len() == 1);
        let usual = || ids.get(DEFAULT_ID).or_else(only);
        let found = match id {
            None => usual(),
            // What goes to devices of several providers names those of one; the others' devices get theirs.
            Some(id) => ids.get(id).or_else(|| {
                let is_known = |it: &Provider| of(*it).is_some_and(|ids| ids.contains_key(id));
                if Provider::ALL.iter().any(is_known) { usual() } else { None }
            }),
        };
        found.ok_or(NoCredential::Missing)?.clone().ok_or(NoCredential::Sealed)
    }
}

fn opened(app: &str, facts: &CredentialFacts, material: Material) -> Arc<Credential> {
    Arc::new(Credential::new(app, &*facts.id, facts.version, material))
}

/// Why nothing can be sent in an app's name.
pub(super) fn refusal(why: NoCredential, provider: Provider) -> Refused {
    let name = provider.as_str();
    match why {
        NoCredential::Missing => {
            Refused::invalid(format!("the app has no such credentials for {name}"))
        }
        NoCredential::NotYet => later("credentials are being read"),
        NoCredential::Sealed => later(&format!("another key sealed the credentials for {name}")),
    }
}

impl Registry {
    pub(super) fn put_credential(
        &self,
        it: &Running,
        id: &str,
        version: Option<u64>,
        material: &Material,
        now: Now,
    ) -> Result<Act, Need> {
        let Some(seal) = &self.vault.key else {
            let text = "no credential encryption key is configured (push.encryption_key)";
            return Err(Refused::invalid(text).into());
        };
        it.claim([Claim::Credentials(it.app.clone())])?;
        self.check_read()?;
        let provider = material.provider();
        let key = credential_key(it, provider, id);
        let count = it.key(keys::COUNT, &[COUNT_OF_CREDENTIALS]);
        it.seen.load(&[&key, &count])?;
        let old = it.seen.value(&key)?;
        let mut changes = Vec::new();
        if old.is_none() {
            let has = store::Change::count(it.seen.value(&count)?.map(|it| &**it));
            if has >= CREDENTIALS_OF_APP_MAX {
                let text = format!("the app has {has} credentials, no more are taken");
                return Err(Refused::new(400, "limit_exceeded", text).into());
            }
            changes.push(add(&count, 1));
        }
        // What cannot be read is written anew: the one who gives credentials has all that was in it.
        let old = old.and_then(|it| stored::decode::<Sealed>(it)).map(|it| it.facts);
        let known = self.vault.find(&it.app, provider, Some(id));
        if let (Some(old), Ok(known)) = (&old, known)
            && known.material == *material
            && version.is_none_or(|it| it == old.version)
        {
            return Ok(Act::tell(Told::Credential(old.clone())));
        }
        let before = old.map_or(0, |it| it.version);
        if version.is_some_and(|it| it.saturating_sub(before) > VERSION_STEP_MAX) {
            let text = format!("version is at most {VERSION_STEP_MAX} above the last, {before}");
            return Err(Refused::invalid(text).into());
        }
        let next = before.checked_add(1).ok_or_else(|| {
            Refused::invalid("version cannot go up any more: remove the credentials first")
        })?;
        // Only now: it may take a while, and all above is gone through more than once.
        provider::check(material).map_err(Refused::invalid)?;
        self.check_urls(material)?;
        let facts = CredentialFacts {
            provider,
            id: id.to_owned(),
            version: version.unwrap_or(next).max(next),
            updated_at: now.wall.0,
        };
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&it.chance[..NONCE_BYTES]);
        let sealed = seal.seal(&it.app, facts.clone(), material, nonce);
        let Some(sealed) = sealed else {
            return Err(Refused::new(500, "internal_error", "sealing failed").into());
        };
        let credential = opened(&it.app, &facts, material.clone());
        changes.push(put(key, stored::encode(&sealed)));
        Ok(Act {
            changes,
            then: Then::Tell(Told::Credential(facts.clone())),
            effect: Effect::Credential(facts, credential),
            unreadable: Vec::new(),
        })
    }

    /// Checks where credentials would have us go: as devices may not, they may not name our own network.
    pub(super) fn check_urls(&self, material: &Material) -> Result<(), Refused> {
        let Material::Fcm { service_account } = material else { return Ok(()) };
        let url = json::parse_str(service_account).ok();
        let url = url.and_then(|it| it.member("token_uri")?.as_str().map(|it| it.into_owned()));
        let Some(url) = url else { return Ok(()) };
        let is_configured = form::origin(&self.settings.urls.fcm) == form::origin(&url);
        let host = url.parse::<hyper::Uri>().ok().and_then(|it| it.host().map(str::to_owned));
        let is_private = host.is_none_or(|it| {
            let host = it.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(&it);
            is_private_host(host)
        });
        match is_private && !is_configured && !self.settings.allow_private {
            true => Err(Refused::invalid(
                "the service account's token_uri is on a private network (the setting push.allow_private)",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn remove_credential(
        &self,
        it: &Running,
        provider: Provider,
        id: &str,
    ) -> Result<Act, Need> {
        it.claim([Claim::Credentials(it.app.clone())])?;
        self.check_read()?;
        let key = credential_key(it, provider, id);
        if it.seen.value(&key)?.is_none() {
            return Ok(Act::tell(Told::Removed(0)));
        }
        let effect = Effect::NoCredential(provider, id.to_owned());
        let then = Then::Tell(Told::Removed(1));
        let count = it.key(keys::COUNT, &[COUNT_OF_CREDENTIALS]);
        let changes = vec![remove(key), add(&count, -1)];
        Ok(Act { changes, then, effect, unreadable: Vec::new() })
    }

    pub(super) fn credentials(&self, it: &Running) -> Result<Act, Need> {
        it.claim([it.seat()])?;
        let prefix = it.prefix(keys::CREDENTIAL, &[]);
        let (mut facts, mut unreadable, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let range = Range { prefix: prefix.clone(), after, rows_max: PAGE };
            let found = it.seen.range(range)?;
            for (key, value) in &found.rows {
                match stored::decode::<Sealed>(value) {
                    Some(sealed) => facts.push(sealed.facts),
                    None => unreadable.push(key.escape_ascii().to_string()),
                }
            }
            match found.rows.last().filter(|_| found.has_more) {
                Some((last, _)) => after = Some(last.clone()),
                None => return Ok(Act::listed(Told::Credentials(facts), unreadable)),
            }
        }
    }

    /// While they are read, what is read could take the place of what was just given.
    fn check_read(&self) -> Result<(), Refused> {
        match self.vault.reading {
            Some(_) => Err(later("credentials are being read")),
            None => Ok(()),
        }
    }
}

fn credential_key(it: &Running, provider: Provider, id: &str) -> Bytes {
    it.key(keys::CREDENTIAL, &[&[provider as u8], id.as_bytes()])
}
