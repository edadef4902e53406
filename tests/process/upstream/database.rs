//! The client of PostgreSQL against a real one.

use std::time::Duration;

use ringmain::auth::upstream::{
    Cell, Parameter, Postgres as Settings, PostgresTls, Rows, Statement,
};
use ringmain::config::Secret;
use ringmain::outbound::postgres::Database;
use tokio::runtime::Runtime;

use super::{Ground, Postgres, certificate};

pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().enable_time().build().expect("a runtime can be made")
}

fn database(url: String, tls: PostgresTls) -> Database {
    let settings = Settings { url: Secret(url), tls, connections_max: 2 };
    Database::new(&settings).expect("the address is one")
}

fn ask(database: &Database, sql: &'static str, parameters: Vec<Parameter>) -> Result<Rows, String> {
    let asked = database.ask(Statement { sql, parameters });
    runtime().block_on(asked).map_err(|it| it.0)
}

#[test]
fn rows_of_every_type_are_read() {
    let postgres = Postgres::mastodon();
    for url in [postgres.url(), postgres.socket_url()] {
        let database = database(url, PostgresTls::Off);
        let runtime = runtime();
        let ask = |sql, parameters| {
            runtime.block_on(database.ask(Statement { sql, parameters })).map_err(|it| it.0)
        };
        let sql = "SELECT true, 1::int2, 2::int4, 3::int8, 'a'::text, 'b'::varchar, \
            '{c,NULL,d}'::varchar[], '{}'::text[], '2000-01-01 00:00:01'::timestamp, NULL::int8";
        let texts = |texts: &[&str]| Cell::Texts(texts.iter().map(|it| (*it).into()).collect());
        let time = Cell::Time(ringmain::base::time::UnixMillis(946_684_801_000));
        assert_eq!(
            ask(sql, Vec::new()),
            Ok(vec![vec![
                Cell::Bool(true),
                Cell::Integer(1),
                Cell::Integer(2),
                Cell::Integer(3),
                Cell::Text("a".into()),
                Cell::Text("b".into()),
                texts(&["c", "d"]),
                texts(&[]),
                time,
                Cell::Null,
            ]])
        );
        let sql = "SELECT id FROM accounts WHERE id = ANY($1) AND username = ANY($2) AND id < $3 \
            AND domain = $4";
        let parameters = vec![
            Parameter::Integers(vec![6, 7, 8]),
            Parameter::Texts(vec!["gus".into(), "hal".into()]),
            Parameter::Integer(8),
            Parameter::Text("far.example".into()),
        ];
        assert_eq!(ask(sql, parameters), Ok(vec![vec![Cell::Integer(7)]]));
        assert_eq!(ask("SELECT id FROM lists WHERE false", Vec::new()), Ok(Vec::new()));
        // Data is not repeated, what is wrong with the tables is.
        assert_eq!(ask("SELECT 'secret'::int8", Vec::new()), Err("SQLSTATE 22P02".to_owned()));
        let none = ask("SELECT 1 FROM nothing", Vec::new()).expect_err("there is no such table");
        assert!(none.contains("nothing") && none.contains("42P01"), "{none}");
        assert_eq!(ask("SELECT '1'::json", Vec::new()), Err("column 1 is of type json".to_owned()));
        // The pool has not lost a connection to any of this.
        assert_eq!(ask("SELECT 1::int4", Vec::new()), Ok(vec![vec![Cell::Integer(1)]]));
        assert_eq!((database.gauges().connections, database.gauges().idle), (1, 1));
    }
}

#[test]
fn a_database_that_is_lost_is_found_again() {
    let mut postgres = Postgres::mastodon();
    let database = database(postgres.url(), PostgresTls::Off);
    let runtime = runtime();
    let one = || Statement { sql: "SELECT 1::int8", parameters: Vec::new() };
    assert!(runtime.block_on(database.ask(one())).is_ok());
    postgres.stop();
    let lost = runtime.block_on(database.ask(one())).expect_err("it is not there");
    assert!(!lost.0.is_empty());
    let refused = runtime.block_on(database.ask(one())).expect_err("it is not there");
    assert!(refused.0.contains("refused"), "{}", refused.0);
    postgres.start_again();
    assert_eq!(runtime.block_on(database.ask(one())), Ok(vec![vec![Cell::Integer(1)]]));
    // A wrong password is told as such.
    let wrong = postgres.url().replace("a%20secret", "another");
    let wrong = ask(&self::database(wrong, PostgresTls::Off), "SELECT 1", Vec::new());
    assert!(wrong.expect_err("it is wrong").contains("password authentication failed"));
}

#[test]
fn a_question_that_takes_too_long_is_given_up_and_its_connection_with_it() {
    let postgres = Postgres::mastodon();
    let database = database(postgres.url(), PostgresTls::Off);
    let runtime = runtime();
    let lock = postgres.lock("lists");
    let sql = "SELECT id FROM lists";
    let stuck = database.ask(Statement { sql, parameters: Vec::new() });
    let late = runtime.block_on(stuck).expect_err("the table is locked");
    assert_eq!(late.0, "no answer within 10 s");
    assert_eq!(database.gauges().connections, 0);
    lock.release();
    let found = runtime.block_on(database.ask(Statement { sql, parameters: Vec::new() }));
    assert_eq!(found.map(|rows| rows.len()), Ok(2));
    // More at once than there are connections: all are answered, one after the other.
    let answered = runtime.block_on(async {
        let asks = (0..20).map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let sql = "SELECT 1::int8 FROM pg_sleep(0.01)";
                database.ask(Statement { sql, parameters: Vec::new() }).await.is_ok()
            })
        });
        let asks: Vec<_> = asks.collect();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let gauges = database.gauges();
        assert!(gauges.connections <= 2 && gauges.waiting > 0, "{gauges:?}");
        let mut answered = 0;
        for ask in asks {
            answered += usize::from(ask.await.expect("it does not panic"));
        }
        answered
    });
    assert_eq!(answered, 20);
}

#[test]
fn certificates_are_checked_or_not_as_it_is_asked_for() {
    let ground = Ground::new("pg-tls");
    let (file, key) = certificate(&ground.path);
    let mut postgres = Postgres::mastodon();
    postgres.serve_tls(&file, &key);
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let ask = |tls| ask(&database(postgres.url(), tls), sql, Vec::new());
    assert_eq!(ask(PostgresTls::Off), Ok(vec![vec![Cell::Bool(false)]]));
    assert_eq!(ask(PostgresTls::Unverified), Ok(vec![vec![Cell::Bool(true)]]));
    let why = ask(PostgresTls::Verified).expect_err("nobody vouches for it");
    assert!(why.contains("certificate"), "{why}");
}
