//! Where rows of text come from.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hub::data_place;

/// Files of rows or of running text, here or in a data set on a hub.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A file, a folder, or a glob such as `data/*.jsonl` (read in the order of the names, without readmes, markers,
    /// checksums and hidden files); relative to the recipe's folder, or to the working directory where the recipe's folder
    /// has no such file, or to the data set
    #[schemars(extend("x-role" = "path"))]
    pub path: String,
    /// The data set on Hugging Face that has the files, such as clue/clue
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-role" = "hub:path"))]
    pub hub: Option<String>,
    /// Which revision of it: a branch, a tag or a commit [default: main]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-role" = "revision"))]
    pub revision: Option<String>,
    /// The files' format; by default their extension tells (.txt, .tsv, .csv, .jsonl, .json, .ndjson, .parquet, .arrow,
    /// .feather)
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
    /// Whether fields may stand in double quotes. By default they may in .csv, and in a .tsv where all fields that begin
    /// with a quote are quoted as in .csv; a file that could be meant either way is refused
    #[serde(default)]
    pub quoting: Option<bool>,
    /// The character of a .tsv or .csv that takes the next one's meaning from it, such as the `\\` in `\\"`; none by default
    #[serde(default)]
    pub escape: Option<char>,
    /// What a document is in a .txt file
    #[serde(default)]
    pub document: DocumentUnit,
    /// The columns that hold the text of a corpus, joined by a line break where several have text; not used for .txt
    #[serde(default)]
    pub text: Vec<String>,
    /// Pass over so many rows (or documents) at the beginning of each file, such as those that another source takes by its
    /// `limit`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub skip: Option<usize>,
    /// Read at most this many rows (or documents) of each file
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
}

impl Source {
    /// Where its files are: their path or glob, or what stands for one in a data set on a hub.
    pub fn place(&self) -> String {
        match &self.hub {
            Some(name) => data_place(name, self.revision.as_deref(), &self.path),
            None => self.path.clone(),
        }
    }
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
    /// A JSON object a line, or an array of objects
    Jsonl,
    /// An array of JSON objects, or an object a line
    Json,
    /// Apache Parquet
    Parquet,
    /// Apache Arrow's IPC files and streams, Feather among them
    Arrow,
}

impl Format {
    /// The format that a file's extension tells.
    pub fn of(file: &Path) -> Option<Self> {
        Some(match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Self::Txt,
            "tsv" => Self::Tsv,
            "csv" => Self::Csv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "json" => Self::Json,
            "parquet" => Self::Parquet,
            "arrow" | "feather" => Self::Arrow,
            _ => return None,
        })
    }

    /// Its name, as recipes have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Tsv => "tsv",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }
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
