//! Brings parcels: what a [`Speak`] says, done over HTTP.
//!
//! What lets one in at a provider is remembered until shortly before its end, got once by whoever needs it first, and
//! got anew once when the provider does not take it any more.

mod accesses;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use self::accesses::{Accesses, Kept, RENEWED_SIGNED, RENEWED_TOLD, Slot};
use super::Counts;
use super::identity;
use super::provider::{
    self, Access, Address, Answered, Delivered, Parcel, Request, Speak, Verdict,
};
use super::provider::{broadcast, form};
use crate::base::time::Now;
use crate::config::push::PushSettings;
use crate::observe::log;
use crate::outbound::lines::{Lines, Silence};
use crate::push::Provider;
use crate::push::credential::{Credential, Fingerprint, Material};
use crate::push::device::Recipient;
use crate::push::order::{Refused, Told};
use crate::reactor::machine;

/// Messages that were written to the log and are kept for the console.
const LOGGED_MAX: usize = 50;
/// Credentials with a certificate that there are lines for, at most.
const NAMED_MAX: usize = 64;
/// So much of a title or body is written.
const LOGGED_CHARS_MAX: usize = 120;

/// What is asked about broadcast channels of Live Activities.
#[derive(Clone, Debug)]
pub struct BroadcastAsk {
    /// With what.
    pub credential: Arc<Credential>,
    /// By whom: APNs.
    pub provider: Provider,
    /// What.
    pub what: BroadcastWhat,
}

/// What exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastWhat {
    /// Make one with this policy.
    Create(u8),
    /// List them.
    List,
    /// One.
    Read(String),
    /// Remove one.
    Remove(String),
}

/// Brings parcels. Clones are one and the same. Runs on the back shard's runtime.
#[derive(Clone)]
pub struct Courier(Arc<Office>);

struct Office {
    settings: Arc<PushSettings>,
    counts: Arc<Counts>,
    lines: Lines,
    named: Mutex<Named>,
    /// Parcels under way, by provider. Who sends them has the same bound: this one holds if it errs.
    gates: [Semaphore; Provider::ALL.len()],
    accesses: [Accesses; Provider::ALL.len()],
    /// Held for the time of a push or a copy; the tasks of one thread meet here.
    logged: Mutex<VecDeque<String>>,
}

/// Lines on which a certificate says who we are, by app, credentials and what is secret of them; and who used them last.
type Named = HashMap<(String, String, Fingerprint), (Weak<Credential>, Lines)>;

impl Courier {
    /// What these settings say, counting here.
    pub fn new(settings: Arc<PushSettings>, counts: Arc<Counts>) -> Self {
        let permits = settings.concurrency_max.max(1) as usize;
        Self(Arc::new(Office {
            settings,
            counts,
            lines: Lines::new(None),
            named: Mutex::default(),
            gates: std::array::from_fn(|_| Semaphore::new(permits)),
            accesses: std::array::from_fn(|_| Accesses::default()),
            logged: Mutex::default(),
        }))
    }

    /// Brings one parcel and tells what came of it: once for each, after a bounded time. Those of
    /// [`Provider::Realtime`] are not for it.
    pub async fn deliver(&self, parcel: Parcel) -> Delivered {
        let office = &*self.0;
        if parcel.is_logged {
            return office.write_down(&parcel);
        }
        let Some(speak) = provider::speaker(parcel.provider) else {
            return Delivered::not(Verdict::Refused, "no_such_provider");
        };
        let Ok(_permit) = office.gates[parcel.provider as usize].acquire().await else {
            return Delivered::not(Verdict::Unavailable, "stopped");
        };
        let delivered = office.bring(speak, &parcel, false).await;
        match delivered {
            Err(stale) if stale.verdict == Verdict::Unauthorized => {
                office.bring(speak, &parcel, true).await.unwrap_or_else(|it| it)
            }
            Err(delivered) | Ok(delivered) => delivered,
        }
    }

    /// Asks a provider about its broadcast channels.
    pub async fn broadcast(&self, ask: BroadcastAsk) -> Result<Told, Refused> {
        self.0.broadcast(ask).await
    }

    /// What was written to the log last, newest first: lines.
    pub fn logged(&self) -> Vec<String> {
        let logged = self.0.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.iter().rev().cloned().collect()
    }
}

impl Office {
    /// Brings it. The error is an answer that says that what let us in does not any more: it is forgotten, and another
    /// try is worth it, unless `is_last`.
    async fn bring(
        &self,
        speak: &dyn Speak,
        parcel: &Parcel,
        is_last: bool,
    ) -> Result<Delivered, Delivered> {
        let access = match self.access(speak, parcel).await {
            Ok(access) => access,
            Err(delivered) => return Ok(delivered),
        };
        let lines = match self.lines(parcel.credential.as_ref()) {
            Ok(lines) => lines,
            Err(error) => return Ok(Delivered::not(Verdict::Unauthorized, error)),
        };
        let Some(chance) = chance() else {
            return Ok(Delivered::not(Verdict::Unavailable, "no_chance"));
        };
        let now = machine::now();
        let text = access.as_ref().map_or("", |(_, kept)| &kept.text);
        let made = speak.request(parcel, text, &self.settings.urls, &chance, now);
        let spent = machine::now().steady.since(now.steady).as_micros();
        self.counts.build_us.fetch_add(spent as u64, Ordering::Relaxed);
        let request = match made {
            Ok(request) => request,
            Err(delivered) => return Ok(delivered),
        };
        let allow_private = self.settings.allow_private || !is_devices_own(&parcel.address);
        let answered = match self.send(&lines, &request, allow_private).await {
            Ok(answered) => answered,
            Err(silence) => return Ok(unsent(silence, &request.url)),
        };
        let now = machine::now();
        let delivered = completed(speak.read(&answered, now), &answered, now);
        match (delivered.verdict, access) {
            (Verdict::Unauthorized, Some((slot, kept)))
                if !is_last && slot.forget(&kept, now).await =>
            {
                Err(delivered)
            }
            _ => Ok(delivered),
        }
    }

    async fn send(
        &self,
        lines: &Lines,
        request: &Request,
        allow_private: bool,
    ) -> Result<Answered, Silence> {
        let timeout = Duration::from_millis(self.settings.timeout.0);
        lines.send(request, allow_private, timeout).await
    }

    /// Lines on which we are who these credentials say. The error says what is wrong with them.
    fn lines(&self, credential: Option<&Arc<Credential>>) -> Result<Lines, String> {
        let Some(credential) = credential else { return Ok(self.lines.clone()) };
        let Material::ApnsCertificate { p12, password, .. } = &credential.material else {
            return Ok(self.lines.clone());
        };
        let key = (credential.app.clone(), credential.id.clone(), credential.fingerprint());
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((user, lines)) = named.get_mut(&key) {
            *user = Arc::downgrade(credential);
            return Ok(lines.clone());
        }
        let lines = Lines::new(Some(identity::open(p12, password)?));
        // What was changed or removed since is not used again.
        named.retain(|_, (user, _)| user.strong_count() > 0);
        if named.len() >= NAMED_MAX {
            // Any of them: it is made again when it is needed.
            if let Some(any) = named.keys().next().cloned() {
                named.remove(&any);
            }
        }
        named.insert(key, (Arc::downgrade(credential), lines.clone()));
        Ok(lines)
    }

    /// What lets a parcel in; none: nothing is needed, or the connection does.
    async fn access(
        &self,
        speak: &dyn Speak,
        parcel: &Parcel,
    ) -> Result<Option<(Arc<Slot>, Arc<Kept>)>, Delivered> {
        let urls = &self.settings.urls;
        let Some(credential) = &parcel.credential else {
            // Whoever needs credentials says so itself, in its words.
            let now = machine::now();
            return match speak.access(parcel, urls, now)? {
                Access::Open => Ok(None),
                Access::Signed(text, _) => {
                    let kept = Kept::new(text, now.steady, Duration::ZERO, RENEWED_SIGNED);
                    Ok(Some((Arc::default(), Arc::new(kept))))
                }
                Access::Exchange(_) => Err(Delivered::not(Verdict::Unauthorized, "no credentials")),
            };
        };
        let ask = |now| speak.access(parcel, urls, now);
        self.let_in(speak, credential, speak.realm(parcel), ask).await
    }

    /// What lets us in with these credentials: what is known, or else what `ask` comes to.
    async fn let_in(
        &self,
        speak: &dyn Speak,
        credential: &Arc<Credential>,
        realm: String,
        ask: impl FnOnce(Now) -> Result<Access, Delivered>,
    ) -> Result<Option<(Arc<Slot>, Arc<Kept>)>, Delivered> {
        let asked_at = machine::now().steady;
        let slot = self.accesses[speak.provider() as usize].slot(credential, realm, asked_at);
        // Whoever has it gets it; the others wait for that and take what it got, be it a refusal.
        let mut state = slot.state.lock().await;
        let now = machine::now();
        let kept = match state.known(asked_at, now.steady) {
            Some(known) => known?,
            None => {
                let got = match ask(now) {
                    Ok(Access::Open) => return Ok(None),
                    Ok(Access::Signed(text, life)) => {
                        let life = Duration::from_millis(life.0);
                        Ok(Kept::new(text, now.steady, life, RENEWED_SIGNED))
                    }
                    Ok(Access::Exchange(request)) => self.exchange(speak, &request).await,
                    Err(refused) => Err(refused),
                };
                state.learn(got, machine::now().steady)?
            }
        };
        drop(state);
        Ok(Some((slot, kept)))
    }

    async fn exchange(&self, speak: &dyn Speak, request: &Request) -> Result<Kept, Delivered> {
        let allow_private = self.settings.allow_private || self.is_configured(&request.url);
        let answered = self.send(&self.lines, request, allow_private).await;
        let answered = answered.map_err(|silence| unsent(silence, &request.url))?;
        let now = machine::now();
        let (text, life) = speak
            .read_access(&answered, now)
            .map_err(|delivered| completed(delivered, &answered, now))?;
        Ok(Kept::new(text, now.steady, accesses::used_for(life), RENEWED_TOLD))
    }

    /// Whether the settings say this server: then it may be anywhere. Others are named by credentials, and those by the
    /// application.
    fn is_configured(&self, url: &str) -> bool {
        let urls = &self.settings.urls;
        let said = [&urls.fcm, &urls.hms, &urls.hms_token, &urls.wns_token];
        let origin = form::origin(url);
        origin.is_some() && said.iter().any(|it| form::origin(it) == origin)
    }

    /// What `log` does with a parcel.
    fn write_down(&self, parcel: &Parcel) -> Delivered {
        let now = machine::now();
        let cut = |text: &Option<String>| -> String {
            text.as_deref().unwrap_or_default().chars().take(LOGGED_CHARS_MAX).collect()
        };
        let text = &parcel.message.text;
        let (title, body) = (cut(&text.title), cut(&text.body));
        let to = where_to(&parcel.address);
        let provider = parcel.provider.as_str();
        let fields: [log::Field<'_>; 6] = [
            ("app", &parcel.app),
            ("publish", &parcel.publish_id),
            ("provider", &provider),
            ("to", &to),
            ("title", &title),
            ("body", &body),
        ];
        log::info(now.wall, "push_logged", &fields);
        let line =
            format!("{} {} {provider} {to}: {title:?} {body:?}", parcel.app, parcel.publish_id);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() == LOGGED_MAX {
            logged.pop_front();
        }
        logged.push_back(line);
        Delivered::taken(None)
    }

    async fn broadcast(&self, ask: BroadcastAsk) -> Result<Told, Refused> {
        let (urls, credential) = (&self.settings.urls, &ask.credential);
        let speak = provider::speaker(ask.provider);
        let speak = speak.ok_or_else(|| Refused::invalid("there is no such provider"))?;
        let lines = self.lines(Some(credential)).map_err(Refused::invalid)?;
        let mut is_last = false;
        loop {
            let got = |now| {
                broadcast::access(&credential.material, now)
                    .map_err(|refused| Delivered::not(Verdict::Unauthorized, refused.text))
            };
            let access = self.let_in(speak, credential, String::new(), got).await;
            let access = access.map_err(|not| {
                Refused::new(502, "provider_unauthorized", not.reason.unwrap_or_default())
            })?;
            let text = access.as_ref().map_or("", |(_, kept)| &kept.text);
            let chance = chance().ok_or_else(|| Refused::unavailable("there is no chance"))?;
            let request = broadcast::request(&ask.what, &credential.material, text, urls, &chance)?;
            let answered = self.send(&lines, &request, true).await.map_err(|silence| {
                Refused::unavailable(format!("APNs does not answer: {}", silence.as_str()))
            })?;
            let now = machine::now();
            match access {
                Some((slot, kept)) if !is_last && broadcast::is_stale(&answered) => {
                    if !slot.forget(&kept, now).await {
                        return broadcast::read(&ask.what, &answered, now);
                    }
                    is_last = true;
                }
                _ => return broadcast::read(&ask.what, &answered, now),
            }
        }
    }
}

/// Bytes that nobody can guess; none: the kernel has none, and nothing is sealed with less.
fn chance() -> Option<[u8; 32]> {
    let mut chance = [0; 32];
    getrandom::fill(&mut chance).ok().map(|()| chance)
}

/// Whether the device says where that is, and not the settings.
fn is_devices_own(address: &Address) -> bool {
    matches!(address, Address::Recipient(Recipient::Web { .. } | Recipient::Wns { .. }))
}

/// Where a parcel goes, without what would let anybody send there.
fn where_to(address: &Address) -> String {
    match address {
        Address::Recipient(recipient) => {
            let tail: Vec<char> = recipient.address().chars().rev().take(6).collect();
            format!("{} ..{}", recipient.transport(), tail.iter().rev().collect::<String>())
        }
        Address::Topic(topic) => format!("topic {topic}"),
        Address::Condition(condition) => format!("condition {condition}"),
    }
}

/// What no answer means.
fn unsent(silence: Silence, url: &str) -> Delivered {
    let verdict = match silence {
        Silence::Malformed | Silence::Private => Verdict::Refused,
        Silence::Unreachable | Silence::Broken | Silence::Late => Verdict::Unavailable,
    };
    match (silence, form::origin(url)) {
        // Where to, but no path: at push services that is all it takes to send.
        (Silence::Unreachable, Some(origin)) => {
            let host = origin.split_once("://").map_or("", |it| it.1);
            Delivered::not(verdict, format!("unreachable {host}"))
        }
        _ => Delivered::not(verdict, silence.as_str()),
    }
}

/// What every provider says in the same way.
fn completed(mut delivered: Delivered, answered: &Answered, now: Now) -> Delivered {
    if delivered.status == 0 {
        delivered.status = answered.status;
    }
    let is_later = matches!(delivered.verdict, Verdict::Throttled | Verdict::Unavailable);
    if is_later && delivered.retry_after.is_none() {
        delivered.retry_after = answered.pause(now);
    }
    delivered
}

#[cfg(test)]
#[path = "courier_tests.rs"]
mod tests;
