//! What homes tell of messages, and what is in the store, against the history.

use super::*;

impl Scene {
    /// The whole history of a channel, page by page.
    fn history(&mut self, at: usize, is_latest: bool, is_newest_first: bool) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let last = events.last().map(|it| it.serial.0);
            let (from, to) = match is_newest_first {
                true => (0, last.map(|it| Serial(it - 1))),
                false => (last.map_or(0, |it| it + 1), None),
            };
            let query = PageQuery {
                epoch: None,
                from: Serial(from),
                to,
                from_at: None,
                to_at: None,
                is_newest_first,
                events_max: if is_latest { 2 } else { 7 },
                bytes_max: 1 << 20,
                is_latest,
            };
            let reply = self.ask(at, &Command::History(channel(at), Box::new(query)));
            let Reply::Page(page) = reply else { panic!("{reply:?}") };
            self.counts.pages += 1;
            assert!(!page.has_more || !page.events.is_empty(), "seed {}: no way on", self.seed);
            events.extend(page.events);
            if !page.has_more {
                return events;
            }
        }
    }

    fn versions(
        &mut self,
        at: usize,
        message: MessageRef,
        is_newest_first: bool,
    ) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let after = events.last().map(|it| it.id);
            let (versions_max, bytes_max) = (2, 1 << 20);
            let query = VersionsQuery { message, after, is_newest_first, versions_max, bytes_max };
            let reply = self.ask(at, &Command::Versions(channel(at), Box::new(query)));
            let Reply::Versions(Versions { events: some, has_more }) = reply else {
                panic!("seed {}: {message} has {reply:?}", self.seed)
            };
            events.extend(some);
            if !has_more {
                return events;
            }
        }
    }

    /// What a subscription begins with.
    fn rewind(&mut self, at: usize, start: Start) -> Replay {
        for _ in 0..100 {
            let subscribe = Subscribe { start, ..Subscribe::new(channel(at), LaneId(0)) };
            self.replay = None;
            self.up(&channel(at), READER, 0, Command::Subscribe(Box::new(subscribe)));
            self.settle();
            match self.replay.take().as_deref() {
                Some(Ok(replay)) => return replay.clone(),
                Some(Err(gap)) => assert_eq!(gap.reason, GapReason::Unavailable),
                None => {}
            }
            self.pass(Millis(1_500));
        }
        panic!("seed {}: no rewind", self.seed);
    }

    /// What was acknowledged is on the queue, once; what was refused is not.
    fn check_queue(&mut self) {
        let mut times: BTreeMap<usize, u64> = BTreeMap::new();
        for number in self.store.queued(0, self.clock()) {
            *times.entry(number.parse().expect("a number")).or_default() += 1;
        }
        let seed = self.seed;
        self.counts.pushed = times.len() as u64;
        for (number, sent) in self.sent.iter().enumerate() {
            let is_pushed = sent.mutate.as_ref().is_some_and(|it| it.push.is_some());
            let times = times.remove(&number).unwrap_or(0);
            // A channel in memory may lose the message while its notification is on its way to disk.
            let may_vanish = NAMES[sent.channel].starts_with("memory");
            let most = match sent.told {
                _ if !is_pushed => 0,
                Some(Err(Refusal::NotFound)) if may_vanish => 1 + sent.unknown,
                Some(Err(_)) => u64::from(sent.was_told) + sent.unknown,
                Some(Ok(_)) | None => 1 + sent.unknown,
            };
            let least = u64::from(is_pushed && sent.was_told);
            assert!((least..=most).contains(&times), "seed {seed}: {number} {times} {sent:?}");
        }
        assert!(times.is_empty(), "seed {seed}: {times:?}");
    }

    pub(super) fn check(&mut self) {
        self.settle();
        self.check_queue();
        for at in 0..NAMES.len() {
            self.check_channel(at);
        }
    }

    fn check_channel(&mut self, at: usize) {
        let seed = self.seed;
        let history = self.history(at, false, false);
        assert!(history.windows(2).all(|two| two[1].serial.0 == two[0].serial.0 + 1));
        assert!(history.windows(2).all(|two| two[1].id > two[0].id));
        for event in &history {
            self.show(at, event);
        }
        let messages = self.check_versions(at, &history);
        self.check_told(at, &history, &messages);
        // Each message as it is now.
        for (message, versions) in &messages {
            let latest = versions.last().expect("there is one");
            let reply = self.ask(at, &Command::Latest(channel(at), *message));
            let Reply::Versions(told) = reply else { panic!("seed {seed}: {message}: {reply:?}") };
            assert_eq!(essence(&told.events[0]), essence(latest), "seed {seed}: {message}");
            let mut oldest_first = self.versions(at, *message, false);
            let newest_first = self.versions(at, *message, true);
            assert!(oldest_first.iter().rev().eq(&newest_first), "seed {seed}: {message}");
            self.counts.long_lists += u64::from(oldest_first.len() > 4);
            assert_eq!(oldest_first[0].id, message.id, "seed {seed}: it begins with its first");
            if versions[0].id != message.id {
                oldest_first.remove(0);
            }
            let ids = |list: &[Arc<Event>]| list.iter().map(|it| essence(it)).collect::<Vec<_>>();
            assert_eq!(ids(&oldest_first), ids(versions), "seed {seed}: {message}");
        }
        // Those that are gone.
        let known: BTreeSet<_> = self.known.iter().filter(|it| it.0 == at).map(|it| it.1).collect();
        for message in known.into_iter().rev().filter(|it| !messages.contains_key(it)).take(8) {
            let reply = self.ask(at, &Command::Latest(channel(at), message));
            let is_gone = matches!(reply, Reply::Refused(Refusal::NotFound));
            assert!(is_gone, "seed {seed}: {message} is {reply:?}");
        }
        // Pages and rewinds of messages as they are now.
        let first: Vec<_> = history
            .iter()
            .filter(|it| matches!(it.happening, Happening::Message { .. }))
            .map(|it| {
                let message = message_of(it).expect("a message");
                (it.serial, messages[&message].last().expect("there is one").id)
            })
            .collect();
        let shown = |events: &[Arc<Event>]| -> Vec<_> {
            events.iter().map(|it| (it.serial, it.id)).collect()
        };
        assert_eq!(shown(&self.history(at, true, false)), first, "seed {seed}: {at}");
        let mut backwards = shown(&self.history(at, true, true));
        backwards.reverse();
        assert_eq!(backwards, first, "seed {seed}");
        for start in [Start::Events(3), Start::Since(Millis(1 << 40))] {
            let replay = self.rewind(at, start);
            self.counts.cold_rewinds += u64::from(replay.is_cold);
            let told = shown(&replay.events);
            assert!(first.ends_with(&told), "seed {seed}: {start:?} {told:?} of {first:?}");
            let wanted = if let Start::Events(count) = start { count as usize } else { usize::MAX };
            let is_all = told.len() == first.len().min(wanted);
            assert!(is_all || replay.is_cut_by_limit, "seed {seed}: {told:?} of {first:?}");
        }
    }

    /// All versions of each message, by the history; each follows from the one before.
    fn check_versions(
        &mut self,
        at: usize,
        history: &[Arc<Event>],
    ) -> BTreeMap<MessageRef, Vec<Arc<Event>>> {
        let mut messages: BTreeMap<MessageRef, Vec<Arc<Event>>> = BTreeMap::new();
        for event in history {
            let message = message_of(event).expect("a version of a message");
            let versions = messages.entry(message).or_default();
            if let Happening::Mutated(it) = &event.happening {
                let epoch = event.epoch.expect("it is kept").0;
                let is_earlier = |it: &&Arc<Event>| message_of(it) == Some(message);
                let shown = self.shown.range((at, epoch, 0)..(at, epoch, event.serial.0));
                let before = versions.last().or_else(|| shown.map(|it| it.1).rfind(is_earlier));
                let number = it.about.description.as_ref().expect("what it was asked by");
                let sent = &self.sent[number.parse::<usize>().expect("a number")];
                let mutate = sent.mutate.as_ref().expect("a version was asked for");
                // Of one that was never shown nothing is known.
                let is_whole = before.is_some_and(|it| {
                    let is_first = matches!(it.happening, Happening::Message { .. });
                    !versions.is_empty() || is_first && it.serial.0 + 1 == event.serial.0
                });
                if let Some(before) = before.filter(|_| is_whole) {
                    let now = Now { wall: event.at, ..Now::default() };
                    let expected = mutated(before, mutate, (event.id, event.serial), now);
                    let expected = expected.map(|it| essence(&it));
                    assert_eq!(expected, Ok(essence(event)), "seed {}", self.seed);
                }
            }
            versions.push(event.clone());
        }
        messages
    }

    /// What was acknowledged is there, once; what was not found is not.
    fn check_told(
        &self,
        at: usize,
        history: &[Arc<Event>],
        messages: &BTreeMap<MessageRef, Vec<Arc<Event>>>,
    ) {
        let seed = self.seed;
        let Some(first) = history.first() else { return };
        let mut asked = BTreeSet::new();
        for event in history {
            if let Happening::Mutated(it) = &event.happening {
                let number = it.about.description.clone().expect("what it was asked by");
                let is_keyed = self.sent[number.parse::<usize>().expect("a number")].key.is_some();
                assert!(asked.insert(number.clone()) || !is_keyed, "seed {seed}: {number} twice");
            }
        }
        for sent in self.sent.iter().filter(|it| it.channel == at) {
            match &sent.told {
                Some(Ok(told)) if told.epoch == first.epoch && told.serial >= first.serial => {
                    let there = &history[(told.serial.0 - first.serial.0) as usize];
                    assert_eq!(there.id, told.id, "seed {seed}: {sent:?} is not there");
                }
                Some(Err(Refusal::NotFound)) => {
                    let message = sent.mutate.as_ref().expect("of a message").message;
                    let versions = messages.get(&message);
                    let is_there = versions.is_some_and(|it| it[0].id == message.id);
                    // It was asked for before the message was where it is told to be only if that is the newest.
                    assert!(!is_there, "seed {seed}: {message} was not found and is there");
                }
                _ => {}
            }
        }
    }

    /// Nothing is in the store beside the history that does not belong to it.
    pub(super) fn check_store(&mut self) {
        for (at, name) in NAMES.iter().enumerate().take(2) {
            let prefix = shelved::prefix("app", name);
            // What could not be cleaned is tried again when the channel is opened.
            let is_clean = (0..20).any(|_| {
                self.crash();
                let history = self.history(at, false, false);
                let messages = self.check_versions(at, &history);
                let mut wanted = BTreeSet::new();
                for (message, versions) in &messages {
                    if versions.len() == 1 && versions[0].id == message.id {
                        continue;
                    }
                    wanted.insert(shelved::latest_key(&prefix, message.id));
                    wanted.insert(shelved::version_key(&prefix, message.id, message.id));
                    for version in versions {
                        let Happening::Mutated(_) = version.happening else { continue };
                        let epoch = version.epoch.expect("it is kept");
                        wanted.insert(shelved::version_key(&prefix, message.id, version.id));
                        wanted.insert(shelved::place_key(&prefix, epoch, version.serial));
                    }
                }
                let ask = Ask::read(Shelf::Versions, prefix.clone(), None, u32::MAX);
                let look = self.store.memory.look();
                let answer = self.store.reader.answer(&*look, self.store.store, &ask, self.clock());
                let Some(Answer::Values { values, .. }) = answer else { panic!("{answer:?}") };
                let found: BTreeSet<_> = values.iter().map(|it| it.0.clone()).collect();
                let missing: Vec<_> = wanted.difference(&found).collect();
                assert!(missing.is_empty(), "seed {}: {missing:?} missing", self.seed);
                tell!("left {:?}", found.difference(&wanted).collect::<Vec<_>>());
                found == wanted
            });
            assert!(is_clean, "seed {}: {name} is never clean", self.seed);
            self.counts.cleaned += 1;
        }
    }
}
