//! Custom autograd operations on any backend: for compositions of tensor operations whose activations would take too much
//! memory if autodiff differentiated each of them.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

#[cfg(feature = "gpu")]
use burn::backend::Cube;
use burn::{
    backend::{
        Autodiff, Backend, BackendTensor, Dispatch, DispatchKindConversion, DispatchTensor, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::Tensor,
};
use parking_lot::Mutex;

/// The most inputs that a result may have.
const INPUTS: usize = 3;

/// Gradients of a result's inputs, and of further tensors that it was made of.
#[derive(Debug, Default)]
pub struct Grads {
    inputs: Vec<Option<DispatchTensor>>,
    leaves: Vec<(DispatchTensor, DispatchTensor)>,
}

impl Grads {
    /// Those of the inputs, in their order; frozen inputs need none.
    pub fn of<const D: usize>(inputs: impl IntoIterator<Item = Option<Tensor<D>>>) -> Self {
        let inputs = inputs.into_iter().map(|grad| grad.map(Tensor::into_dispatch)).collect();
        Self { inputs, leaves: Vec::new() }
    }

    /// Adds that of a leaf that isn't among the inputs.
    pub fn push<const D: usize>(&mut self, leaf: Tensor<D>, grad: Tensor<D>) {
        self.leaves.push((leaf.into_dispatch(), grad.into_dispatch()));
    }
}

/// `output`, which was computed without autodiff, as the result of up to three `inputs` in autodiff's graph.
///
/// `rule` gives their gradients from that of the output, both without autodiff; it's run once at most. It may go back
/// through graphs of its own, as long as none of the tensors recorded before are in them.
///
/// # Panics
/// More inputs.
pub fn custom_backward<const R: usize, const D: usize>(
    output: Tensor<R>,
    inputs: Vec<Tensor<D>>,
    rule: impl FnOnce(Tensor<R>) -> Grads + Send + 'static,
) -> Tensor<R> {
    assert!(inputs.len() <= INPUTS, "a result of {} inputs", inputs.len());
    if !inputs.iter().any(Tensor::is_autodiff) {
        return output;
    }
    let rule = Rule::new(|gradient| rule(Tensor::from_dispatch(gradient)));
    let output = output.into_dispatch();
    // The graph wants a fixed number of inputs; the output is a constant, and stands for those there aren't.
    let mut inputs = inputs.into_iter().map(Tensor::into_dispatch);
    let [a, b, c] = std::array::from_fn(|_| inputs.next().unwrap_or_else(|| output.clone()));
    Tensor::from_dispatch(Dispatch::record(rule, output, a, b, c))
}

/// Forks a tensor so that its gradients are added up in a fixed order: the first copy is for the next use, the second for
/// all later ones.
///
/// Otherwise autodiff adds up a tensor's gradients in the order of its traversal, which depends on the whole graph. Where
/// each use takes its copy from such a fork, they're added pairwise from the last use to the first.
pub fn fork_in_order<const D: usize>(tensor: &Tensor<D>) -> [Tensor<D>; 2] {
    let same = || custom_backward(tensor.clone().inner(), vec![tensor.clone()], |gradient| Grads::of([Some(gradient)]));
    [same(), same()]
}

/// The backward rule; can be taken once.
#[derive(Clone)]
struct Rule(Arc<Mutex<Option<Box<Apply>>>>);

type Apply = dyn FnOnce(DispatchTensor) -> Grads + Send;

impl Rule {
    fn new(rule: impl FnOnce(DispatchTensor) -> Grads + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(rule)))))
    }

    fn apply(&self, gradient: DispatchTensor) -> Grads {
        let rule = self.0.lock().take();
        rule.map(|rule| rule(gradient)).unwrap_or_default()
    }
}

impl Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Rule")
    }
}

/// How rules enter autodiff's graph.
#[backend_extension(
    Flex,
    Cube: cfg(feature = "gpu"),
    Autodiff
)]
trait Recorded: Backend {
    /// The output, with a rule for the gradients of the inputs.
    fn record(
        rule: Rule,
        output: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Recorded for Flex {
    fn record(
        _: Rule,
        output: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        output
    }
}

#[cfg(feature = "gpu")]
impl Recorded for Cube {
    fn record(
        _: Rule,
        output: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        output
    }
}

impl<B, C> Recorded for Autodiff<B, C>
where
    B: Backend,
    C: CheckpointStrategy,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    fn record(
        rule: Rule,
        output: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [a, b, c].each_ref().map(|input| input.node());
        let output = output.into_primitive();
        match Backward::<B, INPUTS>::prepare::<C>(BackwardStep, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(rule, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct BackwardStep;

impl<B: Backend> Backward<B, INPUTS> for BackwardStep
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    type State = Rule;

    fn backward(self, ops: Ops<Rule, INPUTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let gradient = <DispatchTensor as DispatchKindConversion<B>>::from_backend(BackendTensor::Float(gradient));
        let Grads { inputs, leaves } = ops.state.apply(gradient);
        for (parent, grad) in ops.parents.into_iter().zip(inputs) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                gradients.register::<B>(parent.id, primitive::<B>(grad));
            }
        }
        for (leaf, grad) in leaves {
            gradients.register::<B>(primitive::<Autodiff<B>>(leaf).id(), primitive::<B>(grad));
        }
    }
}

/// A backend's own tensor.
fn primitive<B: Backend>(tensor: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let tensor = <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor);
    tensor.unwrap_or_else(|error| unreachable!("a rule stays on its backend: {error}")).float()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn leaf(value: f32) -> Tensor<1> {
        Tensor::from_data([value], &Device::flex()).autodiff().require_grad()
    }

    fn number(tensor: Option<Tensor<1>>) -> Option<f32> {
        tensor.map(|tensor| tensor.into_scalar())
    }

    #[test]
    fn gradients_go_on_from_inputs_and_come_to_leaves_beside_them() {
        let (a, b, beside) = (leaf(2.0), leaf(3.0), leaf(5.0));
        let doubled = a.clone() * 2.0;
        let output = Tensor::from_data([7.0], &Device::flex());
        let other = beside.clone();
        let result = custom_backward(output, vec![doubled, b.clone()], move |gradient: Tensor<1>| {
            let mut grads = Grads::of([Some(gradient.clone() * 10.0), None]);
            grads.push(other, gradient * 100.0);
            grads
        });
        let sum = result * 3.0 + beside.clone();
        assert_eq!(number(Some(sum.clone().inner())), Some(26.0));
        let found = sum.backward();
        assert_eq!([&a, &b, &beside].map(|x| number(x.grad(&found))), [Some(60.0), None, Some(301.0)]);
    }

    #[test]
    fn a_rule_may_go_back_through_a_graph_of_its_own() {
        let a = leaf(3.0);
        let value = a.clone().inner();
        let result = custom_backward(value.clone() * value.clone(), vec![a.clone()], move |gradient: Tensor<1>| {
            let again = value.autodiff().require_grad();
            let mut found = (again.clone() * again.clone() * gradient).backward();
            Grads::of([again.grad_remove(&mut found)])
        });
        assert_eq!(number(a.grad(&(result * 2.0).backward())), Some(12.0));
    }

    #[test]
    fn gradients_of_a_divided_tensor_come_together_from_the_last_user_to_the_first() {
        let all = leaf(1.0);
        // In another order the small ones would be lost beside the large one.
        let mut rest = all.clone();
        let mut sum = Tensor::zeros([1], &Device::flex().autodiff());
        for scale in [1e8, 5.0, 5.0] {
            let [own, others] = fork_in_order(&rest);
            sum = sum + own * scale;
            rest = others;
        }
        assert_eq!(number(all.grad(&sum.backward())), Some(1e8 + 10.0));
    }

    #[test]
    fn what_is_not_learned_stays_a_constant() {
        let plain = Tensor::<1>::from_data([1.0], &Device::flex());
        let never = |_: Tensor<1>| -> Grads { unreachable!("nothing is learned") };
        assert!(!custom_backward(plain.clone(), vec![plain.clone()], never).is_autodiff());
        assert!(!custom_backward(plain.clone(), vec![plain.autodiff()], never).is_tracked());
    }
}
