//! A sweep's `successive_halving` must know which training it stops, and by what: dev rows that are measured at every rung.

use crate::recipe::halved::{self, Halved, Stages};
use crate::recipe::{Catalog, Checks, Diagnostic, Draft, suggest};
use crate::spec::{DevMetric, Stage, SuccessiveHalving, Sweep, Train};

/// Steps that an epoch is taken to have where its rows aren't counted: a number that all small ones divide.
const EPOCH: f64 = 720_720.0;

impl Checks<'_> {
    pub(super) fn halving(&mut self, catalog: &'static Catalog, sweep: &Sweep) {
        let Some(halving) = sweep.halving() else { return };
        let name = sweep.halving_key();
        let section = format!("sweep.{name}");
        let at = self.key(&section);
        if sweep.successive_halving.is_some() && sweep.asha.is_some() {
            self.both(&section, "sweep.asha");
        }
        if sweep.tpe.is_some() {
            let message =
                format!("`{name}` compares cells that are all there, and `tpe` draws them from the results of others");
            self.report(at, message, format!("take one of the two out; `random` draws cells for `{name}`"));
        }
        if sweep.aim().is_none() {
            let hint = "add `maximize: stages.NAME.metrics.METRIC`".to_owned();
            return self.report(at, format!("`{name}` needs to know what is better"), hint);
        }
        // Of a stage that is wrong in itself nothing more can be said.
        let known = |draft: &'_ Draft| draft.stage.is_some();
        if !self.drafts.iter().all(known) {
            return;
        }
        let stages: Stages<'_> =
            self.drafts.iter().filter_map(|draft| Some((draft.name.as_str(), draft.stage.as_ref()?))).collect();
        let Some(stage) = self.halved(catalog, halving, &section, &stages, sweep) else { return };
        let Some(measured) = stages.get(stage).and_then(|stage| halved::dev_metrics(catalog, stage)) else {
            return;
        };
        if let Some(metric) = halving.metric.as_deref()
            && !measured.names.iter().any(|known| known.name() == metric)
        {
            let hint = suggest::did_you_mean(metric, measured.names.iter().map(DevMetric::name), "the metrics are");
            let message = format!("no metric `{}` is measured on dev rows", self.shown(&format!("{section}.metric")));
            self.report(self.value(&format!("{section}.metric")), message, hint);
        }
        if !measured.has_rows {
            self.problems.push(
                Diagnostic::new(format!("`{name}` compares cells by the dev rows of `{stage}`, which has none"))
                    .at(at)
                    .also(self.key(&format!("stages.{stage}.{}", measured.section)), "here")
                    .hint(format!("name some under its `{}`", measured.section)),
            );
        } else {
            self.measured_at_rungs(halving, &section, stage, &measured.train);
        }
    }

    /// The stage whose training is stopped.
    fn halved<'a>(
        &mut self,
        catalog: &'static Catalog,
        halving: &'a SuccessiveHalving,
        section: &str,
        stages: &Stages<'a>,
        sweep: &Sweep,
    ) -> Option<&'a str> {
        let candidates = halved::candidates(catalog, stages, sweep);
        let Some(name) = halving.stage.as_deref() else {
            match candidates.as_slice() {
                [only] => return Some(only),
                [] => {
                    let hint =
                        "it stops the training of a stage with dev rows, some of whose settings are swept".to_owned();
                    let message = "no stage with dev rows that the objective depends on differs between cells";
                    self.report(self.key(section), message, hint);
                }
                several => {
                    let names = suggest::list(several.iter().copied());
                    let message = format!("which training to stop isn't clear: {names} differ between cells");
                    let hint = format!("name one: `stage: {}`", several[several.len() - 1]);
                    self.report(self.key(section), message, hint);
                }
            }
            return None;
        };
        if candidates.contains(&name) {
            return Some(name);
        }
        let shown = self.shown(&format!("{section}.stage"));
        let is_measured = |stage: &Stage| halved::dev_metrics(catalog, stage).is_some();
        let trainings: Vec<&str> =
            stages.iter().filter(|(_, stage)| is_measured(stage)).map(|(name, _)| *name).collect();
        let trainings = || trainings.iter().copied();
        let (message, hint) = match stages.get(name) {
            None => {
                let hint = suggest::did_you_mean(name, trainings().collect::<Vec<_>>(), "the stages with dev rows are");
                (format!("there is no stage `{shown}`"), hint)
            }
            Some(stage) if !is_measured(stage) => {
                let hint = suggest::did_you_mean(name, trainings().collect::<Vec<_>>(), "the stages with dev rows are");
                (format!("`{shown}` is a {} stage, and such stages have no dev rows", stage.kind), hint)
            }
            Some(_) if !halved::needed(catalog, stages, sweep).contains(name) => {
                (format!("the objective doesn't depend on `{shown}`"), None)
            }
            Some(_) => (format!("`{shown}` is the same in all cells"), None),
        };
        self.report(self.value(&format!("{section}.stage")), message, hint);
        None
    }

    /// As far as that shows without counting rows, each rung must have a measurement of its own before the end.
    fn measured_at_rungs(&mut self, halving: &SuccessiveHalving, section: &str, name: &str, train: &Train) {
        let (steps, every) = match (train.steps, train.epochs, train.evaluate_every) {
            (Some(steps), None, Some(every)) => (steps, every),
            (None, Some(epochs), None) => ((epochs * EPOCH).round() as usize, EPOCH as usize),
            _ => return,
        };
        let often = if train.steps.is_some() { format!("{every} of {steps} steps") } else { "epoch".to_owned() };
        let Some(message) = Halved::clash(halving, name, steps, every, &often) else { return };
        let hint = format!("set `evaluate_every` of `{name}` lower, or `rungs` of the sweep");
        let field = if train.steps.is_some() { "evaluate_every" } else { "epochs" };
        let length = self.key(&format!("stages.{name}.train.{field}"));
        self.problems.push(Diagnostic::new(message).at(self.key(section)).also(length, "as this says").hint(hint));
    }
}
