//! Rules between the fields of a stage, and between stages.

use super::{Check, Draft, Known};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::suggest;
use crate::spec::{Eval, Export, Finetune, Heads, Model, Origin, Pretrain, Stage, Task, Tokenize, Tokenizer, Train};

impl Check<'_> {
    pub(super) fn tokenize(&mut self, draft: &Draft, spec: &Tokenize) {
        let trained = matches!(spec.tokenizer, Tokenizer::Bpe(_) | Tokenizer::Wordpiece(_) | Tokenizer::Unigram(_));
        if trained && spec.corpus.is_empty() && spec.train_on.is_empty() {
            self.report(
                self.key(&draft.pointer("tokenizer")),
                "there is nothing to train the tokenizer on",
                "name texts under `corpus`, or under `train_on`".to_owned(),
            );
        }
        for (list, sources) in [("corpus", &spec.corpus), ("train_on", &spec.train_on)] {
            for (index, source) in sources.iter().enumerate() {
                self.corpus(&draft.pointer(&format!("{list}.{index}")), source);
            }
        }
    }

    pub(super) fn pretrain(&mut self, draft: &Draft, spec: &Pretrain) {
        self.origin(draft, spec.from.is_some(), spec.model.is_some());
        self.adapter(draft, spec.adapter.is_some() && spec.from.is_none());
        self.has_corpus(draft, &spec.tokens, "tokens");
        self.model(draft, spec.model.as_ref());
        self.objectives(draft, &spec.objectives);
        self.learnable(draft, &spec.objectives);
        self.train(draft, &spec.train, &[], None);
    }

    pub(super) fn finetune(&mut self, draft: &Draft, spec: &Finetune) {
        self.origin(draft, spec.from.is_some(), spec.model.is_some());
        self.adapter(draft, spec.adapter.is_some() && spec.from.is_none());
        match (&spec.from, &spec.tokens) {
            (Some(_), Some(_)) => self.report(
                self.key(&draft.pointer("tokens")),
                "`tokens` goes with `model`; `from` brings its own tokenizer",
                match &spec.from {
                    Some(Origin::Checkpoint(_)) => "name another one under `from.tokenizer`".to_owned(),
                    _ => "take `tokens` out".to_owned(),
                },
            ),
            (None, None) if spec.model.is_some() => self.report(
                self.key(&draft.pointer("model")),
                "a new model needs a tokenizer",
                "name a tokenize stage under `tokens`".to_owned(),
            ),
            _ => {}
        }
        self.model(draft, spec.model.as_ref());
        self.train(draft, &spec.train, spec.task.dev_metrics(), Some(spec.data.dev.is_some()));
        self.rows(draft, spec);
        match &spec.task {
            Task::Classification(task) => self.readable(draft, task),
            Task::Instruction(task) => self.instructable(draft, task),
        }
    }

    pub(super) fn eval(&mut self, draft: &Draft, spec: &Eval) {
        let model = self.draft(&spec.model);
        let (wanted, other, kind) = match model.map(|model| model.kind.as_str()) {
            Some("finetune") => (("data", spec.data.is_some()), ("tokens", spec.tokens.is_some()), "finetuned"),
            Some("pretrain") => (("tokens", spec.tokens.is_some()), ("data", spec.data.is_some()), "pretrained"),
            Some("import") => (("tokens", spec.tokens.is_some()), ("data", spec.data.is_some()), "imported"),
            _ => return,
        };
        if !wanted.1 {
            let what = if wanted.0 == "data" {
                "rows like those it learned from"
            } else {
                "the held-out corpora of a tokenize stage"
            };
            self.report(
                self.key(&draft.pointer("")),
                format!("a {kind} model is measured on {what}"),
                format!("name them under `{}`", wanted.0),
            );
        }
        if other.1 {
            self.report(
                self.key(&draft.pointer(other.0)),
                format!("`{}` is not used to measure a {kind} model", other.0),
                "take it out".to_owned(),
            );
        }
        if let Some(name) = &spec.tokens {
            self.has_corpus(draft, name, "tokens");
        }
        if let (Some(source), Some(Stage::Finetune(finetune))) =
            (&spec.data, model.and_then(|model| model.stage.as_ref()))
        {
            self.evaluated_rows(draft, source, &spec.model, finetune);
        }
    }

    pub(super) fn export(&mut self, draft: &Draft, spec: &Export) {
        if spec.max_shard_bytes().is_none() {
            let pointer = draft.pointer("max_shard_size");
            let message = format!("`{}` is no size of a file", self.shown(&pointer));
            self.report(
                self.value(&pointer),
                message,
                "write a whole number with a unit, such as 500MB or 5GB".to_owned(),
            );
        }
    }

    /// A model comes from another stage or is new: one of the two.
    fn origin(&mut self, draft: &Draft, from: bool, model: bool) {
        if from && model {
            self.problems.push(
                Diagnostic::new("`from` and `model` are both given")
                    .at(self.key(&draft.pointer("model")))
                    .label("a new model")
                    .also(self.key(&draft.pointer("from")), "one that exists")
                    .hint("keep one of the two".to_owned()),
            );
        } else if !from && !model {
            self.report(
                self.key(&draft.pointer("")),
                "the stage has no model",
                "continue one with `from: STAGE`, or make a new one with `model`".to_owned(),
            );
        }
    }

    fn adapter(&mut self, draft: &Draft, alone: bool) {
        if alone {
            self.report(
                self.key(&draft.pointer("adapter")),
                "an adapter needs a model that exists: a new one has learned nothing yet",
                "start `from` a stage or a checkpoint, or take `adapter` out".to_owned(),
            );
        }
    }

    fn has_corpus(&mut self, draft: &Draft, tokens: &str, field: &str) {
        if let Some(Stage::Tokenize(spec)) = self.draft(tokens).and_then(|draft| draft.stage.as_ref())
            && spec.corpus.is_empty()
        {
            let pointer = draft.pointer(field);
            let message = format!("`{}` encodes no corpus", self.shown(&pointer));
            self.report(self.value(&pointer), message, "name texts under its `corpus`".to_owned());
        }
    }

    fn model(&mut self, draft: &Draft, model: Option<&Model>) {
        let Some(model) = model else { return };
        let Heads { hidden, heads, groups, head_size, turned } = model.heads();
        let at = |field: &str| draft.pointer(&format!("model.{}.{field}", model.family()));
        if heads == 0 || groups == 0 {
            return;
        }
        let size = head_size.unwrap_or(hidden / heads);
        let divisor = |whole: usize, part: usize| {
            (1..=whole).filter(|count| whole.is_multiple_of(*count)).min_by_key(|count| count.abs_diff(part))
        };
        if head_size.is_none() && hidden % heads != 0 {
            let fit = divisor(hidden, heads).map(|fit| format!("{fit} would"));
            self.report(
                self.value(&at("heads")),
                format!("{heads} heads don't divide a hidden width of {hidden}"),
                fit,
            );
        } else if turned && size % 4 != 0 {
            let place = at(if head_size.is_some() { "head_size" } else { "heads" });
            let message = format!("heads of {size} numbers can't be turned by their positions, half by half in pairs");
            self.report(self.value(&place), message, "a head has to have a multiple of 4".to_owned());
        }
        if heads % groups != 0 {
            let fit = divisor(heads, groups).map(|fit| format!("`groups: {fit}` would"));
            self.report(self.value(&at("groups")), format!("{groups} groups of keys don't divide {heads} heads"), fit);
        }
    }

    /// `metrics` are measured on dev rows; `dev` is none for a stage that can't have any.
    fn train(&mut self, draft: &Draft, train: &Train, metrics: &[&str], dev: Option<bool>) {
        let at = |field: &str| draft.pointer(&format!("train.{field}"));
        match (train.steps, train.epochs) {
            (Some(_), Some(_)) => self.both(&at("steps"), &at("epochs")),
            (None, None) => self.report(
                self.key(&draft.pointer("train")),
                "`train` doesn't say how long",
                "give `epochs` or `steps`".to_owned(),
            ),
            _ => {}
        }
        if train.warmup_steps.is_some() && train.warmup_ratio.is_some() {
            self.both(&at("warmup_steps"), &at("warmup_ratio"));
        }
        if let (Some(warmup), Some(steps)) = (train.warmup_steps, train.steps)
            && warmup > steps
        {
            let message = format!("the warm-up of {warmup} steps is longer than the training of {steps}");
            self.report(self.value(&at("warmup_steps")), message, None);
        }
        for (field, value) in [("beta1", train.beta1), ("beta2", train.beta2)] {
            if value >= 1.0 {
                self.report(self.value(&at(field)), format!("`{field}` must be less than 1"), None);
            }
        }
        if train.optimizer.is_some() {
            for field in ["beta1", "beta2", "epsilon", "weight_decay"] {
                if self.tree.find(&at(field)).is_some() {
                    let problem = Diagnostic::new(format!("`optimizer` and `{field}` are both given"))
                        .at(self.key(&at(field)))
                        .also(self.key(&at("optimizer")), "the other")
                        .hint(format!("`{field}` beside `optimizer` is AdamW's: put it into the optimizer's settings"));
                    self.problems.push(problem);
                }
            }
        }
        let early = train.early_stopping.as_ref().map(|early| ("early_stopping.metric", early.metric.as_str()));
        let best = train.keep_best.as_deref().map(|metric| ("keep_best", metric));
        for (field, metric) in early.into_iter().chain(best) {
            if dev.is_some() && !metrics.contains(&metric) {
                let hint = suggest::did_you_mean(metric, metrics.iter().copied(), "the metrics are");
                let message = format!("no metric `{}` is measured on dev rows", self.shown(&at(field)));
                self.report(self.value(&at(field)), message, hint);
            }
        }
        let watched = [
            ("early_stopping", train.early_stopping.is_some()),
            ("keep_best", train.keep_best.is_some()),
            ("evaluate_every", train.evaluate_every.is_some()),
        ];
        for (field, _) in watched.into_iter().filter(|(_, given)| *given && dev != Some(true)) {
            let hint = match dev {
                Some(_) => "name them under `data.dev`",
                None => "only finetune stages have them; take it out",
            };
            self.report(self.key(&at(field)), format!("`{field}` needs dev rows"), hint.to_owned());
        }
        if let Some((owner, Known { max_length: Some(longest), .. })) = self.origin_of(draft)
            && train.max_length > longest
        {
            let place = if owner == draft.name { "the model".to_owned() } else { format!("the model of `{owner}`") };
            self.report(
                self.value(&at("max_length")),
                format!("sequences of {} tokens are longer than {place} can take, {longest}", train.max_length),
                format!("set `train.max_length` to {longest} at most, or the model's `max_length` higher"),
            );
        }
    }

    /// Two fields of which only one may be given.
    pub(super) fn both(&mut self, one: &str, other: &str) {
        let name = |pointer: &str| pointer.rsplit('.').next().unwrap_or_default().to_owned();
        let message = format!("`{}` and `{}` are both given", name(one), name(other));
        let (first, second) = (self.key(one).min(self.key(other)), self.key(one).max(self.key(other)));
        self.problems
            .push(Diagnostic::new(message).at(second).also(first, "the other").hint("keep one of the two".to_owned()));
    }
}
