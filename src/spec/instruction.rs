//! Instruction data: questions with the answers to learn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answering instructions; the loss is on the response only, its end included.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// The column that holds the instruction
    #[serde(default = "prompt")]
    pub prompt: String,
    /// A column that holds what the instruction is about, such as Alpaca's `input`; where it isn't empty, it follows the
    /// instruction on a line of its own
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The column that holds the response
    #[serde(default = "response")]
    pub response: String,
    /// The column that holds the conversation before the question: a list of `[question, answer]` pairs, or of
    /// `{role, content}` messages
    #[serde(default)]
    pub history: Option<String>,
    /// A column that holds whole conversations instead of those four: a list of `{role, content}` messages, of which
    /// the last is the response
    #[serde(default)]
    pub messages: Option<String>,
    /// How a conversation is written; by default as the model's family does
    #[serde(default)]
    pub format: Option<ChatFormat>,
    /// What to do with rows that don't fit into `train.max_length`. Unless they're skipped, the prompt is shortened, down
    /// to half of it: the oldest turns are left out, then the end of the question. How many rows that happens to is
    /// recorded
    #[serde(default)]
    pub too_long: TooLong,
}

/// How a conversation is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatFormat {
    /// The prompt as it is, with no place for a history
    Plain,
    /// ChatGLM's: the question alone, or after a history `[Round 0]`, `问：`, `答：`
    Chatglm,
    /// ChatGLM2's: `[Round 1]`, `问：` and `答：` with empty lines between
    Chatglm2,
    /// ChatGLM3's: `<|user|>` and `<|assistant|>` as tokens before a line break and the text
    Chatglm3,
    /// GLM-4's: written as ChatGLM3's, with the tokens of its own tokenizer
    Glm4,
}

impl ChatFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Chatglm, Self::Chatglm2, Self::Chatglm3, Self::Glm4];

    /// The name, as recipes have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Chatglm => "chatglm",
            Self::Chatglm2 => "chatglm2",
            Self::Chatglm3 => "chatglm3",
            Self::Glm4 => "glm4",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether the roles of a conversation are tokens of their own, such as `<|user|>`, rather than text.
    pub const fn has_role_tokens(self) -> bool {
        matches!(self, Self::Chatglm3 | Self::Glm4)
    }

    /// Whether it can write what was said before the question.
    pub const fn has_history(self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// What happens to a row that is too long.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// The stage stops and names the row, unless it fits with a shorter prompt
    #[default]
    Refuse,
    /// The row isn't used, whatever part of it is too long
    Skip,
    /// Whatever part is too long is cut: the response, which ends there, or what was said first of all
    Cut,
}

impl Instruction {
    /// The columns that hold what a row is about, each with the name of its field here.
    pub fn columns(&self) -> Vec<(&'static str, &str)> {
        match &self.messages {
            Some(messages) => vec![("messages", messages)],
            None => {
                let input = self.input.as_deref().map(|input| ("input", input));
                let history = self.history.as_deref().map(|history| ("history", history));
                let own = [("prompt", self.prompt.as_str()), ("response", &self.response)];
                own.into_iter().chain(input).chain(history).collect()
            }
        }
    }

    /// The columns that hold lists.
    pub fn lists(&self) -> Vec<&str> {
        self.columns()
            .into_iter()
            .filter(|(field, _)| matches!(*field, "history" | "messages"))
            .map(|(_, name)| name)
            .collect()
    }
}

fn prompt() -> String {
    "prompt".into()
}

fn response() -> String {
    "response".into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn chat_formats_have_the_names_that_recipes_use() {
        for format in ChatFormat::ALL {
            assert_eq!(json!(format), json!(format.name()));
            assert_eq!(ChatFormat::named(format.name()), Some(format));
        }
        let schema = schemars::schema_for!(ChatFormat).to_value();
        assert_eq!(schema["oneOf"].as_array().map(Vec::len), Some(ChatFormat::ALL.len()));
        assert_eq!(ChatFormat::named("llama"), None);
    }
}
