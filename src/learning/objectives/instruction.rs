//! Instructions: conversations in a chat format, with the loss on the answers and what ends them.
//!
//! Which tokens are learned is as in the training scripts of ChatGLM3 (`process_batch` in `finetune_demo/finetune_hf.py`
//! of THUDM/ChatGLM3 at 732294f) and GLM-4 (`process_batch` in `finetune/finetune.py` of THUDM/GLM-4 at 3f79b54, with
//! `combine: False`): what the assistant says from the line break after its role on, and the token after it, but no role
//! that begins a turn of its own. What a tool gave isn't learned, as ChatGLM3's README has it; its script would, but
//! takes no conversations with tools. Where turns are text, what ends an answer is the family's end in place of the next
//! question's first token, as LLaMA-Factory has it (`efficient_eos`).

use std::borrow::Cow;

use anyhow::{Result, ensure};

use super::{
    Specials,
    conversation::Conversation,
    form::{AnswerForm, feed},
};
use crate::{
    data::text::chat::{Chat, Fitted, Role, Turn, Written},
    network::batch::{Example, MadeOf, Target},
    spec::{TooLong, Turns},
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
    /// Which answers are learned.
    pub turns: Turns,
    /// How rows that don't fit are treated.
    pub too_long: TooLong,
    /// The special tokens.
    pub specials: Specials,
}

/// A training example, and whether anything was left out of it.
#[derive(Clone, Debug)]
pub struct InstructionExample {
    /// The example; its targets are the answers that are learned and their ends.
    pub example: Example,
    /// Whether the prompt was shortened.
    pub shortened: bool,
    /// Whether the response was.
    pub cut: bool,
    /// How many of the prompt's tokens the example has, and how many there were.
    pub prompt: [usize; 2],
    /// The same of the response.
    pub response: [usize; 2],
}

impl InstructionEncoder<'_> {
    /// The examples of a row; `None` for each that is to be skipped.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn examples(&self, conversation: &Conversation, id: u64) -> Result<Vec<Option<InstructionExample>>> {
        self.parts(conversation, id).iter().map(|(id, part)| self.encode(part, *id)).collect()
    }

    /// What the examples of a row are made of, and their ids. One has all answers where each token sees only those before
    /// it. Where a prompt is seen in both directions an answer can't be predicted within it, so each has an example of its
    /// own, with what was said before it.
    pub fn parts<'c>(&self, conversation: &'c Conversation, id: u64) -> Vec<(u64, Cow<'c, Conversation>)> {
        let Conversation { turns, .. } = conversation;
        let is_answer = |&at: &usize| {
            turns[at].role == Role::Assistant && at > 0 && matches!(turns[at - 1].role, Role::User | Role::Observation)
        };
        let earlier: Vec<usize> = match self.turns {
            Turns::All if !self.is_causal() => (0..turns.len()).filter(is_answer).collect(),
            _ => Vec::new(),
        };
        let before = |at: usize| Conversation { turns: turns[..at].to_vec(), response: turns[at].content.clone() };
        let earlier = (1..).zip(earlier).map(|(number, at)| (id | number << MadeOf::PART, Cow::Owned(before(at))));
        // The row's last answer has the row's own id, whether there are others or not.
        earlier.chain([(id, Cow::Borrowed(conversation))]).collect()
    }

    /// Whether each token sees only those before it, so that one sequence can teach every answer in it.
    fn is_causal(&self) -> bool {
        matches!(self.form, AnswerForm::Causal | AnswerForm::Chatglm2)
    }

    /// Whether the answers in a prompt are learned too.
    fn teaches_in_prompt(&self) -> bool {
        self.turns == Turns::All && self.is_causal()
    }

    /// The tokens of turns, up to where the next answer begins, and where in them are answers to be learned.
    fn written(&self, turns: &[Turn]) -> Result<Written> {
        if self.teaches_in_prompt() { self.chat.taught(turns) } else { Ok((self.chat.prompt(turns)?, Vec::new())) }
    }

    /// The prompt in the family's form, the response fed after it, and each of its tokens to predict from the one before
    /// it, the end last: so that whatever was cut, the model learns to stop. Where all answers are learned and one
    /// sequence can teach them, so is each in the prompt. None for a row that is to be skipped, whatever part of it is
    /// too long.
    ///
    /// # Errors
    ///
    /// Where the conversation can't be written in the chat format, or its response is too long and that's refused.
    pub fn encode(&self, conversation: &Conversation, id: u64) -> Result<Option<InstructionExample>> {
        let Self { chat, form, max_length, specials, .. } = self;
        let mut answer = chat.answer(&conversation.response)?;
        let frame = form.text(id, &[], specials).example.tokens.len();
        let room = max_length.saturating_sub(frame);
        if self.too_long == TooLong::Skip && self.written(&conversation.turns)?.0.len() + answer.len() > room {
            return Ok(None);
        }
        let prompt = self.fit(&conversation.turns, room.saturating_sub(answer.len()).max(room / 2))?;
        let left = room.saturating_sub(prompt.tokens.len());
        let (cut, whole) = (answer.len() > left, answer.len());
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
        let kept = prompt.tokens.len();
        let prompt_tokens = [kept, if prompt.shortened { self.written(&conversation.turns)?.0.len() } else { kept }];
        let end = form.end(specials);
        let mut learn = |at: u32, tokens: &[u32], end: u32| {
            let tokens = tokens.iter().copied().chain([end]);
            example.targets.extend((at..).zip(tokens).map(|(at, token)| Target { at, token }));
        };
        // Answers stand in the prompt of a causal form only, which is the end of its sequence.
        let before = sequence.at as usize + 1 - prompt.tokens.len();
        for place in prompt.answers {
            let following = prompt.tokens.get(place.end).filter(|_| chat.turns_end_answers());
            learn((before + place.start - 1) as u32, &prompt.tokens[place], following.copied().unwrap_or(end));
        }
        let last = chat.end().filter(|_| self.turns == Turns::All).unwrap_or(end);
        learn(sequence.at, &answer, last);
        let response = [answer.len(), whole];
        Ok(Some(InstructionExample { example, shortened: prompt.shortened, cut, prompt: prompt_tokens, response }))
    }

    /// The tokens of a conversation in no more than `room`. Where not even an empty question fits and all is to be cut, what
    /// stands before it is: the system's turn, as nothing else is left.
    fn fit(&self, turns: &[Turn], room: usize) -> Result<Fitted> {
        let fit = |turns: &[Turn]| {
            if self.teaches_in_prompt() { self.chat.fit_taught(turns, room) } else { self.chat.fit(turns, room) }
        };
        let whole = fit(turns);
        let [system, ..] = turns else { return whole };
        if whole.is_ok() || self.too_long != TooLong::Cut || system.role != Role::System {
            return whole;
        }
        let text: Vec<char> = system.content.chars().collect();
        let with = |length: usize| {
            let mut turns = turns.to_vec();
            turns[0].content = text[..length].iter().collect();
            fit(&turns)
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
