//! One entry of the mix: its windows, and what is made of each.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::{
    Corpus, Document, Form,
    blank_infilling::Blanks,
    causal_lm,
    masked_lm::{self, Masking},
    pairs::{self, Judgement},
    prefix_lm,
    windows::{Window, cut, cut_for_pairs},
    words::Words,
};
use crate::{
    data::text::Special,
    network::batch::Example,
    spec::{self, Generative, Objective},
    support::random::Key,
};

/// The windows of a corpus that an objective learns from.
pub(super) struct Entry {
    /// What the recipe calls it, such as `masked_lm+sentence_order`.
    pub(super) name: String,
    /// Factor on the loss of sentence pairs.
    pub(super) pair_weight: f32,
    corpus: Corpus,
    windows: Vec<Window>,
    task: Task,
}

enum Task {
    Masked(Masking),
    Pair { judgement: Judgement, room: usize, masking: Option<Masking> },
    Causal,
    Prefix(spec::PrefixLm),
    Infilling(Blanks),
}

/// The places that what a text begins with and what ends it take.
fn frame(corpus: &Corpus) -> usize {
    corpus.form.beginning(&corpus.specials).len() + 1
}

impl Entry {
    /// Cuts the corpus for an objective. `words` are counted on the first call that needs them.
    pub(super) fn new(
        objective: &Objective,
        corpus: &Corpus,
        max_length: usize,
        words: &mut Option<Arc<Words>>,
    ) -> Result<Self> {
        let text = corpus.text.as_ref();
        let room = max_length.saturating_sub(frame(corpus)).max(1);
        let task = task(objective, corpus, max_length, words)?;
        corpus.specials.require(&name(objective), &needs(&task, corpus.form))?;
        let windows = match &task {
            Task::Pair { judgement, room, .. } => cut_for_pairs(text, *room, *judgement == Judgement::NextSentence)?,
            Task::Infilling(blanks) => cut(text, blanks.room())?,
            Task::Masked(_) | Task::Causal | Task::Prefix(_) => cut(text, room)?,
        };
        let entry =
            Self { name: name(objective), pair_weight: pair_weight(objective), corpus: corpus.clone(), windows, task };
        entry.check()?;
        Ok(entry)
    }

    /// How many examples there are.
    pub(super) fn examples(&self) -> usize {
        self.windows.len()
    }

    /// The examples' lengths in tokens, but for those that blanks add.
    pub(super) fn lengths(&self) -> Vec<u32> {
        let frame = frame(&self.corpus);
        self.windows.iter().map(|window| (window.length() + frame) as u32).collect()
    }

    /// Makes an example. `batch` draws what is common to a batch, `key` what is the example's own.
    pub(super) fn example(&self, index: usize, batch: Key, key: Key) -> Result<Example> {
        let Corpus { specials, form, .. } = &self.corpus;
        let (id, window) = (index as u64, self.windows[index]);
        let document = self.corpus.text.document(window.document as usize)?;
        let text = &document.tokens[window.range()];
        let ends = ends(&document, window);
        Ok(match &self.task {
            Task::Masked(masking) => {
                let mut example = masked_lm::plain(id, text, specials);
                masking.mask(&mut example, specials, key.with("mask"));
                example
            }
            Task::Pair { judgement, room, masking } => {
                let text = self.corpus.text.as_ref();
                let mut example = pairs::example(id, text, window, *room, *judgement, specials, key.with("pair"))?;
                if let Some(masking) = masking {
                    masking.mask(&mut example, specials, key.with("mask"));
                }
                example
            }
            Task::Causal => causal_lm::example(id, text, ends, *form, specials),
            Task::Prefix(spec) => prefix_lm::example(id, text, ends, spec, *form, specials, key.with("prompt")),
            Task::Infilling(blanks) => {
                let mode = blanks.mode(batch.with("mode"));
                blanks.example(id, &document, window.range(), mode, specials, key.with("blanks"))
            }
        })
    }

    /// Says what the corpus lacks.
    fn check(&self) -> Result<()> {
        let name = &self.name;
        if let Task::Pair { judgement: Judgement::NextSentence, .. } = self.task {
            let mut documents: Vec<u32> = self.windows.iter().map(|window| window.document).collect();
            documents.dedup();
            ensure!(documents.len() > 1, "{name} needs two documents or more, so that B can come from another one");
        }
        if !self.windows.is_empty() {
            return Ok(());
        }
        match self.task {
            Task::Pair { judgement: Judgement::SentenceOrder, .. } => {
                bail!("{name} needs documents of two sentences or more; the corpus has none")
            }
            _ => bail!("{name} has nothing to learn from: the corpus has no tokens"),
        }
    }
}

/// The special tokens that a task's examples take.
fn needs(task: &Task, form: Form) -> Vec<Special> {
    use Special::{Cls, Eop, Gmask, Mask, Sep, Sop};
    match task {
        Task::Masked(_) => vec![Cls, Sep, Mask],
        Task::Pair { masking, .. } => [Cls, Sep].into_iter().chain(masking.as_ref().map(|_| Mask)).collect(),
        Task::Causal | Task::Prefix(_) if form == Form::Chatglm2 => vec![Gmask, Sop, Sep],
        Task::Causal | Task::Prefix(_) => vec![Cls, Eop],
        Task::Infilling(blanks) => blanks.needs(),
    }
}

/// Whether a window ends its document.
fn ends(document: &Document<'_>, window: Window) -> bool {
    window.end as usize == document.tokens.len()
}

fn task(objective: &Objective, corpus: &Corpus, max_length: usize, words: &mut Option<Arc<Words>>) -> Result<Task> {
    let judgement = match (&objective.next_sentence, &objective.sentence_order) {
        (Some(_), Some(_)) => bail!("next_sentence and sentence_order can't stand in one entry of the mix"),
        (Some(_), None) => Some(Judgement::NextSentence),
        (None, Some(_)) => Some(Judgement::SentenceOrder),
        (None, None) => None,
    };
    let masking = objective.masked_lm.as_ref().map(|spec| masking(spec, corpus, words)).transpose()?;
    match (judgement, masking, &objective.generative) {
        (None, None, None) => bail!("an entry of the mix has no objective"),
        (None, None, Some(Generative::CausalLm(_))) => Ok(Task::Causal),
        (None, None, Some(Generative::PrefixLm(spec))) => Ok(Task::Prefix(spec.clone())),
        (None, None, Some(Generative::BlankInfilling(spec))) => match Blanks::new(spec, max_length) {
            Some(blanks) => Ok(Task::Infilling(blanks)),
            None => bail!("blank_infilling needs a weight above 0 for span, sentence or document"),
        },
        (None, Some(masking), None) => Ok(Task::Masked(masking)),
        (Some(judgement), masking, None) => {
            Ok(Task::Pair { judgement, room: max_length.saturating_sub(pairs::FRAME).max(2), masking })
        }
        (_, _, Some(_)) => bail!("a generative objective stands alone in its entry of the mix"),
    }
}

fn masking(spec: &spec::MaskedLm, corpus: &Corpus, words: &mut Option<Arc<Words>>) -> Result<Masking> {
    if spec.whole_word && words.is_none() {
        *words = Some(Arc::new(Words::new(corpus.text.as_ref(), &corpus.vocabulary)?));
    }
    Ok(Masking { spec: spec.clone(), words: words.clone().filter(|_| spec.whole_word) })
}

fn pair_weight(objective: &Objective) -> f32 {
    let pair = objective.next_sentence.as_ref().or(objective.sentence_order.as_ref());
    pair.map_or(1.0, |pair| pair.loss_weight as f32)
}

fn name(objective: &Objective) -> String {
    let parts = [
        objective.masked_lm.as_ref().map(|_| "masked_lm"),
        objective.next_sentence.as_ref().map(|_| "next_sentence"),
        objective.sentence_order.as_ref().map(|_| "sentence_order"),
        objective.generative.as_ref().map(|generative| match generative {
            Generative::CausalLm(_) => "causal_lm",
            Generative::PrefixLm(_) => "prefix_lm",
            Generative::BlankInfilling(_) => "blank_infilling",
        }),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("+")
}
