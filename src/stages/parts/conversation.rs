//! A conversation with a language model.

use anyhow::{Context, Result, ensure};

use super::generate::{Answer, Generated, Show, TextGenerator};
use crate::{
    data::text::chat::{Chat, Fitted, Role, Turn},
    learning::{
        generation::{GenerationSettings, Vocabulary},
        objectives::form::continuation,
    },
    network::model::KvCache,
    spec::ChatFormat,
};

/// What was said so far, and what the model remembers of it.
pub struct Conversation<'a> {
    generator: &'a TextGenerator,
    chat: Chat<'a>,
    vocabulary: Vocabulary,
    system: Option<Turn>,
    turns: Vec<Turn>,
    cache: KvCache,
}

impl TextGenerator {
    /// A conversation with the model, with no turns yet.
    ///
    /// # Errors
    /// If the model can't be spoken to in this format, or in any.
    pub fn converse(&self, format: Option<ChatFormat>, system: Option<String>) -> Result<Conversation<'_>> {
        Conversation::new(self, format, system)
    }
}

impl<'a> Conversation<'a> {
    pub(in crate::stages) fn new(
        generator: &'a TextGenerator,
        format: Option<ChatFormat>,
        system: Option<String>,
    ) -> Result<Self> {
        let chat = match format.or(generator.taught) {
            Some(format) => Chat::new(format, &generator.tokenizer)?,
            None => {
                let family = generator.chat.context("models of this family can't be spoken to")?;
                Chat::by_default(family, &generator.tokenizer)
            }
        };
        let ends = [&generator.vocabulary.ends[..], &chat.stops()].concat();
        let conversation = Self {
            vocabulary: Vocabulary { ends, ..generator.vocabulary.clone() },
            system: system.map(|content| Turn { role: Role::System, content }),
            turns: Vec::new(),
            cache: KvCache::default(),
            generator,
            chat,
        };
        // Whether there's a place for the system's turn is better said now than at the first question.
        conversation.chat.prompt(&conversation.said(Turn::user("")))?;
        Ok(conversation)
    }

    /// Answers a question; `show` is given the answer as it grows. The oldest turns are left out of a conversation
    /// that has become too long.
    ///
    /// # Errors
    /// If the question can't be encoded or doesn't fit, or the device fails.
    pub fn ask(&mut self, question: &str, settings: &GenerationSettings, show: &mut Show<'_>) -> Result<Generated> {
        let generator = self.generator;
        let frame = continuation(generator.form, &[], usize::MAX, &generator.specials)?.tokens.len();
        let max_tokens = generator.max_prompt_tokens(settings);
        ensure!(
            max_tokens > frame,
            "the model reads {} tokens at most, too few for a conversation",
            generator.max_length
        );
        let question = Turn::user(question);
        let Fitted { tokens, shortened } = self.chat.fit(&self.said(question.clone()), max_tokens - frame)?;
        let mut example = continuation(generator.form, &tokens, max_tokens, &generator.specials)?;
        let prompt_tokens = example.tokens.len();
        if self.cache.is_empty() {
            self.cache = generator.cache(prompt_tokens, settings);
        }
        let mut begun = false;
        // The line break after a role isn't part of the answer.
        let mut show = |text: &str| {
            let text = if begun { text } else { self.chat.shown(text) };
            begun |= !text.is_empty();
            show(text)
        };
        let Answer { text, tokens, end } =
            generator.answer(&mut example, &mut self.cache, &self.vocabulary, settings, &mut show)?;
        let text = self.chat.shown(&text).to_owned();
        self.turns.extend([question, Turn::assistant(&*text)]);
        Ok(Generated { text, blanks: Vec::new(), prompt_tokens, tokens, end, shortened })
    }

    /// Forgets all turns but the system's.
    pub fn clear(&mut self) {
        self.turns.clear();
    }

    /// The turns up to a question. The plain format knows of no others.
    fn said(&self, question: Turn) -> Vec<Turn> {
        let turns = if self.chat.format().has_history() { &self.turns[..] } else { &[] };
        self.system.iter().chain(turns).cloned().chain([question]).collect()
    }
}
