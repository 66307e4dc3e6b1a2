//! Files as `torch.save` writes them, in each of its formats, and some that have to be refused: their tensors, the logits of
//! the model that they make, and what the store makes of them.

use crate::common::{Space, need, parity};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use data_encoding::HEXLOWER;
use parity::{Tensors, fixture, furthest};
use pipe::network::{
    batch::{Batch, SlotRange},
    model::{Network, TensorFile},
};
use ring::digest::{SHA256, digest};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    files: BTreeMap<String, ExpectedFile>,
    refuse: BTreeMap<String, Refused>,
}

#[derive(Deserialize)]
struct ExpectedFile {
    tensors: BTreeMap<String, ExpectedTensor>,
    #[serde(default)]
    logits: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ExpectedTensor {
    dtype: String,
    shape: Vec<usize>,
    sha256: String,
}

#[derive(Deserialize)]
struct Refused {
    names: Option<String>,
}

fn expected(directory: &Path) -> Expected {
    serde_json::from_slice(&fs_err::read(directory.join("expected.json")).unwrap()).unwrap()
}

fn tensors(file: &TensorFile) -> BTreeMap<String, ExpectedTensor> {
    let found = file.names().map(|name| {
        let info = file.info(name).unwrap();
        let sha256 = HEXLOWER.encode(digest(&SHA256, &file.bytes(name).unwrap()).as_ref());
        (name.to_owned(), ExpectedTensor { dtype: info.dtype.to_string(), shape: info.shape.clone(), sha256 })
    });
    found.collect()
}

/// The name of a weight in a file with more; none for what is no weight.
fn weight(file: &str, name: String) -> Option<String> {
    let before = match file.split('/').next() {
        Some("nested") => "state_dict.",
        Some("module") => "module.module.",
        _ => "",
    };
    name.strip_prefix(before).map(str::to_owned)
}

#[test]
fn torch_files_parity_of_tensors() {
    let directory = need!(fixture("torch_bin"));
    let mut tried = 0;
    for (name, ExpectedFile { tensors: reference, .. }) in expected(&directory).files {
        if name.ends_with(".json") {
            continue;
        }
        let found = TensorFile::open(&directory.join(&name)).map(|file| tensors(&file));
        let found = found.unwrap_or_else(|error| panic!("{error:#}"));
        let reference = reference.into_iter().filter_map(|(tensor, what)| Some((weight(&name, tensor)?, what)));
        assert_eq!(found, reference.collect(), "{name}");
        tried += 1;
    }
    assert!(tried > 15, "{tried} files");
}

#[test]
fn torch_files_parity_of_logits() {
    let directory = need!(fixture("torch_bin"));
    let reference = Tensors::expected(&directory);
    let [rows, width] = reference.shape("input_ids")[..] else { panic!("rows of tokens") };
    let mask = reference.signed("attention_mask");
    let lengths: Vec<u32> = mask.chunks(width).map(|row| row.iter().sum::<i64>() as u32).collect();
    let start = |place: usize| (place / width * width) as u32;
    let batch = Batch {
        rows,
        width,
        tokens: reference.integers("input_ids"),
        positions: (0..rows * width).map(|place| (place % width) as u32).collect(),
        block_positions: vec![0; rows * width],
        segments: reference.integers("token_type_ids"),
        span_starts: (0..rows * width).map(start).collect(),
        span_ends: (0..rows * width).map(|place| start(place) + lengths[place / width]).collect(),
        dropout_keys: vec![0; rows * width],
        examples: (0..rows).map(|row| SlotRange { start: (row * width) as u32, length: lengths[row] }).collect(),
        ..Batch::default()
    };
    let seen: Vec<u32> = (0..rows * width).filter(|&place| mask[place] == 1).map(|place| place as u32).collect();
    let mut tried = 0;
    for (name, file) in expected(&directory).files {
        let Some(logits) = file.logits.filter(|_| !name.starts_with("safetensors/")) else { continue };
        let network = Network::load(directory.join(&name).parent().unwrap(), &Device::flex());
        let network = network.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let (vocabulary, reference) = (network.vocabulary(), reference.floats(&logits));
        let found = network.logits_at(&batch, &seen).unwrap();
        let rows = found.iter().zip(&seen);
        let worst = rows.map(|(row, &at)| furthest(row, &reference[at as usize * vocabulary..][..vocabulary]));
        let worst = worst.fold(0.0, f32::max);
        eprintln!("{name}: logits differ by {worst:e}");
        assert!(worst < 1e-4, "{name}: {worst}");
        tried += 1;
    }
    assert!(tried > 12, "{tried} models");
}

#[test]
fn torch_files_that_would_run_something_or_are_broken_are_refused_by_name() {
    let directory = need!(fixture("torch_bin")).join("refuse");
    for (name, Refused { names }) in expected(directory.parent().unwrap()).refuse {
        let Err(error) = TensorFile::open(&directory.join(&name)) else { panic!("{name} was read") };
        let said = format!("{error:#}");
        eprintln!("{said}");
        assert!(said.contains(&name), "{said}");
        assert!(names.is_none_or(|names| said.contains(&names)), "{said}");
    }
    let error = TensorFile::open(&directory.join("not_a_checkpoint.bin")).err().unwrap();
    assert!(format!("{error:#}").contains("Git LFS"), "{error:#}");
    assert!(!Path::new("PWNED").exists() && !directory.join("PWNED").exists());
}

/// Checkpoints of the same weights, each with the model's `config.json`.
fn checkpoint(space: &Space, name: &str, files: &[(PathBuf, &str)]) {
    for (from, to) in files {
        space.write(&format!("{name}/{to}"), fs_err::read(from).unwrap());
    }
}

/// What `import` makes of the same weights is the same artifact, so that what comes after it has been computed already.
#[test]
fn torch_files_become_the_artifact_that_their_safetensors_do() {
    let directory = need!(fixture("torch_bin"));
    let space = Space::new();
    space.write(
        "recipe.yaml",
        "vars: { from: none }\nstages:\n  in:\n    import: { path: \"{{ from }}\" }\n  out:\n    export: { model: in, dtype: f32 }\n",
    );
    let run = |name: &str| space.statuses(&["recipe.yaml", "--var", &format!("from={name}")]);
    for (kind, same) in [
        ("model", &["zip", "zip_buffer", "legacy", "protocol4", "views", "views_legacy", "parameters"][..]),
        ("half", &["half", "half_legacy"]),
        ("bf16", &["bf16"]),
    ] {
        let config = |folder: &str| (directory.join(folder).join("config.json"), "config.json");
        let weights = directory.join(format!("safetensors/{kind}.safetensors"));
        checkpoint(&space, kind, &[(weights, "model.safetensors"), config(same[0])]);
        assert_eq!(run(kind), "in=ran out=ran");
        for folder in same {
            let name = format!("{kind}-{folder}");
            checkpoint(
                &space,
                &name,
                &[(directory.join(folder).join("pytorch_model.bin"), "pytorch_model.bin"), config(folder)],
            );
            assert_eq!(run(&name), "in=ran out=hit", "{folder}");
        }
    }
    for (folder, files) in [
        ("nested", &["checkpoint.pt"][..]),
        ("module", &["mp_rank_00_model_states.pt"]),
        (
            "sharded",
            &["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json"],
        ),
    ] {
        let files = files.iter().chain(&["config.json"]).map(|&file| (directory.join(folder).join(file), file));
        checkpoint(&space, folder, &files.collect::<Vec<_>>());
        assert_eq!(run(folder), "in=ran out=hit", "{folder}");
    }
}
