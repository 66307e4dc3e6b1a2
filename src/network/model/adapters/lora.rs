//! LoRA (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>): changes of linear layers of a low rank.

use anyhow::{Result, bail};

use super::{
    layout::{Lora, LoraPart},
    peft,
};
use crate::{
    network::model::{
        builder::Builder,
        heads,
        ids::{WeightId, WeightRole},
        initial::{Initial, ValueSource},
        on_disk::{OnDisk, unmet},
        parameters::Parameters,
    },
    spec,
};

/// Adds A and B to those of the `layers` whose names in checkpoints are `targeted`.
pub(super) fn attach(
    parameters: &mut Parameters,
    layers: Vec<WeightId>,
    on_disk: &OnDisk,
    settings: &spec::Lora,
    targeted: &dyn Fn(&str) -> bool,
    source: &mut dyn ValueSource,
) {
    for id in layers {
        let (name, [rows, width]) = parameters.described(id);
        let modules = on_disk.modules(name);
        if !modules.iter().any(|module| targeted(module)) {
            continue;
        }
        let rows = rows / modules.len();
        let mut part = |module: &String| {
            let change = targeted(module).then(|| {
                let builder = &mut Builder::new(parameters, source);
                // What `kaiming_uniform_(a=√5)` comes to.
                let initial = Initial::Uniform((width as f64).sqrt().recip());
                let [a, b] = peft::keys(module);
                builder.in_role(WeightRole::Adapter, |builder| {
                    let a = builder.matrix(a, [settings.r, width], initial);
                    [a, builder.matrix(b, [rows, settings.r], Initial::Zeros)]
                })
            });
            LoraPart { rows, change }
        };
        let parts = modules.iter().map(&mut part).collect();
        let scale = (settings.alpha / settings.r as f64) as f32;
        parameters.adapters.loras.insert(id, Lora { parts, scale, dropout: settings.dropout as f32 });
    }
}

/// # Errors
/// Targets that meet no linear layer of the backbone.
pub(super) fn check(parameters: &Parameters, on_disk: &OnDisk, targets: &[String]) -> Result<()> {
    let modules: Vec<String> =
        backbone(parameters).flat_map(|id| on_disk.modules(parameters.described(id).0)).collect();
    let Some((target, names)) = unmet(&modules, targets) else { return Ok(()) };
    bail!("no linear layer of the model is called `{target}`; there are {}", names.join(", "));
}

/// The linear layers that an adapter may change: heads are learned themselves, or not at all.
pub(super) fn backbone(parameters: &Parameters) -> impl Iterator<Item = WeightId> {
    parameters.layers.iter().copied().filter(|&id| !heads::is_head(parameters.described(id).0))
}
