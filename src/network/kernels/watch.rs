//! A look at everything that kernels give: which of them first makes numbers that aren't finite out of finite ones. It waits
//! for the device at each operation, so it's for finding out why a training's numbers are no longer finite.
//!
//! Gradients are looked at where they come into an operation and where they leave it through its first input. Those of its
//! weights aren't, but by whoever has all parameters' gradients in the end.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use burn::tensor::{DType, Tensor};

use super::{
    AttentionSpans, Dropout, Gelu, KeyValue, PrefixKeys, Rotary, RowIds, Weight,
    custom_backward::{Grads, custom_backward},
    operations::Operations,
};

/// Names a kernel that is to give NaN, and after how many calls, such as `layer_norm:40`; with another number behind that, how
/// often. For tests of what happens then.
const FAULT: &str = "PIPE_FAULT";
/// What a fault begins with that isn't there where `PIPE_FUSION` is 0.
const FUSED: &str = "fused/";
const FUSION: &str = "PIPE_FUSION";

thread_local! {
    /// The last step to look at, while one is looked at.
    static LAST: Cell<Option<usize>> = const { Cell::new(None) };
    static FOUND: Cell<Option<NotFinite>> = const { Cell::new(None) };
}

/// Where numbers that aren't finite were first seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotFinite {
    /// The operation, by the name of its function in [`super`].
    pub operation: &'static str,
    /// Whether it was its gradient that was computed.
    pub backward: bool,
    /// Whether it made them out of finite ones, and wasn't given them.
    pub made: bool,
    /// Whether it's a kernel of our own that did, and not a composition of burn's operations.
    pub by_kernel: bool,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, backward, made, by_kernel } = self;
        let of = if *backward { "the gradient of " } else { "" };
        match (made, by_kernel) {
            (true, true) => write!(f, "the kernel of {of}`{operation}` made them out of finite ones"),
            (true, false) => write!(f, "{of}`{operation}` made them out of finite ones"),
            (false, _) => write!(f, "{of}`{operation}` was given them first"),
        }
    }
}

/// Looks at what the operations of this thread give, until it's dropped.
#[derive(Debug)]
pub struct Watch(PhantomData<*const ()>);

impl Watch {
    /// From now on, up to a training's step of this number.
    pub fn until(step: usize) -> Self {
        LAST.set(Some(step));
        forget();
        Self(PhantomData)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        LAST.set(None);
        forget();
    }
}

/// Whether this step is among those to look at. Beyond the last of them operations aren't looked at any more.
pub fn reaches(step: usize) -> bool {
    let reached = LAST.get().is_some_and(|last| step <= last);
    if !reached {
        LAST.set(None);
    }
    reached
}

/// What was found first since a [`Watch`] began, or since [`forget`].
pub fn found() -> Option<NotFinite> {
    FOUND.get()
}

/// Forgets what was found: for gradients that overflow because the loss was scaled up too much.
pub fn forget() {
    FOUND.set(None);
}

/// Whether operations are to go through [`Watched`].
pub(super) fn applies() -> bool {
    is_on() || fault().is_some()
}

fn is_on() -> bool {
    LAST.get().is_some()
}

/// Keeps what is found if nothing was before.
fn note(found: NotFinite) {
    if FOUND.get().is_none() {
        FOUND.set(Some(found));
    }
}

/// A kernel that is to be wrong.
struct Fault {
    operation: String,
    calls: AtomicUsize,
    good: usize,
    bad: usize,
}

impl Fault {
    fn of(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let operation = parts.next()?.to_owned();
        let good = parts.next()?.parse().ok()?;
        let bad = parts.next().map_or(Some(usize::MAX), |bad| bad.parse().ok())?;
        Some(Self { operation, calls: AtomicUsize::new(0), good, bad })
    }

    fn shows(&self, operation: &str) -> bool {
        self.operation == operation
            && self.calls.fetch_add(1, Relaxed).checked_sub(self.good).is_some_and(|beyond| beyond < self.bad)
    }
}

fn fault() -> Option<&'static Fault> {
    static KNOWN: OnceLock<Option<Fault>> = OnceLock::new();
    let known = || {
        let text = std::env::var(FAULT).ok()?;
        let is_unfused = std::env::var(FUSION).is_ok_and(|fusion| fusion == "0");
        match text.strip_prefix(FUSED) {
            Some(_) if is_unfused => None,
            Some(text) => Fault::of(text),
            None => Fault::of(&text),
        }
    };
    KNOWN.get_or_init(known).as_ref()
}

fn is_finite<const D: usize>(tensor: &Tensor<D>) -> bool {
    let sum = tensor.clone().inner().cast(DType::F32).abs().sum();
    sum.try_into_vec_as::<f32>().is_ok_and(|sum| sum.iter().all(|sum| sum.is_finite()))
}

/// Operations that are looked at.
pub(super) struct Watched {
    /// What computes them.
    pub(super) by: &'static dyn Operations,
    /// Whether that has kernels of our own.
    pub(super) kernels: bool,
}

impl Watched {
    /// Computes an operation of `x` and looks at it.
    fn look<const R: usize>(
        &self,
        operation: &'static str,
        x: Tensor<2>,
        compute: impl FnOnce(Tensor<2>) -> Tensor<R>,
    ) -> Tensor<R> {
        let by_kernel = self.kernels;
        let seen = move |made, backward| NotFinite { operation, backward, made, by_kernel };
        if !is_on() {
            return self.spoiled(operation, compute(x));
        }
        // The gradient that leaves the operation.
        let arrived = Arc::new(AtomicBool::new(true));
        let given = Arc::clone(&arrived);
        let inner = x.clone().inner();
        let entered = custom_backward(inner.clone(), vec![x], move |gradient: Tensor<2>| {
            if is_on() && !is_finite(&gradient) {
                note(seen(given.load(Relaxed), true));
            }
            Grads::of([Some(gradient)])
        });
        let y = self.spoiled(operation, compute(entered));
        if !is_finite(&y) {
            note(seen(is_finite(&inner), false));
        }
        // The one that comes into it.
        custom_backward(y.clone().inner(), vec![y], move |gradient: Tensor<R>| {
            let finite = !is_on() || is_finite(&gradient);
            arrived.store(finite, Relaxed);
            if !finite {
                note(seen(false, true));
            }
            Grads::of([Some(gradient)])
        })
    }

    fn spoiled<const R: usize>(&self, operation: &'static str, y: Tensor<R>) -> Tensor<R> {
        let wrong = self.kernels && fault().is_some_and(|fault| fault.shows(operation));
        if wrong { y * f32::NAN } else { y }
    }
}

impl Operations for Watched {
    fn matmul(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        self.look("matmul", a, |a| self.by.matmul(a, b))
    }

    fn attention(&self, qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
        self.look("attention", qkv, |qkv| self.by.attention(qkv, spans, heads, dropout))
    }

    fn grouped_attention(
        &self,
        query: Tensor<2>,
        keys: KeyValue,
        prefix: Option<PrefixKeys>,
        spans: &AttentionSpans,
        heads: usize,
        kv_heads: usize,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        self.look("grouped_attention", query, |query| {
            self.by.grouped_attention(query, keys, prefix, spans, heads, kv_heads, dropout)
        })
    }

    fn rotary(&self, x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
        self.look("rotary", x, |x| self.by.rotary(x, heads, rotary))
    }

    fn rms_norm(&self, x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
        self.look("rms_norm", x, |x| self.by.rms_norm(x, gamma, eps))
    }

    fn layer_norm(&self, x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
        self.look("layer_norm", x, |x| self.by.layer_norm(x, gamma, beta, eps))
    }

    fn gelu(&self, x: Tensor<2>, bias: Option<Tensor<1>>, kind: Gelu) -> Tensor<2> {
        self.look("gelu", x, |x| self.by.gelu(x, bias, kind))
    }

    fn swiglu(&self, x: Tensor<2>) -> Tensor<2> {
        self.look("swiglu", x, |x| self.by.swiglu(x))
    }

    fn silu(&self, x: Tensor<2>) -> Tensor<2> {
        self.look("silu", x, |x| self.by.silu(x))
    }

    fn tanh(&self, x: Tensor<2>) -> Tensor<2> {
        self.look("tanh", x, |x| self.by.tanh(x))
    }

    fn log_softmax(&self, x: Tensor<2>) -> Tensor<2> {
        self.look("log_softmax", x, |x| self.by.log_softmax(x))
    }

    fn sum(&self, x: Tensor<2>) -> Tensor<1> {
        self.look("sum", x, |x| self.by.sum(x))
    }

    fn sum_by_rows(&self, x: Tensor<2>) -> Tensor<2> {
        self.look("sum_by_rows", x, |x| self.by.sum_by_rows(x))
    }

    fn dropout_add(
        &self,
        x: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Tensor<2>,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        self.look("dropout_add", x, |x| self.by.dropout_add(x, bias, residual, dropout))
    }

    fn dropout(&self, x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
        self.look("dropout", x, |x| self.by.dropout(x, dropout))
    }

    fn linear(&self, x: Tensor<2>, weight: Weight, bias: Option<Tensor<1>>) -> Tensor<2> {
        self.look("linear", x, |x| self.by.linear(x, weight, bias))
    }

    fn embedding(&self, table: Weight, ids: &RowIds) -> Tensor<2> {
        // What it's given are weights, whose gradients are a parameter's.
        let y = self.spoiled("embedding", self.by.embedding(table, ids));
        if is_on() && !is_finite(&y) {
            note(NotFinite { operation: "embedding", backward: false, made: true, by_kernel: self.kernels });
        }
        y
    }

    fn add_embedding(&self, sum: Tensor<2>, table: Weight, ids: &RowIds) -> Tensor<2> {
        self.look("embedding", sum, |sum| self.by.add_embedding(sum, table, ids))
    }

    fn linear_cross_entropy(
        &self,
        hidden: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
        targets: Arc<[u32]>,
        weights: Arc<[f32]>,
        smoothing: f32,
    ) -> Tensor<1> {
        self.look("linear_cross_entropy", hidden, |hidden| {
            self.by.linear_cross_entropy(hidden, weight, bias, targets, weights, smoothing)
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::{super::reference::Reference, *};

    const WATCHED: Watched = Watched { by: &Reference, kernels: true };

    fn leaf(value: f32) -> Tensor<2> {
        Tensor::from_data([[value]], &Device::flex()).autodiff().require_grad()
    }

    /// The loss and gradient of `(scale x)²` by an operation whose result and gradient are multiplied by these.
    fn squared(x: &Tensor<2>, result: f32, gradient: f32) -> (f32, f32) {
        let scaled = WATCHED.look("first", x.clone(), |x| x * 2.0);
        let y = WATCHED.look("second", scaled, |x| {
            let plain = x.clone().inner();
            custom_backward(plain.clone() * plain.clone() * result, vec![x], move |grad: Tensor<2>| {
                Grads::of([Some(plain * grad * 2.0 * gradient)])
            })
        });
        let loss = WATCHED.sum(y);
        let grads = loss.backward();
        (loss.into_scalar(), x.grad(&grads).expect("a gradient").into_scalar())
    }

    #[test]
    fn what_is_finite_is_what_it_is_and_nothing_is_found() {
        let x = leaf(3.0);
        let plain = squared(&x, 1.0, 1.0);
        assert_eq!(plain, (36.0, 24.0));
        let _watch = Watch::until(1);
        assert_eq!(squared(&x, 1.0, 1.0), plain);
        assert_eq!(found(), None);
    }

    #[test]
    fn the_first_operation_that_makes_it_is_found() {
        let seen = |operation, backward, made| NotFinite { operation, backward, made, by_kernel: true };
        let look = |x: f32, result, gradient| {
            let _watch = Watch::until(1);
            squared(&leaf(x), result, gradient);
            found()
        };
        assert_eq!(look(3.0, f32::NAN, 1.0), Some(seen("second", false, true)));
        assert_eq!(look(3.0, 1.0, f32::INFINITY), Some(seen("second", true, true)));
        assert_eq!(look(f32::NAN, 1.0, 1.0), Some(seen("first", false, false)));
        assert_eq!(found(), None, "it's over");
    }

    #[test]
    fn it_ends_after_its_last_step() {
        let _watch = Watch::until(2);
        assert!(reaches(1) && reaches(2) && is_on());
        assert!(!reaches(3) && !is_on());
    }

    #[test]
    fn faults_show_after_so_many_calls_so_often() {
        let shown = |text: &str| {
            let fault = Fault::of(text).expect("a fault");
            [0; 4].map(|_| fault.shows("gelu"))
        };
        assert_eq!(shown("gelu:1:2"), [false, true, true, false]);
        assert_eq!(shown("gelu:3"), [false, false, false, true]);
        assert_eq!(shown("silu:0"), [false; 4]);
        assert!(["", "gelu", "gelu:x", "gelu:1:x"].iter().all(|text| Fault::of(text).is_none()));
    }
}
