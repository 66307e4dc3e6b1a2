//! A sweep's sections must go together, its paths must lead somewhere, and its aim must be a metric. What stands behind
//! a path is looked at in `sweep_values.rs`.

use super::sweep_values::Listed;
use crate::recipe::condition::Condition;
use crate::recipe::flags::{self, Miss, Target};
use crate::recipe::node::{Entry, Node, Value};
use crate::recipe::{Catalog, Checks, Span, suggest};
use crate::spec::Sweep;

/// The sections that give cells.
const SECTIONS: [&str; 5] = ["list", "zip", "grid", "random", "tpe"];

impl Checks<'_> {
    pub(super) fn sweep(&mut self, catalog: &'static Catalog, sweep: Option<&Sweep>) {
        let Some(node) = self.tree.get("sweep") else { return };
        self.sections(node);
        let mut known: Vec<(&Entry, Target)> = Vec::new();
        for (section, entry) in parameters(node) {
            let Some(target) = self.leads(catalog, entry.key_span, &entry.key) else { continue };
            let before = known.iter().find(|(_, other)| other.is(&target));
            // Every cell of a list has the same paths as the others.
            if let Some((first, _)) = before.filter(|_| section != Listed::Cell) {
                let line = self.texts.of(first.key_span).place(first.key_span.start as usize).0;
                let message = format!("`{}` is swept already, in line {line}", entry.key);
                self.report(entry.key_span, message, "keep one of the two".to_owned());
            }
            self.values(section, entry, &target);
            if let (Listed::Grid | Listed::Drawn, Some(when)) = (section, entry.node.get("when")) {
                self.condition(when, &known.iter().map(|(entry, _)| entry.key.as_str()).collect::<Vec<_>>());
            }
            known.push((entry, target));
        }
        let paths: Vec<&str> = known.iter().map(|(entry, _)| entry.key.as_str()).collect();
        if let Some(when) = node.get("when") {
            self.condition(when, &paths);
        }
        self.repeats(catalog, node, &known);
        if let Some(sweep) = sweep {
            self.aims(catalog, sweep);
            self.halving(catalog, sweep);
        }
    }

    /// There must be cells, and `tpe` tells what comes next from what came before.
    fn sections(&mut self, sweep: &Node) {
        if sweep.entries().is_empty() {
            return;
        }
        let given: Vec<&Entry> = SECTIONS.iter().filter_map(|name| sweep.entry(name)).collect();
        if given.is_empty() {
            let at = self.key("sweep");
            let hint = "add `grid: { PATH: [VALUE, VALUE] }`, or `list`, `zip`, `random` or `tpe`".to_owned();
            self.report(at, "the sweep has no settings to try", hint);
        }
        let Some(tpe) = sweep.entry("tpe") else { return };
        if let Some(other) = given.iter().find(|entry| entry.key != "tpe") {
            let message = format!("`tpe` stands alone, and there is `{}` too", other.key);
            self.report(tpe.key_span, message, "put its settings under `tpe.values`".to_owned());
        }
        if sweep.get("maximize").or_else(|| sweep.get("minimize")).is_none() {
            let hint = "add `maximize: stages.NAME.metrics.METRIC`".to_owned();
            self.report(tpe.key_span, "`tpe` needs to know what is better", hint);
        }
    }

    /// Where a path leads, if it does.
    fn leads(&mut self, catalog: &'static Catalog, at: Span, path: &str) -> Option<Target> {
        match flags::resolve(self.tree, catalog.recipe(), path) {
            Ok(target) => Some(target),
            // What an expression gives is known when it has been filled in; what is broken was reported.
            Err(Miss::Expression) => None,
            Err(Miss::Wrong { part, message, hint }) => {
                let at = self.texts.within(at, path, part);
                self.report(at, message, hint);
                None
            }
        }
    }

    /// A condition must be an expression over settings that are known where it stands.
    fn condition(&mut self, node: &Node, known: &[&str]) {
        let Some(text) = node.as_str() else { return };
        let condition = match Condition::new(text) {
            Ok(condition) => condition,
            Err(reason) => {
                let hint = "a condition is such as `stages.cls.train.lr < 1e-3`".to_owned();
                return self.report(node.span, format!("the condition can't be read: {reason}"), hint);
            }
        };
        for path in condition.paths().iter().filter(|path| !known.contains(&path.as_str())) {
            let hint = suggest::did_you_mean(path, known.iter().copied(), "there is")
                .or_else(|| Some("a condition looks at settings that the sweep has further up".to_owned()));
            let at = text
                .find(path.as_str())
                .map_or(node.span, |start| self.texts.within(node.span, text, start..start + path.len()));
            self.report(at, format!("the sweep doesn't set `{path}` before this"), hint);
        }
    }

    fn repeats(&mut self, catalog: &'static Catalog, sweep: &Node, known: &[(&Entry, Target)]) {
        let Some(repeat) = sweep.get("repeat") else { return };
        if let Some(Value::Seq(seeds)) = repeat.get("seeds").map(|seeds| &seeds.value) {
            for (index, seed) in seeds.iter().enumerate() {
                if seeds[..index].contains(seed) {
                    self.report(seed.span, format!("the seed {} is there twice", seed.shown()), None);
                }
            }
        }
        let Some(Value::Seq(over)) = repeat.get("over").map(|over| &over.value) else { return };
        for node in over {
            let Some(path) = node.as_str() else { continue };
            let Some(target) = self.leads(catalog, node.span, path) else { continue };
            if path.rsplit('.').next() != Some("seed") {
                let hint = "write `seed`, or `stages.NAME.train.seed`".to_owned();
                self.report(node.span, format!("`{path}` is no seed"), hint);
            }
            if known.iter().any(|(_, other)| other.is(&target)) {
                self.report(node.span, format!("`{path}` is swept too"), "keep one of the two".to_owned());
            }
        }
    }

    fn aims(&mut self, catalog: &'static Catalog, sweep: &Sweep) {
        if sweep.maximize.is_some() && sweep.minimize.is_some() {
            let at = self.key("sweep.minimize");
            self.report(at, "a sweep has one aim: `maximize` or `minimize`", "keep one of the two".to_owned());
        }
        for (field, path) in [("maximize", &sweep.maximize), ("minimize", &sweep.minimize)] {
            if let Some(path) = path {
                self.aim(catalog, &format!("sweep.{field}"), path);
            }
        }
    }

    fn aim(&mut self, catalog: &'static Catalog, pointer: &str, path: &str) {
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
            return self.report(at, format!("there is no stage `{stage}`"), hint);
        }
        let draft = self.stage(stage).filter(|draft| draft.stage.is_some());
        let Some(names) = draft.and_then(|draft| catalog.kind(draft.kind.name())?.metrics(draft, self)) else { return };
        if !metric.is_empty() && !names.iter().any(|name| name == metric) {
            let at = self.texts.within(whole, path, path.len() - metric.len()..path.len());
            self.no_metric(at, stage, metric, &names);
        }
    }

    /// Reports that a stage has no such metric, and which it has.
    pub(super) fn no_metric(&mut self, at: Span, stage: &str, metric: &str, names: &[String]) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let near = suggest::nearest(metric, names.iter().copied());
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let message = format!("no metric `{metric}` is recorded of `{stage}`");
        self.report(at, message, format!("{near}there is {}", suggest::list(names)));
    }
}

/// All settings of a sweep with the section that they stand in, in the order in which cells have them.
fn parameters(sweep: &Node) -> Vec<(Listed, &Entry)> {
    let items = match sweep.get("list").map(|list| &list.value) {
        Some(Value::Seq(items)) => items.as_slice(),
        _ => &[],
    };
    let section = |name: &str| sweep.get(name).map(Node::entries).unwrap_or_default();
    let values = |name: &str| sweep.get(name).and_then(|node| node.get("values")).map(Node::entries);
    let cells = items.iter().flat_map(|item| item.entries()).map(|entry| (Listed::Cell, entry));
    let zip = section("zip").iter().map(|entry| (Listed::Zip, entry));
    let grid = section("grid").iter().map(|entry| (Listed::Grid, entry));
    let drawn = ["random", "tpe"].into_iter().filter_map(values).flatten().map(|entry| (Listed::Drawn, entry));
    cells.chain(zip).chain(grid).chain(drawn).collect()
}
