use super::*;

fn routes(path: &str) -> Option<(Names, Vec<Route>)> {
    find(path).map(|(names, rows)| (names, rows.map(|row| row.route).collect()))
}

#[test]
fn paths_name_what_they_are_about() {
    let named = |name: &str, message: &str, annotation: &str| Names {
        app_id: Some("a".into()),
        name: name.into(),
        message: message.into(),
        annotation: annotation.into(),
        provider: String::new(),
    };
    use Route::*;
    for (path, names, expected) in [
        ("/apps/a/events", named("", "", ""), &[Events][..]),
        ("/apps/a/events/", named("", "", ""), &[Events]),
        ("/apps/a/batch_events", named("", "", ""), &[BatchEvents]),
        ("/apps/a/channels", named("", "", ""), &[Channels]),
        ("/apps/a/channels/presence-%40b", named("presence-@b", "", ""), &[Channel]),
        ("/apps/a/channels/c/users", named("c", "", ""), &[Users]),
        ("/apps/a/channels/c%3B/history", named("c;", "", ""), &[History]),
        ("/apps/a/channels/c/history/", named("c", "", ""), &[History]),
        ("/apps/a/channels/c/history/state", named("c", "", ""), &[HistoryState]),
        ("/apps/a/channels/c/history/reset", named("c", "", ""), &[HistoryReset]),
        ("/apps/a/channels/c/history/purge", named("c", "", ""), &[HistoryPurge]),
        ("/apps/a/channels/c/presence/history", named("c", "", ""), &[PresenceHistory]),
        ("/apps/a/channels/c/messages/1%3A2", named("c", "1:2", ""), &[Message]),
        ("/apps/a/channels/c/messages/m/versions", named("c", "m", ""), &[Versions]),
        (
            "/apps/a/channels/c/messages/m/annotations",
            named("c", "m", ""),
            &[Annotate, Annotations],
        ),
        ("/apps/a/channels/c/messages/m/annotations/n", named("c", "m", "n"), &[TakeBack]),
        ("/apps/a/revocations", named("", "", ""), &[Revoke]),
        ("/apps/a/users/u%2F1/terminate_connections", named("u/1", "", ""), &[Terminate]),
        ("/apps/a/users/u/force_reconnect", named("u", "", ""), &[Reconnect]),
    ] {
        assert_eq!(routes(path), Some((names, expected.to_vec())), "{path}");
    }
    let (names, found) = routes("/users/u/terminate_connections").unwrap();
    assert_eq!((names.app_id, found), (None, vec![Terminate]));
    for path in [
        "/apps",
        "/apps/a",
        "/apps/a/events/x",
        "/apps/a//events",
        "/apps//events",
        "/apps/a/channels//users",
        "/apps/a/channels//history",
        "/apps/a/channels/c/history/other",
        "/apps/a/channels/c/history/state/x",
        "/apps/a/channels/c/presence",
        "/apps/a/channels/c/messages",
        "/apps/a/channels/c/messages//versions",
        "/apps/a/channels/c/users/x/y",
        "/apps/a/users/u",
        "/apps/a/users//terminate_connections",
        "/users/u",
        "/events",
        "/",
        "",
    ] {
        assert_eq!(routes(path), None, "{path}");
    }
}

#[test]
fn a_path_takes_the_methods_of_its_rows() {
    let of = |path| find(path).map(|(_, rows)| allow(rows)).unwrap();
    assert_eq!(of("/apps/a/events"), "POST, OPTIONS");
    assert_eq!(of("/apps/a/channels"), "GET, HEAD, OPTIONS");
    assert_eq!(of("/apps/a/channels/c/messages/m/annotations"), "GET, HEAD, POST, OPTIONS");
    assert_eq!(of("/apps/a/channels/c/messages/m/annotations/n"), "DELETE, OPTIONS");
}

#[test]
fn no_two_patterns_take_the_same_path() {
    for (i, row) in rows().enumerate() {
        for other in rows().skip(i + 1) {
            let is_same = row.path == other.path;
            assert!(!is_same || row.method != other.method, "{} {}", row.name, other.name);
            assert!(is_same || !is_of(row.path, other.path), "{} {}", row.path, other.path);
            assert!(is_same || !is_of(other.path, row.path), "{} {}", row.path, other.path);
        }
    }
}

#[test]
fn every_failure_has_a_status_of_its_kind() {
    for row in rows() {
        for failure in row.all_failures() {
            assert!((400..600).contains(&failure.status), "{}: {failure:?}", row.name);
            assert!(!failure.when.ends_with('.'), "{}: {failure:?}", row.name);
        }
    }
}
