//! What is there, against what was told of it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

impl Scene {
    /// What the outbox says, channel by channel.
    fn read_outbox(&mut self) -> BTreeMap<String, Told> {
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        let ask = Ask::read(Shelf::Outbox, Bytes::new(), None, u32::MAX);
        let look = self.store.memory.look();
        let answer = self.store.reader.answer(&*look, self.store.store, &ask, self.clock());
        let Some(Answer::Values { values, .. }) = answer else { panic!("{answer:?}") };
        for (nth, (key, stored)) in values.iter().enumerate() {
            assert_eq!(**key, (nth as u64 + 1).to_be_bytes(), "the outbox has no holes");
            let report = report::decode(stored).expect("a report");
            let field = |name: &str| {
                let found = report.fields.iter().find(|it| &*it.0 == name);
                found.map(|it| it.1.to_string())
            };
            let channel = field("channel").expect("each has one");
            let it = told.entry(channel).or_default();
            let seed = self.seed;
            let (key, data) = (field("key").unwrap_or_default(), field("data"));
            match &*report.kind {
                "message" => {
                    let id = field("id").expect("it has").parse().expect("an id");
                    let data = data.expect("it has");
                    *it.times.entry(data.clone()).or_default() += 1;
                    assert!(it.messages.insert(id, data).is_none());
                }
                "value" | "expired" => {
                    let before = it.values.get(&key).cloned();
                    let previous = field("previous");
                    let is_same = match (&before, &previous) {
                        (Some(before), Some(previous)) => {
                            same_value(before.as_bytes(), previous.as_bytes())
                        }
                        (before, previous) => before == previous,
                    };
                    assert!(is_same, "seed {seed}: {key} was {before:?}, not {previous:?}");
                    if &*report.kind == "expired" {
                        self.counts.expired += 1;
                    }
                    let times = data.clone().unwrap_or_default();
                    *it.times.entry(times).or_default() += 1;
                    match data {
                        Some(data) => it.values.insert(key, data),
                        None => it.values.remove(&key),
                    };
                }
                "added" | "removed" => {
                    let data = data.expect("it has");
                    let (message, user) =
                        data.trim_matches('"').split_once(' ').expect("both are told");
                    let of = it.reactions.entry(message.parse().expect("an id")).or_default();
                    let is_new = match &*report.kind {
                        "added" => of.insert(user.to_owned()),
                        _ => of.remove(user),
                    };
                    // What was said to a message may be over a moment before who says it again looks.
                    let of = message.parse().ok().and_then(|id| it.messages.get(&id));
                    let is_over = of.is_none_or(|it| self.may_be_over(it));
                    assert!(is_new || is_over, "seed {seed}: {} {data} again", report.kind);
                    let count = match &*report.kind {
                        "added" => &mut self.counts.reacted,
                        _ => &mut self.counts.taken_back,
                    };
                    *count += 1;
                }
                other => panic!("{other}"),
            }
        }
        told
    }

    /// Asks a home until it answers: the store fails under it now and then.
    fn read<T>(&mut self, at: usize, command: &Command, taken: fn(&mut Self) -> Option<T>) -> T {
        let number = self.sent.len() as u32;
        self.sent.push(Sent {
            channel: at,
            act: Act::Read,
            keep: Keep::Forever,
            told: None,
            unknown: 0,
        });
        for _ in 0..100 {
            self.up(&channel(at), Self::connection(CLIENTS), number, command.clone());
            self.settle();
            if let Some(found) = taken(self) {
                return found;
            }
        }
        panic!("seed {}: no answer", self.seed);
    }

    fn all_values(&mut self, at: usize) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut after = None;
        loop {
            let query =
                ValuesQuery { keys: None, after, admit: None, values_max: 2, bytes_max: 99 };
            let command = Command::Values(channel(at), Box::new(query));
            let found = self.read(at, &command, |it| it.values.take());
            assert!(found.len() <= 2 && found.is_sorted_by(|a, b| a.key < b.key));
            let Some(last) = found.last() else { return all };
            after = Some(last.key.clone());
            all.extend(found.iter().map(|it| (it.key.to_string(), text(&it.data))));
        }
    }

    fn all_retained(&mut self, at: usize, is_newest_first: bool) -> Vec<Retained> {
        let mut all: Vec<Retained> = Vec::new();
        loop {
            let last = all.last().map(|it| it.event.id);
            let query = RetainedQuery {
                after: last.filter(|_| !is_newest_first),
                before: last.filter(|_| is_newest_first),
                from_at: UnixMillis(0),
                is_newest_first,
                events_max: 5,
                bytes_max: 1 << 20,
                with_reactions: true,
            };
            let command = Command::Retained(channel(at), Box::new(query));
            let found = self.read(at, &command, |it| it.retained.take());
            if found.is_empty() {
                return all;
            }
            all.extend(found);
        }
    }

    /// What was acknowledged is on the queue, once; what was refused is not.
    fn check_queue(&mut self) {
        let mut times: BTreeMap<usize, u64> = BTreeMap::new();
        for number in self.store.queued(0, self.clock()) {
            *times.entry(number.parse().expect("a number")).or_default() += 1;
        }
        let (seed, counts) = (self.seed, &mut self.counts);
        (counts.pushed, counts.pushed_unknown) = (0, 0);
        for (number, sent) in self.sent.iter().enumerate() {
            let is_pushed = matches!(sent.act, Act::Publish { is_pushed: true, .. });
            let times = times.remove(&number).unwrap_or(0);
            // Whoever is told that nobody knows, or nothing because the process ended, may try again.
            let (least, most) = match sent.told {
                _ if !is_pushed => (0, 0),
                Some(Ok(_)) => (1, 1 + sent.unknown),
                Some(Err(_)) => (0, sent.unknown),
                None => (0, 1 + sent.unknown),
            };
            counts.pushed += times;
            counts.pushed_unknown += if least == 1 { times - 1 } else { times };
            assert!((least..=most).contains(&times), "seed {seed}: {number} {times} {sent:?}");
        }
        assert!(times.is_empty(), "seed {seed}: {times:?}");
    }

    pub(super) fn check(&mut self) {
        let seed = self.seed;
        self.settle();
        self.check_queue();
        for (at, name) in NAMES.into_iter().enumerate() {
            let values = self.all_values(at);
            let newest = self.all_retained(at, true);
            let mut retained = self.all_retained(at, false);
            // What was over between the two is in the first alone.
            let ids: BTreeSet<_> = retained.iter().map(|it| it.event.id).collect();
            let again = newest.iter().rev().map(|it| it.event.id).filter(|it| ids.contains(it));
            assert!(again.eq(retained.iter().map(|it| it.event.id)), "seed {seed}");
            let told = self.read_outbox().remove(name).unwrap_or_default();
            for (key, data) in &values {
                let is_it = told
                    .values
                    .get(key)
                    .is_some_and(|it| same_value(it.as_bytes(), data.as_bytes()));
                assert!(is_it, "seed {seed}: {key} is {data}, and told as {:?}", told.values);
            }
            for (key, data) in &told.values {
                // Its end is told.
                let is_there = values.contains_key(key);
                assert!(is_there, "seed {seed}: {key} was told as {data} and is not there");
            }
            for it in &mut retained {
                let data = data_of(&it.event);
                assert_eq!(told.messages.get(&it.event.id), Some(&data), "seed {seed}");
                let said = it.reactions.iter().map(|it: &Reaction| it.by.user_id.to_string());
                let said: BTreeSet<_> = said.collect();
                let of = told.reactions.get(&it.event.id).cloned().unwrap_or_default();
                assert_eq!(said, of, "seed {seed}: what was said to {}", it.event.id);
            }
            for (id, data) in &told.messages {
                let is_there = ids.contains(id) || self.may_be_over(data);
                assert!(is_there, "seed {seed}: {data} was told and is not there");
            }
            self.check_told(at, &told);
            self.check_views(at, &values);
        }
    }

    /// What was acknowledged was done once; what was refused, not at all, unless nobody knew.
    fn check_told(&mut self, at: usize, told: &Told) {
        for (number, sent) in self.sent.iter().enumerate().filter(|it| it.1.channel == at) {
            let data = match &sent.act {
                Act::Publish { is_retained: true, .. } => {
                    self.counts.retained += 1;
                    format!("\"{number}\"")
                }
                Act::Set { data: Some(data), .. } if *data == data_number(number) => {
                    self.counts.values += 1;
                    data.clone()
                }
                Act::Set { data: Some(_), .. } => {
                    self.counts.unchanged += 1;
                    continue;
                }
                Act::Set { data: None, .. } => {
                    self.counts.cleared += 1;
                    continue;
                }
                _ => continue,
            };
            let times = told.times.get(&data).copied().unwrap_or_default();
            let is_right = match sent.told {
                Some(Ok(_)) => times == 1,
                Some(Err(Refusal::StoreFailed)) | None => times <= 1,
                Some(Err(_)) => times == 0,
            };
            assert!(is_right, "seed {}: {number} {sent:?} {times} times", self.seed);
        }
    }

    /// Who observes a channel knows what is there.
    fn check_views(&mut self, at: usize, values: &BTreeMap<String, String>) {
        for (n, client) in self.clients.iter().enumerate() {
            if client.channel != at || client.stage != ClientStage::Here {
                continue;
            }
            for key in KEYS {
                let (known, there) = (client.view.get(key), values.get(key));
                let is_over = there.is_none() && known.is_some_and(|it| self.may_be_over(it));
                let is_same = match (known, there) {
                    (Some(known), Some(there)) => same_value(known.as_bytes(), there.as_bytes()),
                    (known, there) => known == there,
                };
                assert!(
                    is_same || is_over,
                    "seed {}: {n} knows {known:?}, not {there:?}",
                    self.seed
                );
            }
        }
    }
}
