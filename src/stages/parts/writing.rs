//! Tokens and texts that a language model writes behind a sequence.

use anyhow::{Context, Result, ensure};

use super::generate::{Answer, Before, Show, TextGenerator};
use crate::{
    learning::{
        generation::{Beams, FinishReason, GenerationSettings, Hypothesis, TextStream, Vocabulary, extend, search},
        objectives::form::feed,
    },
    network::{batch::Example, model::KvCache},
};

impl TextGenerator {
    pub(in crate::stages) fn cache(&self, prompt: usize, settings: &GenerationSettings) -> KvCache {
        let most = prompt.saturating_add(settings.max_tokens).min(self.max_length);
        KvCache::with_capacity(most).held_as(self.kv_cache)
    }

    /// Goes on from the end of a sequence, showing the text. With beams it's the best that is shown and fed.
    pub(in crate::stages) fn answer(
        &self,
        example: &mut Example,
        cache: &mut KvCache,
        vocabulary: &Vocabulary,
        settings: &GenerationSettings,
        before: Before<'_>,
        show: &mut Show<'_>,
    ) -> Result<Answer> {
        if settings.beams.num_beams > 1 {
            let only = Beams { num_return_sequences: 1, ..settings.beams };
            let only = GenerationSettings { beams: only, ..settings.clone() };
            let best = self.found(example, cache, vocabulary, &only, show)?.into_iter().next();
            let best = best.context("no text was found")?;
            feed(example, &best.tokens);
            return self.told(&best, settings, before, show);
        }
        self.check_length(example, settings)?;
        let mut stream = self.stream(settings, before)?;
        let (mut text, mut tokens) = (String::new(), 0);
        let end = extend(&self.network, cache, example, self.max_length, vocabulary, settings, &mut |token| {
            tokens += 1;
            let piece = stream.push(token)?;
            text.push_str(&piece.text);
            let shown = show(&piece.text);
            Ok(if piece.stopped {
                Some(FinishReason::Stop)
            } else {
                shown.is_break().then_some(FinishReason::Interrupted)
            })
        })?;
        if end != FinishReason::Stop {
            let rest = stream.finish()?;
            text.push_str(&rest);
            // There's nothing left to interrupt.
            let _ = show(&rest);
        }
        Ok(Answer { text: self.alone(text, before), tokens, end, score: None })
    }

    /// The best texts of a search with beams; nothing is shown yet.
    pub(in crate::stages) fn found(
        &self,
        example: &Example,
        cache: &mut KvCache,
        vocabulary: &Vocabulary,
        settings: &GenerationSettings,
        show: &mut Show<'_>,
    ) -> Result<Vec<Hypothesis>> {
        self.check_length(example, settings)?;
        search(&self.network, cache, example, self.max_length, vocabulary, settings, &mut |tokens| {
            if show("").is_break() {
                return Ok(Some(FinishReason::Interrupted));
            }
            let stops = settings.stop.iter().any(|stop| !stop.is_empty());
            let text = if stops { self.tokenizer.decode(tokens, true)? } else { String::new() };
            let stopped = settings.stop.iter().any(|stop| !stop.is_empty() && text.contains(stop.as_str()));
            Ok(stopped.then_some(FinishReason::Stop))
        })
    }

    /// Shows a text that was found, up to a stop string.
    pub(in crate::stages) fn told(
        &self,
        found: &Hypothesis,
        settings: &GenerationSettings,
        before: Before<'_>,
        show: &mut Show<'_>,
    ) -> Result<Answer> {
        let mut stream = self.stream(settings, before)?;
        let (mut text, mut stopped) = (String::new(), false);
        for &token in &found.tokens {
            let piece = stream.push(token)?;
            text.push_str(&piece.text);
            stopped = piece.stopped;
            if stopped {
                break;
            }
        }
        if !stopped {
            text.push_str(&stream.finish()?);
        }
        // There's nothing left to interrupt.
        let _ = show(&text);
        let (text, tokens) = (self.alone(text, before), found.tokens.len());
        Ok(Answer { text, tokens, end: found.end, score: Some(found.score) })
    }

    fn stream<'s>(&'s self, settings: &'s GenerationSettings, before: Before<'_>) -> Result<TextStream<'s>> {
        match before {
            Some((text, tokens)) => TextStream::after(&self.tokenizer, &settings.stop, text, tokens),
            None => Ok(TextStream::new(&self.tokenizer, &settings.stop)),
        }
    }

    /// The text as it's given to programs. Where a tokenizer doesn't say how tokens become a text, the space between two of
    /// them belongs to neither.
    fn alone(&self, text: String, before: Before<'_>) -> String {
        let joined = before.is_some_and(|(_, tokens)| !tokens.is_empty()) && !self.tokenizer.has_decoder();
        match text.strip_prefix(' ') {
            Some(alone) if joined => alone.to_owned(),
            _ => text,
        }
    }

    fn check_length(&self, example: &Example, settings: &GenerationSettings) -> Result<()> {
        let Some(most) = settings.max_length else { return Ok(()) };
        let is_target = self.network.architecture().target_start().is_some();
        let length = if is_target { 1 } else { example.tokens.len() };
        ensure!(
            length < most,
            "the model's generation_config.json has a `max_length` of {most} tokens, prompts included, and the prompt has \
             {length}: `--max-tokens` sets how many may follow it"
        );
        Ok(())
    }
}
