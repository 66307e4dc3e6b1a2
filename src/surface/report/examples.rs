//! Some of the examples that a training was given, as they were recorded with it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::format::rounded;
use crate::{
    engine::store::Artifact,
    stages::{Judged, Shown},
};

/// For each recorded example what is known of it, and its tokens with what is to be predicted at them; none for a stage
/// that an older version computed.
pub(super) fn list(artifact: &Artifact) -> Vec<Value> {
    let recorded = artifact.provenance.examples.iter();
    recorded.filter_map(|example| Shown::deserialize(example).ok()).map(|shown| example(&shown)).collect()
}

fn example(shown: &Shown) -> Value {
    json!({
        "title": format!("{}, step {}", shown.objective, shown.step),
        "facts": facts(shown),
        "tokens": (0..shown.tokens.len()).map(|at| token(shown, at)).collect::<Vec<_>>(),
        "more": shown.length - shown.tokens.len().min(shown.length),
    })
}

/// What is known of an example, by name.
fn facts(shown: &Shown) -> Vec<[String; 2]> {
    let mut facts = Vec::new();
    let mut tell = |name: &str, text: String| facts.push([name.to_owned(), text]);
    let mut from: Vec<String> = shown.file.clone().into_iter().collect();
    from.extend(shown.row.map(|row| format!("row {row}")));
    from.extend(shown.document.map(|document| format!("document {document}")));
    from.extend(shown.range.map(|range| format!("tokens {} to {} of {}", range.start, range.end, range.of)));
    if !from.is_empty() {
        tell("from", from.join(", "));
    }
    if let Some(text) = shown.text.as_ref().filter(|_| shown.range.is_none()) {
        tell("text", text.clone());
    }
    for cut in &shown.cut {
        tell("cut off", format!("{}: {} of {} {} kept, cut at {}", cut.part, cut.kept, cut.of, cut.unit, cut.place));
    }
    if let Some(label) = &shown.label {
        tell("label", label.clone());
    }
    shown.remarks.iter().for_each(|(name, text)| tell(name, text.clone()));
    let judged = |Judged { label, meaning, weight }: &Judged| {
        let meaning = meaning.as_ref().map(|meaning| format!(": {meaning}")).unwrap_or_default();
        format!("{label}{meaning} (weight {})", rounded(f64::from(*weight)))
    };
    shown.pair.iter().for_each(|pair| tell("pair", judged(pair)));
    shown.class.iter().for_each(|class| tell("class", judged(class)));
    let weights = shown.targets.first().map(|target| target.weight);
    if let Some(weight) = weights.or_else(|| shown.choices.first().map(|choice| choice.weight)) {
        tell("weight of a target", rounded(f64::from(weight)));
    }
    facts
}

/// A token, with what's predicted at it.
fn token(shown: &Shown, at: usize) -> Value {
    let target = shown.targets.iter().find(|target| target.at == at);
    let choice = shown.choices.iter().find(|choice| choice.at == at);
    let class = match target.and_then(|target| target.shown_as.as_deref()) {
        Some("mask") => "hidden",
        Some("other") => "replaced",
        _ if shown.segments.get(at).is_some_and(|&segment| segment > 0) => "second",
        _ => "",
    };
    let number = |values: &[u32]| values.get(at).copied().unwrap_or_default();
    let details = format!(
        "id {}, position {}, block position {}, segment {}, sees {}",
        number(&shown.ids),
        number(&shown.positions),
        number(&shown.block_positions),
        number(&shown.segments),
        number(&shown.sees),
    );
    json!({
        "text": visible(&shown.tokens[at]),
        "target": target.map(|target| visible(&target.token)).or_else(|| Some(visible(&choice?.gold.token))),
        "class": class,
        "details": details,
    })
}

/// A token whose white space is seen.
fn visible(token: &str) -> String {
    token.replace("\r\n", "⏎").replace(['\n', '\r'], "⏎").replace('\t', "⇥").replace(' ', "␣")
}
