//! The layer table, kept: imports point down, sans-io rooms meet no world, `unsafe` stays in its rooms.
//!
//! The sources are read as text. Test code (all that follows `#[cfg(test)]` in a file, and files a
//! `#[cfg(test)] mod` line names) may import what it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a room may do.
struct Room {
    name: &'static str,
    layer: u8,
    /// Bytes in and bytes out: no sockets, files, threads or clocks.
    is_sans_io: bool,
}

const fn room(name: &'static str, layer: u8, is_sans_io: bool) -> Room {
    Room { name, layer, is_sans_io }
}

/// The rooms, in layer order. A new one gets its row here first.
const ROOMS: &[Room] = &[
    room("base", 0, true),
    room("wire", 1, true),
    room("reactor", 1, false),
    room("push", 1, true),
    room("config", 1, false),
    room("observe", 1, false),
    room("broker", 2, true),
    room("auth", 2, true),
    room("store", 1, false),
    room("dialects", 3, true),
    room("outbound", 3, false),
    room("cluster", 3, false),
    room("shard", 4, false),
    room("server", 5, false),
    room("cli", 6, false),
    room("main", 6, false),
];

/// Arrows that do not point down a layer, each wanted.
const SIDEWAYS: &[(&str, &str)] = &[("reactor", "observe"), ("main", "cli")];

/// Paths (rooms, folders, files without `.rs`) that others see only in part: who may not name what.
const HIDDEN: &[(&str, &str)] = &[
    // Dialects see of the broker its nouns, commands and replies, never its machinery.
    ("dialects", "broker::home"),
    ("dialects", "broker::edge"),
];

/// Rooms and files that may hold `unsafe`.
const UNSAFE: &[&str] = &["reactor", "base::mailbox", "wire::websocket::mask"];

/// Files of sans-io rooms that hand things from thread to thread, and may name that.
const THREADED: &[&str] = &["base::mailbox"];

/// What a sans-io room never names.
const WORLD: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "libc::",
    "io_uring",
    "async fn",
    ".await",
];

const LINES_MAX: usize = 800;

#[test]
fn the_layer_table_holds() {
    let sources = sources();
    assert!(sources.len() > 20, "the sources are where they were");
    let faults = check(&sources);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Dialects that other rooms know: the first, whose app settings and command line they share, and the one
/// that looks at all.
const KNOWN_DIALECTS: &[&str] = &["pusher", "admin"];

/// Files that know one dialect: the command line makes the tokens of the one whose tokens say everything, starts
/// another as the server is started that it stands in for, and publishes a sample of what that one carries.
const KNOWN_AT: &[(&str, &str)] = &[
    ("cli", "mastodon"),
    ("cli::mastodon", "mastodon"),
    ("cli::mastodon::database", "mastodon"),
    ("cli::mastodon::redis", "mastodon"),
    ("cli::publish", "mastodon"),
    ("cli::token", "hotsock"),
];

/// A dialect is one folder: no room names it but the list of dialects, and it names no other dialect.
#[test]
fn a_dialect_is_one_folder() {
    let sources = sources();
    let dialects = dialect_names(&sources);
    let own: Vec<_> = dialects.iter().filter(|it| !KNOWN_DIALECTS.contains(&it.as_str())).collect();
    assert!(own.len() >= 2, "{dialects:?}");
    let faults = dialect_faults(&sources, &dialects);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The folders below `src/dialects`.
fn dialect_names(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let inside = sources.keys().filter_map(|module| module.strip_prefix("dialects::"));
    let folders = inside.filter_map(|rest| Some(rest.split_once("::")?.0.to_owned()));
    folders.collect()
}

fn dialect_faults(sources: &BTreeMap<String, String>, dialects: &BTreeSet<String>) -> Vec<String> {
    let tests = test_modules(sources);
    let mut faults = Vec::new();
    for dialect in dialects {
        let is_known = KNOWN_DIALECTS.contains(&dialect.as_str());
        let inside = format!("dialects::{dialect}");
        for (module, text) in sources {
            if tests.iter().any(|test| is_within(module, test)) {
                continue;
            }
            let mut fault = |line: usize, what: String| {
                faults.push(format!("src/{} line {line}: {what}", module.replace("::", "/")));
            };
            let code = code_of(text);
            if is_within(module, &inside) {
                for (line, path) in imports(module, without_tests(&code)) {
                    let other =
                        path.strip_prefix("dialects::").and_then(|it| it.split("::").next());
                    let other = other.filter(|it| it != dialect && dialects.contains(*it));
                    if let Some(other) = other {
                        fault(line, format!("`{dialect}` names the dialect `{other}`"));
                    }
                }
                continue;
            }
            // The list, and the line that makes the folder a module.
            let is_known_here = KNOWN_AT.contains(&(module.as_str(), dialect.as_str()));
            if is_known
                || is_known_here
                || ["dialects", "dialects::list"].contains(&module.as_str())
            {
                continue;
            }
            // Strings count, comments do not.
            let own = text.lines().take(without_tests(&code).lines().count()).enumerate();
            for (line, text) in own.filter(|(_, text)| !text.trim_start().starts_with("//")) {
                if text.to_ascii_lowercase().contains(dialect.as_str()) {
                    fault(line + 1, format!("names the dialect `{dialect}`"));
                }
            }
        }
    }
    faults
}

#[test]
fn a_dialect_that_is_more_than_a_folder_is_seen() {
    let with = |module: &str, text: &str| {
        let mut sources = BTreeMap::new();
        for (name, text) in [
            ("dialects::one::session", "fn a() {}"),
            ("dialects::two::session", "fn a() {}"),
            ("dialects::list", "use super::one::One;"),
            ("broker", "// Like one of many.\nfn a() {}"),
            (module, text),
        ] {
            sources.insert(name.to_owned(), text.to_owned());
        }
        dialect_faults(&sources, &dialect_names(&sources)).len()
    };
    assert_eq!(with("shard", "fn a() {}"), 0);
    assert_eq!(with("shard", "const NAME: &str = \"two\";"), 1);
    assert_eq!(with("config::table", "fn two() {}"), 1);
    assert_eq!(with("dialects::one", "use super::two::A;\nuse crate::dialects::api::B;"), 1);
    assert_eq!(with("dialects::two", "use crate::broker::Command;"), 0);
}

/// Every Rust file below `src`, by its module path (`broker::home`), with its text.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let sources = found.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a source is UTF-8");
        let parts = path.strip_prefix(&root).expect("it was found there").with_extension("");
        let parts: Vec<_> = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let parts = match &*parts {
            [above @ .., last] if last == "mod" => above,
            all => all,
        };
        (parts.join("::"), text)
    });
    sources.collect()
}

/// Everything wrong with these sources, one line each.
fn check(sources: &BTreeMap<String, String>) -> Vec<String> {
    let tests = test_modules(sources);
    let mut faults = Vec::new();
    for (module, text) in sources {
        let mut fault = |line: usize, what: String| {
            faults.push(format!("src/{} line {line}: {what}", module.replace("::", "/")));
        };
        let lines = text.lines().count();
        if lines > LINES_MAX {
            fault(lines, format!("is above {LINES_MAX} lines: cut it where the ideas part"));
        }
        let code = code_of(text);
        let test_paths = test_files(module, text);
        for (line, text) in numbered(&code) {
            let packed = text.replace(' ', "");
            let is_path = packed.contains("#[path=")
                || packed.contains("cfg_attr(") && packed.contains(",path=");
            if is_path && test_paths.iter().all(|&(test, _)| test != line) {
                fault(line, "a module lives where its name says, without #[path]".into());
            }
        }
        if module == "lib" || tests.iter().any(|test| is_within(module, test)) {
            continue;
        }
        let room_name = module.split("::").next().unwrap_or(module);
        let Some(room) = ROOMS.iter().find(|room| room.name == room_name) else {
            fault(1, format!("room `{room_name}` is not in the layer table"));
            continue;
        };
        let code = without_tests(&code);
        for (line, path) in imports(module, code) {
            if let Some(what) = import_fault(room, &path) {
                fault(line, what);
            }
        }
        for (line, text) in numbered(code) {
            let is_threaded = THREADED.iter().any(|within| is_within(module, within));
            if room.is_sans_io && !is_threaded {
                for word in WORLD.iter().filter(|word| names(text, word)) {
                    fault(line, format!("`{room_name}` is sans-io and names `{word}`"));
                }
            }
            if !UNSAFE.iter().any(|within| is_within(module, within)) {
                if names(text, "unsafe") {
                    fault(line, "`unsafe` outside its rooms".into());
                }
                if text.contains("unsafe_code") && !allows_next(code, line) {
                    fault(line, "allows `unsafe` outside its rooms".into());
                }
            }
        }
    }
    faults
}

/// What is wrong with code of `room` naming `path` of this crate.
fn import_fault(room: &Room, path: &str) -> Option<String> {
    let to_name = path.split("::").next().unwrap_or(path);
    if to_name == room.name {
        return None;
    }
    let Some(to) = ROOMS.iter().find(|to| to.name == to_name) else {
        return Some(format!("names `crate::{path}`, which is no room of the layer table"));
    };
    if let Some((_, hidden)) =
        HIDDEN.iter().find(|(from, hidden)| *from == room.name && is_within(path, hidden))
    {
        return Some(format!("`{}` may not see `{hidden}`", room.name));
    }
    if to.layer < room.layer || SIDEWAYS.contains(&(room.name, to.name)) {
        return None;
    }
    let direction = if to.layer == room.layer { "sideways" } else { "up" };
    let (from, down) = (room.layer, to.layer);
    Some(format!("`{}` (layer {from}) points {direction} to `{path}` (layer {down})", room.name))
}

/// Every path of this crate that the code names, with its line: `crate::`, `ringmain::`, or as
/// many `super::` as lead to the top. Groups (`crate::{a, b::{c, d}}`) come out as single paths.
fn imports(module: &str, code: &str) -> Vec<(usize, String)> {
    let depth = module.split("::").count();
    let supers = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", "ringmain::", supers.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            let line = 1 + code[..at].matches('\n').count();
            let mut paths = Vec::new();
            expand(&code[at + prefix.len()..], "", &mut paths);
            found.extend(paths.into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// Reads one path or group at the start of `text`, appends the paths in it, and returns what follows.
fn expand<'a>(text: &'a str, above: &str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let after = expand(rest, above, paths).trim_start();
            // `a as b`, and anything else up to the comma, changes no path.
            let next = after.find([',', '}']).unwrap_or(after.len());
            rest = after[next..].strip_prefix(',').unwrap_or(&after[next..]);
            if rest.is_empty() {
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let path = [above, &text[..end]].join(if above.is_empty() || end == 0 { "" } else { "::" });
    match text[end..].strip_prefix("::") {
        Some(rest) if end > 0 => expand(rest, &path, paths),
        _ => {
            paths.push(path);
            &text[end..]
        }
    }
}

/// The code with comments, strings and characters blanked out, lines kept.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let blank = |code: &mut String, gone: &str| {
        code.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    };
    while let Some(c) = rest.chars().next() {
        let before = code.chars().next_back();
        let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_end(rest)
        } else if c == '"' {
            string_end(rest)
        } else if !is_word && raw_hashes(rest).is_some() {
            let hashes = raw_hashes(rest).unwrap_or(0);
            let start = rest.find('"').map_or(rest.len(), |at| at + 1);
            let end = format!("\"{}", "#".repeat(hashes));
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if c == '\'' {
            character_end(rest)
        } else {
            0
        };
        if skip == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            blank(&mut code, &rest[..skip]);
            rest = &rest[skip..];
        }
    }
    code
}

fn comment_end(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn string_end(text: &str) -> usize {
    let mut escaped = true; // the opening quote itself ends nothing
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"`, `r#"`, `br#"`: how many hashes.
fn raw_hashes(text: &str) -> Option<usize> {
    let after = text.strip_prefix('b').or(text.strip_prefix('c')).unwrap_or(text);
    let after = after.strip_prefix('r')?;
    let opened = after.trim_start_matches('#');
    opened.starts_with('"').then(|| after.len() - opened.len())
}

/// The length of a character literal, or 0 for a lifetime.
fn character_end(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            let close = characters.skip(1).find(|&(_, c)| c == '\'');
            close.map_or(0, |(at, _)| at + 1)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// What comes before the tests of a file. A `#[cfg(test)]` on one item in the middle (a `mod` line,
/// a helper for tests elsewhere) hides no more than that item would.
fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(").map(|at| from + at) {
        let line = code[at..].lines().next().unwrap_or("");
        let is_test = line.contains("(test") || line.contains("(all(test");
        let item = code[at..].lines().skip(1).find(|line| !line.trim_start().starts_with('#'));
        let is_module = item.is_some_and(|item| item.contains("mod ") && item.contains('{'));
        if is_test && is_module && code[..at].rfind('\n').is_none_or(|line| line + 1 == at) {
            return &code[..at];
        }
        from = at + 1;
    }
    code
}

/// The one use of `#[path]` there is: tests of `a.rs` that outgrew it, in `a_tests.rs` beside it. Gives
/// the line and the file, as a module path.
fn test_files(module: &str, text: &str) -> Vec<(usize, String)> {
    let name = module.rsplit("::").next().unwrap_or(module);
    let expected = format!("#[cfg(test)]\n#[path = \"{name}_tests.rs\"]\nmod tests;\n");
    let lines = text.match_indices(&expected).map(|(at, _)| 2 + text[..at].matches('\n').count());
    lines.map(|line| (line, format!("{module}_tests"))).collect()
}

/// Modules that a `#[cfg(test)] mod name;` line brings in.
fn test_modules(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (module, text) in sources {
        found.extend(test_files(module, text).into_iter().map(|(_, file)| file));
        let mut is_test = false;
        for line in code_of(text).lines().map(str::trim) {
            if line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test") {
                is_test = true;
            }
            let item = line.rsplit(']').next().unwrap_or(line).trim();
            if item.is_empty() {
                continue;
            }
            let name = item.split("mod ").nth(1).and_then(|name| name.strip_suffix(';'));
            if let (true, Some(name)) = (is_test, name) {
                let above = if module == "lib" { String::new() } else { format!("{module}::") };
                found.insert(above + name);
            }
            is_test = false;
        }
    }
    found
}

fn numbered(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// True if the line names the word, not a longer one.
fn names(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_word);
        let after = line[at + word.len()..].chars().next().is_some_and(is_word);
        let word_starts = word.chars().next().is_some_and(is_word);
        let word_ends = word.chars().next_back().is_some_and(is_word);
        !(before && word_starts || after && word_ends)
    })
}

/// True if the attribute on this line stands on a `mod` line of a room that may hold `unsafe`; which
/// one is checked where its file is read.
fn allows_next(code: &str, line: usize) -> bool {
    let item = code.lines().skip(line - 1).find(|text| !text.trim_start().starts_with('#'));
    let names: Vec<_> = UNSAFE.iter().filter_map(|path| path.rsplit("::").next()).collect();
    item.and_then(|item| item.split("mod ").nth(1)?.strip_suffix(';'))
        .is_some_and(|name| names.contains(&name))
}

/// True if `path` is `within` or something in it. A file beside it that only starts so
/// (`mask_simd` beside `mask`) counts, too.
fn is_within(path: &str, within: &str) -> bool {
    path.strip_prefix(within)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

/// What `check` finds in one made-up file.
fn faults_of(module: &str, text: &str) -> Vec<String> {
    check(&BTreeMap::from([(module.to_owned(), text.to_owned())]))
}

#[test]
fn good_sources_pass() {
    for (module, text) in [
        ("broker::home", "use crate::base::{ids::ShardId, time};\nuse crate::wire::json;"),
        ("broker::home", "use super::Channel; use super::super::base::ids;"),
        ("reactor::uring", "use crate::observe::Counter; use std::time::Instant; unsafe { a() }"),
        ("dialects::pusher::session", "use crate::broker::{Command, Reply};"),
        ("dialects::pusher", "use std::net::SocketAddr;"),
        ("base::mailbox::parking", "use std::sync::Mutex; unsafe fn a() {}"),
        ("base", "#[allow(unsafe_code)]\npub mod mailbox;"),
        ("wire::websocket", "#[allow(unsafe_code)] // SIMD\nmod mask;"),
        (
            "wire::sse",
            "// unsafe, crate::shard and Instant\nconst A: &str = \"crate::shard \\\" unsafe\";",
        ),
        (
            "wire::sse",
            "/* crate::shard /* unsafe */ Instant */ fn a<'a>(b: &'a str) -> char { '\"' }",
        ),
        ("wire::sse", "const A: &str = r#\"use crate::shard; \" unsafe\"#; const B: char = '\\'';"),
        ("wire::sse", "fn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::shard::Shard;\n}\n"),
        ("wire::sse", "struct InstantReply; fn not_unsafe() {}"),
        ("main", "use ringmain::cli;\nfn main() {}"),
        ("wire::sse", "#[cfg(test)]\n#[path = \"sse_tests.rs\"]\nmod tests;\n"),
        ("lib", "pub mod anything;"),
    ] {
        assert_eq!(faults_of(module, text), [""; 0], "{module}: {text}");
    }
}

#[test]
fn bad_sources_fail() {
    let long = "fn a() {}\n".repeat(LINES_MAX + 1);
    for (module, text, line, what) in [
        ("base::ids", "use crate::wire::json;", 1, "up to `wire::json`"),
        ("wire::http", "\nuse crate::observe::Counter;", 2, "sideways to `observe::Counter`"),
        ("wire::http", "fn a() { crate::shard::b() }", 1, "up to `shard::b`"),
        ("wire::http", "use crate::{base::ids, broker::{Up, Down}};", 1, "up to `broker::Up`"),
        ("wire::http", "use crate::{\n    base::ids as a,\n    shard,\n};", 1, "up to `shard`"),
        ("wire::http::head", "use super::super::super::shard::Shard;", 1, "up to `shard::Shard`"),
        ("observe", "use crate::reactor::Driver;", 1, "sideways"),
        ("auth", "use crate::broker::Command;", 1, "sideways"),
        ("wire::sse", "use crate::nowhere::A;", 1, "no room"),
        ("dialects::admin", "use crate::broker::home::Home;", 1, "may not see `broker::home`"),
        ("dialects::admin", "use crate::broker::{edge, Command};", 1, "may not see `broker::edge`"),
        ("broker::home", "use std::time::{Duration, Instant};", 1, "names `Instant`"),
        ("broker", "fn a() {\n    SystemTime::now();\n}", 2, "names `SystemTime`"),
        ("auth::keys", "let text = std::fs::read(path);", 1, "names `std::fs`"),
        ("base::slab", "use std::thread;", 1, "names `std::thread`"),
        ("wire::http", "async fn a() {}", 1, "names `async fn`"),
        ("wire::http", "fn a() { unsafe { b() } }", 1, "`unsafe` outside"),
        ("shard", "#[allow(unsafe_code)]\nmod fast;", 1, "allows `unsafe`"),
        ("wire", "#[allow(unsafe_code)]\nmod http;", 1, "allows `unsafe`"),
        ("util", "fn a() {}", 1, "not in the layer table"),
        ("shard", "#[path = \"../elsewhere.rs\"]\nmod a;", 1, "without #[path]"),
        (
            "wire::sse",
            "#[cfg(test)]\n#[path = \"../a_tests.rs\"]\nmod tests;\n",
            2,
            "without #[path]",
        ),
        ("shard", "#[cfg_attr(unix, path = \"a.rs\")]\nmod a;", 1, "without #[path]"),
        ("shard", long.as_str(), LINES_MAX + 1, "above 800 lines"),
        ("wire::sse", "#[cfg(test)]\nuse a::b;\nuse crate::shard::Shard;", 3, "up to"),
        ("wire::sse", "const A: &str = \"\\\\\"; use crate::shard::Shard;", 1, "up to"),
        ("wire::sse", "fn a<'a>(b: &'a str) {} use crate::shard::Shard; fn b<'a>() {}", 1, "up to"),
    ] {
        let faults = faults_of(module, text);
        let start = format!("src/{} line {line}: ", module.replace("::", "/"));
        let is_found = faults.iter().any(|fault| fault.starts_with(&start) && fault.contains(what));
        assert!(is_found, "{module}: {text}\n{faults:?}");
    }
}

#[test]
fn files_of_tests_may_import_anything() {
    let sources = |declared: &str| {
        BTreeMap::from([
            ("wire".to_owned(), declared.to_owned()),
            ("wire::tests".to_owned(), "use crate::shard::Shard;".to_owned()),
        ])
    };
    for declared in [
        "#[cfg(test)]\nmod tests;",
        "#[cfg(test)] mod tests;",
        "#[cfg(all(test, not(a)))]\n#[allow(b)]\nmod tests;",
    ] {
        assert_eq!(check(&sources(declared)), [""; 0], "{declared}");
    }
    for declared in
        ["mod tests;", "#[cfg(test)]\nuse a::b;\nmod tests;", "#[cfg(unix)]\nmod tests;"]
    {
        assert_eq!(check(&sources(declared)).len(), 1, "{declared}");
    }
}
