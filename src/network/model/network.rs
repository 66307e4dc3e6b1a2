//! An architecture together with its parameters and heads.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Device, Tensor};

use super::{
    architecture::{Architecture, Sizes},
    builder::Builder,
    candidates::Candidates,
    class_labels::ClassLabels,
    dropout::DropoutRates,
    families,
    family::Family,
    heads::{self, Classifier, ClassifierConfig, HeadInput, PairHead, Pooler, Pooling},
    initial::Initializer,
    ngrams::Ngrams,
    parameters::Parameters,
    pass::{Pass, PassMode},
};
use crate::{
    data::text::Specials,
    network::{
        batch::Batch,
        kernels::{self, RowIds},
    },
    spec,
};

/// A model that can be trained, asked and stored.
pub struct Network {
    parameters: Parameters,
    family: &'static Family,
    architecture: Arc<dyn Architecture>,
    /// What losses are computed with.
    pub(super) precision: spec::Precision,
    /// The dropout of training passes by place, where it's not the same everywhere.
    pub(super) rates: Option<DropoutRates>,
    /// Whether training passes compute layers again in place of keeping their activations.
    pub(super) recomputes: bool,
    /// The tokenizer's special tokens, for the config of a new model; one that was read has its own.
    pub(super) specials: Option<Specials>,
    pub(super) pooler: Option<Pooler>,
    pub(super) pair: Option<PairHead>,
    pub(super) classifier: Option<Classifier>,
    /// What a classifier from elsewhere tells apart.
    pub(super) labels: Option<ClassLabels>,
    /// Whether matrices were rounded when it was read, so that its files have others.
    pub(super) rounded: bool,
}

impl Network {
    /// A new model of the sizes that a recipe gives, for a vocabulary of `vocabulary` tokens.
    ///
    /// # Errors
    /// Sizes that don't go together.
    pub fn new(spec: &spec::Model, vocabulary: usize, seed: u64, device: &Device) -> Result<Self> {
        let mut parameters = Parameters::new(device);
        let mut source = Initializer { seed };
        let family = families::of_spec(spec)?;
        let builder = &mut Builder::new(&mut parameters, &mut source);
        let architecture = family.build_new(&spec.settings, vocabulary, builder)?;
        let ngrams = family.ngrams(&spec.settings)?;
        let ngrams = ngrams.map(|ngrams| Ngrams::new(builder, &ngrams, &architecture.sizes())).transpose()?;
        parameters.ngrams = ngrams;
        Ok(Self::from_parts(parameters, family, architecture))
    }

    /// Without heads.
    pub(super) fn from_parts(
        mut parameters: Parameters,
        family: &'static Family,
        architecture: Box<dyn Architecture>,
    ) -> Self {
        parameters.gives_logits(architecture.output().0);
        Self {
            parameters,
            family,
            architecture: architecture.into(),
            precision: spec::Precision::F32,
            rates: None,
            recomputes: false,
            specials: None,
            pooler: None,
            pair: None,
            classifier: None,
            labels: None,
            rounded: false,
        }
    }

    /// A replica on this device, as the network stands now.
    ///
    /// # Errors
    /// The devices'.
    pub fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            parameters: self.parameters.on(device)?,
            family: self.family,
            architecture: Arc::clone(&self.architecture),
            precision: self.precision,
            rates: self.rates,
            recomputes: self.recomputes,
            specials: self.specials,
            pooler: self.pooler.clone(),
            pair: self.pair.clone(),
            classifier: self.classifier.clone(),
            labels: self.labels.clone(),
            rounded: self.rounded,
        })
    }

    /// Notes what the special tokens' ids are, for other programs that will open the model.
    pub fn name_tokens(&mut self, specials: Specials) {
        self.specials = Some(specials);
    }

    /// What its linear head tells apart, where that came from elsewhere.
    pub fn labels(&self) -> Option<&ClassLabels> {
        self.labels.as_ref()
    }

    /// Its family.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The backbone.
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// Token ids that it has room for.
    pub fn vocabulary(&self) -> usize {
        self.architecture.sizes().vocabulary
    }

    /// Whether it has a linear head that tells classes apart.
    pub fn has_classifier(&self) -> bool {
        self.classifier.is_some()
    }

    /// A tensor that the checkpoint has, and that its config says is another one: its name.
    pub fn untied(&self) -> Option<&str> {
        self.parameters.untied.as_deref()
    }

    /// All parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// All parameters, for those who change them.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Computes in this precision from now on, in training passes only; the weights stay f32.
    pub fn compute_with(&mut self, precision: spec::Precision) {
        self.precision = precision;
    }

    /// Drops so much at each place from now on, in training passes, whatever the settings of the loss say.
    pub fn drop_at(&mut self, rates: DropoutRates) {
        self.rates = Some(rates);
    }

    /// Keeps of each layer only what it's given from now on, in training passes; the backward pass computes the rest again.
    pub fn recompute_layers(&mut self, recompute: bool) {
        self.recomputes = recompute;
    }

    /// Adds what it takes to guess tokens, where the checkpoint is of a bare backbone.
    ///
    /// # Errors
    /// Settings that aren't supported; a network that has replicas.
    pub fn add_language_head(&mut self, seed: u64) -> Result<()> {
        let architecture = Arc::get_mut(&mut self.architecture);
        let architecture = architecture.context("a network with replicas gets no further heads")?;
        architecture.add_head(&mut Builder::new(&mut self.parameters, &mut Initializer { seed }))
    }

    /// Adds a head for sentence pairs, unless there is one; it will be learned.
    pub fn add_pair_head(&mut self, seed: u64) {
        if self.pair.is_none() {
            let mut source = Initializer { seed };
            if self.pooler.is_none() {
                self.make_pooler(&mut source);
            }
            self.make_pair_head(&mut source);
        }
        self.parameters.unfreeze(heads::judges_pairs);
    }

    /// Adds a linear head for `classes` classes, unless there is one; it will be learned, and the pooler with it, if it
    /// reads that.
    ///
    /// # Errors
    /// A classifier with other classes or pooling that is there already.
    pub fn add_classifier(&mut self, classes: usize, pooling: Pooling, seed: u64) -> Result<()> {
        let config = ClassifierConfig { classes, input: pooling.into() };
        match &self.classifier {
            Some(there) => {
                ensure!(
                    there.config == config,
                    "the model already has a linear head, for {} classes on {}",
                    there.config.classes,
                    there.config.input.described()
                );
            }
            None => {
                let mut source = Initializer { seed };
                if config.input == HeadInput::Pooler && self.pooler.is_none() {
                    self.make_pooler(&mut source);
                }
                self.classifier = Some(self.make_classifier(config, &mut source));
            }
        }
        self.parameters.unfreeze(heads::judges_classes);
        if config.input == HeadInput::Pooler {
            self.parameters.unfreeze(heads::is_pooler);
        }
        Ok(())
    }

    pub(super) fn make_pooler(&mut self, source: &mut dyn super::ValueSource) {
        let Sizes { hidden, initializer_range, .. } = self.architecture.sizes();
        let builder = &mut Builder::new(&mut self.parameters, source);
        self.pooler = Some(Pooler::new(builder, hidden, initializer_range));
    }

    pub(super) fn make_pair_head(&mut self, source: &mut dyn super::ValueSource) {
        let Sizes { hidden, initializer_range, .. } = self.architecture.sizes();
        let builder = &mut Builder::new(&mut self.parameters, source);
        self.pair = Some(PairHead::new(builder, hidden, initializer_range));
    }

    pub(super) fn make_classifier(
        &mut self,
        config: ClassifierConfig,
        source: &mut dyn super::ValueSource,
    ) -> Classifier {
        let Sizes { hidden, initializer_range, .. } = self.architecture.sizes();
        Classifier::new(&mut Builder::new(&mut self.parameters, source), config, hidden, initializer_range)
    }

    /// Hidden states `[T, hidden]` of a batch.
    ///
    /// # Errors
    /// Batches that don't fit the model.
    pub fn hidden(&self, batch: &Batch, mode: PassMode) -> Result<Tensor<2>> {
        Ok(self.architecture.hidden(&self.pass(batch, mode)?))
    }

    /// Refuses batches that don't fit the model, or are at odds with themselves.
    pub(super) fn check(&self, batch: &Batch) -> Result<()> {
        let tokens = batch.rows * batch.width;
        let per_token =
            [&batch.tokens, &batch.positions, &batch.block_positions, &batch.dropout_keys].map(|values| values.len());
        ensure!(
            per_token.iter().all(|&count| count == tokens),
            "the batch has {per_token:?} entries for {tokens} tokens"
        );
        let segments = batch.segments.len();
        ensure!(segments == 0 || segments == tokens, "the batch has {segments} segments for {tokens} tokens");
        let places = batch.targets.iter().map(|target| target.at).chain(batch.choices.iter().map(|choice| choice.at));
        ensure!(places.max().is_none_or(|at| (at as usize) < tokens), "the batch has a target past its end");
        let ends = batch.examples.iter().map(|example| u64::from(example.start) + u64::from(example.length));
        ensure!(ends.max().is_none_or(|end| end <= tokens as u64), "the batch has an example past its end");
        self.architecture.check(batch)?;
        self.check_behind_prefix(batch)
    }

    /// Checks a batch and puts it on the device.
    pub(super) fn pass(&self, batch: &Batch, mode: PassMode) -> Result<Pass<'_>> {
        self.check(batch)?;
        let span_ends = match self.architecture.is_causal() {
            true => batch.span_ends.iter().zip(1..).map(|(&to, next)| to.min(next)).collect(),
            false => Cow::Borrowed(&batch.span_ends[..]),
        };
        Pass::new(&self.parameters, batch, &span_ends, mode)
    }

    /// Logits `[N, vocabulary]` from hidden states `[N, hidden]`.
    pub(super) fn logits(&self, pass: &Pass, hidden: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.architecture.output();
        let hidden = self.architecture.before_logits(pass, hidden);
        kernels::linear(pass.to_operand(hidden), pass.weight(weight), bias.map(|bias| pass.vector(bias)))
    }

    /// Log-probabilities `[choices, union of the candidates]`.
    pub(super) fn choice_log_softmax(
        &self,
        pass: &Pass,
        hidden: &Tensor<2>,
        batch: &Batch,
        candidates: &Candidates,
    ) -> Result<Tensor<2>> {
        candidates.check(&batch.choices)?;
        let (largest, vocabulary) = (candidates.largest() as usize, self.architecture.sizes().vocabulary);
        ensure!(largest < vocabulary, "candidate {largest} is outside of the model's vocabulary of {vocabulary}");
        let device = self.parameters.device();
        let places: Vec<u32> = batch.choices.iter().map(|choice| choice.at).collect();
        let rows = kernels::embedding(hidden.clone(), &RowIds::new(places, device));
        let rows = self.architecture.before_logits(pass, rows);
        let (weight, bias) = self.architecture.output();
        let ids = candidates.ids(device);
        let bias = bias.map(|bias| pass.vector(bias).select(0, ids.tensor.clone()));
        let weight = pass.to_operand(kernels::embedding(pass.table(weight), &ids));
        let logits = kernels::linear(pass.to_operand(rows), weight, bias);
        Ok(candidates.log_softmax(logits.cast(DType::F32), &batch.choices))
    }

    /// Logits `[examples, 2]`.
    pub(super) fn pair_logits(&self, pass: &Pass, hidden: Tensor<2>, batch: &Batch) -> Result<Tensor<2>> {
        let head = self.pooler.as_ref().zip(self.pair.as_ref());
        let (pooler, head) = head.context("the model has no head for sentence pairs")?;
        let count = batch.examples.len();
        ensure!(batch.pairs.is_empty() || batch.pairs.len() == count, "not every example has a pair label");
        ensure!(batch.pairs.iter().all(|&pair| pair < 2), "a pair label isn't 0 or 1");
        Ok(head.logits(pass, pooler.forward(pass, hidden, batch)))
    }

    /// Logits `[examples, classes]`.
    pub(super) fn class_logits(&self, pass: &Pass, hidden: Tensor<2>, batch: &Batch) -> Result<Tensor<2>> {
        let head = self.classifier.as_ref().context("the model has no linear head for classes")?;
        let (count, classes) = (batch.examples.len(), head.config.classes);
        ensure!(batch.classes.is_empty() || batch.classes.len() == count, "not every example has a class");
        let largest = batch.classes.iter().max().map_or(0, |&class| class as usize);
        ensure!(largest < classes, "class {largest} is not among the {classes} of the model");
        head.logits(pass, hidden, batch, self.pooler.as_ref())
    }
}
