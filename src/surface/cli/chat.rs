//! `pipe chat`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result};
use serde_json::json;

use super::{args::Chat, console, exit::Exit, generation, interrupt, load::RemoteChoice};

/// What stands before a question on a terminal.
const ASK: &str = "> ";

/// Tokens of a conversation that there has to be room for.
const KEPT: usize = 2048;

/// Tokens of an answer where nobody says how many.
const MAX_TOKENS: usize = 512;

/// `pipe chat RECIPE STAGE`: a question a line, until `/exit` or the end of stdin.
pub(super) fn chat(command: &Chat, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let generator = generation::generator(&command.model, KEPT, store, remote)?;
    let settings = generation::settings(&command.writing, (command.max_tokens, MAX_TOKENS), Some(1), &generator)?;
    // Who doesn't say how long answers become gets shorter ones before a conversation loses its beginning.
    let wanted = command.max_tokens.or(generator.defaults().max_new_tokens);
    let room = wanted.unwrap_or(MAX_TOKENS.min(generator.max_length() / 8));
    let mut conversation = generator.converse(command.format, command.system.clone())?;
    interrupt::install()?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        console::eprint_line("/clear starts a new conversation, /exit quits; Ctrl-C stops an answer");
    }
    let mut line = Vec::new();
    loop {
        if terminal {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{ASK}").and_then(|()| stderr.flush());
        }
        line.clear();
        if std::io::stdin().lock().read_until(b'\n', &mut line).context("can't read the question")? == 0 {
            return Ok(Exit::Done);
        }
        let Ok(line) = std::str::from_utf8(&line) else {
            console::eprint_line("this line isn't UTF-8, so that it wasn't asked");
            continue;
        };
        let question = line.trim();
        match question {
            "" => continue,
            "/exit" => return Ok(Exit::Done),
            "/clear" => {
                conversation.clear();
                console::eprint_line("forgotten");
                continue;
            }
            _ => {}
        }
        let (answer, took) = generation::show(command.json, |show| conversation.ask(question, &settings, room, show))?;
        answer.notes.iter().for_each(|note| console::eprint_line(note));
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
