//! Generating text with a trained language model.

use std::{ops::ControlFlow, path::Path};

use anyhow::{Context, Result, ensure};

use super::{
    holding::{WeightsHeld, no_int4},
    task::TrainedFor,
};
use crate::{
    data::text::{ABSENT, Tokenizer},
    learning::{
        generation::{FinishReason, GenerationDefaults, GenerationSettings, Vocabulary},
        objectives::{
            AnswerForm, PromptKind, Specials,
            form::{begin, blanks, continuation},
            parts::Taught,
        },
    },
    network::{
        batch::Example,
        checkpoint,
        device::OpenDevice,
        kernels::ActivationForm,
        model::{KvForm, Network},
    },
    spec::ChatFormat,
    support::random::Key,
};

/// Shows text as it's generated; called after every token, with nothing where a character isn't whole yet.
pub type Show<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// An answer on its way from tokens to text.
pub(in crate::stages) struct Answer {
    pub text: String,
    pub tokens: usize,
    pub end: FinishReason,
    /// Of beams, how likely it is.
    pub score: Option<f32>,
}

/// The text that another goes on from, and its tokens; nothing where a text stands by itself.
pub(in crate::stages) type Before<'a> = Option<(&'a str, &'a [u32])>;

/// A language model that generates text.
pub struct TextGenerator {
    pub(in crate::stages) network: Network,
    pub(in crate::stages) tokenizer: Tokenizer,
    pub(in crate::stages) specials: Specials,
    /// How it continues a prompt.
    pub(in crate::stages) form: AnswerForm,
    /// How it fills blanks, if it can.
    blanks: Option<AnswerForm>,
    /// Whether it's not a model of our own, so that its tokenizer says what its sequences begin with.
    is_foreign: bool,
    /// How its family is spoken to.
    pub(in crate::stages) chat: Option<ChatFormat>,
    /// The chat format of the instructions that it was finetuned on.
    pub(in crate::stages) taught: Option<ChatFormat>,
    pub(in crate::stages) vocabulary: Vocabulary,
    pub(in crate::stages) max_length: usize,
    /// What keys and values are held as.
    pub(in crate::stages) kv_cache: KvForm,
    defaults: GenerationDefaults,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The continuation, or the whole text where blanks were filled. With the prompt before it, it's the text as the
    /// tokenizer decodes it.
    pub text: String,
    /// What was filled into each blank.
    pub blanks: Vec<String>,
    /// How many tokens the prompt has.
    pub prompt_tokens: usize,
    /// How many tokens were generated.
    pub tokens: usize,
    /// Why it ended.
    pub end: FinishReason,
    /// Of beams, its logarithmic probability over the power of its length.
    pub score: Option<f32>,
    /// What is to be said of it: what was left out of the prompt, or isn't done.
    pub notes: Vec<String>,
}

impl TextGenerator {
    /// Loads the model of a stage, or a checkpoint in Hugging Face's layout, its weights held so.
    ///
    /// # Errors
    /// If files are missing or damaged, or the model never learned to generate.
    pub fn load(dir: &Path, held: WeightsHeld, device: &OpenDevice) -> Result<Self> {
        let trained_for = if TrainedFor::is_in(dir) { Some(TrainedFor::read(dir)?) } else { None };
        // What is wrong with it is told before billions of weights are read.
        let tokenizer = Tokenizer::load(&checkpoint::tokenizer_place(dir))?;
        let network = held.load(dir, &device.device)?;
        let family = network.family();
        let (form, blanks) = match (family.form, &trained_for) {
            // Theirs is a rule of the family; others are asked as they were taught.
            (form @ (AnswerForm::Chatglm | AnswerForm::Chatglm2), _) | (form, None) => (form, form),
            (form, Some(trained_for)) if trained_for.instruction.is_some() => (form, form),
            (_, Some(trained_for)) => {
                let Taught { continues, fills } = trained_for.taught(dir).context(
                    "this model never learned to generate: give its pretraining a `generative` objective, such as causal_lm",
                )?;
                (continues, fills.unwrap_or(continues))
            }
        };
        // A model from elsewhere has a framing of its own.
        let elsewhere = trained_for.as_ref().is_none_or(|trained_for| trained_for.from_checkpoint);
        let form = if elsewhere { form.of_checkpoint(tokenizer.begins_texts()) } else { form };
        let taught = trained_for.as_ref().and_then(|trained_for| trained_for.instruction.as_ref()?.format);
        ensure!(form.feeds(), "{} models can't write: they only fill in single tokens", family.name);
        ensure!(
            network.architecture().predicts(),
            "this checkpoint can't write: it has no head that predicts tokens, as that of a classifier hasn't"
        );
        let specials = tokenizer.special;
        specials.require("generating text", form.needs(PromptKind::Text))?;
        let defaults = GenerationDefaults::read(&checkpoint::base(dir))?;
        defaults.rules.check(network.vocabulary())?;
        let (own, is_foreign) = (trained_for.is_some(), trained_for.is_none());
        // What a checkpoint says of its ends is all. Where it says nothing, where blanks end by a rule of the family, and of
        // what was taught here, it's the family's, too.
        let has_ends = own || defaults.ends.is_empty() || form.fills();
        let of_family = [form.end(&specials), specials.eop, specials.sep];
        let of_family = of_family.into_iter().filter(|id| has_ends && *id != ABSENT);
        let mut ends = defaults.ends.clone();
        for end in of_family {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        // What a model of our own was never taught to write; other people's may put their tokens to any use.
        let forbidden = if own { specials.ids() } else { Vec::new() };
        Ok(Self {
            vocabulary: Vocabulary { ends, forbidden, size: tokenizer.vocab_size() },
            max_length: trained_for.map_or(network.max_length(), |trained_for| trained_for.max_length),
            chat: family.chat,
            taught,
            blanks: Some(blanks).filter(|blanks| blanks.fills()),
            kv_cache: KvForm::default(),
            is_foreign,
            defaults,
            network,
            tokenizer,
            specials,
            form,
        })
    }

    /// The same, with keys and values of the tokens so far held so.
    pub fn with_kv_cache(self, form: KvForm) -> Self {
        Self { kv_cache: form, ..self }
    }

    /// The same, with activations in this form where they're multiplied with weights of four bits.
    ///
    /// # Errors
    /// If it has no such weights.
    pub fn with_activations(mut self, form: ActivationForm) -> Result<Self> {
        let any = self.network.parameters_mut().multiply_with(form);
        ensure!(any || form == ActivationForm::F32, no_int4(form));
        Ok(self)
    }

    /// What is to be said of the model.
    pub fn note(&self) -> Option<String> {
        let name = self.network.untied()?;
        Some(format!(
            "{name} has values of its own, which are used, as in transformers, though config.json ties it to another tensor"
        ))
    }

    /// How it writes where nobody says otherwise: as the checkpoint's `generation_config.json` has it.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }

    /// Token ids that it has room for.
    pub fn vocabulary(&self) -> usize {
        self.network.vocabulary()
    }

    /// Tokens of the longest sequence that it reads, what it writes included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Continues a prompt, or fills its blanks where it has any and the model can; as often as the settings want. What is
    /// shown begins with the prompt.
    ///
    /// # Errors
    /// If the prompt can't be encoded or doesn't fit, or the device fails.
    pub fn generate(&self, prompt: &str, settings: &GenerationSettings, show: &mut Show<'_>) -> Result<Vec<Generated>> {
        let parts = self.parts(prompt);
        let fills = parts.iter().any(|part| matches!(part, PromptPart::Blank(..)));
        let wanted = settings.beams.num_return_sequences;
        ensure!(
            !fills || wanted == 1 || settings.beams.num_beams == 1,
            "blanks are filled one after another, so that there's one text of several beams, not {wanted}"
        );
        if !fills && settings.beams.num_beams > 1 {
            return self.continue_with_beams(prompt, settings, show);
        }
        let mut all = Vec::new();
        for number in 0..wanted as u64 {
            let settings = &GenerationSettings { seed: drawn(settings.seed, number), ..settings.clone() };
            if number > 0 && show("\n").is_break() {
                break;
            }
            let mut generated =
                if fills { self.fill(&parts, settings, show)? } else { self.continue_once(prompt, settings, show)? };
            if number > 0 {
                generated.notes.clear();
            }
            all.push(generated);
            if all.last().is_some_and(|generated| generated.end == FinishReason::Interrupted) {
                break;
            }
        }
        Ok(all)
    }

    fn continue_once(&self, prompt: &str, settings: &GenerationSettings, show: &mut Show<'_>) -> Result<Generated> {
        let Prompt { prompt, tokens, mut example, notes } = self.prompt(prompt, settings)?;
        let prompt_tokens = example.tokens.len();
        let mut cache = self.cache(prompt_tokens, settings);
        let answer = match show(prompt) {
            ControlFlow::Continue(()) => {
                let before = Some((prompt, &tokens[..]));
                self.answer(&mut example, &mut cache, &self.vocabulary, settings, before, show)?
            }
            ControlFlow::Break(()) => {
                Answer { text: String::new(), tokens: 0, end: FinishReason::Interrupted, score: None }
            }
        };
        Ok(answer.generated(prompt_tokens, notes))
    }

    fn continue_with_beams(
        &self,
        prompt: &str,
        settings: &GenerationSettings,
        show: &mut Show<'_>,
    ) -> Result<Vec<Generated>> {
        let Prompt { prompt, tokens, example, mut notes } = self.prompt(prompt, settings)?;
        let prompt_tokens = example.tokens.len();
        let mut cache = self.cache(prompt_tokens, settings);
        let before: Before<'_> = Some((prompt, &tokens));
        let mut all = Vec::new();
        for found in self.found(&example, &mut cache, &self.vocabulary, settings, show)? {
            let _ = show(if all.is_empty() { "" } else { "\n" });
            let _ = show(prompt);
            let answer = self.told(&found, settings, before, show)?;
            all.push(answer.generated(prompt_tokens, std::mem::take(&mut notes)));
        }
        Ok(all)
    }

    /// A prompt that is to be continued, as a sequence.
    fn prompt<'t>(&self, prompt: &'t str, settings: &GenerationSettings) -> Result<Prompt<'t>> {
        let mut notes: Vec<String> = self.unfilled(prompt).into_iter().collect();
        // A `[gMASK]` at the end is where it goes on in the form that fills blanks.
        let (prompt, form) = match (prompt.strip_suffix(GMASK), self.blanks) {
            (Some(prompt), Some(form)) => (prompt, form),
            _ => (prompt, self.form),
        };
        let tokens = self.tokenizer.encode(prompt)?;
        let whole = self.begin(form, &tokens, usize::MAX)?.tokens.len();
        let example = self.begin(form, &tokens, self.prompt_room(whole, settings))?;
        let left_out = whole - example.tokens.len();
        if left_out > 0 {
            notes.push(format!(
                "the beginning of a prompt was left out, {left_out} of its {} tokens: the model's context is {} tokens and \
                 must leave room for the output",
                tokens.len(),
                self.max_length
            ));
        }
        Ok(Prompt { prompt, tokens, example, notes })
    }

    /// Tokens that a prompt may take: all that it has as long as something can follow; or else what is asked for is to fit
    /// behind it, up to half of the sequence.
    fn prompt_room(&self, whole: usize, settings: &GenerationSettings) -> usize {
        if whole < self.max_length { whole } else { self.max_length - settings.max_tokens.min(self.max_length / 2) }
    }

    /// The sequence of a prompt of at most so many tokens, the beginning left out. What others' models of a causal form
    /// begin with is their tokenizers' business, as it is in transformers.
    pub(in crate::stages) fn begin(&self, form: AnswerForm, prompt: &[u32], most: usize) -> Result<Example> {
        if !self.is_foreign || form != AnswerForm::Causal {
            return continuation(form, prompt, most, &self.specials);
        }
        let mut beginning = self.tokenizer.beginning("a")?;
        if beginning.is_empty() && prompt.is_empty() {
            beginning = form.beginning(&self.specials);
        }
        ensure!(
            beginning.len() <= most,
            "there is room for {most} tokens, and an empty prompt takes {}",
            beginning.len()
        );
        let prompt = &prompt[prompt.len().saturating_sub(most - beginning.len())..];
        Ok(Example::sequence(0, [&beginning, prompt].concat(), 0))
    }

    /// Fills blanks from left to right, each seen by those after it.
    fn fill(&self, parts: &[PromptPart<'_>], settings: &GenerationSettings, show: &mut Show<'_>) -> Result<Generated> {
        let form = self.blanks.context("the model fills no blanks")?;
        let mut tokens = Vec::new();
        for part in parts {
            match part {
                PromptPart::Text(text) => tokens.extend(self.tokenizer.encode(text)?),
                PromptPart::Blank(mask) => tokens.push(*mask),
            }
        }
        let (mut example, places) = blanks(form, &tokens, &self.specials);
        let prompt_tokens = example.tokens.len();
        ensure!(
            prompt_tokens < self.max_length,
            "the prompt has {prompt_tokens} tokens, which leaves no tokens to fill its blanks: the model reads {} at most",
            self.max_length
        );
        let mut cache = self.cache(prompt_tokens + places.len(), settings);
        let mut places = places.into_iter();
        let start = Answer { text: String::new(), tokens: 0, end: FinishReason::Token, score: None };
        let mut generated = start.generated(prompt_tokens, Vec::new());
        // The tokens of what stands before a blank.
        let mut before = Vec::new();
        for part in parts {
            match part {
                PromptPart::Text(text) => {
                    generated.text.push_str(text);
                    before.extend(self.tokenizer.encode(text)?);
                    if show(text).is_break() {
                        return Ok(Generated { end: FinishReason::Interrupted, ..generated });
                    }
                }
                PromptPart::Blank(_) => {
                    let place = places.next().context("a blank is missing among the tokens")?;
                    begin(&mut example, place, &self.specials);
                    let start = example.tokens.len();
                    let text = generated.text.clone();
                    let Answer { text, tokens, end, .. } = self.answer(
                        &mut example,
                        &mut cache,
                        &self.vocabulary,
                        settings,
                        Some((&text, &before)),
                        show,
                    )?;
                    before.extend(&example.tokens[start..]);
                    generated.text.push_str(&text);
                    generated.blanks.push(text);
                    (generated.tokens, generated.end) = (generated.tokens + tokens, end);
                    if end == FinishReason::Interrupted {
                        return Ok(generated);
                    }
                }
            }
        }
        Ok(generated)
    }

    /// A prompt's text and blanks; a `[gMASK]` at its end is where a continuation stands anyway.
    fn parts<'t>(&self, prompt: &'t str) -> Vec<PromptPart<'t>> {
        let Specials { mask, smask, gmask, .. } = self.specials;
        let mut masks = vec![("[MASK]", mask), ("[sMASK]", smask), (GMASK, gmask)];
        masks.retain(|&(_, id)| id != ABSENT && self.blanks.is_some());
        let mut parts = Vec::new();
        let mut rest = prompt;
        let next = |rest: &str| masks.iter().filter_map(|&(name, id)| Some((rest.find(name)?, name, id))).min();
        while let Some((at, name, id)) = next(rest).filter(|_| rest != GMASK) {
            if at > 0 {
                parts.push(PromptPart::Text(&rest[..at]));
            }
            parts.push(PromptPart::Blank(id));
            rest = &rest[at + name.len()..];
        }
        parts.push(PromptPart::Text(rest));
        parts
    }

    /// What to say of a prompt with blanks that aren't filled.
    fn unfilled(&self, prompt: &str) -> Option<String> {
        let name = ["[MASK]", "[sMASK]", GMASK].into_iter().find(|name| prompt.contains(name))?;
        if self.blanks.is_some() {
            // Its own place, at the end; the tokenizer has no token for others.
            let absent = prompt.strip_suffix(GMASK).unwrap_or(prompt).contains(name);
            return absent.then(|| format!("the tokenizer has no token `{name}`, so that it's read as text"));
        }
        let family = self.network.family().name;
        let why = match self.network.family().form.fills() {
            true => "this model never learned to fill blanks".to_owned(),
            false => format!("models of the family {family} fill no blanks"),
        };
        Some(format!("{why}: `{name}` in the prompt is read as text, and the prompt is continued"))
    }
}

impl Answer {
    pub(in crate::stages) fn generated(self, prompt_tokens: usize, notes: Vec<String>) -> Generated {
        let Self { text, tokens, end, score } = self;
        Generated { text, blanks: Vec::new(), prompt_tokens, tokens, end, score, notes }
    }
}

const GMASK: &str = "[gMASK]";

/// A prompt that is to be continued.
struct Prompt<'t> {
    prompt: &'t str,
    tokens: Vec<u32>,
    example: Example,
    notes: Vec<String>,
}

/// A part of a text with blanks.
enum PromptPart<'t> {
    Text(&'t str),
    /// By the token that stands for it.
    Blank(u32),
}

/// The seed of one of several texts of a prompt.
fn drawn(seed: u64, number: u64) -> u64 {
    if number == 0 { seed } else { Key::new(seed).with("sequence").at(number).u64() }
}
