//! Ringmain: one self-hosted realtime event engine that speaks several realtime protocols natively.
//!
//! A back end publishes once; every subscriber hears it, whichever protocol it speaks. This page is
//! the map; each room's own page says which of its files to read first. To see how it all moves, read
//! [`shard::Shard::tick`].
//!
//! # The rooms
//!
//! Lowest layer first; imports point down only, and `tests/architecture.rs` fails on one that does not.
//!
//! | layer | room | what it does |
//! | --- | --- | --- |
//! | 0 | [`base`] | Nouns and structures for every other room: ids, time as a value, names, frames, slab, timer wheel, mailbox, generator. |
//! | 1 | [`wire`] | Turns bytes into values and values into bytes: HTTP, WebSocket, server-sent events, JSON. |
//! | 1 | [`reactor`] | Meets the kernel, alone: one [`Driver`](reactor::Driver) on io_uring, one on epoll, one simulated. |
//! | 1 | [`config`] | Declares every setting once and turns file, environment and flags into a checked [`Config`](config::Config). |
//! | 1 | [`store`] | Keeps streams of records and a key-value state on disk, synced; an embedded database behind one narrow face. |
//! | 1 | [`push`] | Says what push notifications are made of: devices, subscriptions, credentials, templates, publishes and what came of them, as values. |
//! | 1 | [`observe`] | Counts, measures and logs; every metric is declared once, and only its own shard writes it. |
//! | 2 | [`broker`] | Keeps channels: who listens, who is present, what was published, in which order. |
//! | 2 | [`auth`] | Knows the apps, checks what they signed, and says whose a token is. |
//! | 3 | [`dialects`] | Speaks the protocols, a folder for each, without a socket. |
//! | 3 | [`outbound`] | Meets the world outside: asks whose a token is that only the application knows, follows an application's own Redis and PostgreSQL, tells receivers what happened, and sends push notifications. |
//! | 4 | [`shard`] | Puts one thread's worth of everything together and ticks it. |
//! | 5 | [`server`] | Starts a shard on each core, waits for the signal and drains them. |
//!
//! Above them are the command line and `main`, which belong to the binary. Rooms called sans-io (`base`,
//! `wire`, `push`, `broker`, `auth`, `dialects`) are handed bytes, time and chance, and never meet a socket, a file, a
//! thread or a clock. So any run can be replayed from its inputs.
//!
//! # Who owns what
//!
//! A *shard* is one pinned thread with its driver, its sockets and some channels; nothing is locked and
//! nothing is shared but a few counters. Each socket has an *edge*, the shard that accepted it, and each
//! channel a *home*, the shard that [`broker::slots`] gives its name to. Edges and homes talk only by mail:
//! one *up* mailbox (an edge asks) and one *down* mailbox (a home answers and delivers) for every ordered pair of
//! shards, a shard with itself included ([`shard::mesh`]). Each keeps order, and that gives one total order
//! per channel and exact attach points without a lock.
//!
//! What is durable is one thread's, too: the store's writer makes one batch of whatever came while the last was
//! synced, and another thread reads ([`store::thread`]). A home hands its shard an [`Ask`](store::Ask) and hears the
//! [`Answer`](store::Answer) later; neither side waits. Messages kept under their ids, values, reactions and schedules
//! ([`broker::state`]) stand in the channel's line until they are on disk, so that everyone sees one order.
//!
//! What needs the world outside runs on one thread more, the *back shard* ([`shard::back`]): a session hands
//! its shard an [`Inquiry`](auth::Inquiry) and hears a [`Finding`](auth::Finding) later; neither side waits. What the world is to
//! be told ([`broker::Report`]) goes to a queue in the store, and the back shard reads it there ([`outbound::hooks`]).
//!
//! A dialect that stands in for another server follows what that server followed ([`dialects::upstream`]): its *follower*
//! lives on the back shard, sans-io as a session is, and that shard carries out what it wants at the application's Redis
//! and PostgreSQL. What the follower publishes arrives at the channel's home as any publish does; while a home does not
//! keep up, the back shard stops reading.
//!
//! Push notifications are the back shard's as a whole ([`outbound::push`]): who takes them, what is published and what came
//! of each device lie on shelves of the store that nobody else writes. A session asks about them as it asks about a token; a
//! home puts what goes with an event, and what is due, on a queue in the store, in the commit of the event or of the
//! schedule's end. A publish goes through its devices a page at a time and is never in memory as a whole.
//!
//! A session may also call another connection's ([`broker::Command::Call`]): so an HTTP request acts with the rights of the
//! WebSocket whose credentials it shows.
//!
//! # The life of an event
//!
//! On the shard P of the publisher's socket:
//!
//! 1. One completion brings the bytes, in a buffer of the driver's pool: [`reactor::Driver::turn`].
//! 2. Head and body are read where they lie, and copied together only if they came in pieces:
//!    [`wire::http::parse_head`], [`wire::websocket::Decoder::next`].
//! 3. The dialect whose path it is ([`dialects::Dialect::open`]) starts a session, which checks signature,
//!    names and sizes ([`auth::sign::verify_request`]), copies the payload out, the only copy of it, and asks:
//!    [`dialects::Session::handle`] gives [`Output::Ask`](dialects::Output::Ask).
//! 4. The ask finds the channel's home and goes into the up mailbox there: [`broker::edge::Edge::ask`],
//!    [`shard::mesh::Ports::send_up`]. First crossing between cores.
//!
//! On the shard H that is the channel's home:
//!
//! 5. The event gets its serial, and is kept where the channel keeps its last one or its history:
//!    [`broker::home::Home::handle`]. In a durable channel it goes to the store first, and goes on from here when
//!    it is on disk: [`broker::home::Home::stored`]. If nobody listens it ends here.
//! 6. It is rendered once for each *lane* (subscribers who get identical bytes) that has a subscriber anywhere,
//!    transport header (of a WebSocket frame, or of a chunk of an event stream) included: [`broker::Render::render`],
//!    done by [`dialects::Lanes`].
//! 7. One [`Delivery`](broker::Delivery) goes to each shard with a subscriber, and one answer to P, through the
//!    down mailboxes: [`shard::mesh::Ports::send_down`]. Second crossing.
//!
//! On each shard S with subscribers:
//!
//! 8. The edge hands each lane's frame to the outboxes of its subscribers, leaving out the excluded
//!    connection; each costs one plain increment, because a [`Frame`](base::frame::Frame) counts its holders within
//!    the shard: [`broker::edge::Edge::handle`], [`broker::edge::Sink::fan_out`].
//! 9. At the end of the tick every outbox with something new leaves in one gathered send, and all sends of
//!    the shard in one system call: [`reactor::Driver::send`], then the next turn.
//!
//! Subscribers with a *filter* are not among those: the edge asks only the filters that look for one of the event's
//! tags ([`broker::Filter`]), and each says whether its peer gets the frame, gets words of its session's own,
//! or nothing. What is dear to find out about an event is found out once, before it is published, and travels with it as
//! its *brief* for those filters to look at ([`broker::Brief`]). An event that not everyone may have is *guarded*: it reaches nobody without such a filter. On a
//! *bridged* channel every dialect has subscribers, each in its own lane, and any of them may have published.
//!
//! A subscription may begin in the past: the home puts what came after a position in front of what comes next, in
//! one step ([`broker::Start`]), so that there is no seam.
//!
//! A message of a channel that keeps history can have further versions and be annotated ([`broker::versioned`]): each is an
//! event with a place of its own in that history, so that who continues from a position hears them in order, and what goes
//! with it in the store is written in the same batch. Some channels go with another and have its home (the history of its
//! presence, its metachannel: `broker::companion`); a subscription may be of a pattern of names, which every home knows.
//!
//! A subscription travels the same road. The home notes that the shard is interested and takes the
//! snapshot (members, kept event) in one step; its answer and all later events share the down mailbox, so the
//! edge attaches exactly where the answer lies: nothing is missed and nothing comes twice. An answer that
//! finds its connection gone goes straight back as the end of the subscription.
//!
//! # The tick
//!
//! [`shard::Shard::tick`] is the only caller of everything on a shard: completions, one clock read, sessions,
//! mail in, timers, slow consumers, dirty outboxes, mail out, one wake for each peer that sleeps. Every loop
//! in it has a budget, and leftovers make the next wait zero. A shard with nothing to do parks, and is woken by
//! its driver or by whoever sends it mail ([`base::mailbox::Parking`]).
//!
//! # Back-pressure
//!
//! - A full mailbox spills into a backlog at its sender.
//! - *Down* mail is always taken: it ends in outboxes. *Up* mail is taken only while the taker's own down
//!   backlog is below its mark. With one queue for both, or without that rule, shards could wait for each
//!   other in a circle.
//! - A shard whose up backlog is above its mark stops receiving from the sockets that fill it, and TCP slows
//!   their peers; new publishes over HTTP are refused with 503 and a time to come back.
//! - An outbox above its high-water mark makes its connection a slow consumer: what is queued is dropped, the
//!   peer is told by its dialect ([`Dialect::farewell`](dialects::Dialect::farewell)), and the connection ends.
//!   All outboxes of a shard together are bounded too; the fattest goes first.
//!
//! Each mark is a setting: [`config::Limits`].
//!
//! # Where unsafe code is
//!
//! It is denied everywhere but on a few `mod` lines, which `tests/architecture.rs` knows too:
//!
//! - [`reactor`], because system calls, rings shared with the kernel and its receive buffers have no other
//!   form. Values go in owned and come back with their completion, so that nothing above owes the kernel a
//!   lifetime. One contract suite runs on all three drivers.
//! - [`base::mailbox`], because a bounded queue between two threads writes into slots that both can
//!   see. It is held by a plain twin and by Loom.
//!
//! # A new dialect
//!
//! A folder in [`dialects`] with an `impl` [`Dialect`](dialects::Dialect) (stateless: whose request is this, how is
//! an event rendered, how is goodbye said) and an `impl` [`Session`](dialects::Session) (one connection, one method);
//! one line in [`dialects::list`]; and transcripts. Its settings are declared in the folder, too
//! ([`config::section`]), as is its pane of the console. It touches no other room, and
//! `tests/architecture.rs` fails if it does.
//!
//! # How it is tested
//!
//! - Beside the code: tables of cases, models and differential tests against other parsers; `fuzz/` goes on from
//!   there.
//! - `tests/transcripts`: lines in, lines out. The same files run against bare sessions, a simulated server
//!   and the real binary.
//! - `tests/simulation`: whole servers on [`reactor::sim`], with a clock, a network and a schedule that follow
//!   from a seed. Checkers watch order, gaps, duplicates, presence, answers, memory and leaks;
//!   deliberately broken variants show that they see. `tools/replay SEED` tells a run line by line.
//! - `tests/process` and `tests/clients`: the real binary, hostile peers, and the clients people use;
//!   `tests/hypothesis` and `tests/console` drive a browser.
//! - `benches/` times one function each, `perf/` loads a whole server.

pub mod auth;
pub mod base;
pub mod broker;
pub mod config;
pub mod dialects;
pub mod observe;
pub mod outbound;
pub mod push;
pub mod reactor;
pub mod server;
pub mod shard;
pub mod store;
pub mod wire;
