//! The models of the matrix: one recipe with a stage for each family, tokenizer and way of training.

use std::fmt::Write;

/// A model of the matrix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cell {
    pub family: &'static Family,
    pub tokenizer: &'static str,
    pub way: Way,
}

/// A family, and what transformers has for it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Family {
    pub name: &'static str,
    /// What it's pretrained on.
    objective: &'static str,
    /// The layers that LoRA changes.
    targets: &'static str,
    /// The class that opens its language models, by the Auto class's name; none without the original's own code.
    pub auto: Option<&'static str>,
    /// Whether there is a class for sequence classification.
    pub classifies: bool,
}

/// How a model comes about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    Plain,
    Linear,
    Prompt,
    Lora,
    PTuning,
    Int8,
    /// That of `Int8`, merged by an export stage and in shards.
    Merged,
}

pub(super) static FAMILIES: [Family; 7] = [
    Family {
        name: "bert",
        objective: "masked_lm: {}, next_sentence: {}",
        targets: "query, value",
        auto: Some("AutoModelForPreTraining"),
        classifies: true,
    },
    Family {
        name: "gpt2",
        objective: "generative: { causal_lm: {} }",
        targets: "c_attn",
        auto: Some("AutoModelForCausalLM"),
        classifies: true,
    },
    Family {
        name: "glm4",
        objective: "generative: { causal_lm: {} }",
        targets: "q_proj, v_proj",
        auto: Some("AutoModelForCausalLM"),
        classifies: true,
    },
    Family {
        name: "transformer",
        objective: "generative: { prefix_lm: {} }",
        targets: "q_proj, v_proj",
        auto: Some("AutoModelForSeq2SeqLM"),
        classifies: false,
    },
    Family { name: "glm", objective: "generative: { prefix_lm: {} }", targets: "", auto: None, classifies: false },
    Family { name: "chatglm", objective: "generative: { prefix_lm: {} }", targets: "", auto: None, classifies: false },
    Family { name: "chatglm2", objective: "generative: { causal_lm: {} }", targets: "", auto: None, classifies: false },
];

pub(super) const TOKENIZERS: [&str; 3] = ["wordpiece", "bpe", "unigram"];

pub(super) const WAYS: [Way; 7] =
    [Way::Plain, Way::Linear, Way::Prompt, Way::Lora, Way::PTuning, Way::Int8, Way::Merged];

/// The labels, whose order as names isn't that of the recipe.
pub(super) const LABELS: [&str; 3] = ["1", "10", "2"];

/// Texts of each label.
const TEXTS: [[&str; 4]; 3] = [
    ["球队昨晚赢了比赛", "教练换上了新的前锋", "观众为进球欢呼", "决赛明天下午开始"],
    ["这碗面的汤很鲜", "妈妈炒的菜最香", "蛋糕刚刚出炉", "早餐只有豆浆油条"],
    ["春天的花都开了", "小猫在窗边睡觉", "我们去公园散步", "今天天气很好"],
];

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Linear => "linear",
            Self::Prompt => "prompt",
            Self::Lora => "lora",
            Self::PTuning => "p_tuning",
            Self::Int8 => "int8",
            Self::Merged => "merged",
        }
    }

    /// Whether an adapter lies beside the exported model.
    pub(super) fn is_adapted(self) -> bool {
        matches!(self, Self::Lora | Self::PTuning | Self::Int8)
    }
}

impl Cell {
    /// All cells that there is a way of trying.
    pub(super) fn all() -> Vec<Self> {
        let every = FAMILIES.iter().flat_map(|family| {
            TOKENIZERS.iter().flat_map(move |&tokenizer| WAYS.map(|way| Self { family, tokenizer, way }))
        });
        every.filter(|cell| cell.is_tried()).collect()
    }

    /// Whether transformers has something that opens it; of a family without a class, its tokenizer.
    pub(super) fn is_tried(self) -> bool {
        match self.way {
            Way::Plain => true,
            Way::Linear => self.family.classifies,
            // Encoder and decoder have a prefix each, and PEFT puts one before the encoder alone.
            Way::PTuning => self.family.auto.is_some() && self.family.name != "transformer",
            Way::Prompt | Way::Lora | Way::Int8 | Way::Merged => self.family.auto.is_some(),
        }
    }

    /// The stage that is exported.
    pub(super) fn stage(self) -> String {
        format!("{}_{}_{}", self.family.name, self.tokenizer, self.way.name())
    }

    /// The class that opens it.
    pub(super) fn auto(self) -> Option<&'static str> {
        if self.way == Way::Linear { Some("AutoModelForSequenceClassification") } else { self.family.auto }
    }
}

/// The texts, in another order than the labels'.
pub(super) fn texts() -> Vec<&'static str> {
    (0..4).flat_map(|at| TEXTS.map(|texts| texts[at])).collect()
}

/// What tokenizers and models are trained on.
pub(super) fn corpus() -> String {
    let lines: Vec<String> = texts().into_iter().map(|text| format!("{text}。\n")).collect();
    // Two documents of two sentences each, so that there are pairs.
    lines.chunks(2).map(|lines| format!("{}\n", lines.concat())).collect::<String>().repeat(4)
}

/// The labelled rows.
pub(super) fn rows() -> String {
    let rows = LABELS.iter().zip(TEXTS).flat_map(|(label, texts)| texts.map(|text| format!("{label}\t{text}\n")));
    format!("label\ttext\n{}", rows.collect::<String>())
}

/// The recipe with all of it.
pub(super) fn recipe() -> String {
    let mut recipe = String::from("seed: 3\nstages:\n");
    for (name, settings) in TOKENIZERS.iter().zip([
        "wordpiece: { vocab_size: 300 }",
        "bpe: { vocab_size: 400 }",
        "unigram: { vocab_size: 90 }",
    ]) {
        let corpus = "corpus: [{ path: corpus.txt, document: paragraph }]";
        let _ = writeln!(recipe, "  {name}: {{ tokenize: {{ tokenizer: {{ {settings} }}, {corpus} }} }}");
    }
    for cell in Cell::all() {
        let _ = writeln!(recipe, "  {}: {{ {} }}", cell.stage(), cell.settings());
    }
    recipe
}

impl Cell {
    fn settings(self) -> String {
        let Self { family: Family { name, objective, targets, .. }, tokenizer, way } = self;
        let before = |way: Way| Self { way, ..self }.stage();
        let learn = |task: &str, adapter: &str| {
            format!(
                "finetune: {{ from: {}, {adapter} data: {{ train: {{ path: rows.tsv }} }}, task: {{ classification: {{ {task} \
                 }} }}, train: {{ epochs: 6, batch: {{ examples: 6 }}, max_length: 48, lr: 1.0e-2, dropout: 0.2 }} }}",
                before(Way::Plain)
            )
        };
        let words = "words: { 2: 花, 1: 球, 10: 菜 }";
        let prompt = format!("template: '{{{{ text }}}}[Classification]', {words}");
        let lora = |dtype: &str| {
            let lora = format!("adapter: {{ lora: {{ r: 2, targets: [{targets}], base_dtype: {dtype} }} }},");
            learn(&prompt, &lora)
        };
        match way {
            Way::Plain => format!(
                "pretrain: {{ tokens: {tokenizer}, model: {{ {name}: {{ hidden: 32, layers: 2, heads: 4, max_length: 64, \
                 initializer_range: 0.1 }} }}, objectives: [{{ {objective} }}], train: {{ steps: 40, batch: {{ \
                 examples: 8 }}, max_length: 48, lr: 1.0e-2 }} }}"
            ),
            Way::Linear => learn(&format!("head: linear, template: '{{{{ text }}}}', {words}"), ""),
            Way::Prompt => learn(&prompt, ""),
            Way::Lora => lora("f32"),
            Way::PTuning => learn(&prompt, "adapter: { p_tuning: { tokens: 3 } },"),
            Way::Int8 => lora("int8"),
            Way::Merged => format!("export: {{ model: {}, max_shard_size: 50KB }}", before(Way::Int8)),
        }
    }
}
