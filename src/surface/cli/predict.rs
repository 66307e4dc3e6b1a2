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
    spec::{Finetune, Source, Stage},
    stages::{ModelRoom, Prediction, Trained},
};

/// Rows that are classified at a time.
const CHUNK: usize = 1024;

/// `pipe predict RECIPE STAGE`.
pub(super) fn predict(command: &Predict, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let (recipe, artifact) = load::stored(&command.recipe, &command.stage, load::Needs::Classifier, store, remote)?;
    let device = load::device(command.device.as_deref(), &recipe)?.open()?;
    let held = ModelRoom::of(&artifact.path, 0, &device)?.require(command.weights, "--weights ")?;
    let trained = Trained::load(&artifact.path, held, &device)?;
    let mut output = PredictionPrinter::new(command.json, trained.labels());

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
        return Ok(Source { limit: None, encoding: encoding.clone().unwrap_or(train.encoding), ..train });
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

fn predict_file(source: &Source, file: &Path, trained: &Trained, output: &mut PredictionPrinter<'_>) -> Result<()> {
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
struct PredictionPrinter<'a> {
    labels: &'a [String],
    table: Option<Table>,
}

impl<'a> PredictionPrinter<'a> {
    fn new(json: bool, labels: &'a [String]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["label", "probability", "text"]);
        Self { labels, table: (!json).then_some(table) }
    }

    fn row(&mut self, number: Option<usize>, text: String, prediction: &Prediction) -> Result<()> {
        exit::work_begins();
        let highest = prediction.probabilities.iter().copied().fold(0.0, f32::max);
        if let Some(table) = &mut self.table {
            table.add_row([prediction.label.clone(), format!("{highest:.3}"), text]);
            return Ok(());
        }
        let probabilities: Map<String, Value> =
            self.labels.iter().cloned().zip(prediction.probabilities.iter().map(|&p| Value::from(p))).collect();
        let mut line = json!({ "text": text, "label": prediction.label, "probabilities": probabilities });
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
