//! Charts as SVG, in colours that stand for roles.

use anyhow::Result;
use plotters::{
    coord::Shift,
    element::{Circle, PathElement, Rectangle, Text},
    prelude::{
        ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, PointSeries, RGBColor, SVGBackend,
        ShapeStyle, TextStyle,
    },
    style::text_anchor::{HPos, Pos, VPos},
};

use super::format::rounded;

/// The roles; `page.html` defines how each looks.
pub(super) const INK: RGBColor = RGBColor(0, 0, 1);
const GRID: RGBColor = RGBColor(0, 0, 2);
/// What a drawing shows, and what it's compared with.
pub(super) const MAIN: RGBColor = RGBColor(0, 0, 0x11);
pub(super) const OTHER: RGBColor = RGBColor(0, 0, 0x12);
/// A box of something that's there, and of something that isn't.
pub(super) const PRESENT: RGBColor = RGBColor(0, 0, 0x21);
pub(super) const ABSENT: RGBColor = RGBColor(0, 0, 0x22);

const SIZE: (u32, u32) = (480, 280);
const FONT: i32 = 14;

/// Title and description of a chart, for those who can't see it.
pub(super) struct Caption<'a> {
    pub(super) title: &'a str,
    pub(super) description: &'a str,
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws an SVG of this size.
pub(super) fn draw(
    caption: &Caption<'_>,
    size: (u32, u32),
    paint: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area)?;
        area.present()?;
    }
    // What plotters writes begins with the tag of the whole.
    let head = format!(
        "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {} {}\"><title>{0}</title><desc>{}</desc>",
        escaped(caption.title),
        size.0,
        size.1,
        escaped(caption.description)
    );
    let body = svg.split_once("<svg").and_then(|(_, rest)| rest.split_once('>')).map_or("", |(_, body)| body);
    Ok(head + body)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text of a chart; `at` is its anchor.
pub(super) fn text(at: (HPos, VPos), scale: f64) -> TextStyle<'static> {
    ("sans-serif", scale * f64::from(FONT)).into_font().color(&INK).pos(Pos::new(at.0, at.1))
}

/// Points over an axis that may be one of ratios.
pub(super) struct Plot<'a> {
    pub(super) caption: Caption<'a>,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) log_x: bool,
    /// A range that is shown in any case.
    pub(super) y_range: Option<(f64, f64)>,
    /// Lines, or points only.
    pub(super) joined: bool,
}

impl Plot<'_> {
    /// Draws series, the first one in the main colour.
    pub(super) fn draw(&self, series: &[Vec<(f64, f64)>]) -> Result<String> {
        let place = |x: f64| if self.log_x { x.log10() } else { x };
        let all = || series.iter().flatten().copied().filter(|(x, y)| place(*x).is_finite() && y.is_finite());
        let (left, right) = widened(span(all().map(|(x, _)| place(x))), if self.joined { 0.0 } else { 0.06 });
        let fixed = self.y_range.into_iter().flat_map(|(low, high)| [low, high]);
        let (low, high) =
            widened(span(all().map(|(_, y)| y).chain(fixed)), if self.y_range.is_some() { 0.0 } else { 0.06 });
        draw(&self.caption, SIZE, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(10)
                .margin_right(18)
                .x_label_area_size(44)
                .y_label_area_size(62)
                .build_cartesian_2d(left..right, low..high)?;
            chart
                .configure_mesh()
                .light_line_style(GRID.mix(0.0))
                .bold_line_style(GRID)
                .axis_style(GRID)
                .x_labels(6)
                .y_labels(6)
                .label_style(text((HPos::Center, VPos::Center), 0.9))
                .axis_desc_style(text((HPos::Center, VPos::Center), 0.95))
                .x_label_formatter(&|x| rounded(if self.log_x { 10_f64.powf(*x) } else { *x }))
                .y_label_formatter(&|y| rounded(*y))
                .x_desc(self.x)
                .y_desc(self.y)
                .draw()?;
            for (number, points) in series.iter().enumerate().rev() {
                let colour = if number == 0 { MAIN } else { OTHER };
                let points =
                    points.iter().map(|(x, y)| (place(*x), *y)).filter(|(x, y)| x.is_finite() && y.is_finite());
                if self.joined {
                    chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
                } else {
                    let dot = PointSeries::<_, _, Circle<_, _>, _>::new(points, 4, colour.mix(0.8).filled());
                    chart.draw_series(dot)?;
                }
            }
            Ok(())
        })
    }
}

/// Bars of accuracy by confidence with the line on which a model is as right as its confidence.
pub(super) fn calibration(caption: &Caption<'_>, bins: &[(f64, f64, f64)]) -> Result<String> {
    draw(caption, SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(18)
            .x_label_area_size(44)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        chart
            .configure_mesh()
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(6)
            .y_labels(6)
            .label_style(text((HPos::Center, VPos::Center), 0.9))
            .axis_desc_style(text((HPos::Center, VPos::Center), 0.95))
            .x_desc("confidence")
            .y_desc("accuracy")
            .draw()?;
        let bar = |(low, high, accuracy): &(f64, f64, f64)| {
            Rectangle::new([(low + 0.006, 0.0), (high - 0.006, *accuracy)], MAIN.mix(0.75).filled())
        };
        chart.draw_series(bins.iter().map(bar))?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], OTHER.stroke_width(2)))?;
        Ok(())
    })
}

/// One axis of parallel coordinates: its name, the words at its marks, and each line's place on it, 0 at the bottom.
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) marks: Vec<(f64, String)>,
    pub(super) places: Vec<Option<f64>>,
}

/// Lines through all axes, the first of them in the main colour and on top.
pub(super) fn parallel(caption: &Caption<'_>, axes: &[Axis], lines: usize) -> Result<String> {
    let (top, bottom, left) = (46, 250, 60);
    let gaps = axes.len().max(2) as i32 - 1;
    let width = (2 * left + 130 * gaps).max(SIZE.0 as i32);
    let step = (width - 2 * left) / gaps;
    let x = |axis: usize| left + axis as i32 * step;
    let y = |place: f64| bottom - (place * f64::from(bottom - top)).round() as i32;
    draw(caption, (width as u32, 270), |area| {
        for (number, axis) in axes.iter().enumerate() {
            area.draw(&PathElement::new(vec![(x(number), top), (x(number), bottom)], GRID.stroke_width(2)))?;
            // Names that stand beside each other alternate in height.
            let height = if number % 2 == 0 { 14 } else { 30 };
            area.draw(&Text::new(axis.name.clone(), (x(number), height), text((HPos::Center, VPos::Center), 0.9)))?;
        }
        for line in (0..lines).rev() {
            let points: Vec<_> = axes
                .iter()
                .enumerate()
                .filter_map(|(number, axis)| Some((x(number), y((*axis.places.get(line)?)?))))
                .collect();
            let style: ShapeStyle = if line == 0 { MAIN.stroke_width(3) } else { OTHER.mix(0.45).stroke_width(1) };
            area.draw(&PathElement::new(points, style))?;
        }
        for (number, axis) in axes.iter().enumerate() {
            for (place, word) in &axis.marks {
                let at = (x(number) + 5, y(*place));
                area.draw(&Text::new(word.clone(), at, text((HPos::Left, VPos::Center), 0.8)))?;
            }
        }
        Ok(())
    })
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// A little more on both sides, and something to see where all values are the same.
fn widened((low, high): (f64, f64), share: f64) -> (f64, f64) {
    if !(low.is_finite() && high.is_finite()) {
        return (0.0, 1.0);
    }
    let margin = if high > low { (high - low) * share } else { (high.abs() * 0.1).max(0.1) };
    (low - margin, high + margin)
}
