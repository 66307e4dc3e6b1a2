//! A conversation with a language model.

use anyhow::{Context, Result, bail, ensure};

use super::generate::{Generated, Show, TextGenerator};
use crate::{
    data::text::chat::{Chat, Fitted, Role, Turn},
    learning::generation::{GenerationSettings, Vocabulary},
    network::model::KvCache,
    spec::ChatFormat,
    support::Hinted,
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
        let roles = Chat::new(ChatFormat::Chatglm3, &generator.tokenizer);
        let named = format.or(generator.taught);
        if system.is_some() && named.is_none_or(ChatFormat::has_role_tokens) && roles.is_err() {
            bail!(without_system());
        }
        let chat = match named {
            Some(format) => Chat::new(format, &generator.tokenizer)?,
            None => {
                let family = generator.chat.context("models of this family can't be spoken to")?;
                Chat::by_default(family, &generator.tokenizer)
            }
        };
        if system.is_some() && !chat.format().has_role_tokens() {
            let hint = format!("`--format {}` has a place for it", ChatFormat::Chatglm3.name());
            let message = "the chat format doesn't support the role <|system|>";
            bail!(if roles.is_ok() { Hinted::with(message.to_owned(), hint) } else { without_system() });
        }
        let ends = [&generator.vocabulary.ends[..], &chat.stops()].concat();
        let conversation = Self {
            vocabulary: Vocabulary { ends, ..generator.vocabulary.clone() },
            system: system.map(|content| Turn { role: Role::System, content }),
            turns: Vec::new(),
            cache: KvCache::default(),
            generator,
            chat,
        };
        // What can't be written is better said now than at the first question.
        conversation.chat.prompt(&conversation.said(Turn::user("")))?;
        Ok(conversation)
    }

    /// Answers a question; `show` is given the answer as it grows. The oldest turns are left out of a conversation that
    /// has become too long to leave room for an answer of `room` tokens. The question stays whole as long as something can
    /// follow it; or else its end is left out.
    ///
    /// # Errors
    /// If the question can't be encoded or doesn't fit, or the device fails.
    pub fn ask(
        &mut self,
        question: &str,
        settings: &GenerationSettings,
        room: usize,
        show: &mut Show<'_>,
    ) -> Result<Generated> {
        let generator = self.generator;
        let frame = generator.begin(generator.form, &[], usize::MAX)?.tokens.len();
        let length = generator.max_length;
        let room = length - room.min(length / 2);
        ensure!(room > frame, "the model reads {length} tokens at most, too few for a conversation");
        let question = Turn::user(question);
        let said = self.said(question.clone());
        let Fitted { tokens, rounds, cut, .. } = self.chat.fit_whole(&said, room - frame, length - 1 - frame)?;
        let mut notes = Vec::new();
        if rounds > 0 {
            notes.push(format!(
                "the conversation is too long for the model, which reads {length} tokens, so that its oldest part was left \
                 out: {rounds} of its {} rounds",
                said.iter().filter(|turn| turn.role == Role::User).count()
            ));
        }
        if let Some([cut, of]) = cut {
            notes.push(format!(
                "the question is too long for the model, which reads {length} tokens, so that its end was left out: {cut} of \
                 its {of} characters"
            ));
        }
        let mut example = generator.begin(generator.form, &tokens, usize::MAX)?;
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
        let mut answer =
            generator.answer(&mut example, &mut self.cache, &self.vocabulary, settings, None, &mut show)?;
        answer.text = self.chat.shown(&answer.text).to_owned();
        self.turns.extend([question, Turn::assistant(&*answer.text)]);
        Ok(answer.generated(prompt_tokens, notes))
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

/// That a model can't be given a system message, in whatever format it's spoken to.
fn without_system() -> Hinted {
    Hinted::with(
        "the chat format doesn't support the role <|system|>, and the tokenizer lacks the tokens of those that do"
            .to_owned(),
        "say it in the first question".to_owned(),
    )
}
