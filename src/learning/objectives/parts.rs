//! What an entry of the mix is made of: its objectives by the table, whether they go together, and what follows from
//! them for the rest of the program.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::{
    AnswerForm, OBJECTIVES,
    definition::{Definition, HeadKind, HeldOutMetric, ObjectiveRole, ObjectiveSettings},
};
use crate::{
    network::model::Family,
    spec::{self, Part, Problem},
    support::Hinted,
};

/// One objective of an entry: its definition, and its settings in their own type.
pub(super) struct ResolvedObjective {
    pub(super) definition: &'static Definition,
    pub(super) settings: Box<dyn ObjectiveSettings>,
}

/// Why objectives can't stand in one entry.
enum Conflict {
    /// There are none.
    Empty,
    /// The first stands alone, and the second is there too.
    Alone(&'static Definition, &'static Definition),
    /// Both make the examples, or both mask them.
    Same(ObjectiveRole, &'static Definition, &'static Definition),
}

/// What a part names.
fn definition(part: &Part) -> Result<&'static Definition> {
    let found = OBJECTIVES.named(&part.name).filter(|definition| definition.section == part.section);
    found.with_context(|| format!("there is no objective `{}`", part.pointer()))
}

/// What the parts of an entry name, in the order of the table.
fn definitions(entry: &spec::Objective) -> Result<Vec<&'static Definition>> {
    let named = entry.parts.iter().map(definition).collect::<Result<Vec<_>>>()?;
    let known = OBJECTIVES.all();
    Ok(known.into_iter().filter(|known| named.iter().any(|named| named.name == known.name)).collect())
}

/// The objectives of an entry, in the order of the table.
///
/// # Errors
/// If there is no such objective, its settings aren't of its type, or these can't stand in one entry.
pub(super) fn known(entry: &spec::Objective) -> Result<Vec<ResolvedObjective>> {
    let definitions = definitions(entry)?;
    match conflict(&definitions) {
        None => {}
        Some(Conflict::Empty) => bail!("an entry of the mix has no objective"),
        Some(Conflict::Alone(alone, other)) => {
            bail!("{} stands alone in its entry of the mix, and {} is there too", alone.name, other.name)
        }
        Some(Conflict::Same(_, first, second)) => {
            bail!("{} and {} can't stand in one entry of the mix", first.name, second.name)
        }
    }
    let read = |definition: &'static Definition| {
        let part = entry.parts.iter().find(|part| part.name == definition.name).context("a part is missing")?;
        Ok(ResolvedObjective { definition, settings: definition.read(&part.settings)? })
    };
    definitions.into_iter().map(read).collect()
}

/// What keeps objectives, in the order of the table, from standing in one entry.
fn conflict(definitions: &[&'static Definition]) -> Option<Conflict> {
    if definitions.is_empty() {
        return Some(Conflict::Empty);
    }
    for &one in definitions {
        let mut others = definitions.iter().copied().filter(|other| other.name != one.name);
        if one.role == ObjectiveRole::Alone
            && let Some(other) = others.next()
        {
            return Some(Conflict::Alone(one, other));
        }
    }
    [ObjectiveRole::Masks, ObjectiveRole::Pairs].into_iter().find_map(|role| {
        match definitions.iter().filter(|one| one.role == role).collect::<Vec<_>>().as_slice() {
            [first, second, ..] => Some(Conflict::Same(role, first, second)),
            _ => None,
        }
    })
}

/// The names of an entry's objectives, such as `masked_lm+sentence_order`.
pub(super) fn name(known: &[ResolvedObjective]) -> String {
    known.iter().map(|known| known.definition.name).collect::<Vec<_>>().join("+")
}

/// Rules that the entries of a mix break, by fields of the stage that has them under `objectives`.
pub fn check(entries: &[spec::Objective]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let outer = format!("objectives.{index}");
        problems.extend(check_entry(entry).into_iter().map(|problem| problem.within(&outer)));
    }
    if !entries.is_empty() && entries.iter().all(|entry| entry.weight == 0.0) {
        let problem = Problem::of_key("objectives", "all objectives have the weight 0");
        problems.push(problem.hint("give one of them a weight above 0"));
    }
    problems
}

fn check_entry(entry: &spec::Objective) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut definitions = Vec::new();
    let all = OBJECTIVES.all();
    for part in &entry.parts {
        // The recipe's types have told of a name that there isn't, with what it may stand for.
        let Ok(definition) = definition(part) else { continue };
        match definition.read(&part.settings) {
            Ok(settings) => {
                definitions.push(definition);
                problems.extend(settings.check().into_iter().map(|problem| problem.within(&part.pointer())));
            }
            Err(error) => {
                let Hinted { message, hint } = Hinted::of(&error);
                problems.push(Problem { hint, ..Problem::of_key(part.pointer(), message) });
            }
        }
    }
    definitions.sort_by_key(|one| all.iter().position(|known| known.name == one.name));
    let key = |definition: &Definition| definition.section.key(definition.name).to_owned();
    // Two that conflict with a third conflict with each other too: the pairs are looked at without those that stand alone.
    let together: Vec<_> = definitions.iter().copied().filter(|one| one.role != ObjectiveRole::Alone).collect();
    let conflicts = [conflict(&definitions), conflict(&together).filter(|_| together.len() < definitions.len())];
    for conflict in conflicts.into_iter().flatten() {
        problems.push(match conflict {
            Conflict::Empty if !definitions.is_empty() || !entry.parts.is_empty() => continue,
            Conflict::Empty => {
                Problem::of_value("", "the entry has no objective").hint(format!("give {}", list(&keys(&all), "or")))
            }
            Conflict::Alone(alone, other) => {
                let message = format!("`{}` cannot stand beside `{}`", key(alone), other.name);
                Problem::of_key(key(alone), message).hint("make two entries of them; each step draws one by `weight`")
            }
            Conflict::Same(role, first, second) => {
                let what =
                    if role == ObjectiveRole::Pairs { "be judged on the same pairs" } else { "mask the same texts" };
                let message = format!("`{}` and `{}` cannot {what}", first.name, second.name);
                Problem::of_key(key(second), message).hint("make two entries of them")
            }
        });
    }
    problems
}

/// The keys that objectives take in an entry, each once.
fn keys(definitions: &[&'static Definition]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for definition in definitions {
        let key = definition.section.key(definition.name);
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
    }
    keys
}

/// `` `a`, `b` and `c` ``.
fn list(names: &[String], last: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((only, [])) => only.clone(),
        Some((end, others)) => format!("{} {last} {end}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// The parts of entries that a family's models can't learn. `model` is what messages call the model.
pub fn learnable(entries: &[spec::Objective], family: &Family, model: &str) -> Vec<Problem> {
    let all = OBJECTIVES.all();
    let can_learn = |definition: &&'static Definition| family.can_learn(definition.attention);
    let learned: Vec<String> = all.iter().copied().filter(can_learn).map(|one| one.name.to_owned()).collect();
    let learned = if learned.len() == all.len() { "every objective".to_owned() } else { list(&learned, "and") };
    let mut problems = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        for part in &entry.parts {
            let Some(definition) = definition(part).ok().filter(|definition| !can_learn(definition)) else { continue };
            let message = format!("{model} cannot learn `{}`", definition.name);
            let problem = Problem::of_key(format!("objectives.{index}.{}", part.pointer()), message);
            problems.push(problem.hint(format!("{} learns {learned}; `glm` learns every objective", family.name)));
        }
    }
    problems
}

/// An entry with all settings of its objectives, in the order in which they're declared.
///
/// # Errors
/// If there is no such objective, or its settings aren't of its type.
pub fn complete(entry: &spec::Objective) -> Result<spec::Objective> {
    let part = |part: &Part| Ok(Part { settings: definition(part)?.complete(&part.settings)?, ..part.clone() });
    Ok(spec::Objective { weight: entry.weight, parts: entry.parts.iter().map(part).collect::<Result<_>>()? })
}

/// The largest share of an entry's tokens that are predicted over the whole vocabulary.
///
/// # Errors
/// As [`complete`].
pub fn predicted(entry: &spec::Objective) -> Result<f64> {
    let shares = entry.parts.iter().map(|part| Ok(definition(part)?.read(&part.settings)?.predicted()));
    Ok(shares.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max).min(1.0))
}

/// Whether an entry needs this head.
///
/// # Errors
/// If there is no such objective.
pub fn needs_head(entries: &[spec::Objective], head: HeadKind) -> Result<bool> {
    let parts = entries.iter().flat_map(|entry| &entry.parts);
    let heads = parts.map(|part| Ok(definition(part)?.head)).collect::<Result<Vec<_>>>()?;
    Ok(heads.contains(&Some(head)))
}

/// By how much the code of these objectives, and of their settings, is newer than the first version of each.
///
/// # Errors
/// As [`complete`].
pub fn revisions(entries: &[spec::Objective]) -> Result<u32> {
    let parts = entries.iter().flat_map(|entry| &entry.parts);
    let newer = |part: &Part| {
        let definition = definition(part)?;
        Ok(definition.version.saturating_sub(1) + definition.read(&part.settings)?.revision())
    };
    parts.map(newer).sum()
}

/// Whether some steps of this mix leave parameters without a gradient that others don't: those of a head that only some
/// entries learn.
///
/// # Errors
/// If there is no such objective.
pub fn mixes_heads(entries: &[spec::Objective]) -> Result<bool> {
    let drawn = entries.iter().filter(|entry| entry.weight > 0.0);
    let heads = |entry: &spec::Objective| -> Result<BTreeSet<Option<HeadKind>>> {
        entry.parts.iter().map(|part| Ok(definition(part)?.head)).collect()
    };
    let heads = drawn.map(heads).collect::<Result<Vec<_>>>()?;
    Ok(heads.windows(2).any(|two| two[0] != two[1]))
}

/// What a model that learned these objectives is measured by, each measure with an entry that is reduced to it; of
/// several the last counts. Each task on pairs has a measure of its own.
///
/// # Errors
/// If there is no such objective.
pub fn measured(entries: &[spec::Objective]) -> Result<Vec<(HeldOutMetric, spec::Objective)>> {
    let mut found: Vec<(HeldOutMetric, spec::Objective)> = Vec::new();
    for measure in [HeldOutMetric::Perplexity, HeldOutMetric::MaskedAccuracy, HeldOutMetric::PairAccuracy] {
        for entry in entries.iter().rev() {
            let mut parts = Vec::new();
            for part in &entry.parts {
                if definition(part)?.measure == Some(measure) {
                    parts.push(part.clone());
                }
            }
            let is_known = |(known, entry): &(HeldOutMetric, spec::Objective)| {
                let is_same = entry.parts.iter().map(|part| &part.name).eq(parts.iter().map(|part| &part.name));
                *known == measure && (measure != HeldOutMetric::PairAccuracy || is_same)
            };
            if !parts.is_empty() && !found.iter().any(is_known) {
                found.push((measure, spec::Objective { weight: entry.weight, parts }));
            }
        }
    }
    Ok(found)
}

/// What a model has learned to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Taught {
    /// The form in which it continues a prompt.
    pub continues: AnswerForm,
    /// The form in which it fills blanks; none if it never learned to.
    pub fills: Option<AnswerForm>,
}

/// What a model that learned these objectives has learned to write, if anything. The last `own` of them are those of its last
/// stage, and what that taught is how it continues a prompt; an earlier stage counts where it taught nothing of the kind.
/// Weights are shares of their stage: of several forms it's the one with the largest, and of equal ones not the one
/// that fills blanks, which can be had by a blank.
pub fn taught(entries: &[spec::Objective], own: usize) -> Option<Taught> {
    let form = |entry: &spec::Objective| entry.parts.iter().find_map(|part| definition(part).ok()?.teaches);
    let (before, last) = entries.split_at(entries.len().saturating_sub(own));
    let main = |entries: &[spec::Objective]| {
        let mut shares: Vec<(AnswerForm, f64)> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.weight > 0.0) {
            let Some(form) = form(entry) else { continue };
            match shares.iter_mut().find(|(known, _)| *known == form) {
                Some((_, share)) => *share += entry.weight,
                None => shares.push((form, entry.weight)),
            }
        }
        let later =
            |a: &(AnswerForm, f64), b: &(AnswerForm, f64)| a.1.total_cmp(&b.1).then(b.0.fills().cmp(&a.0.fills()));
        shares.into_iter().max_by(later).map(|(form, _)| form)
    };
    let drawn = entries.iter().filter(|entry| entry.weight > 0.0);
    let fills = drawn.filter_map(form).find(|form| form.fills());
    Some(Taught { continues: main(last).or_else(|| main(before))?, fills })
}

/// The forms in which these objectives teach to write.
pub fn forms(entries: &[spec::Objective]) -> Vec<AnswerForm> {
    let parts = entries.iter().flat_map(|entry| &entry.parts);
    parts.filter_map(|part| definition(part).ok()?.teaches).collect()
}

/// What a family's checkpoint is taken to have learned that doesn't say so: each by itself, with its defaults.
///
/// # Errors
/// If an objective has settings without defaults.
pub fn assumed(family: &Family) -> Result<Vec<spec::Objective>> {
    let all = OBJECTIVES.all();
    let assumed = all.iter().filter(|one| one.assumed && family.can_learn(one.attention));
    let entry = |one: &&Definition| {
        let Definition { name, section, .. } = **one;
        let part = Part { name: name.to_owned(), section, settings: one.complete(&spec::OpenSettings::new())? };
        Ok(spec::Objective { weight: 1.0, parts: vec![part] })
    };
    assumed.map(entry).collect()
}
