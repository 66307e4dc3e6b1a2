//! Writing text with a trained language model.

use std::path::Path;

use anyhow::{Context, Result};

use super::{layout, task::Purpose};
use crate::{
    batch::{lay_out, random::Key},
    device::OpenDevice,
    model::Network,
    objectives::{Asked, Form, Specials, generate::input},
    text::Tokenizer,
};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many likeliest tokens are chosen among; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens with this much probability together are chosen among.
    pub top_p: f64,
    /// Seed of the choices.
    pub seed: u64,
}

/// A language model that writes.
pub struct Writer {
    network: Network,
    tokenizer: Tokenizer,
    specials: Specials,
    form: Form,
    max_length: usize,
    device: OpenDevice,
}

impl Writer {
    /// Loads the model of a pretrain or finetune stage.
    ///
    /// # Errors
    /// If the artifact is damaged, or the model never learned to generate.
    pub fn load(dir: &Path, device: &OpenDevice) -> Result<Self> {
        let Purpose { objectives, max_length, .. } = Purpose::read(dir)?;
        let forms: Vec<_> =
            objectives.iter().filter_map(|objective| Some((Form::of(objective)?, objective.weight))).collect();
        let form = forms.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(form, _)| form);
        let form = form.context(
            "this model never learned to generate: give its pretraining a `generative` objective, such as causal_lm",
        )?;
        let tokenizer = Tokenizer::load(dir)?;
        tokenizer.special.require("generating text", form.needs(Asked::Text))?;
        let network = Network::load(dir, &device.device)?;
        Ok(Self { specials: tokenizer.special, network, tokenizer, form, max_length, device: device.clone() })
    }

    /// Continues the prompt, at most by `most` tokens; `write` is given what is new after each token.
    ///
    /// # Errors
    /// If the prompt can't be encoded, or the device fails.
    pub fn write(&self, prompt: &str, most: usize, sampling: Sampling, write: &mut dyn FnMut(&str)) -> Result<String> {
        let prompt = self.tokenizer.encode(prompt)?;
        let layout = layout(&self.device, self.max_length, false);
        let key = Key::new(sampling.seed).with("generate");
        let (mut generated, mut text) = (Vec::new(), String::new());
        for step in 0..most {
            let Ok(example) = input(self.form, &prompt, &generated, self.max_length, &self.specials) else { break };
            let last = example.tokens.len() as u32 - 1;
            let batch = lay_out(&[example], layout, key);
            let logits = self.network.logits_at(&batch, &[last])?;
            let mut logits = logits.into_iter().next().context("the model gave no answer")?;
            self.forbid(&mut logits);
            let token = choose(&logits, sampling, key.at(step as u64).f64());
            if token == self.specials.eop || token == self.specials.sep {
                break;
            }
            generated.push(token);
            let longer = self.tokenizer.decode(&generated, true)?;
            // A character may take several tokens; until it's whole, the decoder shows a replacement for it.
            if let Some(new) = longer.strip_prefix(text.as_str()).filter(|new| !new.ends_with('\u{fffd}')) {
                write(new);
                text = longer;
            }
        }
        self.tokenizer.decode(&generated, true)
    }

    /// Special tokens other than those that end a text aren't text; ids past the tokenizer's last stand for nothing.
    fn forbid(&self, logits: &mut [f32]) {
        let Specials { eop, sep, vocab_size, .. } = self.specials;
        for id in self.specials.ids().into_iter().filter(|&id| id != eop && id != sep) {
            logits[id as usize] = f32::NEG_INFINITY;
        }
        logits[vocab_size..].fill(f32::NEG_INFINITY);
    }
}

/// The token at the point `uniform` of the distribution that is left after temperature, top-k and top-p.
fn choose(logits: &[f32], sampling: Sampling, uniform: f64) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if sampling.temperature <= 0.0 {
        return order[0];
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let top = f64::from(logits[order[0] as usize]);
    let weight = |&id: &u32| ((f64::from(logits[id as usize]) - top) / sampling.temperature).exp();
    let mut weights: Vec<f64> = order.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let kept = weights.iter().take_while(|&&weight| {
        let before = sum;
        sum += weight / total;
        before < sampling.top_p
    });
    let kept = kept.count().max(1);
    weights.truncate(kept);
    let mut left = uniform * weights.iter().sum::<f64>();
    for (id, weight) in order.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    order[kept - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLING: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 };

    #[test]
    fn choice_follows_the_distribution() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 1f32.ln()];
        let chosen = [0.0, 0.49, 0.51, 0.74, 0.76, 0.999].map(|uniform| choose(&logits, SAMPLING, uniform));
        assert_eq!(chosen, [1, 1, 0, 0, 3, 3]);
    }

    #[test]
    fn temperature_zero_top_k_and_top_p_narrow_the_choice() {
        let logits = [1.0, 3.0, 2.0];
        assert_eq!(choose(&logits, Sampling { temperature: 0.0, ..SAMPLING }, 0.99), 1);
        assert_eq!(choose(&logits, Sampling { top_k: 1, ..SAMPLING }, 0.99), 1);
        assert_eq!(choose(&logits, Sampling { top_k: 2, ..SAMPLING }, 0.99), 2);
        assert_eq!(choose(&logits, Sampling { top_p: 0.5, ..SAMPLING }, 0.99), 1);
        assert_eq!(choose(&logits, SAMPLING, 0.999), 0);
    }
}
