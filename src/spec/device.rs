//! Devices by name: what a recipe's `device` and `devices` ask for, and the command line's options of those names.

use std::{borrow::Cow, fmt, str::FromStr};

use anyhow::{Result, anyhow, bail};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::support::Hinted;

/// No machine has more of them; a number above is a slip of the pen.
const MOST: usize = 64;

/// One device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DeviceChoice {
    /// CUDA, then a real GPU through Vulkan, Metal or wgpu, then the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
    /// A GPU through Vulkan; a software driver where there's no other.
    Vulkan,
    /// A GPU through whichever graphics API wgpu settles on.
    Wgpu,
    /// A GPU through Metal.
    Metal,
}

impl DeviceChoice {
    /// The words for devices; `cuda` may be followed by a number.
    pub const NAMES: [&str; 6] = ["auto", "cpu", "cuda", "vulkan", "wgpu", "metal"];

    /// The backend's name.
    pub fn backend(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Metal => "metal",
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "cuda" => Self::Cuda(0),
            "vulkan" => Self::Vulkan,
            "wgpu" => Self::Wgpu,
            "metal" => Self::Metal,
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(index)) => Self::Cuda(index),
                _ => bail!("unknown device `{text}`; known are auto, cpu, cuda, cuda:N, vulkan, wgpu and metal"),
            },
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
            other => formatter.write_str(other.backend()),
        }
    }
}

/// One device, or several of one backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceChoices {
    /// The one that measures, stores and does all that isn't shared.
    pub first: DeviceChoice,
    /// Those that training is shared with.
    pub others: Vec<DeviceChoice>,
    /// Whether all further ones of the backend are meant too.
    pub all: bool,
}

impl From<DeviceChoice> for DeviceChoices {
    fn from(first: DeviceChoice) -> Self {
        Self { first, others: Vec::new(), all: false }
    }
}

impl FromStr for DeviceChoices {
    type Err = anyhow::Error;

    /// Reads `cuda:0-3`, `cuda:0,cuda:2` or a name alone: `cuda` is all NVIDIA GPUs there are, and `auto` those too where
    /// there are any. `cpu:0-1` is two virtual CPU devices, for trying things out.
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
                    let (first, second) = (shown(first, other), shown(choice, number));
                    bail!(Hinted::new(
                        format!(
                            "{first} and {second} are of different backends, and devices that share a training are of one"
                        ),
                        "such as `cuda:0-3`".to_owned()
                    ));
                }
                if found.iter().any(|&(_, other)| other == number) {
                    bail!(Hinted::new(
                        format!("{} is named twice", shown(choice, number)),
                        "each device has one share of a step".to_owned()
                    ));
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
            DeviceChoice::Auto => {
                bail!(Hinted::new("`auto` stands alone", "`cuda:0,cuda:2` names two GPUs, `cuda:0-3` four".to_owned()))
            }
            choice => Ok(vec![(choice, 0)]),
        };
    };
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else { bail!(unknown(item)) };
    if first > last {
        bail!(Hinted::new(
            format!("`{item}` counts backwards"),
            format!("`{name}:{last}-{first}` names the same devices")
        ));
    }
    if last >= MOST {
        bail!(Hinted::new(
            format!("there is no device `{name}:{last}`"),
            format!("the first is `{name}:0`, and there are {MOST} at most")
        ));
    }
    let choice = |number: usize| match name {
        "cuda" => Some((DeviceChoice::Cuda(number), number)),
        "cpu" => Some((DeviceChoice::Cpu, number)),
        _ => None,
    };
    Ok((first..=last).map(choice).collect::<Option<_>>().ok_or_else(|| unknown(item))?)
}

fn unknown(item: &str) -> Hinted {
    let hint = "known are auto, cpu, cuda, vulkan, wgpu and metal; `cuda:0,cuda:2` names two GPUs, `cuda:0-3` four, and \
                `cuda` all";
    Hinted::new(format!("unknown device `{item}`"), hint.to_owned())
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
    /// How many are named.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// What each is called.
    pub fn names(&self) -> Vec<String> {
        let all = [self.first].into_iter().chain(self.others.iter().copied());
        match self.first {
            DeviceChoice::Cpu if self.count() > 1 => (0..self.count()).map(|number| format!("cpu:{number}")).collect(),
            _ => all.map(|choice| choice.to_string()).collect(),
        }
    }
}

/// A recipe's `device`: one device, as it's written and as it's understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    text: String,
    /// The device.
    pub choice: DeviceChoice,
}

impl Default for Device {
    fn default() -> Self {
        Self { text: DeviceChoice::Auto.to_string(), choice: DeviceChoice::Auto }
    }
}

/// A recipe's `devices`: a list such as `cuda:0-3`, as it's written and as it's understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Devices {
    text: String,
    /// The devices.
    pub choices: DeviceChoices,
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let choice = text.parse().map_err(de::Error::custom)?;
        Ok(Self { text, choice })
    }
}

impl Serialize for Devices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let choices = text.parse().map_err(de::Error::custom)?;
        Ok(Self { text, choices })
    }
}

/// Both are text to the schema; what text is checked where the recipe is.
impl JsonSchema for Device {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl JsonSchema for Devices {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Devices".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DeviceChoices {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3", "vulkan", "wgpu", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
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
            ("gpu", "unknown device `gpu`"),
            ("", "unknown device ``"),
            ("cuda:0,", "unknown device ``"),
            ("cuda:0,1", "unknown device `1`"),
            ("cuda:x-2", "unknown device `cuda:x-2`"),
            ("vulkan:0-1", "unknown device `vulkan:0-1`"),
            ("cuda:0,auto", "`auto` stands alone"),
            ("cuda:3-1", "`cuda:3-1` counts backwards"),
            ("cuda:0-1,cuda:1", "`cuda:1` is named twice"),
            ("vulkan,vulkan", "`vulkan` is named twice"),
            (
                "cuda:1,cpu:1",
                "`cuda:1` and `cpu:1` are of different backends, and devices that share a training are of one",
            ),
            ("cpu:0-99999999", "there is no device `cpu:99999999`"),
        ];
        for (text, expected) in mistakes {
            let error = Hinted::of(&text.parse::<DeviceChoices>().unwrap_err());
            assert_eq!(error.message, expected, "{text}");
            assert!(error.hint.is_some(), "{text}");
        }
        let backwards = Hinted::of(&"cuda:3-1".parse::<DeviceChoices>().unwrap_err());
        assert_eq!(backwards.hint.as_deref(), Some("`cuda:1-3` names the same devices"));
    }

    #[test]
    fn recipes_keep_how_devices_are_written() {
        for text in ["auto", "cpu", "cuda", "cuda:0", "cuda:1"] {
            let device: Device = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::json!(device), text);
        }
        let devices: Devices = serde_json::from_value("cuda:0-1, cuda:3".into()).unwrap();
        assert_eq!(serde_json::json!(devices), "cuda:0-1, cuda:3");
        assert_eq!(devices.choices.count(), 3);
    }
}
