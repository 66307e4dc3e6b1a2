//! What a recipe expects of its metrics, as it's told: on the terminal with its place in the recipe, and in JSON.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    comparison::predicted,
    console::{self, count},
    exit::Exit,
    report::format_number,
};
use crate::{
    engine::{executor::Outcome, remote::Remote, store::Artifact},
    learning::metrics::{Paired, estimates},
    recipe::{Checked, Diagnostics},
    session::expectations::{Judgement, Verdict, judge},
    spec::Bound,
};

/// How often rows are drawn for an interval.
const RESAMPLES: usize = 10_000;

/// Why a stage that has failed, or wasn't run, isn't judged.
pub(super) const NO_RESULT: &str = "the stage has no result";

/// Why nothing is held against the base where there is none.
pub(super) const NO_BASE: &str = "there is no base to compare with, as `pipe ci` has one";

/// All that a recipe expects of stages, judged.
pub(super) struct Expectations<'a> {
    checked: &'a Checked,
    list: Vec<Judged>,
}

/// An expectation, and how sure one may be of what breaks it.
pub(super) struct Judged {
    pub(super) judgement: Judgement,
    interval: Option<Interval>,
}

/// A 95 % interval.
struct Interval {
    /// Whether it's that of the difference from the base, or else that of the figure itself.
    is_of_difference: bool,
    low: f64,
    high: f64,
    rows: usize,
}

/// What a stage has, or why nothing is known of it.
pub(super) type Found<'a> = Result<&'a Artifact, &'a str>;

/// What there is of a stage after a run.
pub(super) fn found(outcome: &Outcome) -> Found<'_> {
    outcome.artifact.as_ref().ok_or(NO_RESULT)
}

impl<'a> Expectations<'a> {
    /// Judges these stages, whose results in the base are `base`'s. Of the remote only what breaks an expectation is looked
    /// at.
    ///
    /// # Errors
    /// If the predictions of an evaluation can't be read.
    pub(super) fn judge<'s>(
        checked: &'a Checked,
        stages: impl Iterator<Item = (&'s str, Found<'s>)>,
        base: &dyn Fn(&str) -> Found<'s>,
        remote: Option<&Remote>,
    ) -> Result<Self> {
        let mut list = Vec::new();
        for (stage, found) in stages {
            let base = base(stage);
            let metrics = |found: Found<'s>| found.map(|artifact| &artifact.metrics);
            for judgement in judge(checked, stage, metrics(found), metrics(base)) {
                let interval = match (&judgement.verdict, found) {
                    (Verdict::Broken, Ok(artifact)) => interval(&judgement, artifact, base.ok(), remote)?,
                    _ => None,
                };
                list.push(Judged { judgement, interval });
            }
        }
        Ok(Self { checked, list })
    }

    /// All of them, in the order of the stages.
    pub(super) fn list(&self) -> &[Judged] {
        &self.list
    }

    /// The file that they stand in.
    pub(super) fn file(&self) -> String {
        self.checked.path.display().to_string()
    }

    /// Line and column of one of them, from 1.
    pub(super) fn place(&self, judged: &Judged) -> (usize, usize) {
        self.checked.place(&judged.judgement.pointer)
    }

    /// The exit status, of a run that ended so but for them.
    pub(super) fn exit(&self, exit: Exit) -> Exit {
        if exit == Exit::Done && self.list.iter().any(Judged::is_broken) { Exit::Broken } else { exit }
    }

    /// Shows those that are broken, each at its place, and how many of all are met.
    pub(super) fn print(&self) {
        let broken = self
            .list
            .iter()
            .filter(|judged| judged.is_broken())
            .map(|judged| self.checked.diagnose(&judged.judgement.pointer, judged.message(), judged.sureness()));
        if let Some(broken) = Diagnostics::all(broken) {
            console::eprint_line(&broken.render(console::colour()));
        }
        if !self.list.is_empty() {
            console::eprint_line(&self.summary());
        }
    }

    /// How many are met, broken and not judged, and of the last why.
    pub(super) fn summary(&self) -> String {
        let number = |is: fn(&Judged) -> bool| self.list.iter().filter(|judged| is(judged)).count();
        let (met, broken) = (number(Judged::is_met), number(Judged::is_broken));
        let mut text = format!("{}: {met} met", count(self.list.len(), "expectation"));
        if broken > 0 {
            text += &format!(", {broken} broken");
        }
        let mut reasons: Vec<&str> = self.list.iter().filter_map(Judged::not_judged).collect();
        if !reasons.is_empty() {
            let number = reasons.len();
            reasons.dedup();
            text += &format!(", {number} not judged ({})", reasons.join("; "));
        }
        text
    }

    /// As `--json` has them.
    pub(super) fn json(&self) -> Value {
        self.list.iter().map(|judged| self.one(judged)).collect()
    }

    fn one(&self, judged: &Judged) -> Value {
        let Judged { judgement, interval } = judged;
        let (line, column) = self.place(judged);
        let value = match &judgement.bound {
            Bound::AtLeast(number) | Bound::AtMost(number) => json!(number),
            Bound::DropAtMost(number) | Bound::RiseAtMost(number) => json!(number),
            Bound::AtLeastOf(metric) | Bound::AtMostOf(metric) => json!(metric),
        };
        json!({
            "stage": judgement.stage,
            "metric": judgement.metric,
            "expected": judgement.bound.key(),
            "value": value,
            "figure": judgement.figure,
            "against": judgement.against,
            "verdict": judgement.verdict.word(),
            "message": judged.told(),
            "interval": interval.as_ref().map(|interval| json!({
                "of": if interval.is_of_difference { "difference" } else { "figure" },
                "low": interval.low,
                "high": interval.high,
                "rows": interval.rows,
            })),
            "file": self.file(),
            "line": line,
            "column": column,
        })
    }
}

impl Judged {
    pub(super) fn is_broken(&self) -> bool {
        self.judgement.verdict == Verdict::Broken
    }

    fn is_met(&self) -> bool {
        self.judgement.verdict == Verdict::Met
    }

    /// Why it isn't judged, if it isn't.
    pub(super) fn not_judged(&self) -> Option<&str> {
        match &self.judgement.verdict {
            Verdict::NotJudged(reason) => Some(reason),
            Verdict::Met | Verdict::Broken => None,
        }
    }

    /// What is expected, such as `accuracy at_least 0.84`.
    pub(super) fn expected(&self) -> String {
        let Judgement { metric, bound, .. } = &self.judgement;
        format!("{metric} {} {}", bound.key(), bound.value())
    }

    /// What is wrong with it, or why it isn't known; none where all is well.
    pub(super) fn told(&self) -> Option<String> {
        match &self.judgement.verdict {
            Verdict::Met => None,
            Verdict::NotJudged(reason) => Some(reason.clone()),
            Verdict::Broken => {
                Some([Some(self.message()), self.sureness()].into_iter().flatten().collect::<Vec<_>>().join("; "))
            }
        }
    }

    /// What is wrong with it.
    fn message(&self) -> String {
        let Judgement { stage, metric, bound, figure, against, .. } = &self.judgement;
        let Some(figure) = *figure else { return format!("`{stage}` has no `{metric}`: it couldn't be measured") };
        let is = format!("`{metric}` of `{stage}` is {}", format_number(figure));
        let Some(against) = *against else { return format!("{is}, and `{}` couldn't be measured", bound.value()) };
        match bound {
            Bound::AtLeast(_) => format!("{is}, less than {}", format_number(against)),
            Bound::AtMost(_) => format!("{is}, more than {}", format_number(against)),
            Bound::AtLeastOf(other) => format!("{is}, less than `{other}`, {}", format_number(against)),
            Bound::AtMostOf(other) => format!("{is}, more than `{other}`, {}", format_number(against)),
            Bound::DropAtMost(_) => {
                format!("{is}, {} below the base's {}", format_number(against - figure), format_number(against))
            }
            Bound::RiseAtMost(_) => {
                format!("{is}, {} above the base's {}", format_number(figure - against), format_number(against))
            }
        }
    }

    /// How sure one may be of that.
    fn sureness(&self) -> Option<String> {
        let Interval { is_of_difference, low, high, rows } = self.interval.as_ref()?;
        let of = if *is_of_difference { "of the difference" } else { "of the figure" };
        let rows = count(*rows, "row");
        Some(format!(
            "the 95 % interval {of} is {} to {}, by a bootstrap over {rows}",
            format_number(*low),
            format_number(*high)
        ))
    }
}

/// The interval of what breaks an expectation; none for a metric that isn't a mean over rows, or where the rows can't be had.
fn interval(
    judgement: &Judgement,
    artifact: &Artifact,
    base: Option<&Artifact>,
    remote: Option<&Remote>,
) -> Result<Option<Interval>> {
    let is_of_difference = matches!(judgement.bound, Bound::DropAtMost(_) | Bound::RiseAtMost(_));
    let Some(rows) = predicted(artifact, remote)? else { return Ok(None) };
    let of = |name: &str| name == judgement.metric;
    if !is_of_difference {
        let found = estimates(&rows, RESAMPLES, 0).into_iter().find(|(name, _)| of(name));
        let (low, high) = match found {
            Some((_, estimate)) => (estimate.low, estimate.high),
            None => return Ok(None),
        };
        return Ok(Some(Interval { is_of_difference, low, high, rows: rows.len() }));
    }
    let Some(base) = base.map(|base| predicted(base, remote)).transpose()?.flatten() else { return Ok(None) };
    let paired = Paired::new(&base, &rows);
    let found = paired.intervals(RESAMPLES, 0).into_iter().find(|(name, _)| of(name));
    Ok(found.map(|(_, found)| Interval { is_of_difference, low: found.low, high: found.high, rows: paired.rows() }))
}
