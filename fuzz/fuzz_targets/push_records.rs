//! Stored records of push notifications: bytes of any kind are a record or none, and a record is the same after another
//! trip to the store.
//!
//! The first byte says which kind of record is read.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use ringmain::push::credential::{CredentialFacts, Material};
use ringmain::push::device::{Device, Subscription};
use ringmain::push::publish::{DeadLetter, Intent, Outcome};
use ringmain::push::stored::{Queued, decode, encode};
use ringmain::push::template::Template;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Some(record) = decode::<T>(bytes) else { return };
    let stored = encode(&record);
    assert!(stored.len() <= bytes.len(), "no record grows: {record:?}");
    assert_eq!(decode::<T>(&stored), Some(record));
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 9 {
        0 => check::<Device>(bytes),
        1 => check::<Subscription>(bytes),
        2 => check::<Material>(bytes),
        3 => check::<CredentialFacts>(bytes),
        4 => check::<Template>(bytes),
        5 => check::<Intent>(bytes),
        6 => check::<Outcome>(bytes),
        7 => check::<DeadLetter>(bytes),
        _ => check::<Queued>(bytes),
    }
});
