//! What instructions say of a kernel.

use super::assembler::Machine;

/// What is between two places of a kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) instructions: u32,
    /// Bytes that a thread reads from the card's memory, and those that it writes.
    pub(super) read: u32,
    pub(super) written: u32,
    /// How many loads there are of each width, 1, 2, 4, 8, 16 and 32 bytes; and stores.
    pub(super) loads: [u32; 6],
    pub(super) stores: [u32; 6],
    /// Products of tiles on tensor cores.
    pub(super) tiles: u32,
    /// Of the unit that has a quarter of the others' rate, or less: exponentials, roots, conversions.
    pub(super) slow: u32,
}

/// Instructions outside of loops, and the bodies of loops that have none in them, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) straight: Count,
    pub(super) loops: Vec<Count>,
    pub(super) all: Count,
}

impl Count {
    fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut count = Self::default();
        for line in lines {
            count.add(line);
        }
        count
    }

    fn add(&mut self, line: &str) {
        let name = mnemonic(line);
        if name == "NOP" {
            return;
        }
        let mut parts = name.split('.');
        let operation = parts.next().unwrap_or_default();
        let parts: Vec<&str> = parts.collect();
        self.instructions += 1;
        let width = width(&parts);
        let slot = width.trailing_zeros() as usize;
        match operation {
            // The second goes straight to shared memory.
            "LDG" | "LDGSTS" => {
                self.read += width;
                self.loads[slot] += 1;
            }
            "STG" => {
                self.written += width;
                self.stores[slot] += 1;
            }
            "HMMA" | "HGMMA" | "BMMA" | "IMMA" | "QMMA" | "OMMA" | "UTCHMMA" => self.tiles += 1,
            "MUFU" | "F2I" | "I2F" | "I2FP" | "FRND" | "F2F" => self.slow += 1,
            _ => {}
        }
    }

    /// Bytes of the widest load.
    pub(super) fn widest_load(&self) -> u32 {
        self.loads.iter().rposition(|&count| count > 0).map_or(0, |slot| 1 << slot)
    }
}

impl Shape {
    pub(super) fn of(machine: &Machine) -> Self {
        let lines = main_path(&machine.lines);
        let loops = innermost(lines);
        let is_inside = |at: usize| loops.iter().any(|&(from, to)| (from..=to).contains(&at));
        let instructions = || lines.iter().enumerate().filter(|(_, line)| !line.ends_with(':'));
        Self {
            straight: Count::of(instructions().filter(|(at, _)| !is_inside(*at)).map(|(_, line)| line.as_str())),
            loops: loops
                .iter()
                .map(|&(from, to)| {
                    Count::of(lines[from..=to].iter().filter(|line| !line.ends_with(':')).map(String::as_str))
                })
                .collect(),
            all: Count::of(instructions().map(|(_, line)| line.as_str())),
        }
    }
}

/// What is run where nothing is out of the ordinary: up to the last end, behind which divisions of denormal numbers and
/// their like have subroutines.
fn main_path(lines: &[String]) -> &[String] {
    let subroutine = lines.iter().position(|line| mnemonic(line).starts_with("RET"));
    let before = subroutine.map_or(lines, |at| &lines[..at]);
    before.iter().rposition(|line| mnemonic(line) == "EXIT").map_or(before, |at| &before[..=at])
}

/// First and last lines of loops that have no other in them.
fn innermost(lines: &[String]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !mnemonic(line).starts_with("BRA") {
            continue;
        }
        let Some(label) = line.split_once("(").and_then(|(_, rest)| rest.split_once(")")).map(|(label, _)| label)
        else {
            continue;
        };
        let Some(start) = lines[..at].iter().position(|other| other.trim_end_matches(':') == label) else { continue };
        if !found.iter().any(|&(from, _)| from >= start) {
            found.push((start, at));
        }
    }
    found
}

/// The operation with its modifiers.
fn mnemonic(line: &str) -> &str {
    let line = line.strip_prefix('@').and_then(|rest| rest.split_once(' ')).map_or(line, |(_, rest)| rest.trim_start());
    line.split_whitespace().next().unwrap_or_default()
}

fn width(modifiers: &[&str]) -> u32 {
    let of = |modifier: &&str| match *modifier {
        "256" => Some(32),
        "128" => Some(16),
        "64" => Some(8),
        "U16" | "S16" => Some(2),
        "U8" | "S8" => Some(1),
        _ => None,
    };
    modifiers.iter().find_map(of).unwrap_or(4)
}
