//! NVIDIA's assembler and disassembler, which need no card.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use super::stand_in::{Kernel, target};
use crate::common::needs::{Need, Needed};

/// Kernels that are assembled as one module: the tools take a second to begin with.
const AT_ONCE: usize = 24;

/// The folder with `ptxas` and `nvdisasm`.
#[derive(Debug)]
pub(super) struct Tools(PathBuf);

/// What the assembler made of a kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Of a thread.
    pub(super) registers: u32,
    /// Bytes of a thread that didn't find a register, stored and loaded.
    pub(super) spilled: u32,
    /// Bytes of a thread in local memory, arrays that aren't registers among them.
    pub(super) stack: u32,
    /// Bytes of a block that are in the module; launches may ask for more.
    pub(super) shared: u32,
    /// The instructions in their order, with labels as lines that end on a colon.
    pub(super) lines: Vec<String>,
}

impl Tools {
    pub(super) fn find() -> Needed<Self> {
        let tools = Self(Need::Ptxas.variable("PIPE_CUDA_TOOLS")?.into());
        for tool in ["ptxas", "nvdisasm"] {
            let answer = Command::new(tools.0.join(tool)).arg("--version").output();
            answer.map_err(|error| Need::Ptxas.unmet(format!("{tool}: {error}")))?;
        }
        Ok(tools)
    }

    /// Assembles all of these for an architecture, and tells of each by its module's digest.
    pub(super) fn assemble(
        &self,
        architecture: &str,
        kernels: &BTreeMap<String, Kernel>,
        folder: &Path,
    ) -> BTreeMap<String, Machine> {
        let all: Vec<(&String, &Kernel)> = kernels.iter().collect();
        let (left, done) = (Mutex::new(all.chunks(AT_ONCE).enumerate()), Mutex::new(BTreeMap::new()));
        let work = || {
            while let Some((number, part)) = { left.lock().expect("no panic").next() } {
                let machines = self.assemble_part(architecture, part, &folder.join(format!("part{number}.ptx")));
                done.lock().expect("no panic").extend(machines);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        done.into_inner().expect("no panic")
    }

    fn assemble_part(&self, architecture: &str, part: &[(&String, &Kernel)], file: &Path) -> Vec<(String, Machine)> {
        std::fs::write(file, joined(architecture, part)).expect("a module");
        let (cubin, target) = (file.with_extension("cubin"), format!("-arch={architecture}"));
        let messages = self.run("ptxas", &["-v".as_ref(), target.as_ref(), "-o".as_ref(), &cubin, file]).1;
        let text = self.run("nvdisasm", &["-c".as_ref(), &cubin]).0;
        let instructions = by_kernel(&text);
        let machine = |(module, kernel): &(&String, &Kernel)| {
            let about = format!("Compiling entry function '{}'", kernel.entry);
            let told = messages.split_once(&about).map(|(_, rest)| rest).expect("the assembler's word on each");
            let told = told.split("Compiling entry function").next().unwrap_or_default();
            let before = |what: &str| number_before(told, what);
            let machine = Machine {
                registers: before(" registers"),
                spilled: before(" bytes spill stores") + before(" bytes spill loads"),
                stack: before(" bytes stack frame"),
                shared: before(" bytes smem"),
                lines: instructions.get(kernel.entry.as_str()).cloned().expect("the kernel's instructions"),
            };
            ((*module).clone(), machine)
        };
        part.iter().map(machine).collect()
    }

    /// What it prints, stdout and stderr.
    fn run(&self, tool: &str, arguments: &[&Path]) -> (String, String) {
        let output = Command::new(self.0.join(tool)).args(arguments).output().expect("a tool that was there");
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{tool}: {err}");
        (out, err)
    }
}

/// Several kernels' modules as one.
fn joined(architecture: &str, part: &[(&String, &Kernel)]) -> String {
    let mut text = String::new();
    for (at, (module, kernel)) in part.iter().enumerate() {
        let own = std::fs::read_to_string(&kernel.file).expect("a module");
        assert_eq!(target(&own), architecture, "{}", kernel.name);
        let is_head = |line: &&str| [".version", ".target", ".address_size"].iter().any(|word| line.starts_with(word));
        for line in own.lines().filter(|line| at == 0 || !is_head(line)) {
            text += &line.replace("cube_shared", &format!("cube_shared_{module}"));
            text.push('\n');
        }
    }
    text
}

/// Each kernel's lines of a disassembly.
fn by_kernel(text: &str) -> BTreeMap<&str, Vec<String>> {
    let mut kernels = BTreeMap::new();
    for section in text.split(".section\t.text.").skip(1) {
        let name = section.split(',').next().unwrap_or_default();
        kernels.insert(name, section.lines().filter_map(instruction).collect());
    }
    kernels
}

/// A line of disassembly without its address, or a label; none for all else.
fn instruction(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with(".L") && line.ends_with(':') {
        return Some(line.to_owned());
    }
    let text = line.strip_prefix("/*")?.split_once("*/")?.1.trim();
    let text = text.split_once(';')?.0.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The number that stands before this text, or 0 where that isn't there.
fn number_before(text: &str, what: &str) -> u32 {
    let before = text.split_once(what).map_or("0", |(before, _)| before);
    let digits = before.rfind(|letter: char| !letter.is_ascii_digit()).map_or(before, |at| &before[at + 1..]);
    digits.parse().expect("a number")
}
