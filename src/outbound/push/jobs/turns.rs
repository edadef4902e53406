//! Whose turn it is: apps in turn, and of each app its publishes in turn, so that neither a large publish nor an app with
//! many of them keeps others waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Those who wait for a turn. Each is in it once at most: who puts it in sees to that.
#[derive(Debug, Default)]
pub struct Turns {
    apps: VecDeque<Arc<str>>,
    of_app: BTreeMap<Arc<str>, VecDeque<u64>>,
}

impl Turns {
    /// Lets one wait for its turn.
    pub fn push(&mut self, app: &Arc<str>, number: u64) {
        if let Some(waiting) = self.of_app.get_mut(app) {
            return waiting.push_back(number);
        }
        self.of_app.insert(Arc::clone(app), VecDeque::from([number]));
        self.apps.push_back(Arc::clone(app));
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<u64> {
        let app = self.apps.pop_front()?;
        let waiting = self.of_app.get_mut(&app)?;
        let number = waiting.pop_front();
        match waiting.is_empty() {
            true => drop(self.of_app.remove(&app)),
            false => self.apps.push_back(app),
        }
        number
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_take_turns_and_so_do_their_publishes() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut turns = Turns::default();
        for (app, number) in [(&a, 1), (&a, 2), (&a, 3), (&b, 4)] {
            turns.push(app, number);
        }
        let mut order = Vec::new();
        while let Some(number) = turns.pop() {
            order.push(number);
            if order.len() == 2 {
                turns.push(&b, 4);
            }
        }
        assert_eq!(order, [1, 4, 2, 4, 3]);
        assert!(turns.is_empty());
    }
}
