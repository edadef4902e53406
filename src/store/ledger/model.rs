//! A ledger against a plain model of what a store should hold, through failures and crashes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::tests::{FREE, at, first, ledger, opened, record, round, stream};
use super::*;
use crate::base::event_id::EventId;
use crate::base::prng::Prng;
use crate::base::time::UnixMillis;
use crate::store::memory::{Memory, Outcome};
use crate::store::{Bounds, NEVER, tools};

/// What a store should hold, plainly.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    streams: BTreeMap<&'static str, ModelStream>,
    state: BTreeMap<(u8, Vec<u8>), (Bytes, UnixMillis)>,
    pushed: BTreeMap<u8, u64>,
}

#[derive(Clone, Debug, PartialEq)]
struct ModelStream {
    epoch: Epoch,
    newest: u64,
    kept: Vec<Record>,
    keys: BTreeMap<String, KeyRecord>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Model {
    fn stream(&mut self, name: &'static str) -> &mut ModelStream {
        self.streams.entry(name).or_insert_with(|| ModelStream {
            epoch: first(name),
            newest: 0,
            kept: Vec::new(),
            keys: BTreeMap::new(),
        })
    }

    /// What is to be told: a fault changes nothing.
    fn apply(&mut self, name: &'static str, ask: &Ask, clock: Clock) -> Result<(), Fault> {
        match ask {
            Ask::Append { epoch, records, keys, changes, .. } => {
                let it = self.stream(name);
                if *epoch != it.epoch || records[0].serial.0 != it.newest + 1 {
                    return Err(Fault::Order);
                }
                self.change(changes, clock)?;
                let it = self.stream(name);
                it.newest += records.len() as u64;
                it.kept.extend(records.iter().cloned());
                it.keys.extend(keys.iter().map(|key| (key.key.to_string(), key.clone())));
            }
            Ask::Purge { to, .. } => {
                let it = self.stream(name);
                let first = match to {
                    PurgeTo::All => it.kept.len(),
                    PurgeTo::Serial(to) => it.kept.iter().take_while(|it| it.serial < *to).count(),
                    PurgeTo::At(to) => it.kept.iter().take_while(|it| it.at < *to).count(),
                };
                it.kept.drain(..first);
            }
            Ask::Reset { epoch, .. } => {
                let it = self.stream(name);
                *it = ModelStream {
                    epoch: *epoch,
                    newest: 0,
                    kept: Vec::new(),
                    keys: BTreeMap::new(),
                };
            }
            Ask::Change { changes, .. } => self.change(changes, clock)?,
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, changes: &[(Shelf, Change)], clock: Clock) -> Result<(), Fault> {
        let (mut state, mut pushed) = (self.state.clone(), self.pushed.clone());
        for (shelf, change) in changes {
            let shelf = *shelf as u8;
            let is_kept = |state: &BTreeMap<_, (Bytes, UnixMillis)>, key: &Bytes| {
                state.get(&(shelf, key.to_vec())).is_some_and(|(_, expires)| *expires > clock)
            };
            match change {
                Change::PutNew { key, .. } if is_kept(&state, key) => return Err(Fault::Exists),
                Change::RemoveKept { key } if !is_kept(&state, key) => return Err(Fault::Missing),
                Change::Put { key, value, expires } | Change::PutNew { key, value, expires } => {
                    state.insert((shelf, key.to_vec()), (value.clone(), *expires));
                }
                Change::Remove { key } | Change::RemoveKept { key } => {
                    state.remove(&(shelf, key.to_vec()));
                }
                Change::Add { key, by } => {
                    let before = state.get(&(shelf, key.to_vec()));
                    let before = before.filter(|(_, expires)| *expires > clock);
                    let count = Change::count(before.map(|(value, _)| &**value));
                    let count = count.saturating_add_signed(*by);
                    let value = (Bytes::copy_from_slice(&count.to_be_bytes()), NEVER);
                    state.insert((shelf, key.to_vec()), value);
                    if count == 0 {
                        state.remove(&(shelf, key.to_vec()));
                    }
                }
                Change::Push { value } => {
                    let last = pushed.entry(shelf).or_default();
                    *last += 1;
                    state.insert((shelf, last.to_be_bytes().to_vec()), (value.clone(), NEVER));
                }
            }
        }
        (self.state, self.pushed) = (state, pushed);
        Ok(())
    }

    /// What is seen of it at a time.
    fn shown(mut self, clock: Clock) -> Self {
        for name in NAMES {
            let it = self.stream(name);
            let first = it.kept.iter().take_while(|it| it.expires <= clock).count();
            it.kept.drain(..first);
            it.keys.retain(|_, key| key.expires > clock);
        }
        self.state.retain(|_, (_, expires)| *expires > clock);
        for (_, expires) in self.state.values_mut() {
            // A read does not tell it.
            *expires = NEVER;
        }
        self
    }

    fn seen(ledger: &mut Ledger, clock: Clock) -> Self {
        let mut model = Self::default();
        for name in NAMES {
            let (head, kept, keys) = opened(ledger, name, clock);
            assert_eq!(head.bytes, kept.iter().map(|it| it.body.len() as u64).sum::<u64>());
            assert_eq!(head.records(), kept.len() as u64);
            let keys = keys.into_iter().map(|key| (key.key.to_string(), key)).collect();
            let it = ModelStream { epoch: head.epoch, newest: head.newest.0, kept, keys };
            model.streams.insert(name, it);
        }
        for shelf in Shelf::ALL {
            let ask = Ask::read(shelf, Bytes::new(), None, 999);
            let Answer::Values { values, has_more } = at(ledger, ask, clock) else {
                panic!("reads")
            };
            assert!(!has_more);
            let values = values.into_iter();
            let named = values.map(|(key, value)| ((shelf as u8, key.to_vec()), (value, NEVER)));
            model.state.extend(named);
        }
        model.pushed = ledger.pushed.clone();
        model
    }
}

fn soon(prng: &mut Prng, clock: Clock) -> UnixMillis {
    match prng.below(4) {
        0 => NEVER,
        _ => UnixMillis(clock.0 + prng.below(30)),
    }
}

/// A change of one of few values, so that conditions hold about half of the time.
fn draw_change(prng: &mut Prng, clock: Clock) -> (Shelf, Change) {
    let shelf = [Shelf::Storage, Shelf::Outbox][prng.below(2) as usize];
    let key = match prng.below(3) {
        0 => Bytes::copy_from_slice(&(1 + prng.below(20)).to_be_bytes()),
        _ => Bytes::from(vec![b'a' + prng.below(4) as u8]),
    };
    let value = Bytes::from(prng.next_u32().to_string());
    let change = match prng.below(10) {
        0 | 1 => Change::Put { key, value, expires: soon(prng, clock) },
        2 | 3 => Change::PutNew { key, value, expires: soon(prng, clock) },
        4 => Change::Push { value },
        5 => Change::Remove { key },
        6 | 7 => Change::Add { key, by: prng.below(7) as i64 - 3 },
        _ => Change::RemoveKept { key },
    };
    (shelf, change)
}

/// An ask that is mostly right, given what the model has.
fn draw(prng: &mut Prng, model: &mut Model, clock: Clock) -> (&'static str, Ask) {
    let name = NAMES[prng.below(3) as usize];
    let soon = |prng: &mut Prng| soon(prng, clock);
    let it = model.stream(name).clone();
    let of = stream(name);
    let ask = match prng.below(12) {
        0 => {
            let kept = it.kept.first().map_or(it.newest, |it| it.serial.0);
            let to = match prng.below(3) {
                0 => PurgeTo::All,
                1 => PurgeTo::Serial(Serial(kept + prng.below(5))),
                _ => PurgeTo::At(UnixMillis(prng.below(50) * 1000)),
            };
            Ask::Purge { stream: of, to }
        }
        1 => Ask::Reset { stream: of, epoch: Epoch(u128::from(prng.next_u64())) },
        2..5 => {
            let changes = (0..=prng.below(3)).map(|_| draw_change(prng, clock));
            Ask::Change { changes: changes.collect() }
        }
        _ => {
            let from = it.newest + 1 + u64::from(prng.chance(1, 8));
            let records = (0..=prng.below(3)).map(|n| {
                let bytes = prng.below(20) as usize;
                record(from + n, soon(prng), bytes)
            });
            let records: Vec<_> = records.collect();
            let mut keys = Vec::new();
            if prng.chance(1, 3) {
                keys.push(KeyRecord {
                    key: prng.below(5).to_string().as_str().into(),
                    fingerprint: [prng.below(9) as u8; 16],
                    serial: Serial(from),
                    id: EventId(u128::from(prng.next_u64())),
                    expires: soon(prng),
                });
            }
            let epoch = if prng.chance(1, 9) { Epoch(3) } else { it.epoch };
            let changes = if prng.chance(1, 3) { 1 + prng.below(3) } else { 0 };
            let changes = (0..changes).map(|_| draw_change(prng, clock)).collect();
            Ask::Append { stream: of, epoch, records, keys, changes }
        }
    };
    (name, ask)
}

#[test]
fn a_plain_model_agrees_through_failures_and_crashes() {
    for seed in 0..60 {
        let mut prng = Prng::new(seed);
        let memory = Memory::default();
        let mut writing = ledger(&memory);
        let (mut model, mut clock) = (Model::default(), UnixMillis(1));
        NAMES.iter().for_each(|name| _ = model.stream(name));
        for step in 0..120 {
            let what = format!("seed {seed}, step {step}");
            clock.0 += prng.below(4);
            if prng.chance(1, 6) {
                memory
                    .expect([[Outcome::FailsBefore, Outcome::FailsAfter][prng.below(2) as usize]]);
            }
            // The model after each ask of the group: what is on disk must be one of them.
            let mut after = vec![model.clone()];
            let (mut asks, mut told) = (Vec::new(), Vec::new());
            for _ in 0..=prng.below(5) {
                let (name, ask) = draw(&mut prng, &mut model, clock);
                told.push(model.apply(name, &ask, clock));
                after.push(model.clone());
                asks.push(ask);
            }
            let answers = writing.answer(asks, clock);
            let known = answers.iter().position(|it| matches!(it, Answer::Fault(Fault::Failed(_))));
            for (n, answer) in answers.iter().enumerate().take(known.unwrap_or(answers.len())) {
                let fault = match answer {
                    Answer::Fault(fault) => Err(fault.clone()),
                    _ => Ok(()),
                };
                assert_eq!(fault, told[n], "{what}: {answer:?}");
            }
            if writing.is_broken() || prng.chance(1, 10) {
                memory.reopen();
                writing = ledger(&memory);
            }
            let seen = Model::seen(&mut writing, clock);
            let from = known.unwrap_or(answers.len());
            let found = after[from..].iter().find(|it| (*it).clone().shown(clock) == seen);
            let Some(found) = found else {
                panic!("{what}: {seen:#?}\nnot in {:#?}", &after[from..])
            };
            model = found.clone();
            match prng.below(8) {
                0 => {
                    let bounds = Bounds { records_max: 6, bytes_max: 40 };
                    memory.reopen();
                    let mut quiet = ledger(&memory);
                    // A commit that was to fail may fail here.
                    let mut portions = (0..100).map(|_| quiet.sweep(clock, &|_| bounds));
                    let is_over = portions.any(|it| it.is_ok_and(|it| it.is_round_over));
                    if quiet.is_broken() || !is_over {
                        memory.reopen();
                        let mut quiet = ledger(&memory);
                        round(&mut quiet, clock, bounds);
                    }
                    for name in NAMES {
                        let it = model.stream(name);
                        let first = it.kept.iter().take_while(|it| it.expires <= clock).count();
                        it.kept.drain(..first);
                        while it.kept.len() > 6
                            || it.kept.iter().map(|it| it.body.len()).sum::<usize>() > 40
                        {
                            it.kept.remove(0);
                        }
                    }
                    writing = ledger(&memory);
                    assert_eq!(
                        Model::seen(&mut writing, clock),
                        model.clone().shown(clock),
                        "{what}"
                    );
                }
                1 | 2 => {
                    let _ = writing.sweep(clock, &FREE);
                    if writing.is_broken() {
                        memory.reopen();
                        writing = ledger(&memory);
                    }
                    assert_eq!(
                        Model::seen(&mut writing, clock),
                        model.clone().shown(clock),
                        "{what}"
                    );
                }
                _ => {}
            }
            let report = tools::check_database(&*memory.look()).unwrap();
            assert_eq!(report.faults, [""; 0], "{what}");
        }
        memory.reopen();
        let mut last = ledger(&memory);
        // Outcomes that were not used up would end the last sweep.
        while last.sweep(UnixMillis(1 << 40), &|_| Bounds { records_max: 1, bytes_max: 0 }).is_err()
        {
            memory.reopen();
            last = ledger(&memory);
        }
        round(&mut last, UnixMillis(1 << 40), Bounds { records_max: 1, bytes_max: 0 });
        assert!(memory.keys(Space::Events) <= NAMES.len(), "seed {seed}");
        assert_eq!(memory.keys(Space::Expiry), 0, "seed {seed}");
    }
}
