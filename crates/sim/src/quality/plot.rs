//! Detection time against mistake rate, as an SVG: one panel for each trace, one line for each
//! detector. Further down and to the left is better.

use super::measure::Quality;
use super::subjects::Detector;
use std::fmt::Write;

/// What is drawn of one trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Its name.
    pub trace: String,
    /// The points of each detector, from the rash to the patient.
    pub lines: Vec<(Detector, Vec<Quality>)>,
}

const COLUMNS: usize = 2;
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 30.0;
const PLOT_WIDTH: f64 = 380.0;
const PLOT_HEIGHT: f64 = 200.0;
const LEGEND: f64 = 34.0;

fn colour(detector: Detector) -> &'static str {
    match detector {
        Detector::Fixed => "#444444",
        Detector::Heartbeat => "#b8860b",
        Detector::Chen => "#1f6fb4",
        Detector::Phi => "#c23b3b",
        Detector::Jacobson => "#2e8b57",
        Detector::Traffic => "#7b4fa3",
    }
}

/// Draws the panels.
pub fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + LEGEND);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>Detection time against mistake rate</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (at, detector) in Detector::ALL.iter().enumerate() {
        let x = LEFT + 110.0 * at as f64;
        let (colour, name) = (colour(*detector), detector.name());
        put(
            &mut text,
            &format!(
                "<line x1=\"{x}\" y1=\"16\" x2=\"{}\" y2=\"16\" stroke=\"{colour}\" \
             stroke-width=\"3\"/><text x=\"{}\" y=\"20\">{name}</text>",
                x + 20.0,
                x + 26.0
            ),
        );
    }
    for (at, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (at % COLUMNS) as f64, LEGEND + HEIGHT * (at / COLUMNS) as f64);
        put(&mut text, &format!("<g transform=\"translate({x} {y})\">"));
        draw(panel, &mut text);
        put(&mut text, "</g>");
    }
    put(&mut text, "</svg>");
    text
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string has room");
}

/// The scales of a panel: seconds to x, mistakes in an hour to y.
struct Scales {
    from: f64,
    to: f64,
    floor: f64,
    top: f64,
}

impl Scales {
    fn of(lines: &[(Detector, Vec<Quality>)]) -> Scales {
        let fixed: Vec<f64> = lines
            .iter()
            .filter(|(detector, _)| *detector == Detector::Fixed)
            .flat_map(|(_, points)| points.iter().map(|point| point.detection_mean))
            .collect();
        let from = fixed.iter().copied().fold(f64::INFINITY, f64::min).min(1e3);
        let to = fixed.iter().copied().fold(0.0, f64::max).max(from + 1e-3);
        let rates =
            lines.iter().flat_map(|(_, points)| points.iter().map(|it| it.mistakes_per_hour));
        let positive: Vec<f64> = rates.filter(|rate| *rate > 0.0).collect();
        let least = positive.iter().copied().fold(1.0, f64::min);
        let most = positive.iter().copied().fold(10.0, f64::max);
        // Below the least rate that was seen lies the line of "none".
        Scales { from, to, floor: least.log10().floor() - 1.0, top: most.log10().ceil() }
    }

    fn x(&self, seconds: f64) -> f64 {
        let share = (seconds - self.from) / (self.to - self.from);
        LEFT + PLOT_WIDTH * share.clamp(0.0, 1.0)
    }

    fn y(&self, rate: f64) -> f64 {
        let level = if rate > 0.0 { rate.log10() } else { self.floor };
        TOP + PLOT_HEIGHT * (self.top - level) / (self.top - self.floor)
    }
}

fn draw(Panel { trace, lines }: &Panel, text: &mut String) {
    let scales = Scales::of(lines);
    put(
        text,
        &format!(
            "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>",
            escape(trace)
        ),
    );
    axes(&scales, text);
    for (detector, points) in lines {
        let colour = colour(*detector);
        let is_inside =
            |point: &&Quality| (scales.from..=scales.to).contains(&point.detection_mean);
        let places: Vec<String> = points
            .iter()
            .filter(is_inside)
            .map(|point| {
                let (x, y) = (scales.x(point.detection_mean), scales.y(point.mistakes_per_hour));
                format!("{x:.1},{y:.1}")
            })
            .collect();
        put(
            text,
            &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                places.join(" ")
            ),
        );
        for place in &places {
            let (x, y) = place.split_once(',').expect("it was just put together");
            put(text, &format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"2.5\" fill=\"{colour}\"/>"));
        }
    }
}

/// Lines of equal rates, and the detection times below them.
fn axes(scales: &Scales, text: &mut String) {
    let mut level = scales.floor;
    while level <= scales.top {
        let y = scales.y(10_f64.powf(level));
        let label = if level == scales.floor { "none".to_owned() } else { power(level) };
        put(
            text,
            &format!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT + PLOT_WIDTH,
                LEFT - 6.0,
                y + 4.0
            ),
        );
        level += 1.0;
    }
    for part in 0..=4 {
        let seconds = scales.from + (scales.to - scales.from) * f64::from(part) / 4.0;
        put(
            text,
            &format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} ms</text>",
                scales.x(seconds),
                TOP + PLOT_HEIGHT + 16.0,
                seconds * 1e3
            ),
        );
    }
    put(
        text,
        &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666666\">mean detection time; \
         upwards: mistakes in an hour</text>",
            LEFT + PLOT_WIDTH / 2.0,
            TOP + PLOT_HEIGHT + 34.0
        ),
    );
}

fn power(level: f64) -> String {
    match level {
        -0.5..4.5 => format!("{:.0}", 10_f64.powf(level)),
        -3.5..0.0 => format!("{:.*}", -level as usize, 10_f64.powf(level)),
        _ => format!("1e{level:.0}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_the_picture_and_numbers_are_finite() {
        let quality = Quality {
            detection_mean: 0.2,
            detection_p99: 0.3,
            detection_max: 0.3,
            mistakes: 0,
            mistakes_per_hour: 0.0,
            mistake_duration: 0.0,
            query_accuracy: 1.0,
        };
        let lines = vec![(Detector::Fixed, vec![quality]), (Detector::Phi, vec![quality])];
        let panel = |trace: &str, lines| Panel { trace: trace.to_owned(), lines };
        let text = svg(&[panel("<a&b>\"", lines), panel("none", Vec::new())]);
        assert!(text.contains("&lt;a&amp;b&gt;&quot;") && text.trim_end().ends_with("</svg>"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert_eq!(text.matches("<g ").count(), text.matches("</g>").count());
    }
}
