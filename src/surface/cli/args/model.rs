//! Arguments of the commands that use trained models.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::recipe::{Changes, Recipe};
use crate::spec::{ChatFormat, Format};

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Predict {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The finetuned stage
    pub stage: String,
    /// A text to classify; can be repeated
    #[arg(long, conflicts_with = "file")]
    pub text: Vec<String>,
    /// A file of rows to classify (.txt, .tsv, .csv, .jsonl, .parquet); a file with the training data's extension is
    /// read
    /// like the training data, unless the options below say otherwise
    #[arg(long, required_unless_present = "text")]
    pub file: Option<PathBuf>,
    /// The file's format: txt, tsv, csv, jsonl or parquet [default: by its extension]
    #[arg(long, requires = "file", value_parser = format)]
    pub format: Option<Format>,
    /// Comma-separated column names for a .tsv or .csv file without a header line
    #[arg(long, requires = "file", value_delimiter = ',', value_name = "NAMES")]
    pub columns: Option<Vec<String>>,
    /// The character that separates fields
    #[arg(long, requires = "file", value_name = "CHARACTER")]
    pub delimiter: Option<char>,
    /// What the file's bytes stand for, such as gb18030 or utf-16 [default: as the training data, or utf-8]
    #[arg(long, requires = "file", value_name = "NAME")]
    pub encoding: Option<String>,
    /// Device to run on [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
    /// Print one JSON object per row
    #[arg(long)]
    pub json: bool,
}

/// A trained model: a stage of a recipe, or a checkpoint.
#[derive(Args, Debug)]
pub(in crate::surface::cli) struct ModelSource {
    /// The recipe
    #[arg(required_unless_present = "checkpoint", conflicts_with = "checkpoint")]
    pub recipe: Option<PathBuf>,
    /// The trained stage
    #[arg(required_unless_present = "checkpoint")]
    pub stage: Option<String>,
    /// A model directory in Hugging Face's layout, instead of a recipe and a stage
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    /// Device to run on [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
}

/// How text is generated. A checkpoint's `generation_config.json` gives the defaults, if it has one.
#[derive(Args, Debug)]
pub(in crate::surface::cli) struct GenerationOptions {
    /// Minimum number of tokens to generate
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub min_tokens: usize,
    /// Sampling temperature; 0 always picks the likeliest token [default: 0.8]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Sample from the K likeliest tokens; 0 for all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Sample from the likeliest tokens whose total probability reaches P [default: 0.95]
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Penalty on tokens that have already occurred; 1 means none [default: 1]
    #[arg(long, value_name = "PENALTY")]
    pub repetition_penalty: Option<f64>,
    /// Stop before this text; can be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Generate {
    #[command(flatten)]
    pub model: ModelSource,
    /// The text to continue; `[MASK]`, `[sMASK]` and `[gMASK]` mark blanks to fill in
    #[arg(long, default_value = "", conflicts_with = "file")]
    pub prompt: String,
    /// A file with one prompt per line
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// What the file's bytes stand for, such as gb18030 or utf-16
    #[arg(long, requires = "file", default_value = "utf-8", value_name = "NAME")]
    pub encoding: String,
    /// Maximum number of tokens to generate, per blank if there are any
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub max_tokens: usize,
    #[command(flatten)]
    pub writing: GenerationOptions,
    /// Print one JSON object per prompt
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Chat {
    #[command(flatten)]
    pub model: ModelSource,
    /// System message, for chat formats that have one
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Chat format [default: the one the model was trained with, or its family's]
    #[arg(long, value_name = "FORMAT", value_parser = chat_formats())]
    pub format: Option<ChatFormat>,
    /// Maximum number of tokens in an answer
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub max_tokens: usize,
    #[command(flatten)]
    pub writing: GenerationOptions,
    /// Print one JSON object per answer
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Export {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The stage whose model is copied
    pub stage: String,
    /// The directory to write to
    pub dir: PathBuf,
}

fn format(text: &str) -> Result<Format, String> {
    serde_json::from_value(text.into()).map_err(|_| "expected txt, tsv, csv, jsonl or parquet".to_owned())
}

/// Names of chat formats.
fn chat_formats() -> impl TypedValueParser<Value = ChatFormat> {
    let names = ChatFormat::ALL.map(ChatFormat::name);
    PossibleValuesParser::new(names).try_map(|name| ChatFormat::named(&name).ok_or("unknown chat format"))
}
