//! Linear layer on Hugging Face's layout of weights.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    buffer::{room, tensor, vector},
    compact::{multiply as multiply_compact, multiply_back},
    kernel::{Kernel, elements, shape},
    matrix::{By, Matrix, MatrixMut, Store, multiply},
    rows,
};
use crate::network::kernels::Compact;

/// See [`crate::network::kernels::linear`]; inputs are x, weight, bias.
#[derive(Clone, Debug)]
pub(super) struct Linear;

/// The same with a weight that is never learned; inputs are x and bias.
#[derive(Clone, Debug)]
pub(super) struct CompactLinear(pub(super) Compact);

/// The rows if the weight's gradient will be wanted, the weight if the rows' will.
type Saved = [Option<FlexTensor>; 2];

/// All of a tensor.
fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let [rows, columns] = shape(tensor);
    Matrix::new(elements(tensor), rows, columns, columns)
}

/// A product as a new tensor.
fn matmul(rows: usize, columns: usize, a: Matrix, b: Matrix) -> FlexTensor {
    let mut out = room(rows * columns);
    multiply(MatrixMut::new(&mut out, rows, columns, columns), Store::Replace, 1.0, a, b, By::All);
    tensor(out, [rows, columns])
}

fn run(x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
    let ([tokens, _], [width, _]) = (shape(x), shape(weight));
    let Some(bias) = bias else {
        return matmul(tokens, width, matrix(x), matrix(weight).t());
    };
    let mut out = room(tokens * width);
    let bias = elements(bias);
    out.par_chunks_mut(width.max(1)).with_min_len(rows::PART).for_each(|row| row.copy_from_slice(bias));
    let place = MatrixMut::new(&mut out, tokens, width, width);
    multiply(place, Store::Add, 1.0, matrix(x), matrix(weight).t(), By::All);
    tensor(out, [tokens, width])
}

fn saved(x: FlexTensor, weight: FlexTensor, tracked: [bool; 2]) -> Saved {
    [tracked[1].then_some(x), tracked[0].then_some(weight)]
}

fn grads([x, weight]: Saved, gradient: &FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
    let [tokens, width] = shape(gradient);
    let d_x = weight.filter(|_| wanted[0]).map(|w| matmul(tokens, shape(&w)[1], matrix(gradient), matrix(&w)));
    let d_weight = x.filter(|_| wanted[1]).map(|x| matmul(width, shape(&x)[1], matrix(gradient).t(), matrix(&x)));
    [d_x, d_weight]
}

fn d_bias(gradient: &FlexTensor) -> FlexTensor {
    let [_, width] = shape(gradient);
    vector(rows::column_sums(elements(gradient), width))
}

impl Kernel<2> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight]: [FlexTensor; 2], tracked: [bool; 2]) -> (FlexTensor, Saved) {
        (run(&x, &weight, None), saved(x, weight, tracked))
    }

    fn backward(&self, saved: Saved, gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        grads(saved, &gradient, wanted)
    }
}

impl Kernel<3> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3], [a, b, _]: [bool; 3]) -> (FlexTensor, Saved) {
        (run(&x, &weight, Some(&bias)), saved(x, weight, [a, b]))
    }

    fn backward(&self, saved: Saved, gradient: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [a, b, bias] = wanted;
        let [d_x, d_weight] = grads(saved, &gradient, [a, b]);
        [d_x, d_weight, bias.then(|| d_bias(&gradient))]
    }
}

/// See [`crate::network::kernels::matmul`]; inputs are `[M, K]` and `[K, N]`.
#[derive(Clone, Debug)]
pub(super) struct MatMul;

impl Kernel<2> for MatMul {
    type Saved = [FlexTensor; 2];

    fn forward(&self, [a, b]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, Self::Saved) {
        (matmul(shape(&a)[0], shape(&b)[1], matrix(&a), matrix(&b)), [a, b])
    }

    fn backward(&self, [a, b]: Self::Saved, gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [rows, columns] = shape(&gradient);
        let inner = shape(&a)[1];
        let d_a = wanted[0].then(|| matmul(rows, inner, matrix(&gradient), matrix(&b).t()));
        let d_b = wanted[1].then(|| matmul(inner, columns, matrix(&a).t(), matrix(&gradient)));
        [d_a, d_b]
    }
}

impl Kernel<1> for CompactLinear {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
        (multiply_compact(&x, &self.0, None), ())
    }

    fn backward(&self, (): (), gradient: FlexTensor, wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        wanted.map(|wanted| wanted.then(|| multiply_back(&gradient, &self.0)))
    }
}

impl Kernel<2> for CompactLinear {
    type Saved = ();

    fn forward(&self, [x, bias]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, ()) {
        (multiply_compact(&x, &self.0, Some(&bias)), ())
    }

    fn backward(&self, (): (), gradient: FlexTensor, [x, bias]: [bool; 2]) -> [Option<FlexTensor>; 2] {
        [x.then(|| multiply_back(&gradient, &self.0)), bias.then(|| d_bias(&gradient))]
    }
}
