//! How often names were used within their time: what may be done so often, and no more.

use std::collections::{BTreeSet, HashMap};

use crate::base::ids::AppIndex;
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{Spend, Spent};

/// Names counted at once, at most; above it the one whose time is over first is counted anew.
const NAMES_MAX: usize = 1 << 20;
/// Names that one use looks at to forget them.
const FORGET_MAX: usize = 16;

/// Names that were used within their time.
#[derive(Debug, Default)]
pub(super) struct Rates {
    uses: HashMap<(AppIndex, Name), Uses>,
    /// By when their time is over.
    dues: BTreeSet<(Nanos, AppIndex, Name)>,
}

#[derive(Clone, Copy, Debug)]
struct Uses {
    count: u32,
    until: Nanos,
}

impl Rates {
    /// Uses a name, if it may be used so often.
    pub(super) fn spend(&mut self, app: AppIndex, spend: &Spend, now: Now) -> Spent {
        self.forget(now.steady);
        let key = (app, spend.name.clone());
        let known = self.uses.get(&key).copied().filter(|it| it.until > now.steady);
        let Uses { count, until } = match known {
            Some(uses) => uses,
            None => {
                let until = now.steady + spend.window;
                self.begin(key.clone(), until);
                Uses { count: 0, until }
            }
        };
        let wanted = count.saturating_add(spend.cost);
        let is_within = wanted <= spend.uses_max;
        let count = if is_within { wanted } else { count };
        self.uses.insert(key, Uses { count, until });
        let renews_in = Millis((until.since(now.steady).as_millis() as u64).max(1));
        Spent { is_within, left: spend.uses_max.saturating_sub(count), renews_in }
    }

    fn begin(&mut self, key: (AppIndex, Name), until: Nanos) {
        if let Some(old) = self.uses.remove(&key) {
            self.dues.remove(&(old.until, key.0, key.1.clone()));
        }
        if self.uses.len() >= NAMES_MAX
            && let Some((_, app, name)) = self.dues.pop_first()
        {
            self.uses.remove(&(app, name));
        }
        self.dues.insert((until, key.0, key.1));
    }

    fn forget(&mut self, now: Nanos) {
        for _ in 0..FORGET_MAX {
            let Some((until, app, name)) = self.dues.pop_first() else { return };
            if until > now {
                self.dues.insert((until, app, name));
                return;
            }
            self.uses.remove(&(app, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    fn at(millis: u64) -> Now {
        Now { steady: Nanos(millis * 1_000_000), ..Now::default() }
    }

    fn spend(name: &str, cost: u32) -> Spend {
        Spend { name: Name::from(name), cost, uses_max: 3, window: Millis(1000) }
    }

    #[test]
    fn a_name_is_used_so_often_within_its_time() {
        let mut rates = Rates::default();
        // (when, who, how much, whether it may, what is left, when it begins anew)
        for (millis, name, cost, is_within, left, renews_in) in [
            (0, "a", 1, true, 2, 1000),
            (10, "b", 3, true, 0, 1000),
            (500, "a", 3, false, 2, 500),
            (999, "a", 2, true, 0, 1),
            (999, "a", 1, false, 0, 1),
            (1000, "a", 1, true, 2, 1000),
            (1009, "b", 1, false, 0, 1),
            (1010, "b", 4, false, 3, 1000),
        ] {
            let spent = rates.spend(AppIndex(0), &spend(name, cost), at(millis));
            let expected = Spent { is_within, left, renews_in: Millis(renews_in) };
            assert_eq!(spent, expected, "{millis} {name}");
        }
        let other = rates.spend(AppIndex(1), &spend("b", 1), at(1010));
        assert!(other.is_within, "apps are counted alone");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let (mut rates, mut prng) = (Rates::default(), Prng::new(1));
        for millis in 0..20_000 {
            let name = format!("{}", prng.next_u64() % 5_000);
            rates.spend(AppIndex(0), &spend(&name, 1), at(millis));
            assert_eq!(rates.uses.len(), rates.dues.len());
            assert!(rates.uses.len() <= 1001 + FORGET_MAX);
        }
    }
}
