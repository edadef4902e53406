//! The built binary, driven as people drive it: what it prints, and how it fails.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs `ringmain` in an empty directory, with nothing of our own environment.
fn ringmain(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmain"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory("empty"))
        .output()
        .expect("the binary was built for this test")
}

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("command_line").join(name);
    std::fs::create_dir_all(&path).expect("the target directory can be written");
    path
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_is_that_of_the_package() {
    for arguments in [["version"], ["--version"]] {
        let output = ringmain(&arguments, &[]);
        assert_eq!(stdout(&output), concat!("ringmain ", env!("CARGO_PKG_VERSION"), "\n"));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn help_has_an_example_everywhere() {
    for command in [
        "",
        "serve",
        "check",
        "publish",
        "listen",
        "settings",
        "version",
        "store",
        "store backup",
        "store check",
        "store stats",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let output = ringmain(&arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(stdout(&output).contains("Example"), "{command}: {}", stdout(&output));
    }
}

#[test]
fn settings_are_the_written_reference() {
    let output = ringmain(&["settings", "--markdown"], &[]);
    assert_eq!(stdout(&output), include_str!("../docs/settings.md"));
    let output = ringmain(&["settings"], &[]);
    assert!(stdout(&output).contains("limits.outbox_bytes_high_water"));
}

#[test]
fn check_says_what_would_run_and_why() {
    let file = directory("check").join("good.toml");
    let text =
        "limits.spin_us = 7\n[[apps]]\nid = 1\nkey = \"k\"\nsecret = \"hush\"\nwatchlist = true\n";
    std::fs::write(&file, text).expect("the target directory can be written");
    let path = file.to_string_lossy();
    let output = ringmain(
        &["check", "--config", &path, "--listen", "0.0.0.0:0", "--listen", "[::1]:0"],
        &[("RINGMAIN_SHARDS", "3")],
    );
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for part in ["7us", "good.toml:1", "0.0.0.0:0, [::1]:0", "RINGMAIN_SHARDS", "watchlist = true"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hush"), "{text}");
    // The same file, named by the environment.
    let output = ringmain(&["check"], &[("RINGMAIN_CONFIG", &path)]);
    assert!(stdout(&output).contains("app 1: key = k, secret = ***"));
}

#[test]
fn mistakes_exit_with_2_and_end_with_what_to_change() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (&["check", "--listen", "0.0.0.0:6001"], &[], "--listen 127.0.0.1:6001"),
        (&["--listen", "0.0.0.0:6001"], &[], "RINGMAIN_APP_SECRET"),
        (&["serve", "--shards", "-1"], &[], "allowed: 0, or 1 to 256"),
        (&["check", "--driver", "kqueue"], &[], "allowed: auto, uring, epoll"),
        (&["check", "--set", "limits.spin=1"], &[], "to `limits.spin_us`"),
        (&["check", "--set", "limit.spin_us=1"], &[], "to `limits.spin_us`"),
        (&["check", "--set", "limits.spin_us"], &[], "--set limits.spin_us=VALUE"),
        (&["check", "--set", "app.secret=hush"], &[], "RINGMAIN_APP_SECRET"),
        (&["check", "--config", "absent.toml"], &[], "--config absent.toml"),
        (&["check"], &[("RINGMAIN_CONFIG", "absent.toml")], "RINGMAIN_CONFIG=absent.toml"),
        (&["check"], &[("RINGMAIN_LISTN", "127.0.0.1:1")], "RINGMAIN_LISTEN"),
        (&["check"], &[("RINGMAIN_APP_ID", "1")], "set RINGMAIN_APP_SECRET"),
        (&["chekc"], &[], "--help"),
        (&["check", "--colour"], &[], "--help"),
    ];
    for (arguments, environment, expected) in cases {
        let output = ringmain(arguments, environment);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.trim_end().lines().last().unwrap_or("").contains(expected),
            "{arguments:?}: {text}"
        );
        assert!(output.stdout.is_empty() && !text.contains("hush"), "{arguments:?}");
    }
}

#[test]
fn a_file_in_the_working_directory_is_read() {
    let path = directory("here");
    std::fs::write(path.join("ringmain.toml"), "[limit]\nspin_us = 1\n")
        .expect("the target directory can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_ringmain"))
        .arg("check")
        .env_clear()
        .current_dir(path)
        .output()
        .expect("the binary was built for this test");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("ringmain.toml:2: unknown setting `limit.spin_us`"));
}
