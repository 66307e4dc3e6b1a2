//! `pipe generate`.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::{DONE, args::Generate, load, progress};
use crate::stages::{Sampling, Writer};

/// `pipe generate RECIPE STAGE`: the text appears as it's written.
pub(super) fn generate(command: &Generate, store: &std::path::Path) -> Result<u8> {
    let (checked, artifact) =
        load::stored(&command.recipe, &command.stage, &["pretrain", "finetune", "import"], store)?;
    let device = load::device(command.device.as_deref(), &checked)?.open()?;
    let writer = Writer::load(&artifact.path, &device)?;
    let Generate { temperature, top_k, top_p, seed, max_tokens, .. } = *command;
    let sampling = Sampling { temperature, top_k, top_p, seed };
    if command.json {
        let text = writer.write(&command.prompt, max_tokens, sampling, &mut |_| {})?;
        progress::put(&json!({ "prompt": command.prompt, "text": text }).to_string())?;
        return Ok(DONE);
    }
    let mut stdout = std::io::stdout().lock();
    let mut failure = stdout.write_all(command.prompt.as_bytes()).err();
    writer.write(&command.prompt, max_tokens, sampling, &mut |new| {
        let written = stdout.write_all(new.as_bytes()).and_then(|()| stdout.flush());
        failure = failure.take().or(written.err());
    })?;
    failure = failure.or(stdout.write_all(b"\n").err());
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(DONE),
    }
}
