//! Changes of the key-value state: all of an ask, or none.
//!
//! An ask's changes are *staged* first: each condition is looked at against what is there, what earlier asks of the
//! group did and what the ask itself does before it. Only when all hold does anything reach the batch.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::database::Batch;
use super::format::{Space, decode_state, encode_state, expiry_key, pushed_key, state_key};
use super::ledger::{Group, Ledger};
use super::reads::ReadError;
use super::{Change, Clock, Fault, NEVER, Shelf};

/// What an ask's changes come to. Each key is in it once; `None` removes.
#[derive(Debug, Default)]
pub(super) struct Staged {
    writes: BTreeMap<Vec<u8>, Option<(Bytes, Clock)>>,
    /// The last key given on each shelf that something is pushed on.
    pushed: BTreeMap<u8, u64>,
}

impl Ledger {
    /// Sees whether all of an ask's changes can be made, and what they come to. Nothing is done yet.
    pub(super) fn stage(
        &self,
        group: &mut Group,
        changes: &[(Shelf, Change)],
        clock: Clock,
    ) -> Result<Result<Staged, Fault>, ReadError> {
        let mut staged = Staged::default();
        for (shelf, change) in changes {
            match change {
                Change::Put { key, value, expires } => {
                    staged.put(state_key(*shelf, key)?, value, *expires);
                }
                Change::PutNew { key, value, expires } => {
                    let key = state_key(*shelf, key)?;
                    if self.is_kept(group, &staged, &key, clock)? {
                        return Ok(Err(Fault::Exists));
                    }
                    staged.put(key, value, *expires);
                }
                Change::Push { value } => {
                    let number = *shelf as u8;
                    let before = staged.pushed.get(&number).or(self.pushed.get(&number));
                    let next = before.map_or(1, |last| last + 1);
                    staged.pushed.insert(number, next);
                    staged.put(state_key(*shelf, &next.to_be_bytes())?, value, NEVER);
                }
                Change::Add { key, by } => {
                    let key = state_key(*shelf, key)?;
                    let before = self.kept(group, &staged, &key, clock)?;
                    match Change::count(before.as_deref()).saturating_add_signed(*by) {
                        0 => staged.writes.insert(key, None),
                        count => {
                            let value = Bytes::copy_from_slice(&count.to_be_bytes());
                            staged.writes.insert(key, Some((value, NEVER)))
                        }
                    };
                }
                Change::Remove { key } => {
                    staged.writes.insert(state_key(*shelf, key)?, None);
                }
                Change::RemoveKept { key } => {
                    let key = state_key(*shelf, key)?;
                    if !self.is_kept(group, &staged, &key, clock)? {
                        return Ok(Err(Fault::Missing));
                    }
                    staged.writes.insert(key, None);
                }
            }
        }
        Ok(Ok(staged))
    }

    fn is_kept(
        &self,
        group: &mut Group,
        staged: &Staged,
        key: &[u8],
        clock: Clock,
    ) -> Result<bool, ReadError> {
        Ok(self.kept(group, staged, key, clock)?.is_some())
    }

    /// An unexpired value, as the ask in hand sees it.
    fn kept(
        &self,
        group: &mut Group,
        staged: &Staged,
        key: &[u8],
        clock: Clock,
    ) -> Result<Option<Bytes>, ReadError> {
        if let Some(write) = staged.writes.get(key) {
            let kept = write.as_ref().filter(|(_, expires)| *expires > clock);
            return Ok(kept.map(|(value, _)| value.clone()));
        }
        let on_disk;
        let value = match group.batch.write_of(Space::State, key) {
            Some(write) => write,
            None => {
                // What others committed since the group began would be in its batch: there are no others.
                let look = group.look.get_or_insert_with(|| self.database.look());
                on_disk = look.value(Space::State, key)?;
                on_disk.as_ref()
            }
        };
        let Some(stored) = value else { return Ok(None) };
        let (expires, value) = decode_state(key, stored)?;
        Ok((expires > clock).then(|| stored.slice_ref(value)))
    }

    /// Puts what was staged into the batch of all.
    pub(super) fn put_staged(&mut self, batch: &mut Batch, staged: Staged) {
        for (key, write) in staged.writes {
            match write {
                Some((value, expires)) => {
                    // An expiry of an earlier value stays behind; the sweep sees that it is not meant any more.
                    put_expiry(batch, expires, Space::State, &key);
                    batch.put(Space::State, key, encode_state(&value, expires));
                }
                None => batch.remove(Space::State, key),
            }
        }
        for (shelf, last) in staged.pushed {
            batch.put(Space::Meta, pushed_key(shelf), last.to_le_bytes().to_vec().into());
            self.pushed.insert(shelf, last);
        }
    }
}

impl Staged {
    fn put(&mut self, key: Vec<u8>, value: &Bytes, expires: Clock) {
        self.writes.insert(key, Some((value.clone(), expires)));
    }
}

/// Says in a batch when something expires, if ever.
pub(super) fn put_expiry(batch: &mut Batch, expires: Clock, space: Space, key: &[u8]) {
    if expires != NEVER {
        batch.put(Space::Expiry, expiry_key(expires, space, key), Bytes::new());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::ids::Serial;
    use crate::base::time::UnixMillis;
    use crate::store::format::first_epoch;
    use crate::store::memory::Memory;
    use crate::store::{Answer, Ask, Record, StreamKey, open};

    const STORE: u128 = 7;

    fn ledger(memory: &Memory) -> Ledger {
        open::settle(memory, STORE).unwrap();
        Ledger::new(Arc::new(memory.clone()), STORE).unwrap()
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn put(key: &str, value: &str) -> Change {
        Change::Put { key: bytes(key), value: bytes(value), expires: NEVER }
    }

    fn put_new(key: &str, value: &str, expires: u64) -> Change {
        Change::PutNew { key: bytes(key), value: bytes(value), expires: UnixMillis(expires) }
    }

    fn remove(key: &str) -> Change {
        Change::Remove { key: bytes(key) }
    }

    fn remove_kept(key: &str) -> Change {
        Change::RemoveKept { key: bytes(key) }
    }

    fn add(key: &str, by: i64) -> Change {
        Change::Add { key: bytes(key), by }
    }

    fn push(value: &str) -> Change {
        Change::Push { value: bytes(value) }
    }

    fn on(shelf: Shelf, changes: Vec<Change>) -> Ask {
        Ask::change(shelf, changes)
    }

    fn told(answers: &[Answer]) -> Vec<&'static str> {
        let one = |answer: &Answer| match answer {
            Answer::Changed | Answer::Appended { .. } => "done",
            Answer::Fault(Fault::Exists) => "exists",
            Answer::Fault(Fault::Missing) => "missing",
            Answer::Fault(Fault::Order) => "order",
            other => panic!("{other:?}"),
        };
        answers.iter().map(one).collect()
    }

    fn kept(ledger: &mut Ledger, shelf: Shelf, clock: u64) -> Vec<(Bytes, Bytes)> {
        let ask = Ask::read(shelf, Bytes::new(), None, 99);
        match ledger.answer([ask], UnixMillis(clock)).remove(0) {
            Answer::Values { values, .. } => values,
            other => panic!("{other:?}"),
        }
    }

    fn pair(key: &str, value: &str) -> (Bytes, Bytes) {
        (bytes(key), bytes(value))
    }

    #[test]
    fn conditions_see_the_disk_the_group_and_the_ask_itself() {
        for (name, changes, answer) in [
            ("new", vec![put_new("n", "1", 99)], "done"),
            ("on disk", vec![put_new("disk", "1", 99)], "exists"),
            ("in the group", vec![put_new("group", "1", 99)], "exists"),
            ("removed in the group", vec![put_new("gone", "1", 99)], "done"),
            ("expired", vec![put_new("old", "1", 99)], "done"),
            ("expired in the group", vec![put_new("old too", "1", 99)], "done"),
            ("twice", vec![put_new("n", "1", 99), put_new("n", "2", 99)], "exists"),
            ("put before", vec![put("n", "1"), put_new("n", "2", 99)], "exists"),
            ("removed before", vec![remove("disk"), put_new("disk", "1", 99)], "done"),
            ("expires at once", vec![put_new("n", "1", 10), put_new("n", "2", 99)], "done"),
            ("take", vec![remove_kept("disk"), remove_kept("group")], "done"),
            ("take nothing", vec![remove_kept("n")], "missing"),
            ("take what is gone", vec![remove_kept("gone")], "missing"),
            ("take what expired", vec![remove_kept("old")], "missing"),
            ("take twice", vec![remove_kept("disk"), remove_kept("disk")], "missing"),
            ("take what was put", vec![put("n", "1"), remove_kept("n")], "done"),
            ("nothing", vec![], "done"),
        ] {
            let mut ledger = ledger(&Memory::default());
            let on_disk = vec![put("disk", "0"), put("gone", "0"), put_new("old", "0", 5)];
            ledger.answer([on(Shelf::Storage, on_disk)], UnixMillis(1));
            let group = vec![put("group", "0"), remove("gone"), put_new("old too", "0", 5)];
            let asks = [on(Shelf::Storage, group), on(Shelf::Storage, changes)];
            let answers = ledger.answer(asks, UnixMillis(10));
            assert_eq!(told(&answers), ["done", answer], "{name}");
        }
    }

    #[test]
    fn a_count_is_what_was_added_wherever_it_was_before() {
        let mut ledger = ledger(&Memory::default());
        let counts = |ledger: &mut Ledger, clock| {
            let values = kept(ledger, Shelf::Push, clock);
            let count = |(key, value): (Bytes, Bytes)| (key, Change::count(Some(&value)));
            values.into_iter().map(count).collect::<Vec<_>>()
        };
        let answers = ledger.answer(
            [
                on(Shelf::Push, vec![add("a", 2), add("a", 3), add("b", 1)]),
                on(Shelf::Push, vec![add("a", -1), remove_kept("none")]),
                on(Shelf::Push, vec![add("a", 10), add("never", -1)]),
                on(Shelf::Push, vec![add("b", -1), add("c", i64::MAX)]),
            ],
            UnixMillis(0),
        );
        assert_eq!(told(&answers), ["done", "missing", "done", "done"]);
        let c = i64::MAX as u64;
        assert_eq!(counts(&mut ledger, 0), [(bytes("a"), 15), (bytes("c"), c)]);
        // What was put, is no count, or is over counts as well.
        let odd = vec![put("a", "text"), put_new("d", "12345678", 5)];
        let more = vec![add("a", 1), add("d", 1), add("c", -5)];
        ledger.answer([on(Shelf::Push, odd)], UnixMillis(1));
        ledger.answer([on(Shelf::Push, more)], UnixMillis(9));
        assert_eq!(counts(&mut ledger, 9), [(bytes("a"), 1), (bytes("c"), c - 5), (bytes("d"), 1)]);
    }

    #[test]
    fn of_a_refused_ask_nothing_is_done() {
        let memory = Memory::default();
        let mut ledger = ledger(&memory);
        let commits = memory.commits();
        let stream = StreamKey { app: "a".into(), channel: "c".into() };
        let append = |serial, changes| {
            let body = Bytes::from_static(b"x");
            let (at, id) = (UnixMillis(1), Default::default());
            let record = Record { serial: Serial(serial), id, at, expires: NEVER, body };
            let epoch = first_epoch(STORE, &stream);
            let (stream, records) = (stream.clone(), vec![record]);
            Ask::Append { stream, epoch, records, keys: Vec::new(), changes }
        };
        let outbox = |change| (Shelf::Outbox, change);
        let answers = ledger.answer(
            [
                on(Shelf::Storage, vec![put("a", "1")]),
                Ask::Change {
                    changes: vec![outbox(push("no")), (Shelf::Storage, put_new("a", "2", 9))],
                },
                append(1, vec![outbox(push("no")), (Shelf::Schedules, remove_kept("s"))]),
                append(2, vec![outbox(push("no"))]),
                append(1, vec![outbox(push("first")), (Shelf::Storage, put("a", "3"))]),
                append(2, vec![outbox(push("second")), (Shelf::Storage, remove_kept("a"))]),
            ],
            UnixMillis(0),
        );
        assert_eq!(told(&answers), ["done", "exists", "missing", "order", "done", "done"]);
        assert_eq!(memory.commits(), commits + 1, "one batch for all of them");
        let outbox = kept(&mut ledger, Shelf::Outbox, 0);
        let values: Vec<_> = outbox.iter().map(|(key, value)| (key.to_vec(), value)).collect();
        let (first, second) = (bytes("first"), bytes("second"));
        let key = |n: u64| n.to_be_bytes().to_vec();
        assert_eq!(values, [(key(1), &first), (key(2), &second)]);
        assert_eq!(kept(&mut ledger, Shelf::Storage, 0), []);
    }

    #[test]
    fn a_pushed_key_is_given_once_although_its_value_is_removed_and_the_store_opened_again() {
        let memory = Memory::default();
        let mut first = ledger(&memory);
        let key = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
        let changes = vec![push("a"), push("b"), Change::RemoveKept { key: key(2) }];
        let answers = first.answer([on(Shelf::Outbox, changes)], UnixMillis(0));
        assert_eq!(told(&answers), ["done"]);
        assert_eq!(kept(&mut first, Shelf::Outbox, 0), [(key(1), bytes("a"))]);
        let mut second = ledger(&memory);
        let asks = [on(Shelf::Outbox, vec![push("c")]), on(Shelf::Push, vec![push("of its own")])];
        second.answer(asks, UnixMillis(0));
        assert_eq!(
            kept(&mut second, Shelf::Outbox, 0),
            [(key(1), bytes("a")), (key(3), bytes("c"))]
        );
        assert_eq!(kept(&mut second, Shelf::Push, 0), [(key(1), bytes("of its own"))]);
    }

    #[test]
    fn a_value_that_took_the_place_of_an_expired_one_is_not_swept_with_it() {
        let memory = Memory::default();
        let mut ledger = ledger(&memory);
        ledger.answer([on(Shelf::UsedTokens, vec![put_new("t", "1", 5)])], UnixMillis(0));
        ledger.answer([on(Shelf::UsedTokens, vec![put_new("t", "2", 20)])], UnixMillis(10));
        let bounds = |_: &StreamKey| crate::store::Bounds::default();
        ledger.sweep(UnixMillis(10), &bounds).unwrap();
        assert_eq!(kept(&mut ledger, Shelf::UsedTokens, 10), [pair("t", "2")]);
        ledger.sweep(UnixMillis(20), &bounds).unwrap();
        assert_eq!((memory.keys(Space::State), memory.keys(Space::Expiry)), (0, 0));
    }
}
