//! Templates, kept as they were given.

use super::claims::Claim;
use super::order::{Act, Running, Then, add, put, remove};
use super::seen::{Need, Range};
use super::{Registry, keys};
use crate::base::time::Now;
use crate::push::order::{Page, PageOf, Refused, Told};
use crate::push::stored;
use crate::push::template::Template;
use crate::store;

/// Templates of one app; further ones are refused.
pub const TEMPLATES_OF_APP_MAX: u64 = 10_000;
/// How many templates an app has.
const COUNT_OF_TEMPLATES: &[u8] = b"templates";

impl Registry {
    pub(super) fn put_template(&self, it: &Running, new: &Template, now: Now) -> Result<Act, Need> {
        it.claim([Claim::Templates(it.app.clone())])?;
        let key = it.key(keys::TEMPLATE, &[new.id.as_bytes()]);
        let count = it.key(keys::COUNT, &[COUNT_OF_TEMPLATES]);
        it.seen.load(&[&key, &count])?;
        let mut template = new.clone();
        template.updated_at = now.wall.0;
        let mut changes = Vec::new();
        // A template that cannot be read is written anew: nothing of it is kept beside what is given.
        match it.seen.value(&key)? {
            Some(stored) => {
                if let Some(old) = stored::decode::<Template>(stored)
                    && old == (Template { updated_at: old.updated_at, ..new.clone() })
                {
                    return Ok(Act::tell(Told::Template(Box::new(old))));
                }
            }
            None => {
                let has = store::Change::count(it.seen.value(&count)?.map(|it| &**it));
                if has >= TEMPLATES_OF_APP_MAX {
                    let text = format!(
                        "the app has {has} templates, no more than {TEMPLATES_OF_APP_MAX} are taken"
                    );
                    return Err(Refused::new(400, "limit_exceeded", text).into());
                }
                changes.push(add(&count, 1));
            }
        }
        changes.push(put(key, stored::encode(&template)));
        Ok(Act::write(changes, Then::Tell(Told::Template(Box::new(template)))))
    }

    pub(super) fn template(&self, it: &Running, id: &str) -> Result<Act, Need> {
        let found = it.seen.record(&it.key(keys::TEMPLATE, &[id.as_bytes()]))?;
        let template = found.ok_or_else(|| Refused::unknown("there is no such template"))?;
        Ok(Act::tell(Told::Template(Box::new(template))))
    }

    pub(super) fn templates(&self, it: &Running, page: &PageOf) -> Result<Act, Need> {
        it.claim([it.seat()])?;
        let prefix = it.prefix(keys::TEMPLATE, &[]);
        let after = page.after.as_ref().map(|it| [&prefix[..], it].concat().into());
        let range = Range { prefix: prefix.clone(), after, rows_max: page.rows_max };
        let found = it.seen.range(range)?;
        let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
        for (key, value) in &found.rows {
            match stored::decode::<Template>(value) {
                Some(template) => rows.push(template),
                None => unreadable.push(key.escape_ascii().to_string()),
            }
        }
        let next = found.next(&prefix);
        Ok(Act::listed(Told::Templates(Page { rows, next }), unreadable))
    }

    pub(super) fn remove_template(&self, it: &Running, id: &str) -> Result<Act, Need> {
        it.claim([Claim::Templates(it.app.clone())])?;
        let key = it.key(keys::TEMPLATE, &[id.as_bytes()]);
        if it.seen.value(&key)?.is_none() {
            return Ok(Act::tell(Told::Removed(0)));
        }
        let count = it.key(keys::COUNT, &[COUNT_OF_TEMPLATES]);
        let changes = vec![remove(key), add(&count, -1)];
        Ok(Act::write(changes, Then::Tell(Told::Removed(1))))
    }
}
