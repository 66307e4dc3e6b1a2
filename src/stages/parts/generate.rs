//! Generating text with a trained language model.

use std::{ops::ControlFlow, path::Path};

use anyhow::{Context, Result, ensure};

use super::task::TrainedFor;
use crate::{
    data::text::{ABSENT, Tokenizer},
    learning::{
        generation::{FinishReason, GenerationDefaults, GenerationSettings, Sampling, TextStream, Vocabulary, extend},
        objectives::{
            AnswerForm, PromptKind, Specials,
            form::{begin, blanks, continuation},
            parts::taught,
        },
    },
    network::{
        batch::Example,
        checkpoint,
        device::OpenDevice,
        model::{KvCache, Network},
    },
    spec::ChatFormat,
};

/// Shows text as it's generated; called after every token, with nothing where a character isn't whole yet.
pub type Show<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// A language model that generates text.
pub struct TextGenerator {
    pub(in crate::stages) network: Network,
    pub(in crate::stages) tokenizer: Tokenizer,
    pub(in crate::stages) specials: Specials,
    pub(in crate::stages) form: AnswerForm,
    /// How its family is spoken to.
    pub(in crate::stages) chat: Option<ChatFormat>,
    /// The chat format of the instructions that it was finetuned on.
    pub(in crate::stages) taught: Option<ChatFormat>,
    pub(in crate::stages) vocabulary: Vocabulary,
    pub(in crate::stages) max_length: usize,
    sampling: Sampling,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The continuation, or the whole text where blanks were filled.
    pub text: String,
    /// What was filled into each blank.
    pub blanks: Vec<String>,
    /// How many tokens the prompt has.
    pub prompt_tokens: usize,
    /// How many tokens were generated.
    pub tokens: usize,
    /// Why it ended.
    pub end: FinishReason,
    /// Whether a part of the prompt was left out.
    pub shortened: bool,
}

/// An answer on its way from tokens to text.
pub(in crate::stages) struct Answer {
    pub text: String,
    pub tokens: usize,
    pub end: FinishReason,
}

impl TextGenerator {
    /// Loads the model of a stage, or a checkpoint in Hugging Face's layout.
    ///
    /// # Errors
    /// If files are missing or damaged, or the model never learned to generate.
    pub fn load(dir: &Path, device: &OpenDevice) -> Result<Self> {
        let trained_for = if TrainedFor::is_in(dir) { Some(TrainedFor::read(dir)?) } else { None };
        let network = Network::load(dir, &device.device)?;
        let tokenizer = Tokenizer::load(&checkpoint::tokenizer_place(dir))?;
        let family = network.family();
        let form = match (family.form, &trained_for) {
            // Theirs is a rule of the family; others are asked as they were taught.
            (form @ (AnswerForm::Chatglm | AnswerForm::Chatglm2), _) | (form, None) => form,
            (form, Some(trained_for)) if trained_for.instruction.is_some() => form,
            (_, Some(trained_for)) => trained_form(trained_for)?,
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
        let configured = GenerationDefaults::read(&checkpoint::base(dir))?;
        let ends = [&configured.ends[..], &[form.end(&specials), specials.eop, specials.sep]].concat();
        // What a model of our own was never taught to write; other people's may put their tokens to any use.
        let forbidden = if trained_for.is_some() { specials.ids() } else { Vec::new() };
        Ok(Self {
            vocabulary: Vocabulary { ends, forbidden, size: tokenizer.vocab_size() },
            max_length: trained_for.map_or(network.max_length(), |trained_for| trained_for.max_length),
            sampling: configured.sampling.unwrap_or_default(),
            chat: family.chat,
            taught,
            network,
            tokenizer,
            specials,
            form,
        })
    }

    /// How tokens are chosen where nobody says otherwise: as the checkpoint's `generation_config.json` has it.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Tokens of the longest sequence that it reads, what it writes included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Continues a prompt, or fills its blanks where it has any and the model can. What is shown begins with the
    /// prompt.
    ///
    /// # Errors
    /// If the prompt can't be encoded or doesn't fit, or the device fails.
    pub fn generate(&self, prompt: &str, settings: &GenerationSettings, show: &mut Show<'_>) -> Result<Generated> {
        let parts = self.parts(prompt);
        if parts.iter().any(|part| matches!(part, PromptPart::Blank(..))) {
            return self.fill(&parts, settings, show);
        }
        let prompt = prompt.strip_suffix(GMASK).filter(|_| self.form.fills()).unwrap_or(prompt);
        let tokens = self.tokenizer.encode(prompt)?;
        let mut example = continuation(self.form, &tokens, self.max_prompt_tokens(settings), &self.specials)?;
        let prompt_tokens = example.tokens.len();
        let shortened = self.form.text(0, &tokens, &self.specials).example.tokens.len() > prompt_tokens;
        let mut cache = self.cache(prompt_tokens, settings);
        let Answer { text, tokens, end } = match show(prompt) {
            ControlFlow::Continue(()) => self.answer(&mut example, &mut cache, &self.vocabulary, settings, show)?,
            ControlFlow::Break(()) => Answer { text: String::new(), tokens: 0, end: FinishReason::Interrupted },
        };
        Ok(Generated { text, blanks: Vec::new(), prompt_tokens, tokens, end, shortened })
    }

    /// Tokens that a prompt may take: what is asked for is to fit behind it, or else half of the sequence.
    pub(in crate::stages) fn max_prompt_tokens(&self, settings: &GenerationSettings) -> usize {
        self.max_length - settings.max_tokens.min(self.max_length / 2)
    }

    pub(in crate::stages) fn cache(&self, prompt: usize, settings: &GenerationSettings) -> KvCache {
        KvCache::with_capacity(prompt.saturating_add(settings.max_tokens).min(self.max_length))
    }

    /// Goes on from the end of a sequence, showing the text.
    pub(in crate::stages) fn answer(
        &self,
        example: &mut Example,
        cache: &mut KvCache,
        vocabulary: &Vocabulary,
        settings: &GenerationSettings,
        show: &mut Show<'_>,
    ) -> Result<Answer> {
        let mut stream = TextStream::new(&self.tokenizer, &settings.stop);
        let (mut text, mut tokens) = (String::new(), 0);
        let end = extend(&self.network, cache, example, self.max_length, vocabulary, settings, &mut |token| {
            tokens += 1;
            let piece = stream.push(token)?;
            text.push_str(&piece.text);
            let shown = show(&piece.text);
            Ok(if piece.stopped {
                Some(FinishReason::Stop)
            } else {
                shown.is_break().then_some(FinishReason::Interrupted)
            })
        })?;
        if end != FinishReason::Stop {
            let rest = stream.finish()?;
            text.push_str(&rest);
            // There's nothing left to interrupt.
            let _ = show(&rest);
        }
        Ok(Answer { text, tokens, end })
    }

    /// Fills blanks from left to right, each seen by those after it.
    fn fill(&self, parts: &[PromptPart<'_>], settings: &GenerationSettings, show: &mut Show<'_>) -> Result<Generated> {
        let mut tokens = Vec::new();
        for part in parts {
            match part {
                PromptPart::Text(text) => tokens.extend(self.tokenizer.encode(text)?),
                PromptPart::Blank(mask) => tokens.push(*mask),
            }
        }
        let (mut example, places) = blanks(self.form, &tokens, &self.specials);
        let prompt_tokens = example.tokens.len();
        ensure!(
            prompt_tokens < self.max_length,
            "the prompt has {prompt_tokens} tokens, which leaves no tokens to fill its blanks: the model reads {} at most",
            self.max_length
        );
        let mut cache = self.cache(prompt_tokens + places.len(), settings);
        let mut places = places.into_iter();
        let mut generated = Generated {
            text: String::new(),
            blanks: Vec::new(),
            prompt_tokens,
            tokens: 0,
            end: FinishReason::Token,
            shortened: false,
        };
        for part in parts {
            match part {
                PromptPart::Text(text) => {
                    generated.text.push_str(text);
                    if show(text).is_break() {
                        return Ok(Generated { end: FinishReason::Interrupted, ..generated });
                    }
                }
                PromptPart::Blank(_) => {
                    let place = places.next().context("a blank is missing among the tokens")?;
                    begin(&mut example, place, &self.specials);
                    let Answer { text, tokens, end } =
                        self.answer(&mut example, &mut cache, &self.vocabulary, settings, show)?;
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
        masks.retain(|&(_, id)| id != ABSENT);
        let mut parts = Vec::new();
        let mut rest = prompt;
        let next = |rest: &str| masks.iter().filter_map(|&(name, id)| Some((rest.find(name)?, name, id))).min();
        while let Some((at, name, id)) = next(rest).filter(|_| self.form.fills() && rest != GMASK) {
            if at > 0 {
                parts.push(PromptPart::Text(&rest[..at]));
            }
            parts.push(PromptPart::Blank(id));
            rest = &rest[at + name.len()..];
        }
        parts.push(PromptPart::Text(rest));
        parts
    }
}

const GMASK: &str = "[gMASK]";

/// A part of a text with blanks.
enum PromptPart<'t> {
    Text(&'t str),
    /// By the token that stands for it.
    Blank(u32),
}

/// The form in which a model of our own learned to generate.
fn trained_form(trained_for: &TrainedFor) -> Result<AnswerForm> {
    taught(&trained_for.objectives).context(
        "this model never learned to generate: give its pretraining a `generative` objective, such as causal_lm",
    )
}
