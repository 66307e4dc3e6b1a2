//! Arguments of the commands that use trained models.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::recipe::{Changes, Recipe};
use crate::{
    learning::generation::EarlyStopping,
    network::{kernels::ActivationForm, model::KvForm},
    spec::{ChatFormat, Format, WeightForm},
    stages::WeightChoice,
};

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Predict {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The finetuned stage
    pub stage: String,
    /// A text to classify; can be repeated
    #[arg(long, conflicts_with = "file")]
    pub text: Vec<String>,
    /// A file of rows to classify (.txt, .tsv, .csv, .jsonl, .json, .parquet, .arrow); a file with the training data's
    /// extension is read
    /// like the training data, unless the options below say otherwise
    #[arg(long, required_unless_present = "text")]
    pub file: Option<PathBuf>,
    /// The file's format: txt, tsv, csv, jsonl, json, parquet or arrow [default: by its extension]
    #[arg(long, requires = "file", value_parser = format)]
    pub format: Option<Format>,
    /// Comma-separated column names for a .tsv or .csv file without a header line
    #[arg(long, requires = "file", value_delimiter = ',', value_name = "NAMES")]
    pub columns: Option<Vec<String>>,
    /// The character that separates fields
    #[arg(long, requires = "file", value_name = "CHARACTER")]
    pub delimiter: Option<char>,
    /// Whether fields may stand in double quotes [default: as in recipes]
    #[arg(long, requires = "file", value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    pub quoting: Option<bool>,
    /// The character that takes the next one's meaning from it
    #[arg(long, requires = "file", value_name = "CHARACTER")]
    pub escape: Option<char>,
    /// What the file's bytes stand for, such as gb18030 or utf-16 [default: as the training data, or utf-8]
    #[arg(long, requires = "file", value_name = "NAME")]
    pub encoding: Option<String>,
    /// Device to run on [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
    /// What weights are held as in memory: f32, bf16, f16, int8 or int4 [default: as they are stored]
    #[arg(long, value_name = "FORM", value_parser = weight_form)]
    pub weights: Option<WeightForm>,
    /// Print one JSON object per row
    #[arg(long)]
    pub json: bool,
}

/// A trained model: a stage of a recipe, or a checkpoint.
#[derive(Args, Debug)]
pub(in crate::surface::cli) struct ModelSource {
    /// The recipe
    #[arg(required_unless_present_any = ["checkpoint", "hub"], conflicts_with_all = ["checkpoint", "hub"])]
    pub recipe: Option<PathBuf>,
    /// The trained stage
    #[arg(required_unless_present_any = ["checkpoint", "hub"])]
    pub stage: Option<String>,
    /// A model directory in Hugging Face's layout, instead of a recipe and a stage
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// A model's name on Hugging Face, such as THUDM/chatglm-6b, or with modelscope: before it on ModelScope, instead of a
    /// recipe and a stage
    #[arg(long, value_name = "NAME", conflicts_with = "checkpoint")]
    pub hub: Option<String>,
    /// Which revision of it: a branch, a tag or a commit [default: main, and master on ModelScope]
    #[arg(long, value_name = "REVISION", requires = "hub")]
    pub revision: Option<String>,
    #[command(flatten)]
    pub changes: Changes,
    /// Device to run on [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
    /// What weights are held as in memory: f32, bf16, f16, int8, int4, or auto, which is the best that there's room for
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub weights: WeightChoice,
    /// What the keys and values of the tokens so far are held as: f32, or bf16 in half the memory, on the CPU
    #[arg(long, value_name = "FORM", default_value = "f32", value_parser = kv_form)]
    pub kv_cache: KvForm,
    /// What weights of int4 are multiplied with: f32, or int8 with a step for each 32 numbers, which is faster and less exact,
    /// on the CPU
    #[arg(long, value_name = "FORM", default_value = "f32", value_parser = activation_form)]
    pub activations: ActivationForm,
}

/// How text is generated. A checkpoint's `generation_config.json` gives the defaults, if it has one.
#[derive(Args, Debug)]
pub(in crate::surface::cli) struct GenerationOptions {
    /// Minimum number of tokens to generate [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub min_tokens: Option<usize>,
    /// Sampling temperature; 0 always picks the likeliest token [default: 0.8]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Sample from the K likeliest tokens; 0 for all [default: 40]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = count)]
    pub top_k: Option<usize>,
    /// Sample from the likeliest tokens whose total probability reaches P [default: 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Sample from the tokens that are at least P times as likely as the likeliest one [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Sample from the tokens closest to the expected information whose total probability reaches P [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub typical_p: Option<f64>,
    /// Penalty on tokens that have already occurred; 1 means none [default: 1]
    #[arg(long, value_name = "PENALTY", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    /// Never write the same N tokens in a row twice; 0 for no such limit [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub no_repeat_ngram_size: Option<usize>,
    /// Follow the N likeliest texts at a time, and take the likeliest as a whole; without a temperature nothing is drawn
    /// [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    pub num_beams: Option<usize>,
    /// With beams, favour longer texts above 0, shorter ones below [default: 1]
    #[arg(long, value_name = "POWER", allow_negative_numbers = true)]
    pub length_penalty: Option<f64>,
    /// With beams, stop as soon as there are N texts (`true`), when a better one is unlikely (`false`), or when there can
    /// be none (`never`) [default: false]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, default_missing_value = "true", value_parser = early_stopping())]
    pub early_stopping: Option<EarlyStopping>,
    /// Stop before this text; can be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
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
    /// Maximum number of tokens to generate, per blank if there are any [default: 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub max_tokens: Option<usize>,
    #[command(flatten)]
    pub writing: GenerationOptions,
    /// Texts to write of each prompt: drawn ones, or the best of the beams [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    pub num_return_sequences: Option<usize>,
    /// Print one JSON object per text
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
    /// Maximum number of tokens in an answer [default: 512]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub max_tokens: Option<usize>,
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
    /// What weights are rounded to, to be read again by this program: f32, bf16, f16, int8 or int4 [default: as they are
    /// stored]
    #[arg(long, value_name = "FORM", value_parser = weight_form)]
    pub weights: Option<WeightForm>,
}

fn weight_form(text: &str) -> Result<WeightForm, String> {
    by_name(&WeightForm::ALL, WeightForm::name, text)
}

fn activation_form(text: &str) -> Result<ActivationForm, String> {
    by_name(&ActivationForm::ALL, ActivationForm::name, text)
}

fn kv_form(text: &str) -> Result<KvForm, String> {
    by_name(&KvForm::ALL, KvForm::name, text)
}

/// The one of these that has a name, or which names they have.
fn by_name<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    all.iter().copied().find(|one| name(*one) == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        let (last, others) = names.split_last().map_or(("", &[][..]), |(last, others)| (*last, others));
        format!("expected {} or {last}", others.join(", "))
    })
}

fn format(text: &str) -> Result<Format, String> {
    serde_json::from_value(text.into()).map_err(|_| "expected txt, tsv, csv, jsonl, json, parquet or arrow".to_owned())
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a whole number from 0 is expected".to_owned())
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "a whole number from 1 is expected".to_owned())
}

fn early_stopping() -> impl TypedValueParser<Value = EarlyStopping> {
    PossibleValuesParser::new(["true", "false", "never"]).map(|word| match &*word {
        "true" => EarlyStopping::Yes,
        "never" => EarlyStopping::Never,
        _ => EarlyStopping::No,
    })
}

/// Names of chat formats.
fn chat_formats() -> impl TypedValueParser<Value = ChatFormat> {
    let names = ChatFormat::ALL.map(ChatFormat::name);
    PossibleValuesParser::new(names).try_map(|name| ChatFormat::named(&name).ok_or("unknown chat format"))
}
