//! Tokens a second and peak memory of training.

use std::{path::Path, time::Instant};

use anyhow::Result;
use burn::tensor::{Device, Distribution, Tensor};
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::{Args, median, number, spread};

/// Steps that neither side counts: `pipe` leaves five out of its figure.
const WARMING: usize = 5;
/// Entries of the peers' tokenizer.
const VOCABULARY: usize = 8000;

/// A model, its batches, and what it learns.
struct Case {
    objective: &'static str,
    /// The peers' name for it.
    theirs: &'static str,
    /// Share of the tokens that logits are needed for.
    predicted: f64,
    hidden: usize,
    layers: usize,
    heads: usize,
    seq: usize,
    batch: usize,
}

/// What one run showed.
#[derive(Clone, Copy)]
struct Run {
    tokens_per_second: f64,
    megabytes: f64,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let objectives =
            [("masked_lm", "mlm", 0.15), ("masked_lm+next_sentence", "mlm_nsp", 0.15), ("causal_lm", "clm", 1.0)];
        let sizes = [(256, 4, 4, 128, 16), (128, 2, 2, 64, 32)];
        sizes.into_iter().flat_map(move |(hidden, layers, heads, seq, batch)| {
            objectives.map(|(objective, theirs, predicted)| Self {
                objective,
                theirs,
                predicted,
                hidden,
                layers,
                heads,
                seq,
                batch,
            })
        })
    }

    fn name(&self) -> String {
        let Self { objective, hidden, layers, seq, batch, .. } = self;
        format!("{objective} {hidden}/{layers}, {batch} × {seq}")
    }

    fn sizes(&self) -> [(&'static str, String); 5] {
        let Self { hidden, layers, heads, seq, batch, .. } = self;
        [("hidden", hidden), ("layers", layers), ("heads", heads), ("seq", seq), ("batch", batch)]
            .map(|(name, value)| (name, value.to_string()))
    }

    fn ours(&self, args: &Args, store: &Path) -> Result<Run> {
        let mut vars = self.sizes().to_vec();
        vars.push(("objective", self.objective.into()));
        vars.push(("tokenizer", args.tokenizer.display().to_string()));
        vars.push(("steps", (args.steps + WARMING).to_string()));
        let stage = args.ours(store, "model", &vars)?;
        let metrics = &stage["metrics"];
        Ok(Run {
            tokens_per_second: number(metrics, "tokens_per_second")?,
            megabytes: number(metrics, "peak_memory_bytes")? / f64::from(1 << 20),
        })
    }

    fn theirs(&self, args: &Args, flags: &[&str]) -> Result<Option<Run>> {
        let mut options = self.sizes().to_vec();
        options.push(("objective", self.theirs.into()));
        options.push(("tokenizer", args.tokenizer.display().to_string()));
        options.push(("steps", args.steps.to_string()));
        options.push(("threads", std::thread::available_parallelism()?.to_string()));
        let said = args.theirs("hf_pretrain.py", &options, flags)?;
        said.map(|said| {
            Ok(Run { tokens_per_second: number(&said, "tokens_per_s")?, megabytes: number(&said, "peak_rss_mb")? })
        })
        .transpose()
    }

    /// Floating-point operations a token, as a plain implementation needs them: six for each weight in a product that
    /// is computed for it, and the attention's two products.
    fn flops(&self) -> f64 {
        let [hidden, layers, seq] = [self.hidden, self.layers, self.seq].map(|size| size as f64);
        let layer = 12.0 * hidden * hidden;
        6.0 * (layers * layer + self.predicted * VOCABULARY as f64 * hidden) + 12.0 * layers * hidden * seq
    }
}

/// One run of each side, and what a plain product reached beside them.
struct Round {
    ours: Run,
    trainer: Option<Run>,
    raw_loop: Option<Run>,
    gemm: f64,
}

impl Round {
    fn new(case: &Case, args: &Args, store: &Path) -> Result<Self> {
        Ok(Self {
            ours: case.ours(args, store)?,
            trainer: case.theirs(args, &[])?,
            raw_loop: case.theirs(args, &["--raw-loop"])?,
            gemm: gemm(),
        })
    }
}

/// A table, a row a case.
pub(crate) fn run(args: &Args, store: &Path) -> Result<Table> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let columns = [
        "training",
        "pipe, tokens/s",
        "Trainer",
        "raw loop",
        "ratio to the better",
        "MB",
        "better peer's MB",
        "of gemm",
    ];
    table.set_header(columns);
    for case in Case::all().filter(|case| case.name().contains(&args.only)) {
        let rounds = (0..args.rounds).map(|_| Round::new(&case, args, store)).collect::<Result<Vec<_>>>()?;
        table.add_row(row(&case, &rounds));
    }
    Ok(table)
}

fn row(case: &Case, rounds: &[Round]) -> [String; 8] {
    let speeds = |side: fn(&Round) -> Option<Run>| -> Vec<f64> {
        rounds.iter().filter_map(side).map(|run| run.tokens_per_second).collect()
    };
    let ours = speeds(|round| Some(round.ours));
    let trainer = speeds(|round| round.trainer);
    let raw_loop = speeds(|round| round.raw_loop);
    let better: fn(&Round) -> Option<Run> =
        if median(&raw_loop) > median(&trainer) { |round| round.raw_loop } else { |round| round.trainer };
    let ratios: Vec<f64> = ours.iter().zip(speeds(better)).map(|(ours, theirs)| ours / theirs).collect();
    let memory: Vec<f64> = rounds.iter().map(|round| round.ours.megabytes).collect();
    let peers_memory: Vec<f64> = rounds.iter().filter_map(better).map(|run| run.megabytes).collect();
    let of_gemm: Vec<f64> = rounds.iter().zip(&ours).map(|(round, ours)| ours * case.flops() / round.gemm).collect();
    [
        case.name(),
        spread(&ours, 0),
        spread(&trainer, 0),
        spread(&raw_loop, 0),
        spread(&ratios, 2),
        spread(&memory, 0),
        spread(&peers_memory, 0),
        spread(&of_gemm, 2),
    ]
}

/// Floating-point operations a second of a large product, the best of a few.
fn gemm() -> f64 {
    const SIZE: usize = 1024;
    let device = Device::flex();
    let [a, b] = [(); 2].map(|()| Tensor::<2>::random([SIZE, SIZE], Distribution::Default, &device));
    let times = (0..8).map(|_| {
        let began = Instant::now();
        drop(a.clone().matmul(b.clone()).into_data());
        began.elapsed().as_secs_f64()
    });
    2.0 * (SIZE as f64).powi(3) / times.fold(f64::INFINITY, f64::min)
}
