//! What a model that isn't trained is held as, and whether there's room for it: said before anything is read.

use std::{path::Path, str::FromStr};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;

use crate::{
    network::{
        checkpoint::{self, CONFIG},
        device::{self, DeviceChoice, OpenDevice},
        kernels::ActivationForm,
        model::{KvForm, Network, Outline, WeightRole, stored_form},
    },
    spec::WeightForm,
    stages::{check, estimate::bytes},
    support::Hinted,
};

/// What a command is told to hold weights as.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WeightChoice {
    /// The most bits that there's room for, but no more than the files have.
    #[default]
    Auto,
    /// This form.
    Form(WeightForm),
}

impl FromStr for WeightChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let form = WeightForm::ALL.into_iter().find(|form| form.name() == text);
        form.map(Self::Form).ok_or_else(|| "expected auto, f32, bf16, f16, int8 or int4".to_owned())
    }
}

/// What weights are held as.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WeightsHeld {
    /// In f32, but for bases of adapters that were stored in fewer bits.
    #[default]
    Usual,
    /// As they lie in the files.
    Stored,
    /// In this form.
    Form(WeightForm),
}

impl WeightsHeld {
    /// Loads a network so.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub(in crate::stages) fn load(self, directory: &Path, device: &Device) -> Result<Network> {
        match self {
            Self::Usual => Network::load(directory, device),
            Self::Form(form) => Network::load_held(directory, Some(form), device),
            Self::Stored => Network::load_held(directory, None, device),
        }
    }
}

/// That activations in a form are for weights of four bits.
pub(super) fn no_int4(activations: ActivationForm) -> Hinted {
    let message = format!("activations in {} are for weights in int4, and none are held so", activations.name());
    Hinted::with(message, "`--weights int4` holds them so")
}

/// The program itself, threads, and the block that is read at a time.
const BESIDE: u64 = 250_000_000;

/// Which memory a model has to fit into.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// What isn't in use now.
    Free,
    /// All that there is.
    All,
}

/// The memory of a model in each form.
pub struct ModelRoom {
    outline: Outline,
    /// What the files have: their form, where that's less than f32, and their bytes.
    stored: (Option<WeightForm>, u64),
    /// Whether they have codes, which become nothing better for being expanded.
    quantized: bool,
    /// Whether there is an adapter, whose base stays as it was when that was trained.
    is_adapted: bool,
    /// Bytes of the keys and values of all tokens, a prefix's among them.
    cache: u64,
    is_cpu: bool,
    /// Bytes that the device has, and those of them that aren't in use.
    memory: Option<u64>,
    available: Option<u64>,
}

impl ModelRoom {
    /// What the model of a stage is held as while another one measures it: in the form that the recipe names.
    ///
    /// # Errors
    /// If there's no room for it.
    pub(in crate::stages) fn of_stage(
        directory: &Path,
        form: Option<WeightForm>,
        device: &OpenDevice,
    ) -> Result<WeightsHeld> {
        Self::of(directory, 0, KvForm::default(), device)?.require(form, "weights: ")
    }

    /// Of the model in a directory, for a cache of so many tokens.
    ///
    /// # Errors
    /// A config that is missing or isn't understood, and weights that can't be read; a cache that the device can't hold so.
    pub fn of(directory: &Path, tokens: usize, kv_cache: KvForm, device: &OpenDevice) -> Result<Self> {
        ensure!(
            kv_cache == KvForm::F32 || device.is_cpu(),
            Hinted::with(
                "on a GPU keys and values are held in f32".to_owned(),
                "leave out `--kv-cache`, or take `--device cpu`"
            )
        );
        check::checkpoint(directory, &directory.display().to_string())?;
        let stored = stored_form(directory)?;
        let config = checkpoint::base(directory).join(CONFIG);
        let outline =
            Outline::of_directory(directory).with_context(|| format!("can't tell the size of {}", config.display()))?;
        let tokens = match tokens.min(outline.architecture().sizes().max_length) {
            0 => 0,
            tokens => tokens + stored.prefix,
        };
        let width: u64 = outline.shapes.keys.iter().map(|&width| width as u64).sum();
        Ok(Self {
            stored: (stored.form, stored.bytes),
            quantized: stored.is_quantized,
            is_adapted: stored.is_adapted,
            // Keys and values.
            cache: 2 * kv_cache.bytes() * width * tokens as u64,
            outline,
            is_cpu: device.is_cpu(),
            memory: device.is_cpu().then(|| device::memory(DeviceChoice::Cpu)).flatten(),
            available: device.is_cpu().then(|| device::available(DeviceChoice::Cpu)).flatten(),
        })
    }

    /// Bytes that the model and its cache take.
    pub fn takes(&self, held: WeightsHeld) -> u64 {
        let weights = match held {
            WeightsHeld::Stored => self.stored.1,
            WeightsHeld::Usual if self.is_adapted && self.stored.0.is_some() => self.stored.1,
            WeightsHeld::Usual => return self.takes(WeightsHeld::Form(WeightForm::F32)),
            WeightsHeld::Form(form) => {
                let of = |role, shape: &[usize]| match (role, shape) {
                    (WeightRole::Linear, &[rows, columns]) => form.bytes([rows, columns]),
                    (WeightRole::Embedding | WeightRole::Head, &[rows, columns]) => {
                        form.of_tables().bytes([rows, columns])
                    }
                    _ => 4 * shape.iter().map(|&size| size as u64).product::<u64>(),
                };
                self.outline.shapes.iter().map(|shape| of(shape.role, &shape.shape)).sum()
            }
        };
        weights + self.cache + BESIDE
    }

    /// What the weights are to be held as by a command.
    ///
    /// # Errors
    /// If there's no room for that, or with `Auto` for anything; with what there is room for.
    pub fn choose(&self, choice: WeightChoice) -> Result<WeightsHeld> {
        let tried: Vec<WeightsHeld> = match choice {
            WeightChoice::Form(form) => vec![WeightsHeld::Form(form)],
            WeightChoice::Auto => self.by_bits(),
        };
        match tried.iter().find(|held| self.fits(**held, Limit::Free)) {
            Some(held) => Ok(*held),
            None => self.refuse(*tried.last().unwrap_or(&WeightsHeld::Usual), "--weights ", Limit::Free),
        }
    }

    /// Whether what is held so can be multiplied with activations in this form.
    ///
    /// # Errors
    /// If the device can't, or there will be no weights of four bits.
    pub fn check_activations(&self, activations: ActivationForm, held: WeightsHeld) -> Result<()> {
        let coarse = matches!(held, WeightsHeld::Form(WeightForm::Int4) | WeightsHeld::Stored);
        if activations == ActivationForm::F32 || (self.is_cpu && coarse) {
            return Ok(());
        }
        if coarse {
            let hint = "leave out `--activations`, or take `--device cpu`";
            bail!(Hinted::with("on a GPU activations are f32".to_owned(), hint))
        }
        bail!(no_int4(activations))
    }

    /// What they're held as where a form is named, and as always where none is: by what stores something, which mustn't choose
    /// by the machine. It may wait for others to give memory back, so that all that the machine has counts.
    ///
    /// # Errors
    /// If there's no room for that; with what there is room for, as `said` before the form.
    pub fn require(&self, form: Option<WeightForm>, said: &str) -> Result<WeightsHeld> {
        let held = form.map_or(WeightsHeld::Usual, WeightsHeld::Form);
        if self.fits(held, Limit::All) { Ok(held) } else { self.refuse(held, said, Limit::All) }
    }

    /// What `Auto` tries, the best first.
    fn by_bits(&self) -> Vec<WeightsHeld> {
        let form = WeightsHeld::Form;
        match self.stored.0 {
            _ if self.quantized => vec![WeightsHeld::Stored, form(WeightForm::Int4)],
            // What kernels of the CPU read as it is, others would expand again and again.
            Some(_) if self.is_cpu => {
                vec![WeightsHeld::Stored, form(WeightForm::Int8), form(WeightForm::Int4)]
            }
            _ => vec![WeightsHeld::Usual, form(WeightForm::Bf16), form(WeightForm::Int8), form(WeightForm::Int4)],
        }
    }

    fn limit(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Free => self.available,
            Limit::All => self.memory,
        }
    }

    fn fits(&self, held: WeightsHeld, limit: Limit) -> bool {
        self.limit(limit).is_none_or(|limit| self.takes(held) <= limit)
    }

    fn refuse<T>(&self, held: WeightsHeld, said: &str, limit: Limit) -> Result<T> {
        let what = match held {
            WeightsHeld::Stored => "as it is stored".to_owned(),
            WeightsHeld::Usual => "in f32".to_owned(),
            WeightsHeld::Form(form) => format!("in {}", form.name()),
        };
        let message = format!(
            "the model takes {} of memory {what}, {} of it for the tokens that it keeps in mind, and {} {}",
            bytes(self.takes(held)),
            bytes(self.cache),
            bytes(self.limit(limit).unwrap_or_default()),
            match limit {
                Limit::Free => "are free",
                Limit::All => "is all that this machine has",
            }
        );
        let fitting = WeightForm::ALL.into_iter().filter(|form| self.fits(WeightsHeld::Form(*form), limit));
        let fitting: Vec<String> = fitting
            .map(|form| format!("`{said}{}` takes {}", form.name(), bytes(self.takes(WeightsHeld::Form(form)))))
            .collect();
        let hint = match fitting.is_empty() {
            true => "no form of it fits; let it keep fewer tokens in mind, or free some memory".to_owned(),
            false => fitting.join(", "),
        };
        bail!(Hinted::new(message, hint))
    }

    /// What `Auto` took, if that's worth a word: what isn't as exact as the files.
    pub fn told(&self, held: WeightsHeld) -> Option<String> {
        let WeightsHeld::Form(form) = held else { return None };
        (form != WeightForm::F32).then(|| {
            format!(
                "the weights are held in {}, the best form that there is room for: {} of the {} that are free",
                form.name(),
                bytes(self.takes(held)),
                bytes(self.available.unwrap_or_default())
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A model of 0.1 million weights in linear layers and 0.4 in its table, with so much memory free beside the program.
    fn room(form: Option<WeightForm>, available: u64) -> ModelRoom {
        let config = json!({
            "model_type": "gpt2", "vocab_size": 6400, "n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 2,
        });
        let outline = Outline::of_config(&config).unwrap();
        let bytes = outline.shapes.count() * 2;
        ModelRoom {
            outline,
            stored: (form, bytes),
            quantized: false,
            is_adapted: false,
            cache: 1000,
            is_cpu: true,
            memory: Some(BESIDE + available),
            available: Some(BESIDE + available),
        }
    }

    #[test]
    fn the_most_bits_that_there_is_room_for_are_taken() {
        let takes = |form| room(None, 0).takes(WeightsHeld::Form(form)) - BESIDE;
        let [f32, bf16, f16, int8, int4] = WeightForm::ALL.map(takes);
        assert_eq!(takes(WeightForm::F32), room(None, 0).takes(WeightsHeld::Usual) - BESIDE);
        assert!(f32 > bf16 && bf16 == f16 && f16 > int8 && int8 > int4, "{:?}", [f32, bf16, f16, int8, int4]);
        let chosen = |stored, available| room(stored, available).choose(WeightChoice::Auto).unwrap();
        assert_eq!(chosen(None, f32), WeightsHeld::Usual);
        assert_eq!(chosen(None, f32 - 1), WeightsHeld::Form(WeightForm::Bf16));
        assert_eq!(chosen(None, bf16 - 1), WeightsHeld::Form(WeightForm::Int8));
        assert_eq!(chosen(None, int8 - 1), WeightsHeld::Form(WeightForm::Int4));
        assert_eq!(chosen(Some(WeightForm::F16), f32), WeightsHeld::Stored);
        assert_eq!(chosen(Some(WeightForm::F16), int8), WeightsHeld::Form(WeightForm::Int8));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_does() {
        let takes = |form| room(None, 0).takes(WeightsHeld::Form(form)) - BESIDE;
        let refused = |room: &ModelRoom, form| {
            let error = room.choose(WeightChoice::Form(form)).unwrap_err();
            let Hinted { message, hint } = error.downcast::<Hinted>().unwrap();
            (message, hint.unwrap())
        };
        let tight = room(None, takes(WeightForm::Int8));
        let (message, hint) = refused(&tight, WeightForm::Bf16);
        assert!(message.starts_with("the model takes 251 MB of memory in bf16"), "{message}");
        assert!(hint.starts_with("`--weights int8` takes") && hint.contains("`--weights int4` takes"), "{hint}");
        let (_, hint) = refused(&room(None, 10), WeightForm::Bf16);
        assert!(hint.starts_with("no form of it fits"), "{hint}");
        // A stage is measured by all that the machine has, and told of that.
        let refused = tight.require(None, "weights: ").unwrap_err().downcast::<Hinted>().unwrap();
        assert!(refused.message.ends_with("is all that this machine has"), "{}", refused.message);
        let busy = ModelRoom { available: Some(0), ..room(None, takes(WeightForm::Int8)) };
        assert_eq!(busy.require(Some(WeightForm::Int8), "").unwrap(), WeightsHeld::Form(WeightForm::Int8));
        assert_eq!(tight.require(Some(WeightForm::Int8), "").unwrap(), WeightsHeld::Form(WeightForm::Int8));
    }
}
