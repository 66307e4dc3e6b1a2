//! Inputs and comparisons that the kernels' tests share.

use burn::tensor::{Device, Tensor, TensorData};

/// Numbers in [-1, 1), the same for the same seed.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

/// A tensor of such numbers times `scale`.
pub(crate) fn random<const D: usize>(seed: u64, shape: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = noise(seed, shape.iter().product()).into_iter().map(|x| x * scale).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The elements.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Fails unless each element is as near as `tolerance` times the greatest magnitude (at least 1).
#[track_caller]
pub(crate) fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    let scale = expected.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "{what}[{i}]: {f} instead of {e} (scale {scale})");
    }
}

/// Examples one after the other with a visible length for each of their tokens, then padding: from and to.
pub(crate) fn intervals(examples: &[Vec<usize>], padding: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for example in examples {
        let start = from.len();
        from.extend(example.iter().map(|_| start as u32));
        to.extend(example.iter().map(|n| (start + n) as u32));
    }
    let end = from.len() as u32;
    from.extend(std::iter::repeat_n(end, padding));
    to.extend(std::iter::repeat_n(end, padding));
    (from, to)
}
