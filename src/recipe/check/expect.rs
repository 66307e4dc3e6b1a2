//! Expectations must be of metrics that a stage has, and may only say what can come true.

use crate::recipe::{Catalog, Checks, Draft};
use crate::spec::Expectation;

impl Checks<'_> {
    pub(super) fn expectations(&mut self, catalog: &'static Catalog, draft: &Draft) {
        let Some(stage) = &draft.stage else { return };
        let expected = stage.expectations();
        if expected.is_empty() {
            return;
        }
        let names = catalog.kind(draft.kind.name()).and_then(|kind| kind.metrics(draft, self));
        for (metric, expectation) in &expected {
            let pointer = draft.pointer(&format!("expect.{metric}"));
            if let Some(names) = &names {
                self.is_recorded(draft, metric, names, &pointer, false);
                let others = [("at_least_of", &expectation.at_least_of), ("at_most_of", &expectation.at_most_of)];
                for (key, other) in others.into_iter().filter_map(|(key, other)| Some((key, other.as_ref()?))) {
                    self.is_recorded(draft, other, names, &format!("{pointer}.{key}"), true);
                }
            }
            self.can_be_met(expectation, &pointer);
        }
    }

    /// Of a stage whose metrics are known, there must be one of this name; it stands there as a key, or as a value.
    fn is_recorded(&mut self, draft: &Draft, metric: &str, names: &[String], pointer: &str, is_value: bool) {
        if !names.iter().any(|name| name == metric) {
            let at = if is_value { self.value(pointer) } else { self.key(pointer) };
            self.no_metric(at, &draft.name, metric, names);
        }
    }

    fn can_be_met(&mut self, expectation: &Expectation, pointer: &str) {
        if expectation.bounds().is_empty() {
            let hint = "say what it has to be, such as `at_least: 0.9`".to_owned();
            self.report(self.key(pointer), "nothing is expected of it", hint);
        }
        if let (Some(least), Some(most)) = (expectation.at_least, expectation.at_most)
            && least > most
        {
            let message = format!("nothing is at least {least} and at most {most}");
            self.report(self.value(&format!("{pointer}.at_most")), message, None);
        }
    }
}
