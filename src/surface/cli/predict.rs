//! `pipe predict`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Map, Value, json};

use super::{
    args::Predict,
    console,
    exit::{self, Exit},
    load::{self, RemoteChoice},
};
use crate::{
    data,
    learning::objectives::ColumnLookup,
    network::model::KvForm,
    spec::{Finetune, Source, Stage},
    stages::{ModelRoom, Prediction, Trained, TrainedOutputs},
};

/// Rows that are classified at a time.
const CHUNK: usize = 1024;

/// `pipe predict RECIPE STAGE`.
pub(super) fn predict(command: &Predict, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let (recipe, artifact) = load::stored(&command.recipe, &command.stage, load::Needs::Classifier, store, remote)?;
    let device = load::device(command.device.as_deref(), &recipe)?.open()?;
    let held = ModelRoom::of(&artifact.path, 0, KvForm::default(), &device)?.require(command.weights, "--weights ")?;
    let trained = match TrainedOutputs::is_in(&artifact.path)? {
        true => Model::Outputs(Box::new(TrainedOutputs::load(&artifact.path, held, &device)?)),
        false => Model::Classes(Box::new(Trained::load(&artifact.path, held, &device)?)),
    };
    let mut output = PredictionPrinter::new(command.json, &trained);

    if let Some(file) = &command.file {
        let source = source(command, file, recipe.checked.recipe.stages.get(&command.stage))?;
        predict_file(&source, file, &trained, &mut output)?;
    } else {
        let [column] = trained.columns() else {
            bail!(
                "the template takes {} columns ({}), so --text can't fill it; use --file",
                trained.columns().len(),
                trained.columns().join(", ")
            );
        };
        let lookups: Vec<_> =
            command.text.iter().map(|text| move |name: &str| (name == column).then(|| text.clone())).collect();
        let lookups: Vec<_> = lookups.iter().map(|lookup| lookup as &ColumnLookup<'_>).collect();
        for (text, prediction) in command.text.iter().zip(trained.predict(&lookups)?) {
            output.row(None, text.clone(), &prediction)?;
        }
    }
    output.finish()
}

/// A model that says something of rows.
enum Model {
    /// One label of each.
    Classes(Box<Trained>),
    /// Several labels, or a number.
    Outputs(Box<TrainedOutputs>),
}

/// What it says of a row.
enum Answer {
    Class(Prediction),
    Outputs(Vec<f64>),
}

impl Model {
    fn columns(&self) -> &[String] {
        match self {
            Self::Classes(trained) => trained.columns(),
            Self::Outputs(trained) => trained.columns(),
        }
    }

    fn predict(&self, rows: &[&ColumnLookup<'_>]) -> Result<Vec<Answer>> {
        Ok(match self {
            Self::Classes(trained) => trained.predict(rows)?.into_iter().map(Answer::Class).collect(),
            Self::Outputs(trained) => trained.predict(rows)?.into_iter().map(Answer::Outputs).collect(),
        })
    }
}

/// How the file is to be read: by the command line's options; or as the stage reads its training rows, where the names end
/// alike.
fn source(command: &Predict, file: &Path, stage: Option<&Stage>) -> Result<Source> {
    let Predict { format, columns, delimiter, quoting, escape, encoding, .. } = command;
    let told = [format.is_some(), columns.is_some(), delimiter.is_some(), quoting.is_some(), escape.is_some()];
    if let Some(finetune) = stage.and_then(|stage| stage.settings_as::<Finetune>().ok())
        && !told.contains(&true)
        && Path::new(&finetune.data.train.path).extension() == file.extension()
    {
        let train = finetune.data.train;
        let encoding = encoding.clone().unwrap_or(train.encoding);
        return Ok(Source { skip: None, limit: None, encoding, ..train });
    }
    let mut source = json!({
        "path": file.to_string_lossy(), "format": format, "columns": columns, "delimiter": delimiter,
        "quoting": quoting, "escape": escape,
    });
    if let Some(encoding) = encoding {
        source["encoding"] = encoding.as_str().into();
    }
    Ok(serde_json::from_value(source)?)
}

fn predict_file(source: &Source, file: &Path, trained: &Model, output: &mut PredictionPrinter) -> Result<()> {
    let needs = trained.columns();
    let has = data::columns(source, &[file.to_owned()], needs)?;
    // The lines of a .txt, and any other only column, fill an only column whatever it's called.
    let only = has.len() == 1 && needs.len() == 1;
    if let Some(missing) = needs.iter().find(|column| !only && !has.contains(column)) {
        bail!("{}: the template uses the column `{missing}`; the file has {}", file.display(), has.join(", "));
    }
    let chosen = if only { &has[..] } else { needs };
    let mut rows = data::chosen_rows(source, file, &chosen.iter().map(String::as_str).collect::<Vec<_>>(), &[])?;
    let value = |row: &data::Row, column: &str| row.get(if only { &has[0] } else { column }).map(str::to_owned);
    loop {
        let chunk = rows.by_ref().take(CHUNK).collect::<Result<Vec<_>>>()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let lookups: Vec<_> = chunk.iter().map(|row| move |column: &str| value(row, column)).collect();
        let lookups: Vec<_> = lookups.iter().map(|lookup| lookup as &ColumnLookup<'_>).collect();
        let predictions = trained.predict(&lookups).with_context(|| format!("{}", file.display()))?;
        for (row, prediction) in chunk.iter().zip(predictions) {
            let text: Vec<_> = needs.iter().filter_map(|column| value(row, column)).collect();
            output.row(Some(row.number), text.join("\t"), &prediction)?;
        }
    }
}

/// Lines of JSON as they come, or one table in the end.
struct PredictionPrinter {
    /// What probabilities and numbers are of.
    names: Vec<String>,
    /// From which probability on labels are given, where there may be several.
    threshold: Option<f64>,
    table: Option<Table>,
}

impl PredictionPrinter {
    fn new(json: bool, model: &Model) -> Self {
        let (names, threshold, header) = match model {
            Model::Classes(trained) => (trained.labels().to_vec(), None, vec!["label", "probability", "text"]),
            Model::Outputs(trained) => match trained.threshold() {
                Some(threshold) => (trained.names(), Some(threshold), vec!["labels", "text"]),
                None => (trained.names(), None, vec!["number", "text"]),
            },
        };
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header);
        Self { names, threshold, table: (!json).then_some(table) }
    }

    fn row(&mut self, number: Option<usize>, text: String, answer: &Answer) -> Result<()> {
        exit::work_begins();
        let given = |said: &[f64]| -> Vec<String> {
            let threshold = self.threshold.unwrap_or(f64::INFINITY);
            let names = self.names.iter().zip(said).filter(|(_, said)| **said >= threshold);
            names.map(|(name, _)| name.clone()).collect()
        };
        if let Some(table) = &mut self.table {
            table.add_row(match answer {
                Answer::Class(prediction) => {
                    let highest = prediction.probabilities.iter().copied().fold(0.0, f32::max);
                    vec![prediction.label.clone(), format!("{highest:.3}"), text]
                }
                Answer::Outputs(said) if self.threshold.is_some() => vec![given(said).join(", "), text],
                Answer::Outputs(said) => vec![said.first().map(|said| format!("{said:.3}")).unwrap_or_default(), text],
            });
            return Ok(());
        }
        let named = |values: &mut dyn Iterator<Item = Value>| self.names.iter().cloned().zip(values).collect();
        let mut line = match answer {
            Answer::Class(prediction) => {
                let probabilities: Map<String, Value> =
                    named(&mut prediction.probabilities.iter().map(|&probability| Value::from(probability)));
                json!({ "text": text, "label": prediction.label, "probabilities": probabilities })
            }
            Answer::Outputs(said) if self.threshold.is_some() => {
                let probabilities: Map<String, Value> = named(&mut said.iter().map(|&said| Value::from(said)));
                json!({ "text": text, "labels": given(said), "probabilities": probabilities })
            }
            Answer::Outputs(said) => json!({ "text": text, "number": said.first() }),
        };
        if let Some(row) = number {
            line["row"] = row.into();
        }
        console::print(&line.to_string())
    }

    fn finish(self) -> Result<Exit> {
        if let Some(table) = self.table {
            console::print(&table.to_string())?;
        }
        Ok(Exit::Done)
    }
}
