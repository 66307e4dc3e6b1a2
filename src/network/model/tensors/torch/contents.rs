//! Which of the values in a file are a model's weights, and what they're called.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Torch,
    values::{Id, Storage, Value, Values},
    view,
};

/// What trainers call the weights in a file that holds more: THUDM's GLM and DeepSpeed `module`.
const WEIGHTS: [&str; 4] = ["state_dict", "module", "model", "model_state_dict"];
/// What stands before each name where a model was wrapped: for several devices, or compiled.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Dictionaries within one another; more of them are meant to go on without end.
const DEEPEST: usize = 64;
/// Longer names are no names.
const LONGEST: usize = 1000;
/// Problems that are reported; more of them only repeat the same.
const MOST: usize = 8;

/// The value of a pickle.
pub(super) struct Contents {
    pub(super) values: Values,
    pub(super) root: Id,
}

impl Contents {
    /// The weights, by their names and places in the file, which has `size` bytes; `stored` tells where the numbers of a
    /// storage lie.
    ///
    /// # Errors
    /// A file without weights, and tensors that aren't whole: all that is wrong, a line each.
    pub(super) fn torch(&self, size: u64, mut stored: impl FnMut(&Storage) -> Result<Range<u64>>) -> Result<Torch> {
        let mut torch = Torch { tensors: BTreeMap::new(), strides: BTreeMap::new() };
        let mut problems = Vec::new();
        for (name, index) in self.names()? {
            let tensor = &self.values.tensors[index];
            let storage = &self.values.storages[tensor.storage];
            match stored(storage).and_then(|stored| view::place(tensor, storage, stored, size)) {
                Ok((info, strides)) => {
                    torch.strides.extend(strides.map(|strides| (name.clone(), strides)));
                    torch.tensors.insert(name, info);
                }
                Err(error) => problems.push(format!("{name}: {error:#}")),
            }
        }
        let more = problems.len().saturating_sub(MOST);
        problems.truncate(MOST);
        problems.extend((more > 0).then(|| format!("and {more} more like these")));
        if problems.is_empty() { Ok(torch) } else { bail!(problems.join("\n")) }
    }

    /// The tensors of the weights, by their names.
    fn names(&self) -> Result<BTreeMap<String, usize>> {
        let mut walk = Walk { values: &self.values, left: self.values.steps(), names: BTreeMap::new() };
        let mut place = self.root;
        for _ in 0..DEEPEST {
            let Value::Dict(entries) = self.values.get(place) else {
                bail!("it holds {} instead of tensors by their names", self.values.get(place).kind());
            };
            let is_tensor = |&(_, value): &(Id, Id)| matches!(self.values.get(value), Value::Tensor(_));
            if entries.iter().any(is_tensor) {
                break;
            }
            let called = |name: &str| {
                let is = |&&(key, value): &&(Id, Id)| {
                    matches!(self.values.get(key), Value::Text(key) if key == name)
                        && matches!(self.values.get(value), Value::Dict(_))
                };
                entries.iter().rfind(is).map(|&(_, value)| value)
            };
            match WEIGHTS.into_iter().find_map(called) {
                Some(within) => place = within,
                None => break,
            }
        }
        walk.go(place, "", 0)?;
        let mut names = walk.names;
        ensure!(!names.is_empty(), "it holds no tensors");
        for wrapper in WRAPPERS {
            if names.keys().all(|name| name.starts_with(wrapper)) {
                names = names.into_iter().map(|(name, index)| (name[wrapper.len()..].to_owned(), index)).collect();
            }
        }
        Ok(names)
    }
}

/// A walk through containers within one another.
struct Walk<'a> {
    values: &'a Values,
    /// Items that may still be looked at: containers that are in others many times can make a walk that takes forever.
    left: usize,
    names: BTreeMap<String, usize>,
}

impl Walk<'_> {
    fn go(&mut self, id: Id, name: &str, depth: usize) -> Result<()> {
        let (values, prefix) = (self.values, if name.is_empty() { String::new() } else { format!("{name}.") });
        match values.get(id) {
            Value::Tensor(index) => {
                let known = self.names.insert(name.to_owned(), *index);
                ensure!(known.is_none() || known == Some(*index), "two tensors are called {name}");
            }
            Value::Dict(entries) => {
                self.enter(entries.len(), depth)?;
                // Of equal keys the last counts.
                let mut last = BTreeMap::new();
                for &(key, value) in entries {
                    let key = match values.get(key) {
                        Value::Text(key) => key,
                        Value::Number(key) => &key.to_string(),
                        _ => continue,
                    };
                    ensure!(prefix.len() + key.len() <= LONGEST, "a name is longer than any tensor's");
                    last.insert(format!("{prefix}{key}"), value);
                }
                for (name, value) in last {
                    self.go(value, &name, depth + 1)?;
                }
            }
            Value::List(items) | Value::Tuple(items) => {
                self.enter(items.len(), depth)?;
                for (index, &item) in items.iter().enumerate() {
                    self.go(item, &format!("{prefix}{index}"), depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, items: usize, depth: usize) -> Result<()> {
        ensure!(depth < DEEPEST, "its containers are too deep in one another");
        let left = self.left.checked_sub(items + 1);
        self.left = left.context("the same containers are in it again and again")?;
        Ok(())
    }
}
