//! Arguments of the commands beside recipes and the store.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Init {
    /// The directory to write to
    pub dir: PathBuf,
    /// Your labelled data (.tsv, .csv, .jsonl, .json, .parquet or .arrow)
    #[arg(long, value_name = "FILE", required_unless_present = "example")]
    pub data: Option<PathBuf>,
    /// Write a recipe that comes with the program instead, with its data: chatglm_cls, lora_cls, sweep_cls, sweep_halving, chat or
    /// seq2seq
    #[arg(long, value_name = "NAME", conflicts_with_all = ["data", "encoding", "text", "label"])]
    pub example: Option<String>,
    /// What the file's bytes stand for, such as gb18030 or utf-16
    #[arg(long, default_value = "utf-8", value_name = "NAME")]
    pub encoding: String,
    /// The column with the text; can be repeated, as for pairs [default: the one with the longest values, and others like it]
    #[arg(long, value_name = "COLUMN")]
    pub text: Vec<String>,
    /// The column with the label [default: `label`, or else the one with the fewest distinct values]
    #[arg(long)]
    pub label: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Devices {
    /// Open this one device and report what it can do
    #[arg(long, hide = true, value_name = "DEVICE")]
    pub probe: Option<String>,
    /// Give a Vulkan driver SPIR-V, whatever is known of it
    #[arg(long, hide = true, requires = "probe")]
    pub spirv: bool,
    /// Train a tiny model of this family on it
    #[arg(long, hide = true, requires = "probe", requires = "precision")]
    pub family: Option<String>,
    /// In this precision
    #[arg(long, hide = true, requires = "family")]
    pub precision: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Bench {
    /// The device [default: each usable one, except software drivers]
    #[arg(long)]
    pub device: Option<String>,
    /// Several devices that share each step, such as cuda:0-3
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<String>,
    /// Model and sequence shape: small, bert-base, gpt2 or tiny
    #[arg(long, default_value = "small")]
    pub shape: String,
    /// Precision: f32, bf16, f16 or mixed
    #[arg(long, default_value = "f32")]
    pub precision: String,
    /// Sequences per step [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Tokens per sequence [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub length: Option<u32>,
    /// Timed steps, after five warm-up steps
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub steps: usize,
    /// Dropout probability
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub dropout: f64,
    /// Micro-batch: whole, auto or a number of tokens
    #[arg(long, default_value = "whole", value_name = "TOKENS")]
    pub micro_batch: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Reference {
    /// The project's folder
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// List the pages that are out of date instead of writing them
    #[arg(long)]
    pub check: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}
