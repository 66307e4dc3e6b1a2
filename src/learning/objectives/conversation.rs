//! Conversations out of rows: a prompt with its response and what came before, or a list of messages.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ColumnLookup;
use crate::{
    data::text::chat::{Role, Turn},
    spec::Instruction,
};

/// A conversation with the response that is to be learned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conversation {
    /// What is said before the response; ends with a question.
    pub turns: Vec<Turn>,
    /// The assistant's last words.
    pub response: String,
}

impl Conversation {
    /// Reads a row.
    ///
    /// # Errors
    /// Where the row lacks a column, or a list isn't of the form that [`Instruction`] tells; where there's no question
    /// or no response.
    pub fn read(task: &Instruction, row: &ColumnLookup<'_>) -> Result<Self> {
        let field = |column: &str| row(column).with_context(|| format!("the data has no column `{column}`"));
        let conversation = match &task.messages {
            Some(column) => Self::split(messages(&field(column)?).with_context(|| format!("column `{column}`"))?)
                .with_context(|| format!("column `{column}`"))?,
            None => {
                let mut turns = match &task.history {
                    Some(column) => history(&field(column)?).with_context(|| format!("column `{column}`"))?,
                    None => Vec::new(),
                };
                let mut question = field(&task.prompt)?;
                // As LLaMA-Factory joins Alpaca's rows: by a line break, if there is something to join.
                let input = task.input.as_deref().map(field).transpose()?.filter(|input| !input.is_empty());
                if let Some(input) = input {
                    question = if question.is_empty() { input } else { format!("{question}\n{input}") };
                }
                turns.push(Turn::user(question));
                Self { turns, response: field(&task.response)? }
            }
        };
        ensure!(!conversation.response.trim().is_empty(), "the response is empty");
        Ok(conversation)
    }

    /// What comes before the response, as one text: by this a row is found again elsewhere.
    pub fn text(&self) -> String {
        self.turns.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\t")
    }

    fn split(mut turns: Vec<Turn>) -> Result<Self> {
        match turns.pop() {
            Some(Turn { role: Role::Assistant, content }) => Ok(Self { turns, response: content }),
            Some(_) => bail!("the last message isn't the assistant's, so there is no response to learn"),
            None => bail!("there are no messages"),
        }
    }
}

/// `{role, content}` messages.
fn messages(json: &str) -> Result<Vec<Turn>> {
    serde_json::from_str(json).context("expected a list of {\"role\", \"content\"} messages")
}

/// Pairs of question and answer, or messages; nothing where the field is empty.
fn history(json: &str) -> Result<Vec<Turn>> {
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    let expected = "expected a list of [question, answer] pairs or of {\"role\", \"content\"} messages";
    let items: Vec<Value> = serde_json::from_str(json).context(expected)?;
    if items.iter().all(Value::is_object) {
        return messages(json);
    }
    let pairs: Vec<(String, String)> = serde_json::from_value(Value::Array(items)).context(expected)?;
    Ok(pairs.into_iter().flat_map(|(question, answer)| [Turn::user(question), Turn::assistant(answer)]).collect())
}
