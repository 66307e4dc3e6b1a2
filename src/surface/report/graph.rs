//! The stages as boxes from top to bottom, so that a phone has room for them.

use std::collections::BTreeMap;

use anyhow::Result;
use plotters::{
    element::{PathElement, Rectangle, Text},
    prelude::Color,
    style::text_anchor::{HPos, VPos},
};
use serde_json::{Value, json};

use super::{
    charts::{ABSENT, Caption, INK, PRESENT, draw, text},
    subject::Subject,
};
use crate::support::clock::duration;

const WIDTH: i32 = 200;
const HEIGHT: i32 = 52;
const GAP: (i32, i32) = (24, 30);
const MARGIN: i32 = 8;

/// The drawing, and the same as a list.
pub(super) fn section(subject: &Subject<'_>) -> Result<Value> {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows: Vec<Vec<&str>> = Vec::new();
    for (name, node) in subject.stages {
        let above = node.needs.values().filter_map(|need| depths.get(need.as_str())).max();
        let depth = above.map_or(0, |above| above + 1);
        depths.insert(name, depth);
        if rows.len() <= depth {
            rows.push(Vec::new());
        }
        rows[depth].push(name);
    }
    let widest = rows.iter().map(Vec::len).max().unwrap_or(1).max(1) as i32;
    let size = (
        2 * MARGIN + widest * (WIDTH + GAP.0) - GAP.0,
        2 * MARGIN + rows.len().max(1) as i32 * (HEIGHT + GAP.1) - GAP.1,
    );
    let mut places: BTreeMap<&str, (i32, i32)> = BTreeMap::new();
    for (depth, row) in rows.iter().enumerate() {
        let width = row.len() as i32 * (WIDTH + GAP.0) - GAP.0;
        for (column, name) in row.iter().enumerate() {
            let left = (size.0 - width) / 2 + column as i32 * (WIDTH + GAP.0);
            places.insert(name, (left, MARGIN + depth as i32 * (HEIGHT + GAP.1)));
        }
    }
    let state = |name: &str| match subject.artifacts.get(name) {
        Some(artifact) => format!("stored, took {}", duration(artifact.provenance.seconds)),
        None => "not run".to_owned(),
    };
    let list: Vec<Value> = subject
        .stages
        .iter()
        .map(|(name, node)| {
            let needs: Vec<&String> = node.needs.values().collect();
            json!({ "name": name, "kind": node.kind, "needs": needs, "state": state(name) })
        })
        .collect();
    let description: Vec<String> = subject.stages.keys().map(|name| format!("{name}: {}", state(name))).collect();
    let caption = Caption { title: "Stages and their dependencies", description: &description.join("; ") };
    let svg = draw(&caption, (size.0 as u32, size.1 as u32), |area| {
        for (name, node) in subject.stages {
            let Some((left, top)) = places.get(name.as_str()) else { continue };
            for need in node.needs.values().filter_map(|need| places.get(need.as_str())) {
                let ends = vec![(need.0 + WIDTH / 2, need.1 + HEIGHT), (left + WIDTH / 2, *top)];
                area.draw(&PathElement::new(ends, INK.mix(0.5).stroke_width(2)))?;
            }
        }
        for (name, node) in subject.stages {
            let Some((left, top)) = places.get(name.as_str()).copied() else { continue };
            let colour = if subject.artifacts.contains_key(name) { PRESENT } else { ABSENT };
            area.draw(&Rectangle::new([(left, top), (left + WIDTH, top + HEIGHT)], colour.filled()))?;
            let middle = left + WIDTH / 2;
            let title = format!("{name} · {}", node.kind);
            area.draw(&Text::new(title, (middle, top + 18), text((HPos::Center, VPos::Center), 1.0)))?;
            area.draw(&Text::new(state(name), (middle, top + 37), text((HPos::Center, VPos::Center), 0.85)))?;
        }
        Ok(())
    })?;
    Ok(json!({ "svg": svg, "stages": list, "width": size.0 }))
}
