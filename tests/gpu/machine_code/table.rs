//! The kernels of a step as a table, for docs/performance.md.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    assembler::Machine,
    occupancy::Multiprocessor,
    sass::{Count, Shape},
    stand_in::{Captured, Launch},
};

/// Of each kernel of a phase: launches, threads, registers, what a thread does.
pub(super) fn of(captured: &Captured, machines: &BTreeMap<String, Machine>, phase: &str) -> String {
    let mut launches = BTreeMap::<(&str, &str), Vec<&Launch>>::new();
    for launch in captured.launches.iter().filter(|launch| launch.phase == phase) {
        let name = captured.kernels[&launch.module].name.as_str();
        launches.entry((name, &launch.module)).or_default().push(launch);
    }
    let mut text = format!("{phase}, {}\n\n", captured.architecture);
    text += "| kernel | launches | blocks of threads | registers | spilled | shared | threads at a time | loads | stores | instructions | loops |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|---|\n";
    for ((name, module), launches) in launches {
        let (machine, shape) = (&machines[module], Shape::of(&machines[module]));
        let mut grids: Vec<String> =
            launches.iter().map(|launch| format!("{} × {}", launch.blocks(), launch.threads())).collect();
        grids.dedup();
        let room = Multiprocessor::of(&captured.architecture);
        let resident = room.resident(machine, launches[0]);
        let loops: Vec<String> = shape.loops.iter().map(told).collect();
        writeln!(
            text,
            "| `{name}` | {} | {} | {} | {} | {} | {resident} | {} | {} | {} | {} |",
            launches.len(),
            grids.join(", "),
            machine.registers,
            machine.spilled + machine.stack,
            machine.shared.max(launches[0].shared),
            widths(&shape.all.loads),
            widths(&shape.all.stores),
            told(&shape.straight),
            loops.join(", "),
        )
        .expect("a line");
    }
    text
}

fn told(count: &Count) -> String {
    let Count { instructions, read, written, slow, tiles, .. } = count;
    format!("{instructions} ({read} B in, {written} B out, {slow} slow, {tiles} tiles)")
}

/// How many there are of each width, in bytes.
fn widths(counts: &[u32; 6]) -> String {
    let some = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    some.map(|(slot, count)| format!("{count} × {}", 1 << slot)).collect::<Vec<_>>().join(", ")
}
