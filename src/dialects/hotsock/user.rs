//! Who a connection or a subscription is to others: its user's id and metadata.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::name::Name;
use crate::broker::{Member, Meta, Payload};
use crate::wire::json;

/// A user's id and metadata, ready to be told.
pub struct User {
    /// Who, if anyone.
    pub uid: Option<Name>,
    /// What others may know about them.
    pub umd: Option<Payload>,
    /// Both, as every message that the user publishes has it.
    pub meta: Arc<Meta>,
}

impl User {
    /// Makes the words once.
    pub fn new(uid: Option<Name>, umd: Option<Payload>) -> Arc<Self> {
        let publisher = Some(pair(uid.as_deref(), umd.as_ref()));
        let meta = Arc::new(Meta { publisher, ..Meta::default() });
        Arc::new(Self { uid, umd, meta })
    }

    /// `{"uid":…,"umd":…}`.
    pub fn pair(&self) -> &Payload {
        self.meta.publisher.as_ref().expect("it was made with one")
    }

    /// The user's id, unless it is empty.
    pub fn some_uid(&self) -> Option<&Name> {
        self.uid.as_ref().filter(|it| !it.is_empty())
    }

    /// The user as a member, or as who reacts; nobody is none.
    pub fn member(&self) -> Option<Arc<Member>> {
        let user_id = self.some_uid()?.clone();
        Some(Arc::new(Member { user_id, info: self.umd.clone() }))
    }

    /// Memory it holds.
    pub fn held_bytes(&self) -> usize {
        let umd = self.umd.as_ref().map_or(0, |it| it.0.len());
        size_of::<Self>() + self.uid.as_ref().map_or(0, |it| it.len()) + umd + self.pair().0.len()
    }
}

/// `{"uid":…,"umd":…}`.
pub fn pair(uid: Option<&str>, umd: Option<&Payload>) -> Payload {
    let mut out = Vec::with_capacity(32);
    out.push(b'{');
    write_members(&mut out, uid, umd);
    out.push(b'}');
    Payload(Bytes::from(out))
}

/// The two members, without braces.
pub fn write_members(out: &mut Vec<u8>, uid: Option<&str>, umd: Option<&Payload>) {
    out.extend_from_slice(b"\"uid\":");
    match uid {
        Some(uid) => json::write_str(out, uid),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"umd\":");
    out.extend_from_slice(umd.map_or(b"null", |it| &it.0));
}
