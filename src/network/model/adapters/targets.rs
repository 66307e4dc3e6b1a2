//! Which linear layers the settings of a stored LoRA mean: PEFT's `check_target_module_exists`, as far as lists of names go.
//! A layer that they mean and that has no change tells of an adapter for another model.

use serde::Deserialize;

use crate::network::model::on_disk::is_called;

/// Every linear layer, in place of names.
const ALL: &str = "all-linear";

/// A pattern, or names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    /// A regular expression of Python's for the whole name, or a name alone.
    One(String),
    /// Names, or their ends.
    Several(Vec<String>),
}

/// Numbers of layers.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Layers {
    /// One layer.
    One(usize),
    /// Some; an empty list stands for all.
    Several(Vec<usize>),
}

/// What a LoRA was put on.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// `target_modules`
    pub(super) modules: Option<Names>,
    /// `exclude_modules`
    pub(super) but: Option<Names>,
    /// `modules_to_save`, which are trained whole
    pub(super) saved: Vec<String>,
    /// `layers_to_transform`
    pub(super) layers: Option<Layers>,
    /// `layers_pattern`: what the list of layers is called
    pub(super) lists: Option<Names>,
}

impl Targets {
    /// The names, where they say all.
    pub(super) fn named(&self) -> Vec<String> {
        match (&self.modules, self.is_restricted()) {
            (Some(Names::Several(names)), false) => names.clone(),
            _ => Vec::new(),
        }
    }

    fn is_restricted(&self) -> bool {
        let layers =
            self.layers.as_ref().is_some_and(|layers| !matches!(layers, Layers::Several(all) if all.is_empty()));
        self.but.is_some() || layers
    }

    /// Whether a linear layer is meant; `None` where a pattern decides.
    pub(super) fn mean(&self, module: &str) -> Option<bool> {
        let ends = |names: &[String]| names.iter().any(|name| is_called(module, name));
        match &self.but {
            Some(Names::One(_)) => return None,
            Some(Names::Several(names)) if ends(names) => return Some(false),
            _ => {}
        }
        // A module that is saved whole, or lies in one, is never a target.
        let within = |name: &String| format!(".{module}.").contains(&format!(".{name}."));
        if self.saved.iter().any(within) {
            return Some(false);
        }
        match self.modules.as_ref()? {
            Names::One(all) if all.to_lowercase() == ALL => Some(true),
            Names::One(_) => None,
            Names::Several(names) => Some(ends(names) && self.is_in_layers(module)),
        }
    }

    fn is_in_layers(&self, module: &str) -> bool {
        let wanted = |layer: usize| match &self.layers {
            None => true,
            Some(Layers::One(one)) => layer == *one,
            Some(Layers::Several(some)) => some.is_empty() || some.contains(&layer),
        };
        let Some((list, layer)) = layer_of(module) else { return !self.is_restricted() };
        let named = match &self.lists {
            None => true,
            Some(Names::One(name)) => name.is_empty() || name == list,
            Some(Names::Several(names)) => names.is_empty() || names.iter().any(|name| name == list),
        };
        wanted(layer) && (self.layers.is_none() || named)
    }
}

/// What the list is called that a module's layer is in, and the layer's number there.
pub(super) fn layer_of(module: &str) -> Option<(&str, usize)> {
    let mut before = "";
    for part in module.split('.') {
        if let Ok(layer) = part.parse() {
            return Some((before, layer));
        }
        before = part;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn several(names: &[&str]) -> Option<Names> {
        Some(Names::Several(names.iter().map(|&name| name.to_owned()).collect()))
    }

    #[test]
    fn settings_mean_the_layers_that_they_mean_in_peft() {
        // `peft.tuners.tuners_utils.check_target_module_exists` of PEFT 0.21.2 with these settings and names.
        let plain = || Targets { modules: several(&["c_attn", "mlp.c_proj"]), ..Targets::default() };
        let cases = [
            (plain(), "transformer.h.0.attn.c_attn", Some(true)),
            (plain(), "transformer.h.1.mlp.c_proj", Some(true)),
            (plain(), "transformer.h.1.attn.c_proj", Some(false)),
            (plain(), "transformer.h.1.attn.xc_attn", Some(false)),
            (Targets { layers: Some(Layers::Several(vec![1])), ..plain() }, "transformer.h.0.attn.c_attn", Some(false)),
            (Targets { layers: Some(Layers::One(1)), ..plain() }, "transformer.h.1.attn.c_attn", Some(true)),
            (Targets { layers: Some(Layers::Several(vec![])), ..plain() }, "transformer.h.0.attn.c_attn", Some(true)),
            (
                Targets { layers: Some(Layers::One(1)), lists: several(&["layers"]), ..plain() },
                "transformer.h.1.attn.c_attn",
                Some(false),
            ),
            (Targets { but: several(&["h.0.attn.c_attn"]), ..plain() }, "transformer.h.0.attn.c_attn", Some(false)),
            (Targets { saved: vec!["attn".into()], ..plain() }, "transformer.h.0.attn.c_attn", Some(false)),
            (
                Targets { modules: Some(Names::One("all-linear".into())), ..Targets::default() },
                "transformer.h.0.attn.c_attn",
                Some(true),
            ),
            (
                Targets { modules: Some(Names::One(r".*\.0\.attn\.c_attn".into())), ..Targets::default() },
                "transformer.h.0.attn.c_attn",
                None,
            ),
        ];
        for (targets, module, expected) in cases {
            assert_eq!(targets.mean(module), expected, "{targets:?} of {module}");
        }
    }
}
