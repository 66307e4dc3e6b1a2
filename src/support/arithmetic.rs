//! How the CPU computes: as fast as this processor can, or alike on every processor.
//!
//! A choice for the whole process. Training on the CPU takes sums in an order that depends on the processor's vectors, with
//! fused multiply-add where there is one, and the platform's `exp`, `ln` and so on: the same recipe gives results that
//! differ in their last bits from machine to machine. In portable mode it doesn't.

use std::sync::atomic::{AtomicU8, Ordering};

/// The environment variable that chooses.
pub const VARIABLE: &str = "PIPE_KERNELS";

/// How numbers are computed on the CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Arithmetic {
    /// The fastest kernels of this processor.
    #[default]
    Fast,
    /// The same bits on every x86-64 and aarch64 processor, with any number of threads: sums in an order of our own, no fused
    /// multiply-add, nothing of the platform's mathematical library.
    Portable,
}

const UNDECIDED: u8 = 0;
const FAST: u8 = 1;
const PORTABLE: u8 = 2;

static CHOSEN: AtomicU8 = AtomicU8::new(UNDECIDED);

impl Arithmetic {
    /// What this process uses: what was chosen, or else what the environment asks for.
    #[inline]
    pub fn current() -> Self {
        match CHOSEN.load(Ordering::Relaxed) {
            FAST => Self::Fast,
            PORTABLE => Self::Portable,
            _ => Self::first(),
        }
    }

    #[cold]
    fn first() -> Self {
        let asked = Self::from_environment().unwrap_or_default();
        asked.choose();
        asked
    }

    /// Decides for this process. To be called before anything is computed: what was begun in one mode isn't resumed alike in the
    /// other.
    pub fn choose(self) {
        let chosen = match self {
            Self::Fast => FAST,
            Self::Portable => PORTABLE,
        };
        CHOSEN.store(chosen, Ordering::Relaxed);
    }

    /// What `PIPE_KERNELS` asks for: `fast`, which is the default, or `portable`.
    ///
    /// # Errors
    /// Other values.
    pub fn from_environment() -> Result<Self, String> {
        match std::env::var_os(VARIABLE) {
            Some(value) => Self::parse(&value.to_string_lossy()),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "fast" => Ok(Self::Fast),
            "portable" => Ok(Self::Portable),
            _ => Err(format!("invalid {VARIABLE} `{text}`; expected fast or portable")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_others_refused() {
        assert_eq!(Arithmetic::parse("portable"), Ok(Arithmetic::Portable));
        assert_eq!([Arithmetic::parse("fast"), Arithmetic::parse("")], [Ok(Arithmetic::Fast), Ok(Arithmetic::Fast)]);
        assert!(Arithmetic::parse("Portable").is_err_and(|error| error.contains("`Portable`")));
    }
}
