//! What a stored model says of the texts that transformers is asked, as `matrix.py` reads it.

use std::path::Path;

use pipe::{
    data::text::Tokenizer,
    learning::{
        generation::{GenerationSettings, Sampling},
        objectives::form::feed,
    },
    network::{
        batch::{Example, Layout, lay_out},
        checkpoint,
        device::OpenDevice,
        model::{AnswerForm, Network},
    },
    stages::{TextGenerator, Trained, WeightsHeld},
    support::random::Key,
};
use serde_json::{Value, json};

use super::cells::{Cell, LABELS, Way, texts};

/// Tokens that are generated at most, as in the script.
const NEW_TOKENS: usize = 24;

/// What pipe says of the model in a directory of the store; `exported` is where it was exported to, and `saved` where
/// transformers is to save one like it.
pub(super) fn expected(cell: Cell, stored: &Path, exported: &Path, saved: &Path, device: &OpenDevice) -> Value {
    let model = Model::load(stored, device);
    let texts = texts();
    let is_linear = cell.way == Way::Linear;
    let has_class = cell.auto().is_some();
    let language: Vec<Value> = texts[..3].iter().map(|text| model.language(text)).collect();
    let generates = cell.way == Way::Plain && has_class && model.form() != AnswerForm::Cloze;
    let saves = has_class && matches!(cell.way, Way::Plain | Way::Linear | Way::Lora | Way::PTuning);
    json!({
        "name": cell.stage(),
        "dir": exported,
        "family": cell.family.name,
        "auto": cell.auto(),
        "peft": cell.way.is_adapted(),
        "texts": texts.iter().map(|text| model.tokens(text, is_linear)).collect::<Vec<_>>(),
        "language": if has_class && !is_linear { language } else { Vec::new() },
        "classes": if is_linear { model.classes(stored, &texts, device) } else { Vec::new() },
        "labels": LABELS,
        "generation": if generates { generation(stored, &texts, device) } else { Vec::new() },
        "save": saves.then_some(saved),
    })
}

/// A model and its tokenizer.
pub(super) struct Model {
    network: Network,
    tokenizer: Tokenizer,
}

impl Model {
    pub(super) fn load(directory: &Path, device: &OpenDevice) -> Self {
        Self {
            network: Network::load(directory, &device.device).expect("a model"),
            tokenizer: Tokenizer::load(&checkpoint::tokenizer_place(directory)).expect("a tokenizer"),
        }
    }

    fn form(&self) -> AnswerForm {
        self.network.family().form
    }

    /// A text's ids, without and with what stands around it.
    fn tokens(&self, text: &str, is_linear: bool) -> Value {
        let ids = self.ids(text);
        let framed = if is_linear { self.plain(text) } else { self.open(text) };
        json!({ "text": text, "ids": ids, "framed": framed.tokens })
    }

    pub(super) fn ids(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text).expect("tokens")
    }

    fn plain(&self, text: &str) -> Example {
        self.form().plain(0, &self.ids(text), &self.tokenizer.special)
    }

    /// As it's continued; a cloze is read as it is.
    fn open(&self, text: &str) -> Example {
        match self.form() {
            AnswerForm::Cloze => self.plain(text),
            form => form.text(0, &self.ids(text), &self.tokenizer.special).example,
        }
    }

    /// Logits at each token.
    fn language(&self, text: &str) -> Value {
        let more = if self.form() == AnswerForm::Prefix { self.ids(text) } else { Vec::new() };
        json!({ "text": text, "more": more, "logits": self.logits(text) })
    }

    /// Logits at each token as it's continued; where an encoder reads it, those of a decoder that writes it once more.
    pub(super) fn logits(&self, text: &str) -> Vec<Vec<f32>> {
        let mut example = self.open(text);
        let mut first = 0;
        if self.form() == AnswerForm::Prefix {
            first = example.tokens.len() as u32 - 1;
            feed(&mut example, &self.ids(text));
        }
        let places: Vec<u32> = (first..example.tokens.len() as u32).collect();
        let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
        self.network.logits_at(&batch, &places).expect("logits")
    }

    /// Log-probabilities of all classes, of a text or of two.
    pub(super) fn scores(&self, text: &str, second: Option<&str>) -> anyhow::Result<Vec<f64>> {
        let mut example = self.plain(text);
        if let Some(second) = second {
            let first = example.tokens.len();
            let tokens = [example.tokens, self.ids(second), vec![self.tokenizer.special.sep]].concat();
            let segments = (0..tokens.len()).map(|at| u32::from(at >= first)).collect();
            let length = tokens.len();
            example = Example { segments, ..Example::sequence(0, tokens, length) };
        }
        let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
        Ok(self.network.class_log_probabilities(&batch)?.remove(0))
    }

    fn classes(&self, stored: &Path, texts: &[&str], device: &OpenDevice) -> Vec<Value> {
        let trained = Trained::load(stored, WeightsHeld::default(), device).expect("a classifier");
        assert_eq!(trained.labels(), LABELS);
        let told = |text: &str, second: Option<&str>, label: &str| {
            let scores = self.scores(text, second).expect("classes");
            json!({ "text": text, "second": second, "label": label, "scores": scores })
        };
        let single = texts.iter().map(|text| {
            let row = |column: &str| (column == "text").then(|| (*text).to_owned());
            told(text, None, &trained.predict(&[&row]).expect("a prediction")[0].label)
        });
        let mut classes: Vec<Value> = single.collect();
        if self.form() == AnswerForm::Cloze {
            let [text, second] = [texts[0], texts[1]];
            let scores = self.scores(text, Some(second)).expect("classes");
            let likeliest = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).expect("a class");
            classes.push(told(text, Some(second), LABELS[likeliest]));
        }
        classes
    }
}

/// What a model writes behind the beginnings of some texts.
fn generation(stored: &Path, texts: &[&str], device: &OpenDevice) -> Vec<Value> {
    let generator = TextGenerator::load(stored, WeightsHeld::default(), device).expect("a model that writes");
    let settings = GenerationSettings::new(Sampling::GREEDY, 1, NEW_TOKENS);
    let prompts = texts.iter().map(|text| text.chars().take(4).collect::<String>());
    let written = prompts.take(4).map(|prompt| {
        let generated =
            generator.generate(&prompt, &settings, &mut |_| std::ops::ControlFlow::Continue(())).expect("text");
        let generated = generated.first().expect("a text");
        json!({ "prompt": prompt, "text": generated.text, "ended": generated.end.name() == "end" })
    });
    written.collect()
}
