//! What `pipe ci` found, in Markdown: what a reviewer needs to decide comes first.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::{
    compare_text::{differing, signed},
    comparison::Pair,
    console::{bytes, count, duration, redact},
    expectations::{Expectations, Found},
    report::format_number,
};
use crate::{
    engine::{
        executor::{Ending, Outcome},
        store::{Artifact, short},
    },
    session::base::{Base, Unchanged},
    stages::metrics::Role,
    surface::reference::markdown::table,
};

/// Differences of a stage's settings that are shown.
const SHOWN: usize = 4;

/// What the base has of a recipe's results.
pub(super) struct InBase {
    /// Stored results by stage, here or in the remote.
    pub(super) artifacts: IndexMap<String, Artifact>,
    /// The stages that it has, stored or not.
    pub(super) known: BTreeSet<String>,
    /// Why nothing is known of it.
    pub(super) nothing: Option<String>,
    /// Data that is taken to be the same there.
    pub(super) unchanged: Vec<Unchanged>,
}

/// A recipe that was run.
pub(super) struct Ran {
    pub(super) name: String,
    pub(super) outcomes: IndexMap<String, Outcome>,
    /// Why stages ran, by their names; empty for those that didn't have to.
    pub(super) reasons: IndexMap<String, String>,
    pub(super) in_base: InBase,
}

/// The same, held against the base.
pub(super) struct Compared<'a> {
    pub(super) ran: &'a Ran,
    /// Of stages that differ from the base's.
    pub(super) pairs: IndexMap<&'a str, Pair>,
    pub(super) expectations: Expectations<'a>,
}

impl InBase {
    /// That there's nothing, and why.
    pub(super) fn nothing(reason: &str) -> Self {
        Self {
            artifacts: IndexMap::new(),
            known: BTreeSet::new(),
            nothing: Some(reason.to_owned()),
            unchanged: Vec::new(),
        }
    }

    /// A stage's result.
    pub(super) fn found(&self, stage: &str) -> Found<'_> {
        self.artifacts.get(stage).ok_or_else(|| match &self.nothing {
            Some(reason) => reason,
            None if self.known.contains(stage) => "the base has no stored result of it",
            None => "the base has no such stage",
        })
    }
}

impl Ran {
    /// Seconds that computing took, and those that it took when what was found had been computed.
    pub(super) fn seconds(&self) -> (f64, f64) {
        let computed = self.outcomes.values().filter(|outcome| !is_found(outcome));
        let found = self.outcomes.values().filter(|outcome| is_found(outcome));
        let took = |outcome: &Outcome| outcome.artifact.as_ref().map_or(0.0, |artifact| artifact.provenance.seconds);
        (computed.map(|outcome| outcome.seconds).sum(), found.map(took).sum())
    }
}

fn is_found(outcome: &Outcome) -> bool {
    matches!(outcome.ending, Ending::Hit | Ending::Fetched)
}

/// The whole page.
pub(super) fn markdown(base: &Base, recipes: &[Compared<'_>], strict: bool) -> String {
    let mut page = String::new();
    for recipe in recipes {
        page += &format!("## {}: {}\n\n", code(&recipe.ran.name), verdict(recipe, strict));
        page += &format!("Compared with {} (`{}`).", code(&base.revision), short(&base.commit));
        if let Some(reason) = &recipe.ran.in_base.nothing {
            page += &format!(" There is nothing to compare with: {}.", plain(reason));
        } else if recipe.ran.in_base.artifacts.is_empty() {
            page += " No result of it is stored, here or in the remote, so nothing can be held against it.";
        }
        page += "\n\n";
        for part in [expectations(recipe), metrics(recipe), Some(stages(recipe))].into_iter().flatten() {
            page += &part;
            page += "\n";
        }
        page += &cost(recipe);
        page += &unchanged(recipe);
        page += "\n";
    }
    format!("{}\n", page.trim_end())
}

/// How it went, in a few words.
fn verdict(recipe: &Compared<'_>, strict: bool) -> String {
    let ending = |ending: Ending| recipe.ran.outcomes.values().filter(|outcome| outcome.ending == ending).count();
    let list = recipe.expectations.list();
    let broken = list.iter().filter(|judged| judged.is_broken()).count();
    let unjudged = list.iter().filter(|judged| judged.not_judged().is_some()).count();
    let is_are = |number: usize| if number == 1 { "is" } else { "are" };
    match (ending(Ending::Failed), ending(Ending::Paused) + ending(Ending::NotRun)) {
        (failed @ 1.., _) => format!("{} failed", count(failed, "stage")),
        (0, left @ 1..) => format!("stopped, {} not done", count(left, "stage")),
        _ if broken > 0 => format!("{} {} broken", count(broken, "expectation"), is_are(broken)),
        _ if strict && unjudged > 0 => {
            format!("{} {} not judged, which `--strict` refuses", count(unjudged, "expectation"), is_are(unjudged))
        }
        _ if list.is_empty() && recipe.pairs.is_empty() => "nothing differs".to_owned(),
        _ if list.is_empty() => "nothing is expected of what differs".to_owned(),
        _ if unjudged > 0 => {
            format!("{} met, {unjudged} not judged", count(list.len() - unjudged, "expectation"))
        }
        _ if list.len() == 1 => "the expectation is met".to_owned(),
        _ => format!("all {} are met", count(list.len(), "expectation")),
    }
}

fn expectations(recipe: &Compared<'_>) -> Option<String> {
    let list = recipe.expectations.list();
    let row = |judged: &super::expectations::Judged| {
        let judgement = &judged.judgement;
        let expected = format!("{} {}", judgement.bound.key().replace('_', " "), bound(&judgement.bound.value()));
        let figure = judgement.figure.map(format_number).unwrap_or_default();
        let verdict = match (judged.is_broken(), judged.not_judged()) {
            (true, _) => "**broken**".to_owned(),
            (false, Some(_)) => "not judged".to_owned(),
            (false, None) => "met".to_owned(),
        };
        let metric = format!("{} {}", code(&judgement.stage), code(&judgement.metric));
        [metric, expected, figure, verdict, judged.told().map(|told| plain(&told)).unwrap_or_default()]
    };
    (!list.is_empty()).then(|| table(["metric", "expected", "is", "", ""], list.iter().map(row)))
}

/// A number as it stands in the recipe, or the name of another metric.
fn bound(value: &str) -> String {
    if value.parse::<f64>().is_ok() { value.to_owned() } else { code(value) }
}

/// What came out otherwise than in the base, with paired intervals where there are some.
fn metrics(recipe: &Compared<'_>) -> Option<String> {
    let mut rows = Vec::new();
    let mut notes = String::new();
    for (stage, pair) in &recipe.pairs {
        let intervals = pair.intervals.as_ref();
        for (name, before, now) in differing(pair, Role::Result) {
            let interval = intervals.and_then(|(_, _, all)| all.iter().find(|(of, _)| of == name));
            let interval = interval.map(|(_, interval)| {
                let chance = if interval.low <= 0.0 && interval.high >= 0.0 { ", may be chance" } else { "" };
                format!("{} to {}{chance}", signed(interval.low), signed(interval.high))
            });
            let metric = format!("{} {}", code(stage), code(name));
            rows.push([
                metric,
                format_number(*before),
                format_number(*now),
                signed(now - before),
                interval.unwrap_or_default(),
            ]);
        }
        if let Some((paired, unpaired, _)) = intervals {
            let left_out =
                if *unpaired > 0 { format!(", without {unpaired} that only one has") } else { String::new() };
            notes += &match paired {
                0 => format!("{} was measured on other rows than in the base.\n", code(stage)),
                _ => format!(
                    "Intervals of {}: paired bootstrap over {}{left_out}.\n",
                    code(stage),
                    count(*paired, "row")
                ),
            };
        }
    }
    if rows.is_empty() {
        return None;
    }
    let table = table(["metric", "base", "now", "difference", "95 % interval"], rows);
    Some(if notes.is_empty() { table } else { format!("{table}\n{notes}") })
}

fn stages(recipe: &Compared<'_>) -> String {
    let row = |(name, outcome): (&String, &Outcome)| {
        let (state, time) = match outcome.ending {
            Ending::Hit => ("unchanged", String::new()),
            Ending::Fetched => ("in the remote", String::new()),
            Ending::Ran => ("ran", duration(outcome.seconds)),
            Ending::Paused => ("paused", duration(outcome.seconds)),
            Ending::Failed => ("**failed**", duration(outcome.seconds)),
            Ending::NotRun => ("not run", String::new()),
            Ending::Stopped => ("stopped", String::new()),
        };
        [code(name), state.to_owned(), time, why(recipe, name, outcome)]
    };
    table(["stage", "", "time", "why"], recipe.ran.outcomes.iter().map(row))
}

/// What went wrong with a stage; or what differs from the base; or else why it ran.
fn why(recipe: &Compared<'_>, name: &str, outcome: &Outcome) -> String {
    if let Some(error) = &outcome.error {
        return plain(error);
    }
    if let Some(pair) = recipe.pairs.get(name) {
        // What was computed with is told where nothing else differs.
        let of_inputs = |field: &str| !matches!(field, "pipe" | "device" | "outputs");
        let all: Vec<_> =
            pair.differences.iter().filter(|one| of_inputs(&one.field)).map(ToString::to_string).collect();
        let more = all.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown: Vec<_> = all.iter().take(SHOWN).map(|one| code(one)).collect();
        let seen = if is_found(outcome) { ", computed before" } else { "" };
        return format!("{}{more}{seen}", shown.join("; "));
    }
    match recipe.ran.reasons.get(name) {
        Some(reason) if !is_found(outcome) => plain(reason),
        _ => String::new(),
    }
}

fn cost(recipe: &Compared<'_>) -> String {
    let outcomes = &recipe.ran.outcomes;
    let ran = outcomes.values().filter(|outcome| outcome.ending == Ending::Ran).count();
    let (spent, saved) = recipe.ran.seconds();
    let computed = match ran {
        0 => format!("None of {} was computed", count(outcomes.len(), "stage")),
        _ => format!("{ran} of {} computed in {}", count(outcomes.len(), "stage"), duration(spent)),
    };
    let fetched = outcomes.values().filter(|outcome| outcome.ending == Ending::Fetched);
    let kept: u64 = fetched
        .filter_map(|outcome| outcome.artifact.as_ref())
        .filter(|one| !one.path.exists())
        .map(Artifact::bytes)
        .sum();
    let kept = if kept > 0 { format!(" {} in the remote needn't be fetched.", bytes(kept)) } else { String::new() };
    match saved > 0.0 {
        true => format!("{computed}; the cache saved {}.{kept}\n", duration(saved)),
        false => format!("{computed}.{kept}\n"),
    }
}

fn unchanged(recipe: &Compared<'_>) -> String {
    let list = &recipe.ran.in_base.unchanged;
    if list.is_empty() {
        return String::new();
    }
    let names: Vec<_> =
        list.iter().map(|one| format!("{} ({})", code(&one.path.display().to_string()), one.why)).collect();
    format!("\nTaken to be the same in the base: {}.\n", names.join(", "))
}

/// Text that others may have written, which can't do anything in Markdown.
fn code(text: &str) -> String {
    let text = redact(text).split_whitespace().collect::<Vec<_>>().join(" ");
    format!("`{}`", text.replace('`', "'"))
}

/// A message in which back ticks mark names, without anything else that would mean something.
fn plain(text: &str) -> String {
    let text = redact(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let has_names = text.matches('`').count() % 2 == 0;
    let (mut out, mut is_name) = (String::new(), false);
    for c in text.chars() {
        is_name ^= c == '`' && has_names;
        let means_something = matches!(c, '<' | '>' | '*' | '_' | '[' | ']' | '@' | '#' | '\\') && !is_name;
        if means_something || c == '`' && !has_names {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
