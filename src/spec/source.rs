//! Where rows of text come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files of rows or of running text.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A file, or a glob such as `data/*.jsonl` (read in the order of the names); relative to the recipe's folder,
    /// or to the working directory where the recipe's folder has no such file
    #[schemars(extend("x-role" = "path"))]
    pub path: String,
    /// The files' format; by default their extension tells (.txt, .tsv, .csv, .jsonl, .parquet)
    #[serde(default)]
    pub format: Option<Format>,
    /// What the bytes of a text file stand for: `utf-8`, `utf-16`, `gb18030`, `big5`, `latin-1`, `windows-1252`, or another
    /// name that the WHATWG's Encoding Standard knows; with `+cr` behind it, as in `utf-8+cr`, lines end with a carriage
    /// return alone. Not used for .parquet
    #[serde(default = "utf_8")]
    pub encoding: String,
    /// Names for the columns of a .tsv or .csv without a header line, or (with `header: true`) other names than the
    /// header's; the last takes the rest of the line
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Whether the first line of a .tsv or .csv is a header; by default yes, and no where `columns` are given
    #[serde(default)]
    pub header: Option<bool>,
    /// The character between two fields; a tab in .tsv and a comma in .csv by default
    #[serde(default)]
    pub delimiter: Option<char>,
    /// Whether fields may stand in double quotes; yes in .csv and no in .tsv by default
    #[serde(default)]
    pub quoting: Option<bool>,
    /// What a document is in a .txt file
    #[serde(default)]
    pub document: DocumentUnit,
    /// The columns that hold the text of a corpus, joined by a line break where several have text; not used for .txt
    #[serde(default)]
    pub text: Vec<String>,
    /// Read at most this many rows (or documents) of each file
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
}

fn utf_8() -> String {
    "utf-8".to_owned()
}

/// File formats that can be read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Running text; see `document`
    Txt,
    /// Fields between tabs
    Tsv,
    /// Fields between commas, quoted where needed
    Csv,
    /// A JSON object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
}

/// What makes a document in running text.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentUnit {
    /// Each line
    Line,
    /// Lines up to a blank line, with the line breaks between them
    #[default]
    Paragraph,
    /// The whole file
    File,
}
