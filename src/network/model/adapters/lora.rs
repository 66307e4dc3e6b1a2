//! LoRA (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>): changes of linear layers of a low rank.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use burn::tensor::Tensor;

use super::peft;
use crate::{
    network::{
        kernels,
        model::{
            heads,
            ids::{MatrixId, WeightId, WeightRole},
            initial::{Initial, ValueSource},
            on_disk::OnDisk,
            parameters::{Builder, Parameters},
            pass::Pass,
        },
    },
    spec,
};

/// The change of a linear layer.
#[derive(Clone, Debug)]
pub(in crate::network::model) struct Lora {
    /// Of the layers that checkpoints have in its place, mostly one.
    parts: Vec<RowUpdate>,
    scale: f32,
    dropout: f32,
}

/// The update of some rows of a weight.
#[derive(Clone, Debug)]
struct RowUpdate {
    rows: usize,
    /// A `[r, in]` and B `[rows, r]`; `None` where these rows don't change.
    change: Option<[MatrixId; 2]>,
}

impl Lora {
    /// `y + scale * B(A dropout(x))` for `x [N, in]` and `y [N, out]`.
    pub(in crate::network::model) fn add_to(&self, pass: &Pass, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let tokens = x.dims()[0];
        let x = match pass.dropout_of(self.dropout, tokens) {
            Some(dropout) => kernels::dropout(x, &dropout),
            None => x,
        };
        let change = |part: &RowUpdate| match part.change {
            Some([a, b]) => {
                let inner = kernels::linear(x.clone(), pass.operand(a), None) * self.scale;
                kernels::linear(inner, pass.operand(b), None)
            }
            None => Tensor::zeros([tokens, part.rows], (&x.device(), x.dtype())),
        };
        match &self.parts[..] {
            [all] => y + change(all),
            parts => y + Tensor::cat(parts.iter().map(change).collect(), 1),
        }
    }
}

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
            RowUpdate { rows, change }
        };
        let parts = modules.iter().map(&mut part).collect();
        let scale = (settings.alpha / settings.r as f64) as f32;
        parameters.adapters.loras.insert(id, Lora { parts, scale, dropout: settings.dropout as f32 });
    }
}

/// Whether a module's name is `target`, or what follows a dot in it is, as PEFT has it.
pub(super) fn ends(module: &str, target: &str) -> bool {
    module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// # Errors
/// Targets that meet no linear layer of the backbone.
pub(super) fn check(parameters: &Parameters, on_disk: &OnDisk, targets: &[String]) -> Result<()> {
    let modules: Vec<String> =
        backbone(parameters).flat_map(|id| on_disk.modules(parameters.described(id).0)).collect();
    let unmet = targets.iter().find(|target| !modules.iter().any(|module| ends(module, target)));
    let Some(target) = unmet else { return Ok(()) };
    // Without the numbers of layers there are but a few names.
    let names: BTreeSet<&str> = modules
        .iter()
        .map(|module| module.rsplit_once(|sign: char| sign.is_ascii_digit()).map_or(&module[..], |(_, name)| name))
        .map(|name| name.trim_start_matches('.'))
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    bail!("no linear layer of the model is called `{target}`; there are {}", names.join(", "));
}

/// The linear layers that an adapter may change: heads are learned themselves, or not at all.
pub(super) fn backbone(parameters: &Parameters) -> impl Iterator<Item = WeightId> {
    parameters.layers.iter().copied().filter(|&id| !heads::is_head(parameters.described(id).0))
}
