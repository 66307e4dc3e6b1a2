//! `pipe generate`.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    args::Generate,
    console,
    exit::{self, Exit},
    generation, interrupt,
    load::RemoteChoice,
};
use crate::{data, learning::generation::FinishReason, stages::Generated};

/// Tokens that are generated where nobody says how many.
const MAX_TOKENS: usize = 128;

/// `pipe generate RECIPE STAGE`: the text appears as it's generated.
pub(super) fn generate(command: &Generate, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let prompts = match &command.file {
        Some(file) => {
            let source = serde_json::from_value(json!({ "path": "prompts", "encoding": command.encoding }))?;
            data::lines(&source, file)?.map(|line| Ok(line?.1)).collect::<Result<Vec<_>>>()?
        }
        None => vec![command.prompt.clone()],
    };
    // A token has a byte at least.
    let longest = prompts.iter().map(String::len).max().unwrap_or_default();
    let tokens = longest + command.max_tokens.unwrap_or(MAX_TOKENS);
    let generator = generation::generator(&command.model, tokens, store, remote)?;
    let max_tokens = (command.max_tokens, MAX_TOKENS);
    let settings = generation::settings(&command.writing, max_tokens, command.num_return_sequences, &generator)?;
    interrupt::install()?;
    let (mut tokens, mut took, mut status) = (0, Duration::ZERO, Exit::Done);
    for prompt in &prompts {
        let (all, time) = generation::show(command.json, |show| generator.generate(prompt, &settings, show))?;
        exit::work_begins();
        took += time;
        for generated in &all {
            tokens += generated.tokens;
            generated.notes.iter().for_each(|note| console::eprint_line(note));
            if command.json {
                console::print(&object(prompt, generated, time).to_string())?;
            }
        }
        if all.iter().any(|generated| generated.end == FinishReason::Interrupted) {
            status = Exit::Interrupted;
            break;
        }
    }
    generation::print_speed(tokens, took);
    Ok(status)
}

/// What was generated, for programs.
fn object(prompt: &str, generated: &Generated, took: Duration) -> Value {
    let mut object = json!({
        "prompt": prompt,
        "text": generated.text,
        "prompt_tokens": generated.prompt_tokens,
        "tokens": generated.tokens,
        "end": generated.end.name(),
        "seconds": took.as_secs_f64(),
    });
    if let Some(score) = generated.score {
        object["score"] = json!(score);
    }
    if !generated.blanks.is_empty() {
        object["blanks"] = json!(generated.blanks);
    }
    object
}
