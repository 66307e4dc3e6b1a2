//! Conversations as ChatGLM's generations write them: turns to the tokens that the model's answer follows. Training on
//! instructions and chatting both go through here, so that a model is asked as it was taught.
//!
//! What stands around the tokens (such as `[gMASK] <sop>`) is the business of the family's layout of answers.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Tokenizer;
use crate::spec::ChatFormat;
use crate::support::Hinted;

/// Who speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// What a tool gave.
    Observation,
}

impl Role {
    /// As messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Observation => "observation",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The role.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Turn {
    /// A question.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// An answer.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// A chat format with the tokens that it needs.
pub struct Chat<'a> {
    format: ChatFormat,
    tokenizer: &'a Tokenizer,
    roles: Option<RoleTokens>,
}

/// `<|system|>`, `<|user|>`, `<|assistant|>` and `<|observation|>`.
#[derive(Clone, Copy, Debug)]
struct RoleTokens([u32; 4]);

const ROLES: [&str; 4] = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

impl RoleTokens {
    fn find(tokenizer: &Tokenizer) -> Result<Self, &'static str> {
        let mut ids = [0; 4];
        for (id, name) in ids.iter_mut().zip(ROLES) {
            *id = tokenizer.id(name).ok_or(name)?;
        }
        Ok(Self(ids))
    }

    fn of(self, role: Role) -> u32 {
        self.0[role as usize]
    }
}

/// Tokens of a conversation, and where in them answers stand.
pub type Written = (Vec<u32>, Vec<Range<usize>>);

/// A conversation that fits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fitted {
    /// Its tokens, up to where the answer begins.
    pub tokens: Vec<u32>,
    /// Where in them the answers before that one stand; none if they aren't to be learned.
    pub answers: Vec<Range<usize>>,
    /// Whether turns or a part of the question were left out.
    pub shortened: bool,
    /// How many rounds were left out.
    pub rounds: usize,
    /// How many of the question's characters were left out, at its end, and of how many.
    pub cut: Option<[usize; 2]>,
}

impl<'a> Chat<'a> {
    /// The format of this name.
    ///
    /// # Errors
    /// If it needs tokens that the tokenizer lacks.
    pub fn new(format: ChatFormat, tokenizer: &'a Tokenizer) -> Result<Self> {
        let roles = match format.has_role_tokens().then(|| RoleTokens::find(tokenizer)).transpose() {
            Ok(roles) => roles,
            Err(missing) => bail!(Hinted::with(
                format!("the tokenizer has no {missing}, which the chat format needs"),
                format!(
                    "`format: {}` writes who speaks as text; a system's turn it can't write",
                    ChatFormat::Chatglm2.name()
                ),
            )),
        };
        Ok(Self { format, tokenizer, roles })
    }

    /// The format of a family. Where the tokenizer has tokens for roles, they're used: `chatglm2` is the layout of
    /// ChatGLM3 too; and where it lacks them, as one trained from nothing does, roles are written as text.
    pub fn by_default(family: ChatFormat, tokenizer: &'a Tokenizer) -> Self {
        let roles = RoleTokens::find(tokenizer).ok();
        let format = match (family, roles) {
            (ChatFormat::Chatglm2, Some(_)) => ChatFormat::Chatglm3,
            (format, None) if format.has_role_tokens() => ChatFormat::Chatglm2,
            (other, _) => other,
        };
        Self { format, tokenizer, roles }
    }

    /// The format.
    pub fn format(&self) -> ChatFormat {
        self.format
    }

    /// The tokens of a conversation, up to where the answer to its last turn begins.
    ///
    /// # Errors
    /// If it doesn't end with a question, or has turns that the format can't write.
    pub fn prompt(&self, turns: &[Turn]) -> Result<Vec<u32>> {
        check_order(turns, Some(self.format))?;
        if let Some(roles) = self.roles() {
            return Ok(self.spoken(roles, turns)?.0);
        }
        let rounds = self.rounds(turns)?.into_iter();
        self.tokenizer.encode(&rounds.map(|(asked, answer)| asked + answer.unwrap_or_default()).collect::<String>())
    }

    /// The tokens of an answer, without the one that ends it.
    ///
    /// # Errors
    /// If it can't be encoded.
    pub fn answer(&self, text: &str) -> Result<Vec<u32>> {
        let answer = self.tokenizer.encode(text)?;
        match self.roles() {
            // The line break after `<|assistant|>` is the model's own.
            Some(_) => Ok([self.tokenizer.encode("\n")?, answer].concat()),
            None => Ok(answer),
        }
    }

    /// The tokens of a conversation, up to where the answer to its last turn begins, with every answer as the model has to
    /// write it, encoded by itself, and where these stand. What comes before is the same as in [`Self::prompt`].
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub fn taught(&self, turns: &[Turn]) -> Result<Written> {
        check_order(turns, Some(self.format))?;
        if let Some(roles) = self.roles() {
            return self.spoken(roles, turns);
        }
        let mut answers = Vec::new();
        let mut tokens = Vec::new();
        for (asked, answer) in self.rounds(turns)? {
            tokens.extend(self.tokenizer.encode(&asked)?);
            if let Some(answer) = answer {
                let start = tokens.len();
                tokens.extend(self.answer(answer)?);
                answers.push(start..tokens.len());
            }
        }
        Ok((tokens, answers))
    }

    /// Turns behind their roles' tokens, up to where the next answer begins, and where the answers stand in them.
    fn spoken(&self, roles: RoleTokens, turns: &[Turn]) -> Result<Written> {
        let mut answers = Vec::new();
        let mut tokens = Vec::new();
        for turn in turns {
            tokens.push(roles.of(turn.role));
            let start = tokens.len();
            tokens.extend(self.tokenizer.encode("\n")?);
            tokens.extend(self.tokenizer.encode(&turn.content)?);
            if turn.role == Role::Assistant {
                answers.push(start..tokens.len());
            }
        }
        tokens.push(roles.of(Role::Assistant));
        Ok((tokens, answers))
    }

    /// Whether the token behind an answer within a conversation ends it, as the next one's role does, so that it's learned
    /// as its end.
    pub fn turns_end_answers(&self) -> bool {
        self.roles().is_some()
    }

    /// The token that ends a conversation's last answer in training, where that isn't the family's end of texts: GLM-4's is
    /// `<|user|>` (`process_batch` in `finetune/finetune.py` of THUDM/GLM-4).
    pub fn end(&self) -> Option<u32> {
        self.roles().filter(|_| self.format == ChatFormat::Glm4).map(|roles| roles.of(Role::User))
    }

    /// An answer's text as it's shown: without the line break that comes after a role.
    pub fn shown<'t>(&self, text: &'t str) -> &'t str {
        if self.roles().is_some() { text.trim_start() } else { text }
    }

    /// Tokens that end an answer beside the one that every text of the family ends with: the next one to speak.
    pub fn stops(&self) -> Vec<u32> {
        self.roles().map(|roles| vec![roles.of(Role::User), roles.of(Role::Observation)]).unwrap_or_default()
    }

    /// The tokens of a conversation in no more than `room`: the oldest rounds are left out first, then the end of the
    /// last question.
    ///
    /// # Errors
    /// As [`Self::prompt`]; if not even an empty question fits.
    pub fn fit(&self, turns: &[Turn], room: usize) -> Result<Fitted> {
        self.fit_whole(turns, room, room)
    }

    /// As [`Self::fit`], but the last question is left whole if it takes no more than `most` by itself.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_whole(&self, turns: &[Turn], room: usize, most: usize) -> Result<Fitted> {
        self.fit_as(turns, [room, most], &|turns| Ok((self.prompt(turns)?, Vec::new())))
    }

    /// As [`Self::fit`], with the answers in it to be learned too. Those of rounds that are left out aren't.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_taught(&self, turns: &[Turn], room: usize) -> Result<Fitted> {
        self.fit_as(turns, [room, room], &|turns| self.taught(turns))
    }

    /// Within `room`, or where a question stands alone within `most`.
    fn fit_as(
        &self,
        turns: &[Turn],
        [room, most]: [usize; 2],
        write: &dyn Fn(&[Turn]) -> Result<Written>,
    ) -> Result<Fitted> {
        let mut turns = turns.to_vec();
        let mut rounds = 0;
        loop {
            let (tokens, answers) = write(&turns)?;
            let oldest = oldest_round(&turns);
            if tokens.len() <= room || oldest.is_none() && tokens.len() <= most {
                return Ok(Fitted { tokens, answers, shortened: rounds > 0, rounds, cut: None });
            }
            let Some(round) = oldest else { break };
            turns.drain(round);
            rounds += 1;
        }
        // The longest beginning of the question that fits.
        let Some(last) = turns.len().checked_sub(1) else { bail!("the conversation has no turns") };
        let question: Vec<char> = std::mem::take(&mut turns[last].content).chars().collect();
        let (least, mut answers) = write(&turns)?;
        ensure!(least.len() <= room, "an empty question takes {} tokens, but there is room for {room}", least.len());
        let (mut fits, mut beyond, mut tokens) = (0, question.len(), least);
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            turns[last].content = question[..middle].iter().collect();
            let (encoded, places) = write(&turns)?;
            if encoded.len() <= room {
                (fits, tokens, answers) = (middle, encoded, places);
            } else {
                beyond = middle;
            }
        }
        let cut = Some([question.len() - fits, question.len()]);
        Ok(Fitted { tokens, answers, shortened: true, rounds, cut })
    }

    fn roles(&self) -> Option<RoleTokens> {
        self.roles.filter(|_| self.format.has_role_tokens())
    }

    /// The formats that are text throughout: rounds of question and answer, and the last question. Of each what stands
    /// between the answer before it and its own, and that.
    fn rounds<'t>(&self, turns: &'t [Turn]) -> Result<Vec<(String, Option<&'t str>)>> {
        let mut rounds = Vec::new();
        for round in turns.chunks(2) {
            match round {
                [Turn { role: Role::User, content: question }, Turn { role: Role::Assistant, content: answer }] => {
                    rounds.push((question, Some(answer)));
                }
                [Turn { role: Role::User, content: question }] => rounds.push((question, None)),
                _ => bail!("in a conversation, user and assistant take turns, the user first"),
            }
        }
        // ChatGLM counts from 0 and ChatGLM2 from 1.
        let (first, line) = match self.format {
            ChatFormat::Chatglm2 => (1, "\n\n"),
            _ => (0, "\n"),
        };
        if let [(question, None)] = rounds[..]
            && self.format != ChatFormat::Chatglm2
        {
            return Ok(vec![(question.clone(), None)]);
        }
        let write = |(number, (question, answer)): (usize, (&String, Option<&'t String>))| {
            let before = if number == first { "" } else { line };
            (format!("{before}[Round {number}]{line}问：{question}{line}答："), answer.map(String::as_str))
        };
        Ok((first..).zip(rounds).map(write).collect())
    }
}

/// Makes sure that a format can write turns before an answer. Where the format isn't known yet, that one can.
///
/// # Errors
/// If they don't end with a question, or a turn is someone's whose it can't be; says which, from 1.
pub fn check_order(turns: &[Turn], format: Option<ChatFormat>) -> Result<()> {
    let last = turns.last().context("the conversation has no turns")?;
    ensure!(
        matches!(last.role, Role::User | Role::Observation),
        "the conversation's last turn before the answer is the {}'s own, not a question",
        last.role.name()
    );
    let Some(format) = format.filter(|format| !format.has_role_tokens()) else { return Ok(()) };
    for (at, turn) in turns.iter().enumerate() {
        let name = turn.role.name();
        let expected = if at % 2 == 0 { Role::User } else { Role::Assistant };
        if matches!(turn.role, Role::System | Role::Observation) {
            let role = ROLES[turn.role as usize];
            let message = format!("turn {}: the chat format doesn't support the role {role}", at + 1);
            bail!(Hinted::with(message, "`format: chatglm3` does, with a tokenizer that has the roles' tokens"));
        }
        ensure!(
            turn.role == expected,
            "turn {} is the {name}'s, where the {}'s was due: user and assistant take turns, the user first",
            at + 1,
            expected.name()
        );
    }
    ensure!(format.has_history() || turns.len() == 1, "the plain chat format doesn't support a history");
    Ok(())
}

/// The oldest question with all that follows up to the next one, unless it's the last question.
fn oldest_round(turns: &[Turn]) -> Option<std::ops::Range<usize>> {
    let mut questions = turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::User).map(|(at, _)| at);
    Some(questions.next()?..questions.next()?)
}
