//! Tokens a second of masked language modelling at two sizes, on random tokens:
//! `cargo run --release --example throughput [DEVICE]`.

use anyhow::Result;
use pipe::{
    batch::{Example, Feed, Layout, Step, Target, lay_out, random::Key},
    device::DeviceChoice,
    model::Network,
    recipe::spec,
    train::{Settings, Silent, Trainer},
};
use serde_json::json;

const VOCABULARY: usize = 8000;
const STEPS: usize = 25;

/// Examples of one length, 15 % of their tokens to be guessed.
struct Random {
    length: u64,
    batch: u64,
    layout: Layout,
}

impl Feed for Random {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let key = Key::new(step as u64);
        let example = |id: u64| {
            let key = key.at(id);
            let tokens: Vec<u32> = (0..self.length).map(|at| key.at(at).below(VOCABULARY) as u32).collect();
            let masked = (0..self.length).filter(|&at| key.at(at).with("mask").f64() < 0.15);
            let targets = masked.map(|at| Target { at: at as u32, token: tokens[at as usize] }).collect();
            Example { targets, ..Example::sequence(id, tokens, self.length as usize) }
        };
        let examples: Vec<Example> = (0..self.batch).map(example).collect();
        let batches = vec![lay_out(&examples, self.layout, key)];
        Ok(Step { batches, objective: "masked_lm".into(), pair_weight: 1.0 })
    }
}

#[expect(clippy::print_stdout, reason = "this is a program")]
fn main() -> Result<()> {
    let choice: DeviceChoice = std::env::args().nth(1).as_deref().unwrap_or("cpu").parse()?;
    let open = choice.open()?;
    for (hidden, layers, heads, length, batch) in [(128, 2, 2, 64, 32), (256, 4, 4, 128, 16)] {
        let model = json!({ "glm": { "hidden": hidden, "layers": layers, "heads": heads } });
        let network = Network::new(&serde_json::from_value(model)?, VOCABULARY, 1, &open.device)?;
        let train: spec::Train = serde_json::from_value(json!({ "steps": STEPS, "lr": 1e-3 }))?;
        let layout = match choice {
            DeviceChoice::Cpu => Layout::Ragged,
            _ => Layout::Rows { width: length as usize, packing: true },
        };
        let mut trainer = Trainer::new(network, Settings::new(&train, STEPS, None));
        let outcome = trainer.run(&Random { length, batch, layout }, None, None, &mut Silent)?;
        println!(
            "{}: hidden {hidden}, {layers} layers, sequence {length}, batch {batch}: {:.0} tokens/s, loss {:.4}",
            open.name, outcome.tokens_per_second, outcome.loss
        );
    }
    Ok(())
}
