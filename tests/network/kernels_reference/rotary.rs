//! Rotary position embedding, as rotations in double precision.

use half::f16;
use pipe::network::kernels::{self, RotaryPairs, Rotation};

use super::{assert_right, input};

/// Pairs of elements rotated by their definition.
fn rotated(x: &[f64], positions: &[u32], heads: usize, rotation: &Rotation) -> Vec<f64> {
    let mut out = x.to_vec();
    let size = x.len() / positions.len() / heads;
    for (i, head) in out.chunks_exact_mut(size).enumerate() {
        for pair in 0..rotation.pairs {
            let step = rotation.base.powf(-(pair as f64) / rotation.pairs as f64);
            let step = if rotation.half { f16::from_f64(step).to_f64() } else { step };
            let (sin, cos) = (f64::from(positions[i / heads]) * step).sin_cos();
            let (first, second) = match rotation.layout {
                RotaryPairs::Interleaved => (2 * pair, 2 * pair + 1),
                RotaryPairs::Halves => (pair, pair + rotation.pairs),
            };
            let (first, second) = (rotation.offset + first, rotation.offset + second);
            let (a, b) = (head[first], head[second]);
            (head[first], head[second]) = (a * cos - b * sin, a * sin + b * cos);
        }
    }
    out
}

#[test]
fn pairs_turn_by_their_token_s_angle_and_the_rest_stays() {
    let (positions, heads, size) = ([0, 1, 2, 0, 9], 3, 10);
    for layout in [RotaryPairs::Interleaved, RotaryPairs::Halves] {
        for (pairs, offset) in [(5, 0), (2, 0), (2, 4), (1, 8), (3, 4)] {
            let rotation = Rotation { base: 1e4, pairs, layout, offset, half: false };
            let rotary = rotation.at(&positions);
            assert_right(
                &format!("{rotation:?}"),
                &[input(1, positions.len(), heads * size, 2.0)],
                |x| kernels::rotary(x[0].clone(), heads, &rotary),
                |x| rotated(&x[0], &positions, heads, &rotation),
            );
        }
    }
}

#[test]
fn half_precision_angles_are_those_of_half_precision() {
    let (positions, heads, size) = ([0, 1, 7, 30], 2, 8);
    let rotation = Rotation { base: 1e4, pairs: 4, layout: RotaryPairs::Halves, offset: 0, half: true };
    let rotary = rotation.at(&positions);
    assert_right(
        "half",
        &[input(1, positions.len(), heads * size, 2.0)],
        |x| kernels::rotary(x[0].clone(), heads, &rotary),
        |x| rotated(&x[0], &positions, heads, &rotation),
    );
}

#[test]
fn two_dimensions_are_a_rotation_of_each_half() {
    let (positions, blocks, heads, size) = ([3, 4, 4, 4], [0, 0, 1, 2], 2, 8);
    let along = Rotation { base: 1e4, pairs: 2, layout: RotaryPairs::Halves, offset: 0, half: false };
    let across = Rotation { offset: 4, ..along };
    let (first, second) = (along.at(&positions), across.at(&blocks));
    assert_right(
        "two dimensions",
        &[input(1, positions.len(), heads * size, 2.0)],
        |x| kernels::rotary(kernels::rotary(x[0].clone(), heads, &first), heads, &second),
        |x| rotated(&rotated(&x[0], &positions, heads, &along), &blocks, heads, &across),
    );
}
