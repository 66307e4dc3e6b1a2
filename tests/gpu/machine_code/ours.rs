//! What is expected of kernels of our own.

use std::{collections::BTreeMap, path::Path};

use super::{
    assembler::Machine,
    occupancy::Multiprocessor,
    sass::Shape,
    stand_in::{Captured, Launch},
};

/// The least share of its threads that a multiprocessor is to have room for. An H100's memory is busy when each of its 132 has
/// 15 KB on their way (3.35 TB/s times 0.6 µs); 900 threads have as much by loads of 16 bytes.
const ROOM: f64 = 0.43;

/// Kernels that the library has, by their names in its source.
fn names() -> Vec<String> {
    let mut names = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/network/kernels/gpu");
    for file in walkdir::WalkDir::new(folder).into_iter().flatten().filter(|file| file.path().is_file()) {
        let text = std::fs::read_to_string(file.path()).expect("a source file");
        // It's for trials of drivers for Vulkan.
        if file.file_name() == "shared.rs" {
            continue;
        }
        for rest in text.split("#[cube(launch)]").skip(1) {
            let name = rest.split_once("fn ").and_then(|(_, rest)| rest.split(['<', '(']).next());
            names.push(name.expect("a function").to_owned());
        }
    }
    assert!(names.len() > 10, "{names:?}");
    names
}

/// The name in the source of a kernel of ours, if it's one.
fn own<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    names
        .iter()
        .find(|own| name.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with("_f_")))
        .map(String::as_str)
}

/// Kernels that are launched beside burn's products, and so in bf16 alone.
const BESIDE_PRODUCTS: [&str; 3] = ["softmax_kernel", "softmax_grads_kernel", "cross_entropy_kernel"];
/// Kernels that take one element at a time.
const BY_ELEMENTS: [&str; 2] = ["rotary_kernel", "squares_kernel"];
/// Elements that others read at once, where rows are made of that many: 16 bytes in f32, 8 in 16 bits.
const AT_ONCE: u32 = 4;

/// Fails unless each kernel was launched in each type.
pub(super) fn assert_all_are_there(captured: &Captured, with_products: bool) {
    for name in &names() {
        for dtype in ["bf16", "f16", "f32"] {
            let beginning = format!("{name}_f_{dtype}");
            let is_there = captured.kernels.values().any(|kernel| kernel.name.starts_with(&beginning));
            let is_left_out = is_one_of(&BESIDE_PRODUCTS, name) && !(with_products && dtype == "bf16");
            assert!(is_there || is_left_out, "{beginning} was never launched");
        }
    }
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.contains(&name)
}

/// What isn't as it should be.
pub(super) fn faults(captured: &Captured, machines: &BTreeMap<String, Machine>) -> Vec<String> {
    let (names, room) = (names(), Multiprocessor::of(&captured.architecture));
    let mut faults = Vec::new();
    let mut launches = BTreeMap::<&str, &Launch>::new();
    for launch in &captured.launches {
        launches.entry(&launch.module).or_insert(launch);
    }
    for (module, launch) in launches {
        let (kernel, machine) = (&captured.kernels[module], &machines[module]);
        let Some(own) = own(&kernel.name, &names) else { continue };
        let mut fault = |what: String| faults.push(format!("{} in {}: {what}", kernel.name, launch.phase));
        if machine.spilled + machine.stack > 0 {
            fault(format!("{} bytes of a thread have no register", machine.spilled + machine.stack));
        }
        // Rows of an odd number of elements begin anywhere.
        let rows_allow = !is_one_of(&BY_ELEMENTS, own) && !launch.phase.ends_with("50257");
        let bytes = AT_ONCE * if kernel.name.contains("_f_f32") { 4 } else { 2 };
        let widest = Shape::of(machine).all.widest_load();
        if rows_allow && widest < bytes {
            fault(format!("reads {widest} bytes at once at most"));
        }
        let resident = room.resident(machine, launch);
        if f64::from(resident) < ROOM * f64::from(room.threads) {
            fault(format!("{} registers leave room for {resident} threads", machine.registers));
        }
    }
    faults
}
