//! `ringmain push`: what push notifications need before they can be set up.

use std::io::{self, Write};

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::encoding::EcPrivateKeyBin;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use clap::{ArgMatches, Command};
use ringmain::wire::base64::{self, Alphabet};

use super::Failure;

/// Bytes of the key that seals credentials.
const SEALING_BYTES: usize = 32;

const EXAMPLES: &str = "\
Examples:
  ringmain push keys                         print new keys, as a shell or an .env file reads them
  ringmain push keys > push.env              keep them; whoever has them can send in your name
  set -a; . ./push.env; set +a; ringmain     serve with them: credentials are sealed with the first one

Each run makes others. A browser is bound to the VAPID key it subscribed with: keep it.";

/// The command's arguments.
pub fn command() -> Command {
    let keys = Command::new("keys")
        .about("Make a key that seals credentials, and a VAPID key pair for Web Push")
        .after_help(EXAMPLES);
    Command::new("push")
        .about("Make keys for push notifications")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help("Example:\n  ringmain push keys > push.env")
        .subcommand(keys)
}

/// Prints new keys; what else there is to know goes to stderr.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.subcommand_name() != Some("keys") {
        return Err(Failure::new(2, "nothing is asked for", "ask for keys: ringmain push keys"));
    }
    let mut sealing = [0; SEALING_BYTES];
    getrandom::fill(&mut sealing).map_err(|error| no_randomness(&error))?;
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
        .map_err(|error| no_randomness(&error))?;
    let secret: EcPrivateKeyBin<'_> =
        pair.private_key().as_be_bytes().map_err(|error| no_randomness(&error))?;
    let mut stdout = io::stdout().lock();
    for (name, bytes) in [
        ("RINGMAIN_PUSH_ENCRYPTION_KEY", &sealing[..]),
        ("VAPID_PUBLIC_KEY", pair.public_key().as_ref()),
        ("VAPID_PRIVATE_KEY", secret.as_ref()),
    ] {
        let mut text = String::new();
        base64::encode(&mut text, bytes, Alphabet::Url);
        writeln!(stdout, "{name}={text}")?;
    }
    drop(stdout);
    // For people: a file wants the keys.
    let mut stderr = io::stderr().lock();
    for line in [
        "# RINGMAIN_PUSH_ENCRYPTION_KEY seals credentials on disk (push.encryption_key): give it to every start",
        "# VAPID_PUBLIC_KEY goes into your page as applicationServerKey, and with VAPID_PRIVATE_KEY to",
        "# POST /apps/APP/push/credentials/webpush as publicKey and privateKey: docs/push.md",
    ] {
        let _ = writeln!(stderr, "{line}");
    }
    Ok(())
}

fn no_randomness(error: &impl std::fmt::Display) -> Failure {
    Failure::new(
        3,
        format_args!("no key could be made: {error}"),
        "see why the machine has no randomness",
    )
}
