use bytes::Bytes;

use super::super::port::{ARRIVALS_MAX, BackPort, Findings};
use super::super::{Arrival, INQUIRIES_MAX, Outside};
use super::*;
use crate::auth::{Finding, Inquiry, Source, TokenSettings};
use crate::base::ids::{AppIndex, ShardId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::Nanos;
use crate::broker::slots::Slots;
use crate::broker::{Payload, Publish};

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { shard: ShardId(0), slot, generation: 1 }
}

fn inquiry() -> Inquiry {
    let source = Arc::new(Source::new("test", &TokenSettings::default(), None));
    Inquiry { source, what: What::Token("token".into()) }
}

/// A port, its mailbox of that size and the ways to it.
fn port(size: usize) -> (BackPort, mpsc::Receiver<Mail>, Arc<Findings>, Arc<Arrivals>) {
    let (out, mail) = mpsc::channel(size);
    let (findings, arrivals) = (Arc::new(Findings::new(INQUIRIES_MAX)), Arc::<Arrivals>::default());
    (BackPort::new(0, out, findings.clone(), arrivals.clone()), mail, findings, arrivals)
}

/// What the back shard is told, in short.
fn said(mail: &mut mpsc::Receiver<Mail>) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(mail) = mail.try_recv() {
        all.push(match mail {
            Mail::Inquiry(waiter, _) => format!("{} asks", waiter.to.slot),
            Mail::Gone(from) => format!("{} is gone", from.slot),
            Mail::Room => "room".to_owned(),
            _ => "?".to_owned(),
        });
    }
    all
}

#[test]
fn who_is_gone_is_told_after_what_they_asked_however_full_it_is() {
    let (mut port, mut mail, ..) = port(2);
    port.ask(connection(1), Ticket(1), inquiry());
    port.ask(connection(2), Ticket(2), inquiry());
    // There is no room any more: who is gone waits, and nobody overtakes them.
    port.gone(connection(1));
    port.gone(connection(2));
    assert_eq!(said(&mut mail), ["1 asks", "2 asks"]);
    assert!(port.is_ready(), "it is tried again at once");
    port.ask(connection(3), Ticket(3), inquiry());
    assert_eq!(said(&mut mail), ["1 is gone", "2 is gone"], "the question found no room");
    let refused = port.take();
    assert!(matches!(refused, Some((to, Ticket(3), Finding::Unavailable)) if to.slot == 3));
    assert!(!port.is_ready());
    port.ask(connection(3), Ticket(4), inquiry());
    assert_eq!(said(&mut mail), ["3 asks"]);
}

fn event(channel: &str, number: usize) -> Box<Publish> {
    let channel = Channel { app: AppIndex(0), name: Name::from(channel) };
    let data = Payload(Bytes::from(number.to_string()));
    Box::new(Publish::new(channel, Name::from("e"), data, Nanos(0)))
}

#[test]
fn events_wait_in_order_for_a_home_that_is_full_and_it_says_when_it_is_not() {
    const EVENTS: usize = ARRIVALS_MAX * 3;
    let (mut port, mut mail, _, arrivals) = port(4);
    let mut homes = Homes::new(Arc::new(Slots::new(1, [1, 2])), &[arrivals]);
    let mut wakes = 0;
    for number in 0..EVENTS {
        homes.push(event("c", number));
        homes.flush(|_| wakes += 1);
    }
    assert_eq!(homes.waiting, EVENTS - ARRIVALS_MAX);
    assert_eq!(wakes, ARRIVALS_MAX, "nobody is woken for what does not arrive");
    assert!(port.is_ready());
    let mut taken = Vec::new();
    while let Some(arrival) = port.arrival() {
        let Arrival::Publish(event) = arrival else { panic!("an event") };
        taken.push(String::from_utf8_lossy(&event.data.0).into_owned());
        // The home says so when half of its room is free, once for each time that it was full.
        if said(&mut mail) == ["room"] {
            homes.flush(|_| {});
        }
    }
    let expected: Vec<_> = (0..EVENTS).map(|it| it.to_string()).collect();
    assert_eq!(taken, expected);
    assert_eq!(homes.waiting, 0);
    assert!(!port.is_ready());
}

#[test]
fn events_go_to_the_home_of_their_channel() {
    let arrivals: Vec<Arc<Arrivals>> = (0..4).map(|_| Arc::default()).collect();
    let slots = Arc::new(Slots::new(4, [1, 2]));
    let mut homes = Homes::new(slots.clone(), &arrivals);
    for number in 0..100 {
        homes.push(event(&format!("c{number}"), number));
    }
    let mut woken = Vec::new();
    homes.flush(|shard| woken.push(shard));
    assert_eq!(woken, [0, 1, 2, 3], "each once");
    for (shard, arrivals) in arrivals.iter().enumerate() {
        while let Some(event) = arrivals.queue.pop() {
            let Arrival::Publish(event) = event else { panic!("an event") };
            assert_eq!(slots.home_of(&event.channel).index(), shard);
        }
    }
}
