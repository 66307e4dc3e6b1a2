//! Random numbers as pure functions of what they belong to.
//!
//! A [`Key`] is a hash of a path such as seed → purpose → epoch → example. Whoever knows the path can draw the numbers
//! again, in any order and on any thread; there's no state that has to be replayed. Where one place needs a sequence
//! of unknown length, it starts a [`Stream`] from its key. A key is good for one draw, or for one stream: it gives the
//! same numbers each time.
//!
//! Keys are combined with the finalizer of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number
//! generators", variant 13 of Stafford's constants), and a stream is SplitMix64 itself.

/// The odd integer closest to 2^64 divided by the golden ratio: the step of a Weyl sequence.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64: a bijection in which each input bit sways each output bit.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// What a random number belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key(u64);

impl Key {
    /// The root of everything drawn from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ STEP))
    }

    /// The key for one purpose, so that two uses of the same indices don't draw the same numbers.
    #[must_use]
    pub fn with(self, purpose: &str) -> Self {
        let text = purpose.bytes().fold(purpose.len() as u64, |hash, byte| mix(hash ^ u64::from(byte)));
        self.at(text)
    }

    /// The key at an index: an epoch, an example, a position.
    #[must_use]
    pub const fn at(self, index: u64) -> Self {
        Self(mix(self.0 ^ mix(index.wrapping_add(STEP))))
    }

    /// A uniform integer.
    pub const fn u64(self) -> u64 {
        mix(self.0.wrapping_add(STEP))
    }

    /// A uniform number in `[0, 1)`, a multiple of 2^-53.
    pub fn f64(self) -> f64 {
        unit(self.u64())
    }

    /// A uniform integer in `[0, n)`, or 0 for `n` = 0.
    pub fn below(self, n: usize) -> usize {
        scale(self.u64(), n)
    }

    /// A sequence of numbers.
    pub const fn stream(self) -> Stream {
        Stream(self.0)
    }
}

/// A sequential generator, started from a key.
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The next uniform integer.
    pub const fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// The next uniform number in `[0, 1)`.
    pub fn f64(&mut self) -> f64 {
        unit(self.u64())
    }

    /// The next uniform integer in `[0, n)`, or 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        scale(self.u64(), n)
    }

    /// Puts the items into a uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A uniformly random order of `0..n`.
pub fn shuffle(key: Key, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    key.stream().shuffle(&mut order);
    order
}

/// A distribution over `0..n`.
#[derive(Clone, Debug)]
pub struct Categorical {
    /// Sums of the weights up to and with each outcome.
    cumulative: Vec<f64>,
}

impl Categorical {
    /// Outcomes by weight; `None` where no weight is positive or one is negative, infinite or not a number.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut total = 0.0;
        let mut cumulative = Vec::new();
        for weight in weights {
            if !(weight >= 0.0 && weight.is_finite()) {
                return None;
            }
            total += weight;
            cumulative.push(total);
        }
        (total > 0.0).then_some(Self { cumulative })
    }

    /// Outcome `i` is `i + 1`: a Poisson distribution of this mean, restricted to `1..=most`.
    pub fn poisson(mean: f64, most: usize) -> Option<Self> {
        let mut weight = 1.0;
        Self::new((1..=most).map(|k| {
            weight *= mean / k as f64;
            weight
        }))
    }

    /// The outcome at a uniform number in `[0, 1)`; never one without weight.
    pub fn pick(&self, uniform: f64) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = uniform * total;
        // Rounding can bring `at` up to the total; the last outcome that has weight takes it then.
        let end = self.cumulative.partition_point(|&sum| sum < total);
        self.cumulative.partition_point(|&sum| sum <= at).min(end)
    }
}

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// The high word of the product: uniform but for a bias of `n / 2^64`, which nothing here can see.
fn scale(bits: u64, n: usize) -> usize {
    ((u128::from(bits) * n as u128) >> 64) as usize
}
