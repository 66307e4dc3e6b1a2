//! The recipes that come with the program, with their data, so that whoever has installed it can run one of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::{console, exit};
use crate::{
    recipe::schema,
    stages::catalog,
    support::{Hinted, suggest},
};

/// A recipe, and the files that it reads.
struct Example {
    name: &'static str,
    recipe: &'static str,
    data: &'static [&'static str],
}

const ROWS: &[&str] = &["corpus.txt", "train.tsv", "dev.tsv", "test.tsv"];
const CHAT: &[&str] = &["corpus.txt", "chat.jsonl", "chat_dev.jsonl"];

macro_rules! examples {
    ($($name:literal: $data:expr;)*) => {
        &[$(Example { name: $name, recipe: include_str!(concat!("../../../recipes/", $name, ".yaml")), data: $data }),*]
    };
}

/// Those that need nothing else.
const EXAMPLES: &[Example] = examples! {
    "chatglm_cls": ROWS;
    "lora_cls": ROWS;
    "sweep_cls": ROWS;
    "sweep_halving": ROWS;
    "chat": CHAT;
    "seq2seq": &["corpus.txt"];
};

macro_rules! files {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("../../../recipes/data/", $name)))),*] };
}

const FILES: &[(&str, &str)] =
    files!["README.md", "LICENSE", "corpus.txt", "train.tsv", "dev.tsv", "test.tsv", "chat.jsonl", "chat_dev.jsonl"];

/// What comes with any data.
const ALWAYS: [&str; 2] = ["README.md", "LICENSE"];

/// The schema that editors are told of in a recipe's first line, as it's named in the project and beside an example.
const SCHEMA: [&str; 2] = ["../schemas/recipe.schema.json", "recipe.schema.json"];

/// `pipe init DIR --example NAME`.
pub(super) fn write(name: &str, dir: &Path) -> Result<()> {
    let Some(example) = EXAMPLES.iter().find(|example| example.name == name) else {
        let names = EXAMPLES.iter().map(|example| example.name);
        let hint = suggest::did_you_mean(name, names, "the examples are");
        bail!(Hinted::new(format!("there is no example `{name}`"), hint));
    };
    let recipe = dir.join(format!("{name}.yaml"));
    let there = ALWAYS.iter().chain(example.data).copied();
    let data = there.map(|file| {
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).context("the file comes with the program")?;
        Ok((dir.join("data").join(file), (*text).to_owned()))
    });
    let data: Vec<_> = data.collect::<Result<_>>()?;
    let files = [(recipe.clone(), text_of(example)), (dir.join(SCHEMA[1]), schema::text(catalog()))];
    // Data of another example may be there, which is the same.
    let differs = |(path, text): &&(PathBuf, String)| fs::read_to_string(path).is_ok_and(|there| there != *text);
    if let Some((path, _)) = files.iter().chain(&data).find(differs) {
        bail!("{} already exists, and is another one; nothing was written", path.display());
    }
    exit::work_begins();
    fs::create_dir_all(dir.join("data"))?;
    for (path, text) in files.iter().chain(&data) {
        fs::write(path, text)?;
    }
    console::eprint_line(&format!("now: pipe run {}", recipe.display()));
    Ok(())
}

/// The recipe as it stands beside its data: it's no longer in a folder of recipes, nor the schema in another.
fn text_of(example: &Example) -> String {
    let [from, to] = SCHEMA;
    example.recipe.replace(from, to).replace("recipes/", "")
}
