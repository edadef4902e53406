use super::*;
use crate::base::time::{Now, UnixMillis};
use crate::outbound::push::provider::Verdict;
use crate::push::credential::Material;

fn at(seconds: u64) -> Now {
    Now { steady: Nanos(seconds * 1_000_000_000), wall: UnixMillis(0) }
}

fn credential(app: &str, secret: &str) -> Arc<Credential> {
    let material = Material::Wns { package_sid: String::new(), client_secret: secret.into() };
    Arc::new(Credential::new(app, "default", 1, material))
}

fn kept(text: &str, made: u64, life_s: u64) -> Kept {
    Kept::new(text.into(), at(made).steady, Duration::from_secs(life_s), Duration::from_secs(10))
}

#[test]
fn what_is_known_is_good_until_its_end() {
    let mut state = State::default();
    assert!(state.known(at(0).steady, at(0).steady).is_none());
    state.learn(Ok(kept("t", 0, 100)), at(0).steady).unwrap();
    for (now, is_known) in [(0, true), (99, true), (100, false), (101, false)] {
        assert_eq!(state.known(at(now).steady, at(now).steady).is_some(), is_known, "{now}");
    }
    assert_eq!(used_for(Millis(3_600_000)), Duration::from_secs(3_540));
    assert_eq!(used_for(Millis(10_000)), Duration::from_secs(9));
    assert_eq!(used_for(Millis(0)), Duration::ZERO);
}

#[test]
fn a_refusal_is_for_those_who_waited() {
    let mut state = State::default();
    let refused = Delivered::not(Verdict::Unauthorized, "no");
    assert_eq!(state.learn(Err(refused.clone()), at(5).steady).err(), Some(refused));
    for (asked_at, is_for) in [(3, true), (5, true), (6, false)] {
        assert_eq!(state.known(at(asked_at).steady, at(9).steady).is_some(), is_for, "{asked_at}");
    }
}

#[test]
fn what_is_stale_is_forgotten_once_and_not_too_soon() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let slot = Slot::default();
        let first = slot.state.lock().await.learn(Ok(kept("t", 0, 100)), at(0).steady).unwrap();
        assert!(!slot.forget(&first, at(9)).await);
        assert!(slot.forget(&first, at(10)).await);
        let second = slot.state.lock().await.learn(Ok(kept("u", 10, 100)), at(10).steady).unwrap();
        // Another was late with the first: what came after it stays.
        assert!(slot.forget(&first, at(30)).await);
        let known = slot.state.lock().await.known(at(30).steady, at(30).steady);
        assert!(known.is_some_and(|it| it.is_ok_and(|it| Arc::ptr_eq(&it, &second))));
    });
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let accesses = Accesses::default();
    let credentials = credential("a", "s");
    let slot = |n: u64, realm: &str| accesses.slot(&credentials, realm.into(), Nanos(n));
    let first = slot(0, "first");
    for n in 1..KEPT_MAX as u64 {
        slot(n, &n.to_string());
    }
    assert!(Arc::ptr_eq(&first, &slot(5_000, "first")));
    slot(5_001, "one more");
    assert_eq!(accesses.0.lock().unwrap().len(), KEPT_MAX);
    assert!(Arc::ptr_eq(&first, &slot(5_002, "first")));
}

#[test]
fn it_is_that_of_the_same_secret_alone_and_goes_with_the_credentials() {
    let accesses = Accesses::default();
    let slot = |it: &Arc<Credential>, realm: &str| accesses.slot(it, realm.into(), Nanos(0));
    let (old, other) = (credential("a", "s"), credential("b", "s"));
    let (first, others) = (slot(&old, "r"), slot(&other, "r"));
    assert!(!Arc::ptr_eq(&first, &others), "another app's");
    // They were read again: the same.
    let read = credential("a", "s");
    assert!(Arc::ptr_eq(&first, &slot(&read, "r")));
    drop(old);
    // Removed and given again, with another secret: their version is what it was.
    let new = credential("a", "t");
    assert!(new.version == read.version && !Arc::ptr_eq(&first, &slot(&new, "r")));
    assert_eq!(accesses.0.lock().unwrap().len(), 3);
    drop(read);
    slot(&new, "another");
    assert_eq!(accesses.0.lock().unwrap().len(), 3, "what was removed is not kept");
    assert!(Arc::ptr_eq(&others, &slot(&other, "r")));
}
