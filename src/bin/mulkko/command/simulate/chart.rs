//! Shares over time as a picture: a chart for each rollout, below one another.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::super::moments;
use super::{OfRollout, Simulation};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 260;
/// The room for the names of the variants.
const LEGEND_WIDTH: u32 = 150;
/// Told apart by people who do not see all colours (Okabe and Ito).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(90, 90, 90),
];

/// The picture as an SVG.
pub fn svg(simulation: &Simulation) -> Result<String> {
    let mut svg = String::new();
    {
        let charts = simulation.rollouts.len().max(1);
        let height = HEIGHT * u32::try_from(charts)?;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let failed = |error: &dyn std::fmt::Display| anyhow!("the chart: {error}");
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        for (rollout, area) in simulation.rollouts.iter().zip(area.split_evenly((charts, 1))) {
            draw(rollout, simulation.range_ms, &area).map_err(|error| failed(&error))?;
        }
        let zone =
            Text::new("UTC", (i32::try_from(WIDTH)? - 40, i32::try_from(height)? - 24), ("sans-serif", 12));
        area.draw(&zone).map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    it: &OfRollout,
    (from_ms, to_ms): (i64, i64),
    area: &Area<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    let times = (from_ms..to_ms.max(from_ms + 1)).with_key_points(round_times(from_ms, to_ms));
    let mut chart = ChartBuilder::on(area)
        .caption(&it.rollout, ("sans-serif", 18))
        .margin(12)
        .margin_right(LEGEND_WIDTH)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(times, 0.0..100.0_f64)?;
    let clock = |at_ms: &i64| moments::told(*at_ms).get(5..16).unwrap_or_default().replace('T', " ");
    chart
        .configure_mesh()
        .y_labels(5)
        .light_line_style(WHITE)
        .x_label_formatter(&clock)
        .y_label_formatter(&|it| format!("{it} %"))
        .draw()?;
    let beside = i32::try_from(WIDTH - LEGEND_WIDTH)? + 8;
    for (i, share) in it.variants.iter().enumerate() {
        let color = COLORS.get(i % COLORS.len()).copied().unwrap_or(BLACK);
        chart.draw_series(LineSeries::new(steps(it, i, to_ms), color.stroke_width(2)))?;
        // The names stand beside the lines, in their colours.
        let below = 40 + 18 * i32::try_from(i)?;
        area.draw(&Text::new(
            share.variant.clone(),
            (beside, below),
            ("sans-serif", 14).into_font().color(&color),
        ))?;
    }
    Ok(())
}

/// Instants that people count by, not too many of them.
fn round_times(from_ms: i64, to_ms: i64) -> Vec<i64> {
    const MOST: i64 = 8;
    const MINUTE: i64 = 60_000;
    let steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880, 10_080, 20_160, 43_200];
    let step = steps.into_iter().map(|it| it * MINUTE).find(|step| (to_ms - from_ms) / step <= MOST);
    let step = step.unwrap_or((to_ms - from_ms) / MOST);
    let first = (from_ms + step - 1).div_euclid(step) * step;
    (0..=MOST).map(|i| first + i * step).take_while(|at| *at <= to_ms).collect()
}

/// The corners of a variant's line: it stays until it jumps.
fn steps(it: &OfRollout, variant: usize, to_ms: i64) -> Vec<(i64, f64)> {
    let share = |shares: &[f64]| shares.get(variant).copied().unwrap_or(0.0) * 100.0;
    let mut corners: Vec<(i64, f64)> = Vec::new();
    for since in &it.over {
        corners.extend(corners.last().map(|(_, before)| (since.at_ms, *before)));
        corners.push((since.at_ms, share(&since.shares)));
    }
    corners.extend(corners.last().map(|(_, last)| (to_ms, *last)));
    corners
}
