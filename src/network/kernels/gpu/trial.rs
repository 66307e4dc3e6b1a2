//! Whether a device's kernels come out right. Drivers and compilers differ, so each device is tried before its first use:
//! a small network's loss and gradients have to be the CPU's. Where they aren't, its tensors take the compositions.

use std::{panic::resume_unwind, sync::Arc, thread};

use anyhow::{Result, anyhow, ensure};
use burn::{
    backend::DispatchDevice,
    tensor::{DType, Device, Tensor, TensorData},
};
use parking_lot::Mutex;

use super::TYPES;
use crate::{
    network::kernels::{self, AttentionSpans, Dropout, Gelu, RotaryPairs, Rotation, RowIds},
    support::panics::caught_everywhere,
};

/// Rows of the table, and so logits of a row: enough for several planes to share them.
const CLASSES: usize = 1200;

/// What is known of devices and element types: why kernels aren't used there, if they aren't.
static KNOWN: Mutex<Vec<(Device, DType, Option<String>)>> = Mutex::new(Vec::new());

fn known(device: &Device, dtype: DType) -> Option<Result<(), String>> {
    let known = KNOWN.lock();
    let found = known.iter().find(|(other, same, _)| other == device && *same == dtype);
    found.map(|(.., reason)| reason.clone().map_or(Ok(()), Err))
}

fn learn(device: &Device, dtype: DType, reason: Option<String>) {
    let mut known = KNOWN.lock();
    known.retain(|(other, same, _)| other != device || *same != dtype);
    known.push((device.clone(), dtype, reason));
}

/// Whether kernels are used on a device for an element type, which are tried if that hasn't been done.
///
/// # Errors
/// Why they aren't.
pub(in crate::network::kernels) fn try_out(device: &Device, dtype: DType) -> Result<(), String> {
    if let Some(known) = known(device, dtype) {
        return known;
    }
    // The trial itself is to use them.
    learn(device, dtype, None);
    let outcome = match device.as_dispatch() {
        DispatchDevice::Cube(_) => compare(device, dtype).map_err(|error| format!("{error:#}")),
        _ => Err("it isn't a GPU".to_owned()),
    };
    learn(device, dtype, outcome.clone().err());
    outcome
}

/// Uses no kernels on a device from now on, whatever a trial said.
pub(in crate::network::kernels) fn give_up(device: &Device, reason: &str) {
    TYPES.into_iter().for_each(|dtype| learn(device, dtype, Some(reason.to_owned())));
}

/// Uses kernels on a device for an element type whatever a trial says.
pub(in crate::network::kernels) fn use_untried(device: &Device, dtype: DType) {
    learn(device, dtype, None);
}

fn compare(device: &Device, dtype: DType) -> Result<()> {
    let expected = results(&Device::flex(), dtype)?;
    let on = device.clone();
    // On a thread of its own: what is left in the queue of one that fails stays there.
    let run = || thread::spawn(move || results(&on, dtype)).join().unwrap_or_else(|panic| resume_unwind(panic));
    let found = caught_everywhere(run)??;
    let tolerance = if dtype == DType::F32 { 1e-3 } else { 0.1 };
    ensure!(found.len() == expected.len(), "they give {} values instead of {}", found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let near = (found - expected).abs() <= tolerance * expected.abs().max(1.0);
        ensure!(near, "value {at} of a trial is {found} instead of {expected}");
    }
    Ok(())
}

/// Loss and gradients of a layer that has all kernels in it, and the weights after a step.
fn results(device: &Device, dtype: DType) -> Result<Vec<f32>> {
    let (tokens, width) = (6, 8);
    let on = device.clone().autodiff();
    let noise = |seed: f32, shape: [usize; 2]| {
        let values = (0..shape[0] * shape[1]).map(|at| (at as f32 * seed).sin()).collect::<Vec<f32>>();
        Tensor::<2>::from_data(TensorData::new(values, shape), &on).require_grad()
    };
    let row = |x: &Tensor<2>| x.clone().flatten::<1>(0, 1);
    let inputs =
        [noise(1.1, [CLASSES, width]), noise(1.3, [3 * width, width]), noise(1.7, [1, width]), noise(1.9, [1, width])];
    let [table, weight, gamma, beta] = &inputs;
    let dropout = Dropout { p: 0.25, keys: Arc::from([3, 1, 4, 1, 5, 9]), site: 2 };

    let factor = weight.clone().cast(dtype);
    let x = kernels::embedding(table.clone(), &RowIds::new(vec![1, 4, 1, 0, 1111, 3], &on)).cast(dtype);
    let normed = kernels::layer_norm(x.clone(), row(gamma), row(beta), 1e-5);
    let rotation = Rotation { base: 1e4, pairs: 2, layout: RotaryPairs::Interleaved, offset: 0, half: false };
    let qkv = kernels::rotary(kernels::linear(normed, factor.clone(), None), 6, &rotation.at(&[0, 1, 2, 3, 4, 5]));
    let spans = AttentionSpans::new(&[0, 0, 0, 3, 3, 3], &[1, 2, 3, 4, 5, 6], 1, tokens, &on)?;
    let context = kernels::attention(qkv, &spans, 2, Some(&dropout));
    let x = kernels::dropout_add(context, Some(row(beta)), x, Some(&dropout));
    let wide = kernels::linear(kernels::rms_norm(x.clone(), row(gamma), 1e-5), factor, None);
    let gate = kernels::gelu(wide.clone().narrow(1, 0, 2 * width), Gelu::Tanh);
    let x = x + kernels::swiglu(gate) + kernels::bias_gelu(wide.narrow(1, 0, width), row(beta), Gelu::Erf);
    let x = kernels::log_softmax(kernels::silu(x.clone())) + kernels::tanh(x);
    let (targets, weights) = (Arc::from([2, 0, 1111, 4, 4, 3]), Arc::from([0.5, 0.25, 0.0, 0.1, 0.1, 0.05]));
    let loss = kernels::linear_cross_entropy(x, table.clone().cast(dtype), None, targets, weights, 0.1);

    let found = loss.backward();
    let grads = inputs.each_ref().map(|input| input.grad(&found));
    let norm = kernels::norm(device, [], grads.iter().flatten());
    let rule = kernels::AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 1 };
    let mut results = vec![loss.inner()];
    for (input, grad) in inputs.into_iter().zip(grads) {
        let Some(grad) = grad else { continue };
        let (stepped, _) = rule.update_on_device(input.inner(), grad.clone(), None, Some(&norm));
        results.extend([grad.flatten(0, 1), stepped.flatten(0, 1)]);
    }
    Tensor::cat(results, 0).try_into_vec_as().map_err(|error| anyhow!("can't read their results: {error:?}"))
}
