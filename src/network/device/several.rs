//! Several devices of one machine, which share the steps of a training: how they're written, and what they're opened as.

use std::{fmt, str::FromStr};

use anyhow::{Result, anyhow, bail};
use burn::tensor::Device;

use super::{DeviceChoice, OpenDevice, gpus};

/// No machine has more of them; a number above is a slip of the pen.
const MOST: usize = 64;

/// What `--devices`, or a recipe's `devices`, asks for: one device, or several of one backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceChoices {
    /// The one that measures, stores and does all that isn't shared.
    pub first: DeviceChoice,
    /// Those that training is shared with.
    pub others: Vec<DeviceChoice>,
    /// Whether all further ones of the backend are meant too.
    all: bool,
}

/// Devices that were opened.
#[derive(Clone, Debug)]
pub struct OpenDevices {
    /// The one that measures, stores and does all that isn't shared.
    pub first: OpenDevice,
    /// Those that training is shared with.
    pub others: Vec<OpenDevice>,
}

impl From<DeviceChoice> for DeviceChoices {
    fn from(first: DeviceChoice) -> Self {
        Self { first, others: Vec::new(), all: false }
    }
}

impl FromStr for DeviceChoices {
    type Err = anyhow::Error;

    /// Reads `cuda:0-3`, `cuda:0,cuda:2` or a name alone: `cuda` is all NVIDIA GPUs there are, and `auto` those too where
    /// there are any. `cpu:0-1` is the CPU in two roles, for trying things out.
    fn from_str(text: &str) -> Result<Self> {
        if let "auto" | "cuda" = text {
            return Ok(Self { all: true, ..text.parse::<DeviceChoice>()?.into() });
        }
        let mut found: Vec<(DeviceChoice, usize)> = Vec::new();
        for item in text.split(',').map(str::trim) {
            for (choice, number) in numbered(item)? {
                if let Some(&(first, other)) = found.first()
                    && first.backend() != choice.backend()
                {
                    bail!(
                        "{} and {} are of different backends, and devices that share a training are of one\nhint: such \
                         as `cuda:0-3`",
                        shown(first, other),
                        shown(choice, number)
                    );
                }
                if found.iter().any(|&(_, other)| other == number) {
                    bail!("{} is named twice\nhint: each device has one share of a step", shown(choice, number));
                }
                found.push((choice, number));
            }
        }
        let mut choices = found.into_iter().map(|(choice, _)| choice);
        let first = choices.next().ok_or_else(|| anyhow!("no device is named"))?;
        Ok(Self { first, others: choices.collect(), all: false })
    }
}

/// The devices that one item of a list names, with their numbers.
fn numbered(item: &str) -> Result<Vec<(DeviceChoice, usize)>> {
    let Some((name, numbers)) = item.split_once(':') else {
        return match item.parse().map_err(|_| unknown(item))? {
            DeviceChoice::Auto => bail!("`auto` stands alone\nhint: `cuda:0,cuda:2` names two GPUs, `cuda:0-3` four"),
            choice => Ok(vec![(choice, 0)]),
        };
    };
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else { return Err(unknown(item)) };
    if first > last {
        bail!("`{item}` counts backwards\nhint: `{name}:{last}-{first}` names the same devices");
    }
    if last >= MOST {
        bail!("there is no device `{name}:{last}`\nhint: the first is `{name}:0`, and there are {MOST} at most");
    }
    let choice = |number: usize| match name {
        "cuda" => Some((DeviceChoice::Cuda(number), number)),
        "cpu" => Some((DeviceChoice::Cpu, number)),
        _ => None,
    };
    (first..=last).map(choice).collect::<Option<_>>().ok_or_else(|| unknown(item))
}

fn unknown(item: &str) -> anyhow::Error {
    anyhow!(
        "unknown device `{item}`\nhint: known are auto, cpu, cuda, vulkan, wgpu and metal; `cuda:0,cuda:2` names two GPUs, \
         `cuda:0-3` four, and `cuda` all"
    )
}

fn shown(choice: DeviceChoice, number: usize) -> String {
    match choice {
        DeviceChoice::Cpu | DeviceChoice::Cuda(_) => format!("`{}:{number}`", choice.backend()),
        _ => format!("`{choice}`"),
    }
}

impl fmt::Display for DeviceChoices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.names().join(", "))
    }
}

impl DeviceChoices {
    /// With all devices that are meant, where a name alone stands for those there are. Nothing is opened.
    ///
    /// # Errors
    /// A backend that this build lacks.
    pub fn found(self) -> Result<Self> {
        self.first.check_support()?;
        let backend = match self.first {
            DeviceChoice::Auto if self.all && gpus() > 1 => DeviceChoice::Cuda(0),
            first => first,
        };
        let others = match backend {
            DeviceChoice::Cuda(_) if self.all => (1..gpus()).map(DeviceChoice::Cuda).collect(),
            _ => self.others,
        };
        Ok(Self { first: backend, others, all: false })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// What each is called.
    fn names(&self) -> Vec<String> {
        let all = [self.first].into_iter().chain(self.others.iter().copied());
        match self.first {
            DeviceChoice::Cpu if self.count() > 1 => (0..self.count()).map(|number| format!("cpu:{number}")).collect(),
            _ => all.map(|choice| choice.to_string()).collect(),
        }
    }

    /// Opens each of them.
    ///
    /// # Errors
    /// The first that can't be opened, and why.
    pub fn open(&self) -> Result<OpenDevices> {
        let mut first = self.first.open()?;
        let mut others = self.others.iter().map(|choice| choice.open()).collect::<Result<Vec<_>>>()?;
        if first.is_cpu() && !others.is_empty() {
            for (open, name) in [&mut first].into_iter().chain(&mut others).zip(self.names()) {
                open.name = name;
            }
        }
        Ok(OpenDevices { first, others })
    }
}

impl OpenDevices {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &OpenDevice> {
        [&self.first].into_iter().chain(&self.others)
    }

    /// Where tensors are made, the first device first.
    pub fn devices(&self) -> Vec<Device> {
        self.all().map(|open| open.device.clone()).collect()
    }

    /// Their names.
    pub fn name(&self) -> String {
        self.all().map(|open| open.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DeviceChoices {
        text.parse().unwrap()
    }

    #[test]
    fn lists_and_ranges_name_devices() {
        use DeviceChoice::{Auto, Cpu, Cuda, Vulkan};

        let choices = |first, others: &[DeviceChoice]| DeviceChoices { first, others: others.to_vec(), all: false };
        assert_eq!(read("cuda:0-3"), choices(Cuda(0), &[Cuda(1), Cuda(2), Cuda(3)]));
        assert_eq!(read("cuda:2, cuda:0"), choices(Cuda(2), &[Cuda(0)]));
        assert_eq!(read("cuda:0-1,cuda:3"), choices(Cuda(0), &[Cuda(1), Cuda(3)]));
        assert_eq!(read("cpu:0-1"), choices(Cpu, &[Cpu]));
        assert_eq!(read("cuda:1"), choices(Cuda(1), &[]));
        assert_eq!(read("vulkan"), choices(Vulkan, &[]));
        assert_eq!(read("cpu"), choices(Cpu, &[]));
        assert!(read("cuda").all && read("auto").all && read("auto").first == Auto);
        assert_eq!(read("cuda:0-1,cuda:3").to_string(), "cuda:0, cuda:1, cuda:3");
        assert_eq!(read("cpu:0-1").to_string(), "cpu:0, cpu:1");
    }

    #[test]
    fn mistakes_in_lists_are_named() {
        let mistakes = [
            ("gpu", "unknown device `gpu`\n"),
            ("", "unknown device ``\n"),
            ("cuda:0,", "unknown device ``\n"),
            ("cuda:0,1", "unknown device `1`\n"),
            ("cuda:x-2", "unknown device `cuda:x-2`\n"),
            ("vulkan:0-1", "unknown device `vulkan:0-1`\n"),
            ("cuda:0,auto", "`auto` stands alone\n"),
            ("cuda:3-1", "`cuda:3-1` counts backwards\nhint: `cuda:1-3` names the same devices"),
            ("cuda:0-1,cuda:1", "`cuda:1` is named twice\n"),
            ("vulkan,vulkan", "`vulkan` is named twice\n"),
            ("cuda:1,cpu:1", "`cuda:1` and `cpu:1` are of different backends"),
            ("cpu:0-99999999", "there is no device `cpu:99999999`\n"),
        ];
        for (text, expected) in mistakes {
            let error = text.parse::<DeviceChoices>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(error.contains("\nhint: "), "{text}: {error}");
        }
    }

    #[test]
    fn cpu_opens_in_several_roles() {
        let open = read("cpu:0-2").found().unwrap().open().unwrap();
        assert_eq!((open.name(), open.devices().len()), ("cpu:0, cpu:1, cpu:2".to_owned(), 3));
        assert_eq!(read("cpu").open().unwrap().name(), "cpu");
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn all_devices_of_a_build_without_gpus_are_the_cpu() {
        let auto = read("auto").found().unwrap();
        assert_eq!((auto.first, auto.count()), (DeviceChoice::Auto, 1));
        let error = read("cuda").found().unwrap_err().to_string();
        assert!(error.starts_with("this build has no cuda backend"), "{error}");
    }
}
