//! What chains of stages begin with, where each stage names the one that it continues: however many stages ask, each is looked
//! at once.

use std::{collections::BTreeMap, sync::Arc};

/// What a stage says of where it begins.
#[derive(Debug)]
pub enum Step<T> {
    /// Here.
    Here(T),
    /// Where another stage begins.
    With(String),
    /// Nowhere that's known.
    Nowhere,
}

/// What is known of where stages begin, by their names.
#[derive(Debug)]
pub struct Chains<T>(BTreeMap<String, Option<Arc<T>>>);

impl<T> Default for Chains<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Chains<T> {
    /// What the chain of a stage begins with; nothing if that's nowhere, or if it goes round in a circle.
    ///
    /// # Errors
    /// What `step` fails with.
    pub fn beginning<E>(
        &mut self,
        stage: &str,
        mut step: impl FnMut(&str) -> Result<Step<T>, E>,
    ) -> Result<Option<Arc<T>>, E> {
        let (mut passed, mut at) = (Vec::new(), stage.to_owned());
        let found = loop {
            if let Some(known) = self.0.get(&at) {
                break Ok(known.clone());
            }
            // Whoever comes here again goes round in a circle.
            self.0.insert(at.clone(), None);
            passed.push(at.clone());
            match step(&at) {
                Ok(Step::Here(found)) => break Ok(Some(Arc::new(found))),
                Ok(Step::With(before)) => at = before,
                Ok(Step::Nowhere) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        for name in passed {
            match &found {
                Ok(found) => self.0.insert(name, found.clone()),
                Err(_) => self.0.remove(&name),
            };
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn each_stage_is_asked_once() {
        let (mut chains, mut asked) = (Chains::default(), Vec::new());
        let mut beginning = |stage: &str| {
            let found = chains.beginning(stage, |name| {
                asked.push(name.to_owned());
                Ok::<_, Infallible>(match name {
                    "d" => Step::With("c".to_owned()),
                    "c" => Step::With("b".to_owned()),
                    "b" => Step::Here(7),
                    "round" => Step::With("about".to_owned()),
                    "about" => Step::With("round".to_owned()),
                    _ => Step::Nowhere,
                })
            });
            found.unwrap().map(|found| *found)
        };
        assert_eq!([beginning("c"), beginning("d"), beginning("b")], [Some(7); 3]);
        assert_eq!([beginning("round"), beginning("about"), beginning("a")], [None; 3]);
        assert_eq!(asked, ["c", "b", "d", "round", "about", "a"]);
    }

    #[test]
    fn what_failed_is_asked_again() {
        let mut chains = Chains::default();
        assert_eq!(chains.beginning("a", |_| Err("not yet")).map(|found| found.is_some()), Err("not yet"));
        assert_eq!(chains.beginning("a", |_| Ok::<_, &str>(Step::Here(1))).map(|found| found.is_some()), Ok(true));
    }
}
