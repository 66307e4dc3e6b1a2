//! Tables that Python's own libraries wrote, in every dialect, codec and form: read back equal, or refused with the row.
//! `PIPE_CASES` says how many are written.

use std::{path::Path, process::Command};

use pipe::data::{chosen_rows, columns};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::files::source;
use crate::common::{
    self, need,
    needs::{Need, Needed},
};

/// A file with what was written to it, as `write_tables.py` tells.
#[derive(Debug, Deserialize)]
struct Case {
    file: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// How a source says how it was written.
    fields: Map<String, Value>,
    delimiter: Option<String>,
    /// What csv reads of it where it's told that.
    told: Option<Vec<Vec<String>>>,
    /// What it and pandas read where they're told the delimiter, with the header line.
    csv: Option<Vec<Vec<String>>>,
    pandas: Option<Vec<Vec<String>>>,
}

fn python() -> Needed<std::ffi::OsString> {
    let python = Need::Pandas.variable("PIPE_PYTHON")?;
    let found = Command::new(&python).args(["-c", "import pandas, pyarrow"]).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(Need::Pandas.unmet("that Python has no pandas or no pyarrow")),
    }
}

fn read(case: &Case, fields: Value, file: &Path) -> Result<Vec<Vec<String>>, String> {
    let wanted: Vec<&str> = case.columns.iter().map(String::as_str).collect();
    let read = || -> anyhow::Result<Vec<Vec<String>>> {
        let source = source(fields);
        columns(&source, &[file.to_owned()], &case.columns)?;
        chosen_rows(&source, file, &wanted, &[])?.map(|row| Ok(row?.fields)).collect()
    };
    read().map_err(|error| pipe::support::explained(&error))
}

#[test]
fn what_python_writes_is_read_back_or_refused_with_the_row() {
    let python = need!(python());
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reading/data/write_tables.py");
    let count = common::cases(600).cases.to_string();
    let seed = std::env::var("PIPE_SEED").unwrap_or_else(|_| "1".to_owned());
    let mut command = Command::new(python);
    command.arg(script).arg(folder.path()).args([&seed, &count]);
    let output = common::finish(command);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    let cases = std::fs::read_to_string(folder.path().join("cases.jsonl")).unwrap();
    let (mut equal, mut refused) = (0, 0);
    for case in cases.lines() {
        let case: Case = serde_json::from_str(case).unwrap();
        let file = folder.path().join(&case.file);
        let shown = || {
            format!("{case:?}\n{:?}", std::fs::read(&file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        // Told how it was written.
        match read(&case, Value::Object(case.fields.clone()), &file) {
            Ok(rows) => {
                let as_told = case.told.as_ref().is_some_and(|told| *told == rows);
                assert!(rows == case.rows || as_told, "{rows:?}\n{}", shown());
                equal += 1;
            }
            Err(error) => {
                assert!(error.contains(&case.file) && error.contains("row "), "{error}\n{}", shown());
                refused += 1;
            }
        }
        // And where nothing is said but the delimiter.
        let Some(delimiter) = &case.delimiter else { continue };
        match read(&case, json!({"delimiter": delimiter}), &file) {
            Ok(rows) => {
                let body = |table: &Option<Vec<Vec<String>>>| table.as_ref().map(|table| table[1..].to_vec());
                let [by_csv, by_pandas] = [&case.csv, &case.pandas].map(|table| body(table).as_ref() == Some(&rows));
                // A line of spaces is a row of one column; of several it's none, as to pandas.
                let text = std::fs::read_to_string(&file).unwrap();
                let spaces = text.lines().any(|line| !line.is_empty() && line.trim().is_empty());
                let both = match case.columns.len() {
                    1 => by_csv && (by_pandas || spaces),
                    _ => by_pandas && (by_csv || spaces),
                };
                assert!(rows == case.rows || both, "{rows:?}\n{}", shown());
                assert!(rows.len() >= case.rows.len() || both, "{}", shown());
                equal += 1;
            }
            Err(error) => {
                let is_told = error.contains("row ") || error.contains("there is no column");
                assert!(error.contains(&case.file) && is_told, "{error}\n{}", shown());
                refused += 1;
            }
        }
    }
    eprintln!("{equal} read back, {refused} refused");
    assert!(equal > 2 * refused, "{equal} read back, {refused} refused");
}
