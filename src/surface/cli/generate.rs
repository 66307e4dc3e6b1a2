//! `pipe generate`.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    args::Generate,
    console,
    exit::{self, DONE, INTERRUPTED},
    generation, interrupt,
};
use crate::{
    data,
    learning::generation::FinishReason,
    stages::{Generated, TextGenerator},
};

/// `pipe generate RECIPE STAGE`: the text appears as it's generated.
pub(super) fn generate(command: &Generate, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let prompts = match &command.file {
        Some(file) => {
            let source = serde_json::from_value(json!({ "path": "prompts", "encoding": command.encoding }))?;
            data::lines(&source, file)?.map(|line| Ok(line?.1)).collect::<Result<Vec<_>>>()?
        }
        None => vec![command.prompt.clone()],
    };
    let generator = generation::generator(&command.model, store, remote)?;
    let settings = generation::settings(&command.writing, command.max_tokens, &generator)?;
    interrupt::install()?;
    let (mut tokens, mut took, mut status) = (0, Duration::ZERO, DONE);
    for prompt in &prompts {
        let (generated, time) = generation::show(command.json, |show| generator.generate(prompt, &settings, show))?;
        exit::work_begins();
        (tokens, took) = (tokens + generated.tokens, took + time);
        if generated.shortened {
            console::eprint_line(&format!("the beginning of a prompt was left out: {}", reads(&generator)));
        }
        if command.json {
            console::print(&object(prompt, &generated, time).to_string())?;
        }
        if generated.end == FinishReason::Interrupted {
            status = INTERRUPTED;
            break;
        }
    }
    generation::print_speed(tokens, took);
    Ok(status)
}

fn reads(generator: &TextGenerator) -> String {
    format!("the model's context is {} tokens and must leave room for the output", generator.max_length())
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
    if !generated.blanks.is_empty() {
        object["blanks"] = json!(generated.blanks);
    }
    object
}
