//! What is run on the stand-in driver: every kernel of ours, forward and backward, at the widths of the benchmarks' models,
//! and with them burn's products in attention and before the loss.

use std::{io::Write, path::Path, sync::Arc};

use burn::tensor::{DType, Device, Tensor};
use pipe::network::{
    device::keep_caches,
    kernels::{self, AdamWStep, AttentionSpans, Dropout, Gelu, RotaryPairs, Rotation, RowIds},
};

/// GPT-2's and BERT's width, heads, and classes.
const HIDDEN: usize = 768;
const HEADS: usize = 12;
const CLASSES: [usize; 2] = [50_257, 30_528];
/// Texts of a batch, and tokens of a text.
const ROWS: usize = 8;
const WIDTH: usize = 512;
const TOKENS: usize = ROWS * WIDTH;

/// A product for which nothing is timed.
pub(super) const UNTUNED: &str = "bf16 product without autotune";

/// Not a test of its own: a process that finds the stand-in driver has to run it.
#[test]
#[ignore = "for a process that finds the stand-in driver"]
fn steps_on_the_stand_in() {
    let folder = std::env::var_os("STANDIN_FOLDER").expect("a folder");
    let folder = Path::new(&folder);
    let capability = std::env::var("STANDIN_CAPABILITY").expect("a capability");
    keep_caches(&folder.join("caches"), "stand-in");
    let device = Device::cuda(0);
    let phase = |name: &str| {
        device.sync().expect("a device that is done");
        let mut log = std::fs::File::options().append(true).create(true).open(folder.join("log")).expect("a log");
        writeln!(log, "phase {name}").expect("a line");
    };
    let types = [("bf16", DType::BF16), ("f16", DType::F16), ("f32", DType::F32)];
    types.iter().for_each(|(_, dtype)| kernels::use_untried(&device, *dtype));
    for (name, dtype) in types {
        phase(&format!("{name} between products"));
        between_products(dtype, &device);
        if name == "bf16" && super::has_products(&capability) {
            phase("bf16 attention");
            attention(dtype, &device);
            for classes in CLASSES {
                phase(&format!("bf16 loss of {classes}"));
                loss(dtype, classes, &device);
            }
        }
    }
    if super::has_products(&capability) {
        phase(UNTUNED);
        kernels::stop_tuning();
        kernels::matmul(plain([TOKENS, HIDDEN], &device), plain([HIDDEN, HIDDEN], &device));
    }
    phase("end");
}

fn tracked(shape: [usize; 2], dtype: DType, device: &Device) -> Tensor<2> {
    Tensor::<2>::zeros(shape, (&device.clone().autodiff(), dtype)).require_grad()
}

fn plain(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::zeros(shape, (device, DType::BF16))
}

fn dropout() -> Dropout {
    Dropout { p: 0.1, keys: (0..TOKENS as u32).collect(), site: 2 }
}

fn between_products(dtype: DType, device: &Device) {
    // Each time anew: a backward pass uses up all that its result was made of.
    let (x, wide) = (|| tracked([TOKENS, HIDDEN], dtype, device), || tracked([TOKENS, 4 * HIDDEN], dtype, device));
    let learned = |width: usize| tracked([1, width], DType::F32, device).flatten::<1>(0, 1);
    let vector = || learned(HIDDEN);
    let positions: Vec<u32> = (0..TOKENS as u32).map(|at| at % WIDTH as u32).collect();
    let rotation = Rotation { base: 1e4, pairs: 32, layout: RotaryPairs::Halves, offset: 0, half: false };
    let interleaved = Rotation { layout: RotaryPairs::Interleaved, ..rotation };
    let results = [
        kernels::layer_norm(x(), vector(), vector(), 1e-5),
        kernels::rms_norm(x(), vector(), 1e-5),
        kernels::bias_gelu(wide(), learned(4 * HIDDEN), Gelu::Tanh),
        kernels::bias_gelu(wide(), learned(4 * HIDDEN), Gelu::Erf),
        kernels::gelu(x(), Gelu::Erf),
        kernels::swiglu(wide()),
        kernels::silu(x()),
        kernels::tanh(x()),
        kernels::log_softmax(x()),
        kernels::dropout_add(x(), Some(vector()), x(), Some(&dropout())),
        kernels::rotary(x(), HEADS, &rotation.at(&positions)),
        kernels::rotary(x(), HEADS, &interleaved.at(&positions)),
    ];
    for result in results {
        result.backward();
    }
    let on = device.clone().autodiff();
    let ids: Vec<u32> = (0..TOKENS as u32).map(|at| at * 7 % 1000).collect();
    kernels::embedding(tracked([1000, HIDDEN], dtype, device), &RowIds::new(ids, &on)).backward();
    let (values, gradient) =
        (tracked([HIDDEN, HIDDEN], DType::F32, device).inner(), tracked([HIDDEN, HIDDEN], dtype, device).inner());
    let norm = kernels::norm(device, [], [&gradient]);
    let rule = AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 1 };
    rule.update_on_device(values, gradient, None, Some(&norm));
}

fn attention(dtype: DType, device: &Device) {
    let from: Vec<u32> = (0..TOKENS as u32).map(|at| at - at % WIDTH as u32).collect();
    let to: Vec<u32> = (1..=TOKENS as u32).collect();
    let spans = AttentionSpans::new(&from, &to, ROWS, WIDTH, &device.clone().autodiff()).expect("intervals");
    kernels::attention(tracked([TOKENS, 3 * HIDDEN], dtype, device), &spans, HEADS, Some(&dropout())).backward();
}

fn loss(dtype: DType, classes: usize, device: &Device) {
    let (hidden, weight) = (tracked([1024, HIDDEN], dtype, device), tracked([classes, HIDDEN], dtype, device));
    let (targets, weights) = (Arc::from([7; 1024]), Arc::from([1e-3; 1024]));
    kernels::linear_cross_entropy(hidden, weight, None, targets, weights, 0.1).backward();
}
