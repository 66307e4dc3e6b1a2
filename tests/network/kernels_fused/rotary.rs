//! Rotary position embedding.

use pipe::network::kernels::{self, RotaryPairs, Rotation, reference};

use super::{assert_same, inputs};

#[test]
fn rotary() {
    let shapes = [(1, 1, 1, 0, 2), (3, 2, 4, 0, 8), (33, 4, 16, 16, 64), (130, 3, 3, 1, 9), (70, 1, 32, 0, 128)];
    for (tokens, heads, pairs, offset, size) in shapes {
        for layout in [RotaryPairs::Interleaved, RotaryPairs::Halves] {
            let positions: Vec<u32> = (0..tokens as u32).map(|i| i * 37 % 1000).collect();
            let rotary = Rotation { base: 1e4, pairs, layout, offset, half: false }.at(&positions);
            assert_same(
                &format!("{layout:?} {tokens} {heads} {pairs}"),
                &inputs(&[([tokens, heads * size], 2.0)], &[]),
                |(m, _)| kernels::rotary(m[0].clone(), heads, &rotary),
                |(m, _)| reference::rotary(m[0].clone(), heads, &rotary),
                1e-6,
            );
        }
    }
}
