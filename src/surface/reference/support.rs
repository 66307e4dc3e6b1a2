//! What each family of models can be used for, as a table.

use super::markdown::table;
use crate::{learning::objectives::OBJECTIVES, network::model::FAMILIES};

/// A family, and what it can do.
struct Family {
    name: &'static str,
    /// The objectives that it can be pretrained with.
    objectives: Vec<&'static str>,
    /// Whether it writes text.
    generates: bool,
    /// The chat format that it has by default.
    chat: Option<String>,
}

/// The families, in the order of their table.
fn families() -> Vec<Family> {
    let objectives = OBJECTIVES.all();
    let known = FAMILIES.all().into_iter().map(|family| Family {
        name: family.name,
        objectives: objectives.iter().filter(|one| family.can_learn(one.attention)).map(|one| one.name).collect(),
        generates: family.form.generates(),
        chat: family.chat.and_then(|format| Some(serde_json::to_value(format).ok()?.as_str()?.to_owned())),
    });
    known.collect()
}

/// How often an objective has to be learnt by a family for "all" to be said.
fn all_objectives(families: &[Family]) -> usize {
    families.iter().map(|family| family.objectives.len()).max().unwrap_or_default()
}

/// The table in English.
pub(super) fn english() -> String {
    matrix(
        ["family", "pretrain", "finetune (prompt, linear head)", "instruct", "LoRA", "P-tuning", "generate", "chat"],
        "every objective",
    )
}

/// The table in Chinese.
pub(super) fn chinese() -> String {
    matrix(["家族", "预训练", "微调（提示、线性头）", "指令微调", "LoRA", "P-tuning", "生成", "对话"], "全部目标")
}

/// Every family can be finetuned by prompt and with a linear head, and takes both adapters, since these are made of
/// what all networks share; what it's pretrained with, and whether it generates and chats, is the family's own.
fn matrix(head: [&str; 8], all: &str) -> String {
    let families = families();
    let every = all_objectives(&families);
    let yes = |holds: bool| if holds { "✓" } else { "–" }.to_owned();
    let row = |family: &Family| {
        let objectives = match &family.objectives {
            objectives if objectives.len() == every => all.to_owned(),
            objectives => objectives.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        let chat = family.chat.as_ref().map_or_else(|| yes(false), |format| format!("`{format}`"));
        [
            format!("`{}`", family.name),
            objectives,
            yes(true),
            yes(family.chat.is_some()),
            yes(true),
            yes(true),
            yes(family.generates),
            chat,
        ]
    };
    table(head, families.iter().map(row))
}
