//! Bias, dropout and residual connection in one pass.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{owned, vector},
    kernel::{Kernel, elements, shape},
    rows,
};

use crate::network::kernels::{Dropout, dropout::multiplier, simd::simd};

/// See [`crate::network::kernels::dropout_add`] and [`crate::network::kernels::dropout`]; inputs are x, residual, bias.
#[derive(Clone, Debug)]
pub(super) struct DropoutAdd(pub(super) Option<Dropout>);

impl DropoutAdd {
    fn run(&self, x: FlexTensor, residual: Option<&FlexTensor>, bias: Option<&FlexTensor>) -> FlexTensor {
        let [_, width] = shape(&x);
        let mut out = owned(x);
        let (residual, bias) = (residual.map(elements), bias.map(elements));
        rows::for_each(out.storage_mut(), width, |first, part| {
            for (i, row) in part.chunks_exact_mut(width).enumerate() {
                let token = first + i;
                if let Some(bias) = bias {
                    rows::add(row, bias);
                }
                self.drop(token, row);
                if let Some(residual) = residual {
                    rows::add(row, &residual[token * width..][..width]);
                }
            }
        });
        out
    }

    /// The gradient of x, and of the bias if asked for.
    fn grads(&self, gradient: FlexTensor, bias: bool) -> (FlexTensor, Option<FlexTensor>) {
        let [_, width] = shape(&gradient);
        match (&self.0, bias) {
            (None, false) => (gradient, None),
            (None, true) => {
                let sums = rows::column_sums(elements(&gradient), width);
                (gradient, Some(vector(sums)))
            }
            (Some(_), _) => {
                let mut grads = owned(gradient);
                let sums = if bias { width } else { 0 };
                let sums = rows::for_each_with_sums(grads.storage_mut(), width, sums, |first, part, sums| {
                    for (i, row) in part.chunks_exact_mut(width).enumerate() {
                        self.drop(first + i, row);
                        rows::add(sums, row);
                    }
                });
                (grads, bias.then(|| vector(sums)))
            }
        }
    }

    fn drop(&self, token: usize, row: &mut [f32]) {
        if let Some(dropout) = &self.0 {
            drop_row(row, dropout.stream(token, 0), dropout.threshold(), dropout.scale());
        }
    }
}

simd! {
    fn drop_row(row: &mut [f32], stream: u32, threshold: u32, scale: f32) {
        for (i, x) in row.iter_mut().enumerate() {
            *x *= multiplier(stream, i as u32, threshold, scale);
        }
    }
}

impl Kernel<1> for DropoutAdd {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
        (self.run(x, None, None), ())
    }

    fn backward(&self, (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.grads(gradient, false).0)]
    }
}

impl Kernel<2> for DropoutAdd {
    type Saved = ();

    fn forward(&self, [x, residual]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, ()) {
        (self.run(x, Some(&residual), None), ())
    }

    fn backward(&self, (): (), gradient: FlexTensor, [x, residual]: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let residual = residual.then(|| gradient.clone());
        [x.then(|| self.grads(gradient, false).0), residual]
    }
}

impl Kernel<3> for DropoutAdd {
    type Saved = ();

    fn forward(&self, [x, residual, bias]: [FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, ()) {
        (self.run(x, Some(&residual), Some(&bias)), ())
    }

    fn backward(&self, (): (), gradient: FlexTensor, [_, residual, bias]: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let residual = residual.then(|| gradient.clone());
        let (x, bias) = self.grads(gradient, bias);
        [Some(x), residual, bias]
    }
}
