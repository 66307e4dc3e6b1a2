//! A sweep's paths must lead somewhere, its values must fit there, and its aim must be a metric.

use super::Check;
use crate::recipe::flags::{self, Miss};
use crate::recipe::node::{Node, Value};
use crate::recipe::spec::Sweep;
use crate::recipe::{suggest, typecheck};

impl Check<'_> {
    pub(super) fn sweep(&mut self, sweep: Option<&Sweep>) {
        let tree = self.tree;
        let grid = tree.get("sweep").and_then(|sweep| sweep.get("grid"));
        for entry in grid.map(Node::entries).unwrap_or_default() {
            let Value::Seq(values) = &entry.node.value else { continue };
            if values.is_empty() {
                self.report(entry.key_span, format!("`{}` has no values to try", entry.key), None);
            }
            match flags::resolve(tree, &entry.key) {
                Ok(target) => {
                    let name = entry.key.rsplit('.').next().unwrap_or_default();
                    for value in values {
                        typecheck::check(value, target.slot, name, self.problems);
                    }
                }
                // What an expression gives is known when it has been filled in; what is broken was reported.
                Err(Miss::Expression) => {}
                Err(Miss::Wrong { part, message, hint }) => {
                    let at = self.texts.within(entry.key_span, &entry.key, part);
                    self.report(at, message, hint);
                }
            }
        }
        let Some(sweep) = sweep else { return };
        if sweep.maximize.is_some() && sweep.minimize.is_some() {
            let at = self.key("sweep.minimize");
            self.report(at, "a sweep has one aim: `maximize` or `minimize`", "keep one of the two".to_owned());
        }
        for (field, path) in [("maximize", &sweep.maximize), ("minimize", &sweep.minimize)] {
            if let Some(path) = path {
                self.aim(&format!("sweep.{field}"), path);
            }
        }
    }

    fn aim(&mut self, pointer: &str, path: &str) {
        let whole = self.value(pointer);
        let parts: Vec<&str> = path.split('.').collect();
        let ["stages", stage, "metrics", metric] = parts.as_slice() else {
            let message = format!("`{}` is no metric of a stage", self.shown(pointer));
            return self.report(whole, message, "write `stages.NAME.metrics.METRIC`".to_owned());
        };
        if metric.is_empty() {
            self.report(whole, "the metric's name is missing", None);
        }
        let stages = self.tree.get("stages").map(Node::entries).unwrap_or_default();
        if stages.iter().all(|entry| entry.key != *stage) {
            let start = "stages.".len();
            let at = self.texts.within(whole, path, start..start + stage.len());
            let hint = suggest::did_you_mean(stage, stages.iter().map(|entry| entry.key.as_str()), "the stages are");
            self.report(at, format!("there is no stage `{stage}`"), hint);
        }
    }
}
