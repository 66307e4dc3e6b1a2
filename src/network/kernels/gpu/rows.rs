//! What kernels over rows have in common: sums and maxima over the units of a cube, and the hash behind dropout.

use burn_cubecl::cubecl::{self, prelude::*};

use crate::network::kernels::dropout::{FACTORS, WEYL};

/// Sum of a vector's elements.
#[cube]
pub(super) fn total<N: Size>(elements: Vector<f32, N>) -> f32 {
    let mut sum = elements.extract(0usize);
    #[unroll]
    for at in 1..N::value() {
        sum += elements.extract(at);
    }
    sum
}

/// Largest of a vector's elements.
#[cube]
pub(super) fn largest<N: Size>(elements: Vector<f32, N>) -> f32 {
    let mut most = elements.extract(0usize);
    #[unroll]
    for at in 1..N::value() {
        most = max(most, elements.extract(at));
    }
    most
}

/// Sum over all units of the cube, known to each; all of them have to come by. See [`super::launch::Grid`] for `planes`.
#[cube]
pub(super) fn sum(value: f32, #[comptime] planes: u32) -> f32 {
    gathered(value, planes, false)
}

/// Maximum over all units of the cube, likewise.
#[cube]
pub(super) fn most(value: f32, #[comptime] planes: u32) -> f32 {
    gathered(value, planes, true)
}

#[cube]
fn gathered(value: f32, #[comptime] planes: u32, #[comptime] largest: bool) -> f32 {
    let of_plane = if largest { plane_max(value) } else { plane_sum(value) };
    if planes == 1 {
        of_plane
    } else {
        let mut parts = Shared::<[f32]>::new_slice(planes as usize);
        if UNIT_POS_PLANE == 0 {
            parts[(UNIT_POS / PLANE_DIM) as usize] = of_plane;
        }
        sync_cube();
        let mut all = parts[0];
        let mut plane = 1u32;
        while plane < CUBE_DIM / PLANE_DIM {
            all = joined(all, parts[plane as usize], largest);
            plane += 1;
        }
        // Nobody writes the next parts before all have read these.
        sync_cube();
        all
    }
}

#[cube]
fn joined(a: f32, b: f32, #[comptime] largest: bool) -> f32 {
    if largest { max(a, b) } else { a + b }
}

/// The positions of a vector's elements, of which `first` is the first's.
#[cube]
pub(super) fn places<N: Size>(first: u32) -> Vector<u32, N> {
    let mut places = Vector::<u32, N>::new(first);
    #[unroll]
    for at in 0..N::value() {
        places.insert(at, first + u32::cast_from(at));
    }
    places
}

/// See [`crate::network::kernels::dropout`]: the hash of each element.
#[cube]
pub(super) fn mix<N: Size>(elements: Vector<u32, N>) -> Vector<u32, N> {
    let far = Vector::<u32, N>::new(16u32);
    let near = Vector::<u32, N>::new(15u32);
    let mut x = elements;
    x = (x ^ (x >> far)) * Vector::<u32, N>::new(FACTORS[0]);
    x = (x ^ (x >> near)) * Vector::<u32, N>::new(FACTORS[1]);
    x ^ (x >> far)
}

/// See [`crate::network::kernels::Dropout`]: where the random numbers of a token begin; `site` is that of the place and the lane.
#[cube]
pub(super) fn stream(key: u32, site: u32) -> u32 {
    let one = Vector::<u32, Const<1>>::new(key) ^ mix(Vector::<u32, Const<1>>::new(site));
    mix(one).extract(0usize)
}

/// What the elements at these positions of a stream are multiplied by.
#[cube]
pub(super) fn kept<N: Size>(stream: u32, places: Vector<u32, N>, threshold: u32, scale: f32) -> Vector<f32, N> {
    let hash = mix(Vector::<u32, N>::new(stream) + places * Vector::<u32, N>::new(WEYL));
    let dropped = hash.less_than(&Vector::<u32, N>::new(threshold));
    select_many(dropped, Vector::<f32, N>::new(0f32), Vector::<f32, N>::new(scale))
}
