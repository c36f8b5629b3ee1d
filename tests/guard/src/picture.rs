//! The picture: evidence against three canaries, second by second, under the guard that a policy gets by default.

use std::error::Error;
use std::path::Path;

use mulkko::bucket::Bucket;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::fleet::{CANARY, Fleet, Request, STABLE};
use crate::latency::World;
use crate::policies::{START_MS, Terms, policy, share};

const SECONDS: i64 = 90;
const REQUESTS_PER_SECOND: i64 = 100;
const SEED: u64 = 7;
/// Decimal logarithms of the evidence that is shown.
const LOWEST: f64 = -1.5;
const HIGHEST: f64 = 5.0;
const SIZE: (u32, u32) = (800, 400);
const FONT: &str = "sans-serif";
/// Okabe and Ito's colours, which the colour-blind can tell apart.
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// A canary's name and colour, how often it fails and how much slower it is.
const CANARIES: [(&str, RGBColor, f64, f64); 3] = [
    ("fails: 0.1 → 5 %", VERMILION, 0.05, 1.0),
    ("slower: × 1.5", BLUE, 0.001, 1.5),
    ("no worse than the default", GREEN, 0.001, 1.0),
];

/// Draws it to a file.
pub fn draw(file: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..SECONDS as f64, LOWEST..HIGHEST)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("seconds since the canary's first request; the first 10 are its warm-up")
        .y_desc("evidence that it is worse")
        .x_labels(10)
        .y_labels(8)
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&|exponent| odds(*exponent))
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .draw()?;
    let mut threshold = None;
    for (name, colour, errors, times) in CANARIES {
        let (points, breach) = evidence(errors, times);
        threshold = Some(breach);
        let last = points.last().copied().filter(|(_, evidence)| *evidence >= breach);
        let name = match last {
            Some((second, _)) => format!("{name}, rolled back after {second:.0} s   "),
            None => name.to_owned(),
        };
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(3)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
        chart.draw_series(last.map(|point| Circle::new(point, 5, colour.filled())))?;
    }
    if let Some(breach) = threshold {
        let dashes =
            DashedLineSeries::new([(0.0, breach), (SECONDS as f64, breach)], 6, 4, BLACK.stroke_width(2));
        chart.draw_series(dashes)?;
        let text = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Bottom));
        let at = (SECONDS as f64, breach + 0.08);
        chart.draw_series([Text::new("2,000 to 1: it is rolled back", at, text)])?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::Coordinate(395, 150))
        .label_font((FONT, 14))
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}

/// Evidence as odds: `1,000 to 1`.
fn odds(exponent: f64) -> String {
    match exponent.round() as i32 {
        0 => "1 to 1".to_owned(),
        3 => "1,000".to_owned(),
        4 => "10,000".to_owned(),
        5 => "100,000".to_owned(),
        exponent => format!("{}", 10_f64.powi(exponent)),
    }
}

/// The decimal logarithm of the evidence against a canary after each second, until it is rolled back; and that at which
/// it is.
fn evidence(errors: f64, times: f64) -> (Vec<(f64, f64)>, f64) {
    let policy = policy(Terms { by_user: false, steps: &share(5.0), guard: "{}", seed: "picture" });
    let mut fleet = Fleet::new(&policy, 1);
    let guard = fleet.rollout().guard.clone().expect("the rollout has a guard");
    let mut rng = SmallRng::seed_from_u64(SEED);
    let world = World::slower(times);
    let mut points = vec![(0.0, 0.0)];
    let ten = std::f64::consts::LN_10;
    for second in 0..SECONDS {
        for at in 0..REQUESTS_PER_SECOND {
            let is_canary = rng.random_bool(0.05);
            let variant = if is_canary { CANARY } else { STABLE };
            let is_error = rng.random_bool(if is_canary { errors } else { 0.001 });
            let latency_us = world.latency_us(is_canary, second, &mut rng);
            let now_ms = START_MS + second * 1_000 + 1_000 * at / REQUESTS_PER_SECOND;
            fleet.count(0, Request { variant, bucket: Bucket(rng.random()), is_error, latency_us, now_ms });
        }
        fleet.tick(START_MS + second * 1_000 + 1_000);
        let Some(case) = fleet.case() else {
            points.push((second as f64 + 1.0, 0.0));
            continue;
        };
        let highest =
            case.errors(&guard).into_iter().chain(case.latency(&guard)).fold(f64::NEG_INFINITY, f64::max);
        points.push((second as f64 + 1.0, highest / ten));
        if highest >= guard.breach {
            break;
        }
    }
    (points, guard.breach / ten)
}
