//! Data rows against what is done with them: columns, labels, words and templates.

use std::{collections::BTreeMap, path::Path};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value as Dynamic};

use super::abilities::{family_of, which};
use crate::{
    data::{Encoding, text::Special},
    learning::objectives::{
        control,
        prompt::{MARKER, Template},
    },
    recipe::{Checks, Draft, Span, code, template},
    spec::{ClassWeights, Classification, Finetune, Format, Head, MultiLabel, Regression, Source, Task},
    support::suggest,
};

/// Steps that a template may take for one row.
const FUEL: u64 = 50_000;

pub(in crate::stages) fn rows(checks: &mut Checks<'_>, draft: &Draft, spec: &Finetune) {
    let train = draft.pointer("data.train");
    let columns = header(checks, &train, &spec.data.train, &used_columns(&spec.task));
    if let Some(task) = spec.task.outputs() {
        check_template(checks, draft, task.name(), &task.as_classification(), columns.as_deref());
    }
    let named = match &spec.task {
        Task::Classification(task) => {
            words(checks, draft, task);
            class_weights(checks, draft, task);
            check_template(checks, draft, "classification", task, columns.as_deref());
            vec![("classification.label", task.label.as_str(), "the label")]
        }
        Task::MultiLabel(MultiLabel { label, .. }) => vec![("multi_label.label", label.as_str(), "the labels")],
        Task::Regression(Regression { target, .. }) => vec![("regression.target", target.as_str(), "the number")],
        Task::Instruction(task) => {
            let column = |(field, name)| match field {
                "prompt" => ("instruction.prompt", name, "the instruction"),
                "response" => ("instruction.response", name, "the response"),
                "input" => ("instruction.input", name, "what the instruction is about"),
                "history" => ("instruction.history", name, "what was said before"),
                _ => ("instruction.messages", name, "the conversation"),
            };
            task.columns().into_iter().map(column).collect()
        }
    };
    for (field, name, what) in named {
        if columns.as_ref().is_some_and(|columns| !columns.iter().any(|column| column == name)) {
            column(checks, draft, field, name, what, &train, columns.as_deref().unwrap_or_default());
        }
    }
    if let Some(dev) = &spec.data.dev {
        other_rows(checks, &draft.pointer("data.dev"), dev, &draft.name, &spec.task, columns.as_deref());
    }
}

/// Says that the training rows lack the column that a field of the task names.
fn column(
    checks: &mut Checks<'_>,
    draft: &Draft,
    field: &str,
    name: &str,
    what: &str,
    train: &str,
    columns: &[String],
) {
    let pointer = draft.pointer(&format!("task.{field}"));
    let given = checks.is_given(&pointer);
    let at = if given { checks.value(&pointer) } else { checks.value(&format!("{train}.path")) };
    let hint = suggest::did_you_mean(name, columns.iter().map(String::as_str), "its columns are");
    let field = field.rsplit('.').next().unwrap_or(field);
    let hint = if given { hint } else { hint.map(|hint| format!("name the column under `{field}`; {hint}")) };
    let shown = if given { checks.shown(&pointer) } else { name.to_owned() };
    checks.report(at, format!("the training rows have no column `{shown}` for {what}"), hint);
}

pub(in crate::stages) fn evaluated_rows(
    checks: &mut Checks<'_>,
    draft: &Draft,
    source: &Source,
    stage: &str,
    finetune: &Finetune,
) {
    // Columns that the training rows lack as well are reported there.
    let train = checks.columns(&finetune.data.train, &used_columns(&finetune.task));
    other_rows(checks, &draft.pointer("data"), source, stage, &finetune.task, train.as_deref());
}

/// Rows beside the training rows need the columns that the task uses; what the training rows lack as well is
/// reported there.
fn other_rows(
    checks: &mut Checks<'_>,
    pointer: &str,
    source: &Source,
    stage: &str,
    task: &Task,
    train: Option<&[String]>,
) {
    let used = used_columns(task);
    let Some(columns) = header(checks, pointer, source, &used) else { return };
    for name in used.iter().filter(|name| !columns.contains(name)) {
        if train.is_some_and(|train| !train.contains(name)) {
            continue;
        }
        let path = format!("{pointer}.path");
        let message = format!("`{}` has no column `{name}`, which the task of `{stage}` uses", checks.shown(&path));
        let hint = suggest::did_you_mean(name, columns.iter().map(String::as_str), "its columns are");
        checks.report(checks.value(&path), message, hint);
    }
}

/// Texts to encode need a format, and a column unless they're running text.
pub(in crate::stages) fn corpus(checks: &mut Checks<'_>, pointer: &str, source: &Source) {
    let columns = header(checks, pointer, source, &source.text);
    let format = format(checks, source);
    if source.text.is_empty() && format.is_some_and(|format| format != Format::Txt) {
        let hint = columns
            .as_deref()
            .map(|columns| format!("such as `text: [{}]`", columns.first().map_or("text", String::as_str)));
        checks.report(
            checks.value(&format!("{pointer}.path")),
            "it isn't said which column holds the text",
            hint.or_else(|| Some("name it under `text`".to_owned())),
        );
    }
    let Some(columns) = columns.filter(|_| format != Some(Format::Txt)) else { return };
    for (index, name) in source.text.iter().enumerate().filter(|(_, name)| !columns.contains(name)) {
        let pointer = format!("{pointer}.text.{index}");
        let hint = suggest::did_you_mean(name, columns.iter().map(String::as_str), "its columns are");
        checks.report(checks.value(&pointer), format!("the file has no column `{}`", checks.shown(&pointer)), hint);
    }
}

/// Rows need these columns.
pub(in crate::stages) fn has_columns(checks: &mut Checks<'_>, pointer: &str, source: &Source, used: &[String]) {
    let Some(columns) = header(checks, pointer, source, used) else { return };
    for name in used.iter().filter(|name| !columns.contains(name)) {
        let path = format!("{pointer}.path");
        let message = format!("`{}` has no column `{name}`", checks.shown(&path));
        let hint = suggest::did_you_mean(name, columns.iter().map(String::as_str), "its columns are");
        checks.report(checks.value(&path), message, hint);
    }
}

/// The columns of a source, if they can be known.
fn header(checks: &mut Checks<'_>, pointer: &str, source: &Source, wanted: &[String]) -> Option<Vec<String>> {
    if let Err(error) = source.encoding.parse::<Encoding>() {
        let pointer = format!("{pointer}.encoding");
        let message = format!("there is no encoding `{}`", checks.shown(&pointer));
        checks.report(checks.value(&pointer), message, error.hint);
        return None;
    }
    checks.first_file(source)?;
    if format(checks, source).is_none() {
        let path = format!("{pointer}.path");
        checks.report(
            checks.value(&path),
            format!("the name `{}` doesn't tell the file's format", checks.shown(&path)),
            "give `format`: txt, tsv, csv, jsonl, json, parquet or arrow".to_owned(),
        );
        return None;
    }
    checks.columns(source, wanted)
}

/// The columns that a task uses.
fn used_columns(task: &Task) -> Vec<String> {
    match task {
        Task::Classification(task) => {
            let mut used =
                Template::new(&task.template).map(|template| template.columns().to_vec()).unwrap_or_default();
            used.push(task.label.clone());
            used
        }
        Task::MultiLabel(MultiLabel { template, label: column, .. })
        | Task::Regression(Regression { template, target: column, .. }) => {
            let columns = Template::new(template).map(|template| template.columns().to_vec());
            columns.unwrap_or_default().into_iter().chain([column.clone()]).collect()
        }
        Task::Instruction(task) => task.columns().into_iter().map(|(_, name)| name.to_owned()).collect(),
    }
}

/// The format that is given, or that the extension tells.
fn format(checks: &Checks<'_>, source: &Source) -> Option<Format> {
    let by_name = || Format::of(Path::new(&source.path)).or_else(|| Format::of(&checks.first_file(source)?));
    source.format.or_else(by_name)
}

fn words(checks: &mut Checks<'_>, draft: &Draft, task: &Classification) {
    let pointer = draft.pointer("task.classification.words");
    let mut seen: Vec<(&String, &String)> = Vec::new();
    for (key, at, shown) in checks.entries(&pointer) {
        let Some((label, word)) = task.words.get_key_value(key) else { continue };
        if word.trim().is_empty() {
            checks.report(at, format!("the word for the label `{label}` is empty"), None);
        } else if let Some((other, _)) = seen.iter().find(|(_, other)| other.trim() == word.trim()) {
            checks.report(
                at,
                format!("the labels `{other}` and `{label}` have the same word, `{shown}`"),
                "give each label a word of its own, or the model's answer means both".to_owned(),
            );
        } else {
            seen.push((label, word));
        }
    }
}

/// Weights are those of labels that there are, and of each label a number above 0.
fn class_weights(checks: &mut Checks<'_>, draft: &Draft, task: &Classification) {
    let Some(ClassWeights::Each(weights)) = &task.class_weights else { return };
    let pointer = draft.pointer("task.classification.class_weights");
    for (key, at, shown) in checks.entries(&pointer) {
        if !task.words.contains_key(key) {
            let hint = suggest::did_you_mean(key, task.words.keys().map(String::as_str), "there are words for");
            checks.report(at, format!("no label `{key}` that could weigh {shown}"), hint);
        } else if weights.get(key).is_some_and(|&weight| !(weight > 0.0 && weight.is_finite())) {
            checks.report(at, format!("the label `{key}` weighs {shown}, and must weigh more than 0"), None);
        }
    }
}

/// Of a task of this name that is read as this one is.
fn check_template(
    checks: &mut Checks<'_>,
    draft: &Draft,
    name: &str,
    task: &Classification,
    columns: Option<&[String]>,
) {
    let pointer = draft.pointer(&format!("task.{name}.template"));
    let whole = checks.value(&pointer);
    let text = task.template.as_str();
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    control::prepare(&mut environment, text);
    let place = |check: &Checks<'_>, part: Option<std::ops::Range<usize>>| -> Span {
        part.map_or(whole, |part| check.within(whole, text, part))
    };
    let template = match environment.template_from_str(text) {
        Ok(template) => template,
        Err(error) => {
            let message = format!("the template is wrong: {}", template::reason(&error));
            return checks.report(place(checks, error.range()), message, None);
        }
    };
    match (text.matches(MARKER).count(), task.head) {
        (0, Head::Prompt) => checks.report(
            whole,
            format!("the template has no `{MARKER}`"),
            "put it where the model is to answer".to_owned(),
        ),
        (2.., _) => {
            let second = text.match_indices(MARKER).nth(1).map(|(at, _)| at..at + MARKER.len());
            checks.report(place(checks, second), format!("the template has `{MARKER}` twice"), None);
        }
        _ => {}
    }
    // With one marker, whatever was said of others.
    let once = text.replacen(MARKER, "", text.matches(MARKER).count().saturating_sub(1));
    let Ok(compiled) = Template::new(&once) else { return };
    let used = compiled.columns();
    if let Some(columns) = columns {
        for name in used.iter().filter(|name| !columns.contains(name)) {
            let at = place(checks, template::identifier(text, name));
            let hint = if checks.is_given(&format!("vars.{name}")) {
                Some(format!("`{name}` is a var of the recipe, and a template sees the columns of a row alone"))
            } else {
                suggest::did_you_mean(name, columns.iter().map(String::as_str), "the columns are")
            };
            checks.report(at, format!("the training rows have no column `{name}`"), hint);
        }
        for name in compiled.controls().iter().filter(|name| columns.iter().any(|column| column == *name)) {
            let at = place(checks, template::identifier(text, name));
            let message = format!("`{name}` is a special token in a template, and the rows have a column of that name");
            checks.report(at, message, format!("write `row.{name}` for the column"));
        }
    }
    spelt(checks, text, whole);
    // A dry run on a made-up row finds what isn't known before: filters, functions, endless loops.
    let names = columns.unwrap_or_default().iter().chain(used).map(|name| (name.clone(), Dynamic::from("文")));
    let mut row: BTreeMap<String, Dynamic> = names.collect();
    let all = Dynamic::from_pairs(row.clone());
    row.entry("row".to_owned()).or_insert(all);
    row.extend(compiled.controls().iter().map(|name| ((*name).to_owned(), control::placeholder(name).into())));
    match template.render(Dynamic::from_pairs(row)) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnknownFilter
                    | ErrorKind::UnknownFunction
                    | ErrorKind::UnknownTest
                    | ErrorKind::TemplateNotFound
                    | ErrorKind::OutOfFuel
            ) =>
        {
            let message = format!("the template fails: {}", template::reason(&error));
            checks.report(place(checks, error.range()), message, None);
        }
        Ok(rendered) if task.head == Head::Prompt => answered_last(checks, draft, text, &rendered),
        _ => {}
    }
}

/// Warns of special tokens that are spelt in a template's own words, where they're text.
fn spelt(checks: &mut Checks<'_>, text: &str, whole: Span) {
    for range in code::literals(text) {
        let mut at = range.start;
        while let Some((start, name)) = first_special(&text[at..range.end]) {
            let place = at + start..at + start + name.len();
            at = place.end;
            let written = match Special::called(name).and_then(control::name_of) {
                Some(known) => format!("{{{{ {known} }}}}"),
                None => format!("{{{{ {}(\"{name}\") }}}}", control::FUNCTION),
            };
            let mut hint = format!("write `{written}` for the token");
            if Special::called(name) == Some(Special::Mask) {
                hint += &format!("; where the model is to answer, write `{MARKER}`");
            }
            let at = checks.within(whole, text, place);
            checks.warn(at, format!("`{name}` is read as text here, not as the special token"), hint);
        }
    }
}

/// What a text has first that looks like a special token: `[SEP]`, `<eop>`, `<|user|>`.
fn first_special(text: &str) -> Option<(usize, &str)> {
    let mut from = 0;
    while let Some(start) = text[from..].find(['[', '<']).map(|at| from + at) {
        let close = if text[start..].starts_with('[') { ']' } else { '>' };
        let end = text[start..].find(close).map(|at| start + at + 1);
        if let Some(name) = end.map(|end| &text[start..end])
            && (Special::called(name).is_some() || is_role(name))
        {
            return Some((start, name));
        }
        from = start + 1;
    }
    None
}

/// Whether a text is of the form `<|name|>`.
fn is_role(text: &str) -> bool {
    let name = text.strip_prefix("<|").and_then(|rest| rest.strip_suffix("|>"));
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|next| next.is_alphanumeric() || next == '_'))
}

/// What stands behind the marker is never seen by a model that reads from left to right.
fn answered_last(checks: &mut Checks<'_>, draft: &Draft, template: &str, rendered: &str) {
    let behind = rendered.split_once(MARKER).is_some_and(|(_, behind)| !behind.trim().is_empty());
    let Some((owner, family)) = family_of(checks, draft).filter(|(_, family)| behind && family.form.answers_last())
    else {
        return;
    };
    let whole = checks.value(&draft.pointer("task.classification.template"));
    let part = template.find(MARKER).map(|at| at + MARKER.len()..template.len());
    let at = part.map_or(whole, |part| checks.within(whole, template, part));
    checks.report(
        at,
        format!("{} answers before it has read what stands after `{MARKER}`", which(draft, &owner, family)),
        "put the marker at the end of the template".to_owned(),
    );
}
