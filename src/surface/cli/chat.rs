//! `pipe chat`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result};
use serde_json::json;

use super::{args::Chat, console, exit::DONE, generation, interrupt};

/// What stands before a question on a terminal.
const ASK: &str = "> ";

/// `pipe chat RECIPE STAGE`: a question a line, until `/exit` or the end of stdin.
pub(super) fn chat(command: &Chat, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let generator = generation::generator(&command.model, store, remote)?;
    let settings = generation::settings(&command.writing, command.max_tokens, &generator)?;
    let mut conversation = generator.converse(command.format, command.system.clone())?;
    interrupt::install()?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        console::eprint_line("/clear starts a new conversation, /exit quits; Ctrl-C stops an answer");
    }
    let mut line = String::new();
    loop {
        if terminal {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{ASK}").and_then(|()| stderr.flush());
        }
        line.clear();
        if std::io::stdin().lock().read_line(&mut line).context("can't read the question")? == 0 {
            return Ok(DONE);
        }
        let question = line.trim();
        match question {
            "" => continue,
            "/exit" => return Ok(DONE),
            "/clear" => {
                conversation.clear();
                console::eprint_line("forgotten");
                continue;
            }
            _ => {}
        }
        let (answer, took) = generation::show(command.json, |show| conversation.ask(question, &settings, show))?;
        if answer.shortened {
            console::eprint_line("the conversation is too long for the model, so that its oldest part was left out");
        }
        if command.json {
            let object = json!({
                "question": question,
                "answer": answer.text,
                "prompt_tokens": answer.prompt_tokens,
                "tokens": answer.tokens,
                "end": answer.end.name(),
                "seconds": took.as_secs_f64(),
            });
            console::print(&object.to_string())?;
        }
        generation::print_speed(answer.tokens, took);
    }
}
