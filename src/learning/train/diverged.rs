//! Trainings whose numbers are no longer finite: the error that says so, and what a [`Watch`](watch::Watch) finds out.

use std::fmt;

use anyhow::{Result, bail};
use burn::tensor::Tensor;

use super::{gradients::Gradients, trainer::Trainer};
use crate::{
    network::{kernels::watch, model::first_not_finite},
    support::{Detailed, Hinted},
};

/// What is known of a training whose loss, gradients or weights aren't finite; a detail of its error.
#[derive(Clone, Debug)]
pub struct Diverged {
    /// The step, counted from 1.
    pub step: usize,
    /// Whether a kernel of our own made such numbers out of finite ones, as far as that was looked at.
    pub by_kernel: bool,
    /// What isn't finite, and what is known of the cause.
    pub what: String,
}

impl Trainer {
    /// The error for numbers that aren't finite at a step.
    pub(super) fn diverged(&self, step: usize, what: String, by_kernel: bool) -> Detailed {
        let kept = match &self.last_checkpoint {
            Some((step, place)) => {
                format!("the last good checkpoint, after step {step}, is kept in {}", place.display())
            }
            None => "no checkpoint was saved before; checkpoint_every saves them more often".to_owned(),
        };
        let hint = "try a lower lr, a longer warm-up or a smaller max_grad_norm";
        Detailed::new(Hinted::with(format!("{what}; {kept}"), hint), Diverged { step, by_kernel, what })
    }

    /// Rejects weights that aren't finite before they're saved: training couldn't resume from them. The loss is that of the
    /// weights before the step; those after it may have overflowed already.
    pub(super) fn check_finite(&self) -> Result<()> {
        if !self.network.parameters().are_finite()? {
            let what = format!("the weights are not finite after step {}", self.step);
            bail!(self.diverged(self.step, what, false));
        }
        Ok(())
    }

    /// Looks at the loss and all gradients of the next step, before the weights are changed by them.
    pub(super) fn look_at_gradients(
        &self,
        about: impl fmt::Display,
        loss: &Tensor<1>,
        gradients: &Gradients,
    ) -> Result<()> {
        let step = self.step + 1;
        let loss = first_not_finite([loss.clone().into()].into_iter())?;
        let parameter = gradients.first_not_finite(self.network.parameters())?;
        let mut what = match (loss.is_none(), parameter) {
            (true, None) => return Ok(()),
            (true, Some(name)) => format!("the gradient of `{name}` is not finite at step {step} ({about})"),
            (false, None) => format!("the loss is not finite at step {step} ({about})"),
            (false, Some(name)) => {
                format!("the loss and the gradient of `{name}` are not finite at step {step} ({about})")
            }
        };
        let found = watch::found();
        if let Some(found) = found {
            what += &format!("; {found}");
        }
        bail!(self.diverged(step, what, found.is_some_and(|found| found.made && found.by_kernel)))
    }

    /// Looks at the weights that finite gradients have led to.
    pub(super) fn look_at_weights(&self, about: impl fmt::Display) -> Result<()> {
        let Some(name) = self.network.parameters().first_not_finite()? else { return Ok(()) };
        let step = self.step + 1;
        let what = format!(
            "`{name}` is not finite after step {step} ({about}); the optimizer made it so out of finite numbers"
        );
        bail!(self.diverged(step, what, true))
    }
}
