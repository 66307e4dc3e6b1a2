//! Tables of what recipes may name (families, objectives, optimizers, kinds of stages, launchers), open to programs that
//! embed `pipe`.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

/// Has a name that recipes use.
pub trait Named {
    /// The name.
    fn name(&self) -> &'static str;
}

/// What `pipe` brings, in its order, and then what was registered.
#[derive(Debug)]
pub struct Registry<T: ?Sized + 'static> {
    builtin: &'static [&'static T],
    added: RwLock<Vec<&'static T>>,
    registrations: AtomicUsize,
}

impl<T: Named + ?Sized> Registry<T> {
    /// A table of these.
    pub const fn new(builtin: &'static [&'static T]) -> Self {
        Self { builtin, added: RwLock::new(Vec::new()), registrations: AtomicUsize::new(0) }
    }

    /// Adds an entry, in place of an earlier one that was added under its name. What is built in can't be replaced: its
    /// results are in people's stores.
    pub fn register(&self, entry: &'static T) {
        let mut added = self.added.write();
        added.retain(|other| other.name() != entry.name());
        added.push(entry);
        self.registrations.fetch_add(1, Ordering::Release);
    }

    /// How often something was registered: whoever makes something of the entries sees by it whether they're the same.
    pub fn registrations(&self) -> usize {
        self.registrations.load(Ordering::Acquire)
    }

    /// All entries.
    pub fn all(&self) -> Vec<&'static T> {
        self.builtin.iter().chain(self.added.read().iter()).copied().collect()
    }

    /// The entry of this name.
    pub fn named(&self, name: &str) -> Option<&'static T> {
        self.all().into_iter().find(|entry| entry.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry(&'static str, u32);

    impl Named for Entry {
        fn name(&self) -> &'static str {
            self.0
        }
    }

    #[test]
    fn added_entries_follow_and_builtin_ones_stay() {
        static TABLE: Registry<Entry> = Registry::new(&[&Entry("b", 1), &Entry("a", 2)]);
        for entry in [&Entry("c", 3), &Entry("c", 4), &Entry("a", 5)] {
            TABLE.register(entry);
        }
        let all: Vec<_> = TABLE.all().iter().map(|entry| (entry.0, entry.1)).collect();
        assert_eq!(all, [("b", 1), ("a", 2), ("c", 4), ("a", 5)]);
        assert_eq!(TABLE.named("a").map(|entry| entry.1), Some(2));
        assert!(TABLE.named("d").is_none());
        assert_eq!(TABLE.registrations(), 3);
    }
}
