//! The server with one dialect of four lines: whatever comes in goes back.
//!
//! Autobahn's fuzzing client needs a peer that echoes (`tests/clients/autobahn`). It is also the
//! shortest whole dialect: everything below the session is the same code that serves the others.
//!
//! `cargo run --example echo -- 127.0.0.1:0 [auto|uring|epoll]`

use std::borrow::Cow;
use std::process::ExitCode;
use std::sync::Arc;

use ringmain::base::time::Now;
use ringmain::broker::Event;
use ringmain::config::{Config, DriverChoice};
use ringmain::dialects::{
    Dialect, Facts, Farewell, Input, LaneKind, Opening, Output, Request, Session,
};
use ringmain::observe::CloseReason;

/// Autobahn's largest message is 16 MiB; one of them and a little more may wait in an outbox.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const OUTBOX_BYTES: usize = 4 * MESSAGE_BYTES_MAX;

struct Echo;

impl Dialect for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        &[]
    }

    fn open(&self, request: &Request<'_>, _: &Facts) -> Option<Opening> {
        request.is_websocket.then(|| Opening::WebSocket {
            session: Box::new(EchoSession),
            deflate: true,
            message_bytes_max: MESSAGE_BYTES_MAX,
        })
    }

    fn render(&self, _: usize, _: &Event, _: &mut Vec<u8>) -> bool {
        false
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        let code = match reason {
            CloseReason::Protocol => 1002,
            CloseReason::Utf8 => 1007,
            CloseReason::TooLarge => 1009,
            CloseReason::Drain => 1001,
            _ => 1000,
        };
        Farewell { message: None, code, text: Cow::Borrowed("") }
    }
}

struct EchoSession;

impl Session for EchoSession {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        match input {
            Input::Text(text) => out.push(Output::Text(text.as_bytes().to_vec())),
            Input::Binary(bytes) => out.push(Output::Binary(bytes.to_vec())),
            _ => {}
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut config = Config::development();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    match address.parse() {
        Ok(address) => config.listen = vec![address],
        Err(error) => {
            eprintln!("{address}: {error}");
            return ExitCode::from(2);
        }
    }
    config.driver = match arguments.next().as_deref() {
        Some("uring") => DriverChoice::Uring,
        Some("epoll") => DriverChoice::Epoll,
        _ => DriverChoice::Auto,
    };
    config.websocket.message_bytes_max = MESSAGE_BYTES_MAX;
    config.websocket.deflate_bytes_min = 0;
    config.limits.outbox_bytes_high_water = OUTBOX_BYTES;
    config.limits.outbox_bytes_per_shard_max = 4 * OUTBOX_BYTES;
    match ringmain::server::run_with(
        config,
        &["echo"],
        |_, _| vec![Arc::new(Echo)],
        &mut std::io::stderr(),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
