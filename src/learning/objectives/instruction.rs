//! Instructions: conversations in a chat format, with the loss on the response and what ends it.

use anyhow::{Result, ensure};

use super::{
    Specials,
    conversation::Conversation,
    form::{AnswerForm, feed},
};
use crate::{
    data::text::chat::{Chat, Fitted, Role, Turn},
    network::batch::{Example, Target},
    spec::TooLong,
    support::Hinted,
};

/// Encodes conversations as training examples.
pub struct InstructionEncoder<'a> {
    /// How conversations are written.
    pub chat: Chat<'a>,
    /// How the model's answers stand in a sequence.
    pub form: AnswerForm,
    /// The longest sequence.
    pub max_length: usize,
    /// How rows that don't fit are treated.
    pub too_long: TooLong,
    /// The special tokens.
    pub specials: Specials,
}

/// A training example, and whether anything was left out of it.
#[derive(Clone, Debug)]
pub struct InstructionExample {
    /// The example; its targets are the response and its end.
    pub example: Example,
    /// Whether the prompt was shortened.
    pub shortened: bool,
    /// Whether the response was.
    pub cut: bool,
}

impl InstructionEncoder<'_> {
    /// The prompt in the family's form, the response fed after it, and each of its tokens to predict from the one before
    /// it, the end last: so that whatever was cut, the model learns to stop. None for a row that is to be skipped, whatever
    /// part of it is too long.
    ///
    /// # Errors
    ///
    /// Where the conversation can't be written in the chat format, or its response is too long and that's refused.
    pub fn encode(&self, conversation: &Conversation, id: u64) -> Result<Option<InstructionExample>> {
        let Self { chat, form, max_length, specials, .. } = self;
        let mut answer = chat.answer(&conversation.response)?;
        let frame = form.text(id, &[], specials).example.tokens.len();
        let room = max_length.saturating_sub(frame);
        if self.too_long == TooLong::Skip && chat.prompt(&conversation.turns)?.len() + answer.len() > room {
            return Ok(None);
        }
        let prompt = self.fit(&conversation.turns, room.saturating_sub(answer.len()).max(room / 2))?;
        let left = room.saturating_sub(prompt.tokens.len());
        let cut = answer.len() > left;
        match self.too_long {
            TooLong::Cut => answer.truncate(left),
            TooLong::Refuse | TooLong::Skip => ensure!(
                !cut,
                Hinted::with(
                    format!(
                        "the response takes {} tokens, but beside its prompt there is room for {left} in {max_length}",
                        answer.len()
                    ),
                    "raise `train.max_length`, or set `too_long: skip` or `cut`",
                )
            ),
        }
        let sequence = form.text(id, &prompt.tokens, specials);
        let mut example = sequence.example;
        feed(&mut example, &answer);
        answer.push(form.end(specials));
        example.targets = (sequence.at..).zip(answer).map(|(at, token)| Target { at, token }).collect();
        Ok(Some(InstructionExample { example, shortened: prompt.shortened, cut }))
    }

    /// The tokens of a conversation in no more than `room`. Where not even an empty question fits and all is to be cut, what
    /// stands before it is: the system's turn, as nothing else is left.
    fn fit(&self, turns: &[Turn], room: usize) -> Result<Fitted> {
        let whole = self.chat.fit(turns, room);
        let [system, ..] = turns else { return whole };
        if whole.is_ok() || self.too_long != TooLong::Cut || system.role != Role::System {
            return whole;
        }
        let text: Vec<char> = system.content.chars().collect();
        let with = |length: usize| {
            let mut turns = turns.to_vec();
            turns[0].content = text[..length].iter().collect();
            self.chat.fit(&turns, room)
        };
        let (mut fits, mut beyond, mut fitted) = (0, text.len(), with(0)?);
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            match with(middle) {
                Ok(longer) => (fits, fitted) = (middle, longer),
                Err(_) => beyond = middle,
            }
        }
        Ok(Fitted { shortened: true, ..fitted })
    }
}
