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
    stages::{Writer, Written},
};

/// `pipe generate RECIPE STAGE`: the text appears as it's written.
pub(super) fn generate(command: &Generate, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let prompts = match &command.file {
        Some(file) => {
            let source = serde_json::from_value(json!({ "path": "prompts", "encoding": command.encoding }))?;
            data::lines(&source, file)?.map(|line| Ok(line?.1)).collect::<Result<Vec<_>>>()?
        }
        None => vec![command.prompt.clone()],
    };
    let writer = generation::writer(&command.model, store, remote)?;
    let settings = generation::settings(&command.writing, command.max_tokens, &writer)?;
    interrupt::install()?;
    let (mut tokens, mut took, mut status) = (0, Duration::ZERO, DONE);
    for prompt in &prompts {
        let (written, time) = generation::show(command.json, |show| writer.write(prompt, &settings, show))?;
        exit::work_begins();
        (tokens, took) = (tokens + written.tokens, took + time);
        if written.shortened {
            console::eprint_line(&format!("the beginning of a prompt was left out: {}", reads(&writer)));
        }
        if command.json {
            console::print(&object(prompt, &written, time).to_string())?;
        }
        if written.end == FinishReason::Interrupted {
            status = INTERRUPTED;
            break;
        }
    }
    generation::print_speed(tokens, took);
    Ok(status)
}

fn reads(writer: &Writer) -> String {
    format!("the model's context is {} tokens and must leave room for the output", writer.max_length())
}

/// What was written, for programs.
fn object(prompt: &str, written: &Written, took: Duration) -> Value {
    let mut object = json!({
        "prompt": prompt,
        "text": written.text,
        "prompt_tokens": written.prompt_tokens,
        "tokens": written.tokens,
        "end": written.end.name(),
        "seconds": took.as_secs_f64(),
    });
    if !written.blanks.is_empty() {
        object["blanks"] = json!(written.blanks);
    }
    object
}
