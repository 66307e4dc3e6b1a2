//! Training a tokenizer, and encoding a corpus.

use std::path::Path;

use anyhow::Result;
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::{Args, number, spread};

/// A table: both sides' seconds and megabytes a second. Ours writes Parquet, the peers' `datasets.map` writes Arrow files,
/// and their `encode_batch` writes nothing.
pub(crate) fn run(args: &Args, store: &Path) -> Result<Table> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["tokenization", "pipe", "peer", "ratio"]);
    if !"tokenization".contains(&args.only) {
        return Ok(table);
    }
    let megabytes = fs_err::metadata(&args.text)?.len() as f64 / 1e6;
    let [mut training, mut encoding, mut trainer, mut map, mut batch] = [(); 5].map(|()| Vec::new());
    for _ in 0..args.rounds {
        let seconds = |vars: &[(&str, String)]| number(&args.ours(store, "tokens", vars)?, "seconds");
        let encode = seconds(&[("tokenizer", args.tokenizer.display().to_string())])?;
        // The stage trains and encodes.
        training.push(seconds(&[])? - encode);
        encoding.push(megabytes / encode);
        if let Some(said) = args.theirs("hf_tokenize.py", &[("repeat", "1".into())], &[])? {
            trainer.push(number(&said, "train_s")?);
            map.push(number(&said, "encode_mb_per_s")?);
            batch.push(number(&said, "batch_encode_mb_per_s")?);
        }
    }
    let ratios = |a: &[f64], b: &[f64]| spread(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>(), 2);
    for (name, ours, theirs, ratio) in [
        ("train a BPE of 8000, s", &training, &trainer, ratios(&trainer, &training)),
        ("encode to disk, MB/s; datasets.map with 2 processes", &encoding, &map, ratios(&encoding, &map)),
        ("the same; encode_batch, in memory only", &encoding, &batch, ratios(&encoding, &batch)),
    ] {
        table.add_row([name.to_owned(), spread(ours, 2), spread(theirs, 2), ratio]);
    }
    Ok(table)
}
