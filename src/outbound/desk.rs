//! Where inquiries are answered: from what was given out, from what was answered lately, or by asking the
//! application. Sans-io: what is to be asked comes out, the answer comes in.
//!
//! Everything is bounded, and whatever is over a bound or goes wrong is a refusal: nobody gets in because
//! the application is slow. The same question is asked once however many wait for its answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::tokens::{Standing, Tokens};
use crate::auth::source::{Consult, Digest32};
use crate::auth::{Finding, Identity, Inquiry, Source, What};
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos, Now};
use crate::wire::json;

/// Questions with the application at once; more wait.
pub const FLIGHTS_MAX: usize = 64;
/// Questions that wait; a further one is refused.
pub const WAITING_MAX: usize = 4096;
/// Answers that are remembered.
pub const CACHE_MAX: usize = 50_000;
/// How long a refusal is remembered, at most: whoever has just got a token must not wait long.
pub const REFUSAL_CACHE: Millis = Millis(5_000);
/// Logins in a minute that failed or have no answer yet, of one user name. There is no bound for all names
/// together: whoever makes names up would lock everyone else out.
const FAILED_LOGINS_PER_USER_MAX: u32 = 10;
const MINUTE: Millis = Millis(60_000);

/// What a desk wants done.
#[derive(Debug)]
pub enum Step<W> {
    /// Tell this to whoever asked.
    Tell(W, Finding),
    /// Ask the application, and bring what it says to [`Desk::answered`] with this number.
    Ask(u64, Question),
}

/// An HTTP question: `POST url` with a JSON body.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where.
    pub url: String,
    /// What.
    pub body: String,
    /// The value of `X-Ringmain-Signature`, if it is signed.
    pub signature: Option<String>,
    /// How long the answer may take.
    pub timeout: Millis,
}

/// What the application said: status and body; none if nothing came in time.
pub type HttpAnswer = Option<(u16, Vec<u8>)>;

/// One desk; `W` names who asks.
pub struct Desk<W> {
    tokens: Tokens,
    cache: HashMap<Digest32, Cached>,
    order: VecDeque<Digest32>,
    flights: HashMap<u64, Flight<W>>,
    /// From what is asked to its flight, or to who waits with it.
    asked: HashMap<Digest32, u64>,
    waiting: VecDeque<u64>,
    flying: HashSet<u64>,
    next: u64,
    failed: FailedLogins,
    /// Who was revoked while questions were open: user, account, and the last of those questions.
    revoked: Vec<(Name, Option<Name>, u64)>,
}

struct Cached {
    /// None: nobody.
    identity: Option<Arc<Identity>>,
    until: Nanos,
}

/// A question that has no answer yet.
struct Flight<W> {
    inquiry: Inquiry,
    key: Digest32,
    waiters: Vec<W>,
    question: Option<Question>,
    /// From when on it is too late to ask: who waits for its turn waits, too.
    deadline: Nanos,
}

#[derive(Default)]
struct FailedLogins {
    since: Nanos,
    by_user: HashMap<Digest32, u32>,
}

impl<W> Default for Desk<W> {
    fn default() -> Self {
        Self {
            tokens: Tokens::default(),
            cache: HashMap::new(),
            order: VecDeque::new(),
            flights: HashMap::new(),
            asked: HashMap::new(),
            waiting: VecDeque::new(),
            flying: HashSet::new(),
            next: 0,
            failed: FailedLogins::default(),
            revoked: Vec::new(),
        }
    }
}

impl<W> Desk<W> {
    /// Takes a question of `who`; `random` makes 128 bits that nobody can guess.
    pub fn ask(
        &mut self,
        who: W,
        inquiry: Inquiry,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step<W>>,
    ) {
        if let Some(finding) = self.at_once(&inquiry, now, random) {
            return out.push(Step::Tell(who, finding));
        }
        let source = inquiry.source.clone();
        let Some(consult) = &source.consult else {
            return out.push(Step::Tell(who, Finding::Unknown));
        };
        let key = key_of(&inquiry);
        if let Some(flight) = self.asked.get(&key).and_then(|number| self.flights.get_mut(number)) {
            if flight.waiters.len() >= WAITING_MAX {
                return out.push(Step::Tell(who, Finding::Unavailable));
            }
            return flight.waiters.push(who);
        }
        if self.waiting.len() >= WAITING_MAX {
            return out.push(Step::Tell(who, Finding::Unavailable));
        }
        if let What::Login { username, .. } = &inquiry.what {
            // Until it is answered it counts as failed, or a thousand guesses at once would all be heard.
            self.failed.count(username, now);
        }
        let question = Some(question(&source, consult, &inquiry.what));
        let deadline = now.steady + consult.timeout;
        self.next += 1;
        self.asked.insert(key, self.next);
        let flight = Flight { inquiry, key, waiters: vec![who], question, deadline };
        self.flights.insert(self.next, flight);
        self.waiting.push_back(self.next);
        self.take_off(now, out);
    }

    /// Takes what the application said to a question.
    pub fn answered(
        &mut self,
        number: u64,
        answer: HttpAnswer,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step<W>>,
    ) {
        self.flying.remove(&number);
        let Some(flight) = self.flights.remove(&number) else { return };
        self.asked.remove(&flight.key);
        // An answer that was on its way when its subject was revoked is void.
        let is_revoked = |it: &Identity| {
            self.revoked.iter().any(|(user, account, last)| {
                number <= *last && it.user == *user && it.account == *account
            })
        };
        let identity = read(answer, now).map(|it| it.filter(|it| !is_revoked(it)));
        self.forget_revocations();
        for who in flight.waiters {
            let finding = match &identity {
                Err(()) => Finding::Unavailable,
                Ok(None) => Finding::Unknown,
                Ok(Some(identity)) => self.admit(&flight.inquiry, identity.clone(), now, random),
            };
            out.push(Step::Tell(who, finding));
        }
        match (&flight.inquiry.what, identity) {
            (What::Token(_), Ok(identity)) => {
                let cache = flight.inquiry.source.consult.as_ref().map_or(Millis(0), |it| it.cache);
                self.remember(flight.key, identity, cache, now);
            }
            (What::Login { username, .. }, Ok(Some(_)) | Err(())) => self.failed.uncount(username),
            _ => {}
        }
        self.take_off(now, out);
    }

    /// How many questions are with the application or wait.
    pub fn open(&self) -> usize {
        self.flights.len()
    }

    /// What can be said without asking anyone.
    fn at_once(
        &mut self,
        inquiry: &Inquiry,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) -> Option<Finding> {
        let source = &inquiry.source;
        match &inquiry.what {
            What::Token(token) => {
                match self.tokens.check(token, now.wall) {
                    Standing::Good(identity) => return Some(Finding::Known(identity)),
                    Standing::Expired => return Some(Finding::Expired),
                    Standing::Unknown => {}
                }
                let cached = self.cache.get(&key_of(inquiry)).filter(|it| it.until > now.steady)?;
                Some(match &cached.identity {
                    None => Finding::Unknown,
                    Some(identity) if identity.is_expired(now.wall) => Finding::Expired,
                    Some(identity) => Finding::Known(identity.clone()),
                })
            }
            What::Login { username, password, account, .. } => {
                let logins = source.logins.as_ref()?;
                if self.failed.is_limited(username, now) {
                    return Some(Finding::Limited);
                }
                // Someone who is not here may still be known to the application.
                let known = logins.users.get(&**username);
                let Some((secret, identity)) = known else {
                    if source.consult.is_some() {
                        return None;
                    }
                    self.failed.count(username, now);
                    return Some(Finding::Unknown);
                };
                let is_account =
                    account.as_deref().is_none_or(|it| identity.account.as_deref() == Some(it));
                if bool::from(secret.0.as_bytes().ct_eq(password.as_bytes())) && is_account {
                    return Some(self.admit(inquiry, identity.clone(), now, random));
                }
                self.failed.count(username, now);
                Some(Finding::Unknown)
            }
            What::Refresh(refresh_token) => {
                Some(match self.tokens.redeem(refresh_token, now.wall) {
                    Standing::Good(identity) => self.admit(inquiry, identity, now, random),
                    Standing::Expired => Finding::Expired,
                    Standing::Unknown => Finding::Unknown,
                })
            }
            // The desk knows of no such thing; who has it done does not ask here.
            What::Operate(_)
            | What::Follow(_)
            | What::Unfollow(_)
            | What::Submit { .. }
            | What::Push(..) => Some(Finding::Unavailable),
            What::Revoke { user, account } => {
                self.tokens.revoke(user, account.as_deref());
                if !self.flights.is_empty() {
                    self.revoked.push((user.clone(), account.clone(), self.next));
                }
                // Which of the cached answers are theirs costs a look at each, and this is rare.
                let is_it = |it: &Identity| it.user == *user && it.account == *account;
                self.cache.retain(|_, it| !it.identity.as_deref().is_some_and(is_it));
                Some(Finding::Done)
            }
        }
    }

    /// What someone who is who they say they are gets.
    fn admit(
        &mut self,
        inquiry: &Inquiry,
        identity: Arc<Identity>,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) -> Finding {
        match (&inquiry.what, &inquiry.source.logins) {
            (What::Login { verify_only: true, .. } | What::Token(_), _) => Finding::Known(identity),
            (What::Login { .. } | What::Refresh(_), Some(logins)) => {
                Finding::Issued(Box::new(self.tokens.issue(identity, logins, now.wall, random)))
            }
            _ => Finding::Unknown,
        }
    }

    fn remember(
        &mut self,
        key: Digest32,
        identity: Option<Arc<Identity>>,
        cache: Millis,
        now: Now,
    ) {
        let span = if identity.is_some() { cache } else { cache.min(REFUSAL_CACHE) };
        if span.0 == 0 {
            return;
        }
        if self.cache.insert(key, Cached { identity, until: now.steady + span }).is_none() {
            self.order.push_back(key);
        }
        while self.cache.len() > CACHE_MAX || self.order.len() > 2 * CACHE_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.cache.remove(&oldest);
        }
    }

    /// Forgets who was revoked once no question of before is open.
    fn forget_revocations(&mut self) {
        if self.revoked.is_empty() {
            return;
        }
        let first_open = self.flights.keys().min().copied().unwrap_or(u64::MAX);
        self.revoked.retain(|(_, _, last)| first_open <= *last);
    }

    /// Asks as many of those that wait as may be asked; who has waited too long is told so. While all that may
    /// be asked hang, they end one after the other, so that nobody waits for longer than two time-outs.
    fn take_off(&mut self, now: Now, out: &mut Vec<Step<W>>) {
        while self.flying.len() < FLIGHTS_MAX {
            let Some(number) = self.waiting.pop_front() else { return };
            if self.flights.get(&number).is_some_and(|it| it.deadline <= now.steady) {
                let Some(late) = self.flights.remove(&number) else { continue };
                self.asked.remove(&late.key);
                if let What::Login { username, .. } = &late.inquiry.what {
                    self.failed.uncount(username);
                }
                let late = late.waiters.into_iter();
                out.extend(late.map(|who| Step::Tell(who, Finding::Unavailable)));
                continue;
            }
            let question = self.flights.get_mut(&number).and_then(|it| it.question.take());
            if let Some(question) = question {
                self.flying.insert(number);
                out.push(Step::Ask(number, question));
            }
        }
    }
}

impl FailedLogins {
    fn turn(&mut self, now: Now) {
        if now.steady >= self.since + MINUTE || self.by_user.len() > CACHE_MAX {
            *self = Self { since: now.steady, ..Self::default() };
        }
    }

    fn is_limited(&mut self, username: &str, now: Now) -> bool {
        self.turn(now);
        let by_user = self.by_user.get(&digest_of(&[username.as_bytes()])).copied();
        by_user.unwrap_or(0) >= FAILED_LOGINS_PER_USER_MAX
    }

    /// It did not fail after all.
    fn uncount(&mut self, username: &str) {
        if let Some(count) = self.by_user.get_mut(&digest_of(&[username.as_bytes()])) {
            *count = count.saturating_sub(1);
        }
    }

    fn count(&mut self, username: &str, now: Now) {
        self.turn(now);
        *self.by_user.entry(digest_of(&[username.as_bytes()])).or_default() += 1;
    }
}

/// What is asked, as a digest: two inquiries with the same one get the same answer.
fn key_of(inquiry: &Inquiry) -> Digest32 {
    let dialect = inquiry.source.dialect.as_bytes();
    match &inquiry.what {
        What::Token(token) => digest_of(&[b"token", dialect, token.as_bytes()]),
        What::Login { username, password, account, verify_only } => digest_of(&[
            b"login",
            dialect,
            username.as_bytes(),
            password.as_bytes(),
            account.as_deref().unwrap_or_default().as_bytes(),
            &[u8::from(account.is_some()), u8::from(*verify_only)],
        ]),
        What::Refresh(token) => digest_of(&[b"refresh", dialect, token.as_bytes()]),
        What::Revoke { user, .. } => digest_of(&[b"revoke", dialect, user.as_bytes()]),
        What::Operate(words) => digest_of(&[b"operate", dialect, words.as_bytes()]),
        // Answered before anybody asks for the same.
        What::Follow(_) | What::Unfollow(_) | What::Submit { .. } | What::Push(..) => {
            Digest32::default()
        }
    }
}

fn digest_of(parts: &[&[u8]]) -> Digest32 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The question, as the application reads it. The shape is described in `docs/consult.md`.
fn question(source: &Source, consult: &Consult, what: &What) -> Question {
    let mut body = b"{\"protocol\":".to_vec();
    json::write_str(&mut body, source.dialect);
    let mut member = |name: &str, value: &str| {
        body.extend_from_slice(b",\"");
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\":");
        json::write_str(&mut body, value);
    };
    match what {
        What::Login { username, password, account, .. } => {
            member("question", "login");
            member("username", username);
            member("password", password);
            if let Some(account) = account {
                member("account", account);
            }
        }
        What::Token(token) | What::Refresh(token) => {
            member("question", "token");
            member("token", token);
        }
        What::Revoke { user, .. } => member("user", user),
        What::Operate(_)
        | What::Follow(_)
        | What::Unfollow(_)
        | What::Submit { .. }
        | What::Push(..) => {}
    }
    body.push(b'}');
    let signature = consult.key.as_ref().map(|key| {
        let hex = key.sign(&[&body]);
        format!("sha256={}", String::from_utf8_lossy(&hex))
    });
    let body = String::from_utf8_lossy(&body).into_owned();
    Question { url: consult.url.clone(), body, signature, timeout: consult.timeout }
}

/// What an answer means: someone, nobody, or (an error) that nobody knows.
fn read(answer: HttpAnswer, now: Now) -> Result<Option<Arc<Identity>>, ()> {
    match answer {
        Some((200, body)) => {
            let body = json::parse(&body).map_err(|_| ())?;
            let identity = Identity::from_json(body, now.wall).map_err(|_| ())?;
            Ok((!identity.is_expired(now.wall)).then(|| Arc::new(identity)))
        }
        Some((401 | 403 | 404, _)) => Ok(None),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenSettings;
    use crate::auth::source::Logins;
    use crate::base::time::UnixMillis;
    use crate::config::Secret;

    struct Bench {
        desk: Desk<u32>,
        source: Arc<Source>,
        now: Now,
        next: u128,
    }

    impl Bench {
        fn new(url: &str, logins: bool) -> Self {
            let settings = TokenSettings {
                consult_url: url.into(),
                consult_secret: Some(Secret("s".into())),
                consult_timeout: Millis(100),
                consult_cache: Millis(60_000),
                ..TokenSettings::default()
            };
            let ann = Arc::new(Identity { account: Some("a".into()), ..Identity::named("ann") });
            let logins = logins.then(|| Logins {
                users: [("ann".to_owned(), (Secret("pass".into()), ann))].into(),
                token_lifetime: Millis(1000),
                refresh_lifetime: Millis(2000),
            });
            Self {
                desk: Desk::default(),
                source: Arc::new(Source::new("d", &settings, logins)),
                now: Now { steady: Nanos(1), wall: UnixMillis(1_000) },
                next: 0,
            }
        }

        fn ask(&mut self, who: u32, what: What) -> Vec<Step<u32>> {
            let (inquiry, mut out) = (Inquiry { source: self.source.clone(), what }, Vec::new());
            let next = &mut self.next;
            let mut random = || {
                *next += 1;
                *next
            };
            self.desk.ask(who, inquiry, self.now, &mut random, &mut out);
            out
        }

        fn token(&mut self, who: u32, token: &str) -> String {
            words(&self.ask(who, What::Token(token.into())))
        }

        fn answer(&mut self, number: u64, answer: HttpAnswer) -> String {
            let mut out = Vec::new();
            self.desk.answered(number, answer, self.now, &mut || 7, &mut out);
            words(&out)
        }

        fn login(&mut self, username: &str, password: &str, account: Option<&str>) -> Finding {
            let what = What::Login {
                username: username.into(),
                password: password.into(),
                account: account.map(Into::into),
                verify_only: false,
            };
            match self.ask(0, what).pop() {
                Some(Step::Tell(_, finding)) => finding,
                other => panic!("{other:?}"),
            }
        }
    }

    fn words(steps: &[Step<u32>]) -> String {
        let words = steps.iter().map(|step| match step {
            Step::Tell(who, Finding::Known(it)) => format!("{who}:{}", it.user),
            Step::Tell(who, finding) => format!("{who}:{finding:?}"),
            Step::Ask(number, _) => format!("ask {number}"),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn ok(body: &str) -> HttpAnswer {
        Some((200, body.as_bytes().to_vec()))
    }

    #[test]
    fn one_question_serves_all_who_wait_and_the_answer_is_kept() {
        let mut bench = Bench::new("http://x/", false);
        let Some(Step::Ask(1, question)) = bench.ask(1, What::Token("t\"".into())).pop() else {
            panic!("it is asked")
        };
        assert_eq!(question.body, r#"{"protocol":"d","question":"token","token":"t\""}"#);
        assert!(question.signature.is_some_and(|it| it.starts_with("sha256=") && it.len() == 71));
        assert_eq!(bench.token(2, "t\""), "");
        assert_eq!(bench.answer(1, ok(r#"{"user":"ann"}"#)), "1:ann 2:ann");
        assert_eq!(bench.token(3, "t\""), "3:ann");
        bench.now.steady = bench.now.steady + Millis(60_001);
        assert_eq!(bench.token(4, "t\""), "ask 2");
        assert_eq!(bench.answer(2, Some((404, Vec::new()))), "4:Unknown");
        assert_eq!(bench.token(5, "t\""), "5:Unknown");
        bench.now.steady = bench.now.steady + Millis(5_001);
        assert_eq!(bench.token(6, "t\""), "ask 3");
        assert_eq!(bench.desk.open(), 1);
    }

    #[test]
    fn whatever_goes_wrong_is_a_refusal_and_not_kept() {
        let mut bench = Bench::new("http://x/", false);
        for (n, answer) in [
            None,
            Some((500, Vec::new())),
            Some((302, Vec::new())),
            ok("nope"),
            ok("{}"),
            ok(r#"{"user":""}"#),
            ok(r#"{"user":"ann","groups":3}"#),
        ]
        .into_iter()
        .enumerate()
        {
            let number = n as u64 + 1;
            assert_eq!(bench.token(9, "t"), format!("ask {number}"));
            assert_eq!(bench.answer(number, answer), "9:Unavailable");
        }
        // Someone whose token has ended is nobody.
        assert_eq!(bench.token(9, "t"), "ask 8");
        assert_eq!(bench.answer(8, ok(r#"{"user":"ann","exp":0.5}"#)), "9:Unknown");
        let mut nobody = Bench::new("", false);
        assert_eq!(nobody.token(1, "t"), "1:Unknown");
    }

    #[test]
    fn questions_are_bounded() {
        let mut bench = Bench::new("http://x/", false);
        let mut asked = 0;
        for n in 0..FLIGHTS_MAX + WAITING_MAX {
            asked += usize::from(bench.token(0, &n.to_string()).starts_with("ask"));
        }
        assert_eq!(asked, FLIGHTS_MAX);
        assert_eq!(bench.token(7, "one more"), "7:Unavailable");
        let next = FLIGHTS_MAX + 1;
        assert_eq!(bench.answer(1, None), format!("0:Unavailable ask {next}"));
        assert_eq!(bench.token(7, "one more"), "");
    }

    #[test]
    fn a_login_gives_tokens_that_work_refresh_and_can_be_revoked() {
        let mut bench = Bench::new("", true);
        let Finding::Issued(first) = bench.login("ann", "pass", None) else { panic!("let in") };
        assert_eq!(bench.token(1, &first.token), "1:ann");
        let refresh = |bench: &mut Bench, token: &str| bench.ask(2, What::Refresh(token.into()));
        let steps = refresh(&mut bench, &first.refresh_token);
        let [Step::Tell(2, Finding::Issued(second))] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(bench.token(1, &first.token), "1:Unknown");
        assert_eq!(bench.token(1, &second.token), "1:ann");
        assert_eq!(words(&refresh(&mut bench, &first.refresh_token)), "2:Unknown");
        let revoke = What::Revoke { user: "ann".into(), account: Some("a".into()) };
        assert_eq!(words(&bench.ask(3, revoke)), "3:Done");
        assert_eq!(bench.token(1, &second.token), "1:Unknown");
        let Finding::Issued(third) = bench.login("ann", "pass", Some("a")) else {
            panic!("let in")
        };
        bench.now.wall.0 += 1000;
        assert_eq!(bench.token(1, &third.token), "1:Expired");
    }

    #[test]
    fn a_flood_of_failed_logins_is_stopped_and_forgiven() {
        let mut bench = Bench::new("", true);
        assert!(matches!(bench.login("ann", "pass", Some("b")), Finding::Unknown));
        for _ in 1..FAILED_LOGINS_PER_USER_MAX {
            assert!(matches!(bench.login("ann", "wrong", None), Finding::Unknown));
        }
        assert!(matches!(bench.login("ann", "pass", None), Finding::Limited));
        assert!(matches!(bench.login("bob", "pass", None), Finding::Unknown));
        bench.now.steady = bench.now.steady + MINUTE;
        assert!(matches!(bench.login("ann", "pass", None), Finding::Issued(_)));
        // Whoever makes names up locks nobody out.
        for n in 0..5_000 {
            assert!(matches!(bench.login(&n.to_string(), "wrong", None), Finding::Unknown));
        }
        assert!(matches!(bench.login("ann", "pass", None), Finding::Issued(_)));
    }

    #[test]
    fn guesses_that_are_under_way_count() {
        let mut bench = Bench::new("http://x/", true);
        let mut guess = |n: usize| {
            let what = What::Login {
                username: "joe".into(),
                password: n.to_string().into(),
                account: None,
                verify_only: false,
            };
            words(&bench.ask(0, what))
        };
        let asked = (0..100).filter(|&n| guess(n).starts_with("ask")).count();
        assert_eq!(asked, FAILED_LOGINS_PER_USER_MAX as usize);
        // One that was right, and one that nobody could judge, make room for two more.
        assert!(bench.answer(1, ok(r#"{"user":"joe"}"#)).contains("Issued"));
        assert_eq!(bench.answer(2, None), "0:Unavailable");
        assert_eq!(bench.answer(3, Some((401, Vec::new()))), "0:Unknown");
        let mut guess = |n: usize| {
            let (username, password) = ("joe".into(), n.to_string().into());
            words(
                &bench.ask(0, What::Login { username, password, account: None, verify_only: true }),
            )
        };
        let asked = (100..200).filter(|&n| guess(n).starts_with("ask")).count();
        assert_eq!(asked, 2);
    }

    #[test]
    fn an_answer_from_before_a_revocation_is_void() {
        let mut bench = Bench::new("http://x/", true);
        assert_eq!(bench.token(1, "a"), "ask 1");
        let revoke = || What::Revoke { user: "ann".into(), account: Some("acme".into()) };
        assert_eq!(words(&bench.ask(2, revoke())), "2:Done");
        assert_eq!(bench.token(3, "b"), "ask 2");
        let ann = || ok(r#"{"user":"ann","account":"acme"}"#);
        assert_eq!(bench.answer(1, ann()), "1:Unknown");
        // What was asked afterwards counts, and nothing of before was kept.
        assert_eq!(bench.answer(2, ann()), "3:ann");
        assert!(bench.desk.revoked.is_empty());
        assert_eq!(words(&bench.ask(2, revoke())), "2:Done");
        assert_eq!(bench.token(4, "b"), "ask 3");
    }

    #[test]
    fn who_waits_for_a_turn_does_not_wait_forever() {
        let mut bench = Bench::new("http://x/", false);
        for n in 0..FLIGHTS_MAX + 10 {
            bench.token(n as u32, &n.to_string());
        }
        bench.now.steady = bench.now.steady + Millis(101);
        let told = bench.answer(1, None);
        assert_eq!(told.matches("Unavailable").count(), 11, "{told}");
        assert!(!told.contains("ask"));
        assert_eq!(bench.token(9, "new"), format!("ask {}", FLIGHTS_MAX + 11));
    }
}
