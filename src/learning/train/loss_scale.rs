//! The factor on losses that keeps gradients within the range of f16 (Micikevicius et al. 2018,
//! <https://arxiv.org/abs/1710.03740>, section 3.2), chosen as training goes.

use serde::{Deserialize, Serialize};

/// Steps without an overflow after which it doubles, as in PyTorch's `GradScaler`.
const PATIENCE: u32 = 2000;
/// What it begins with, as there.
const FIRST: f32 = 65_536.0;
/// Below this, gradients overflow because they're wrong and not because of the scale.
const LEAST: f32 = 1.0 / 65_536.0;

/// A power of two, so that scaling rounds nothing.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct LossScale {
    pub(super) value: f32,
    good: u32,
}

impl LossScale {
    pub(super) fn new() -> Self {
        Self { value: FIRST, good: 0 }
    }

    /// Halves after an overflow; false if that can't help any more.
    pub(super) fn overflowed(&mut self) -> bool {
        *self = Self { value: self.value / 2.0, good: 0 };
        self.value >= LEAST
    }

    /// Notes a step whose gradients were finite.
    pub(super) fn succeeded(&mut self) {
        self.good += 1;
        if self.good == PATIENCE && self.value < f32::MAX / 4.0 {
            *self = Self { value: self.value * 2.0, good: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_halves_on_overflow_and_doubles_after_many_good_steps() {
        let mut scale = LossScale::new();
        assert!(scale.overflowed());
        assert_eq!(scale.value, 32_768.0);
        (0..PATIENCE).for_each(|_| scale.succeeded());
        assert_eq!(scale.value, 65_536.0);
    }

    #[test]
    fn gradients_that_are_never_finite_come_to_an_end() {
        let mut scale = LossScale::new();
        assert_eq!((0..).take_while(|_| scale.overflowed()).count(), 32);
    }
}
