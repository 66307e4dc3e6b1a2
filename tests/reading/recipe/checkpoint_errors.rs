//! Broken checkpoints: each gives one clear error with the file and the tensor, before anything runs, and leaves nothing
//! behind in the store.

use crate::common;
use std::{path::Path, sync::LazyLock};

use common::{Space, tiny};

/// Exports a small BERT, once in one file and once in shards.
const MODEL: &str = "\
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 300 } }
      corpus: [{ path: corpus.txt }]
  base:
    pretrain:
      tokens: tokens
      model: { bert: { hidden: 16, layers: 1, heads: 2, max_length: 64 } }
      objectives: [{ masked_lm: {} }]
      train: { steps: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
  shards:
    export: { model: base, max_shard_size: 10KB }
";

const FINETUNE: &str = "\
stages:
  topics:
    finetune:
      from: { checkpoint: model }
      data: { train: { path: train.tsv } }
      task: { classification: { template: \"{{ text }}[Classification]\", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 1, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
";

/// A file's name and bytes.
type File = (String, Vec<u8>);

/// The files of the model that each stage makes.
static MADE: LazyLock<[(&str, Vec<File>); 2]> = LazyLock::new(|| {
    ["base", "shards"].map(|stage| {
        let space = tiny();
        space.write("model.yaml", MODEL).make_checkpoint("model.yaml", stage);
        let files = fs_err::read_dir(space.path().join("model")).unwrap().map(|file| {
            let file = file.unwrap();
            (format!("model/{}", file.file_name().display()), fs_err::read(file.path()).unwrap())
        });
        (stage, files.collect())
    })
});

/// A space with a sound checkpoint in `model`, and no store.
fn space(stage: &str) -> Space {
    let space = tiny();
    space.write("recipe.yaml", FINETUNE);
    let (_, files) = MADE.iter().find(|(name, _)| *name == stage).expect("a stage that makes a model");
    for (name, bytes) in files {
        space.write(name, bytes);
    }
    space
}

/// What is said of a checkpoint that was broken in this way.
fn said(stage: &str, damage: impl Fn(&Path)) -> String {
    let space = space(stage);
    damage(&space.path().join("model"));
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert_eq!(output.stdout, "");
    assert!(!space.path().join(".pipe/artifacts").exists(), "nothing is left behind");
    output.stderr
}

/// Replaces the header of a safetensors file by one that was changed as text, of any length.
fn change_header(file: &Path, from: &str, to: &str) {
    let bytes = fs_err::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    assert!(header.contains(from), "{from} is not in {header}");
    let header = header.replacen(from, to, 1);
    let changed = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat();
    fs_err::write(file, changed).unwrap();
}

fn cut(file: &Path, length: impl Fn(usize) -> usize) {
    let bytes = fs_err::read(file).unwrap();
    fs_err::write(file, &bytes[..length(bytes.len())]).unwrap();
}

const WEIGHTS: &str = "model.safetensors";

macro_rules! snapshots {
    ($($name:ident => $stage:literal, $damage:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(said($stage, $damage));
        })*
    };
}

snapshots! {
    truncated_header => "base", |model| cut(&model.join(WEIGHTS), |_| 100);
    truncated_data => "base", |model| cut(&model.join(WEIGHTS), |all| all - 700);
    corrupt_header => "base", |model| change_header(&model.join(WEIGHTS), "\"dtype\":\"F32\"", "\"dtype\":\"F3");
    empty_file => "base", |model| cut(&model.join(WEIGHTS), |_| 0);
    overlapping_tensors => "base", |model| change_header(&model.join(WEIGHTS), "[0,64]", "[32,96]");
    tensor_past_the_end => "base", |model| change_header(&model.join(WEIGHTS), "[0,64]", "[900000,900064]");
    wrong_size => "base", |model| change_header(&model.join(WEIGHTS), "\"shape\":[16]", "\"shape\":[15]");
    wrong_shapes_missing_and_unexpected_tensors => "base", |model| {
        change_header(&model.join(WEIGHTS), "\"shape\":[2,16]", "\"shape\":[16,2]");
        change_header(&model.join(WEIGHTS), "bert.embeddings.LayerNorm.bias", "bert.embeddings.extra");
        change_header(&model.join(WEIGHTS), "attention.self.key.bias", "attention.self.extra");
        change_header(&model.join(WEIGHTS), "attention.self.query.bias", "attention.self.more");
    };
    missing_shard => "shards", |model| fs_err::remove_file(shard(model, 1)).unwrap();
    corrupt_shard => "shards", |model| cut(&shard(model, 1), |all| all / 2);
    shard_without_a_tensor => "shards", |model| {
        change_header(&shard(model, 0), "bert.embeddings.LayerNorm.bias", "bert.embeddings.extra");
    };
    index_that_leads_elsewhere => "shards", |model| {
        let index = model.join("model.safetensors.index.json");
        let text = fs_err::read_to_string(&index).unwrap().replacen("\"model-00001", "\"../model-00001", 1);
        fs_err::write(index, text).unwrap();
    };
    missing_weights => "base", |model| fs_err::remove_file(model.join(WEIGHTS)).unwrap();
    missing_tokenizer => "base", |model| fs_err::remove_file(model.join("tokenizer.json")).unwrap();
    missing_config => "base", |model| fs_err::remove_file(model.join("config.json")).unwrap();
    pickle_under_another_name => "base", |model| fs_err::write(model.join(WEIGHTS), b"PK\x03\x04 and so on").unwrap();
    pickle_in_place_of_a_directory => "base", |model| {
        fs_err::remove_dir_all(model).unwrap();
        let recipe = model.with_file_name("recipe.yaml");
        fs_err::write(model.with_file_name("model.pt"), "").unwrap();
        fs_err::write(recipe, FINETUNE.replace("checkpoint: model", "checkpoint: model.pt")).unwrap();
    };
    directory_in_place_of_a_stage => "base", |model| {
        fs_err::write(model.with_file_name("recipe.yaml"), FINETUNE.replace("{ checkpoint: model }", "./model")).unwrap();
    };
    sequences_longer_than_the_checkpoint_takes => "base", |model| {
        fs_err::write(model.with_file_name("recipe.yaml"), FINETUNE.replace("max_length: 48", "max_length: 65")).unwrap();
    };
}

#[test]
fn unknown_family() {
    let said = said("base", |model| {
        fs_err::write(model.join("config.json"), "{\"model_type\": \"llama\"}").unwrap();
    });
    assert!(said.starts_with("error: the model in `model` can't be made: model_type llama isn't supported"), "{said}");
    assert!(said.contains("--> recipe.yaml:4:27"), "{said}");
}

/// A pickle that would call `posix.system`, by either name, and files of which none says which has the weights.
#[test]
fn torch_files_that_cannot_be_used() {
    let evil = b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch PWNED!\x85R.";
    for name in ["pytorch_model.bin", "checkpoint.pt"] {
        let said = said("base", |model| {
            fs_err::remove_file(model.join(WEIGHTS)).unwrap();
            fs_err::write(model.join("training_args.bin"), "").unwrap();
            fs_err::write(model.join(name), evil).unwrap();
        });
        assert!(said.starts_with(&format!("error: model/{name} is not a sound file of PyTorch's: ")), "{said}");
        assert!(
            said.contains("it refers to `posix.system`, which is no tensor, number, string or plain container"),
            "{said}"
        );
        assert!(said.contains("--> recipe.yaml:4:27") && said.contains("hint: where you trust it"), "{said}");
    }
    let said = said("base", |model| {
        fs_err::rename(model.join(WEIGHTS), model.join("a.bin")).unwrap();
        fs_err::write(model.join("b.pt"), "").unwrap();
    });
    assert!(said.starts_with("error: model has 2 files that may have the weights (a.bin, b.pt)"), "{said}");
}

fn shard(model: &Path, number: usize) -> std::path::PathBuf {
    let mut files: Vec<_> = fs_err::read_dir(model).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files.swap_remove(number)
}
