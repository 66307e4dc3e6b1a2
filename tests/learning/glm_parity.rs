//! Blank infilling against the inputs that GLM's own training code makes from the same spans and order.

use crate::common::{need, needs::Needed, objectives, parity};
use std::ops::Range;

use objectives::SPECIALS;
use parity::fixture;
use pipe::{
    learning::objectives::{
        Specials,
        blank_infilling::{infill, suffix},
    },
    network::batch::Example,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    special_ids: SpecialIds,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the fixture's names")]
struct SpecialIds {
    ENC: u32,
    sop: u32,
    eop: u32,
    gMASK: u32,
    dBLOCK: u32,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    task: String,
    tokens: Vec<u32>,
    mask_token_id: u32,
    spans: Vec<(usize, usize)>,
    order: Vec<usize>,
    #[serde(default)]
    dblock_positions: Vec<usize>,
    expected: Expected,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Expected {
    input_ids: Vec<u32>,
    targets: Vec<u32>,
    loss_mask: Vec<u32>,
    position_ids: [Vec<u32>; 2],
    attention_boundary: u32,
}

fn cases() -> Needed<Fixture> {
    let text = fs_err::read_to_string(fixture("glm_blank_infilling")?.join("cases.json")).unwrap();
    Ok(serde_json::from_str(&text).unwrap())
}

/// The example in the fixture's terms.
fn expected(example: &Example, boundary: u32, masked: &[usize], dblock: u32) -> Expected {
    for (index, &visible) in example.span_ends.iter().enumerate() {
        assert_eq!(visible, boundary.max(index as u32 + 1));
    }
    let mut targets = example.tokens.clone();
    let mut loss_mask = vec![0; targets.len()];
    // Without an `<eop>`, what isn't learned in part B still has its successor as its target.
    let generated = boundary as usize..example.tokens.len() - 1;
    targets[generated.clone()].copy_from_slice(&example.tokens[generated.start + 1..=generated.end]);
    for target in &example.targets {
        targets[target.at as usize] = target.token;
        loss_mask[target.at as usize] = 1;
    }
    let mut input_ids = example.tokens.clone();
    // `[dBLOCK]` noise is the one setting of the original that we don't have.
    masked.iter().for_each(|&index| input_ids[index] = dblock);
    let position_ids = [example.positions.clone(), example.block_positions.clone()];
    Expected { input_ids, targets, loss_mask, position_ids, attention_boundary: boundary }
}

#[test]
fn parity_blank_infilling_from_spans_and_order() {
    let fixture = need!(cases());
    let ids = &fixture.special_ids;
    let specials = Specials { cls: ids.ENC, sop: ids.sop, eop: ids.eop, gmask: ids.gMASK, ..SPECIALS };
    for case in &fixture.cases {
        let spans: Vec<Range<usize>> = case.spans.iter().map(|&(start, end)| start..end).collect();
        let example = match case.task.as_str() {
            "generation_suffix" => suffix(0, &case.tokens, spans[0].start, false, &specials),
            _ => infill(0, &case.tokens, &spans, &case.order, case.mask_token_id, &specials),
        };
        let boundary = case.expected.attention_boundary;
        assert_eq!(expected(&example, boundary, &case.dblock_positions, ids.dBLOCK), case.expected, "{}", case.name);
    }
    assert!(!fixture.cases.is_empty());
}
