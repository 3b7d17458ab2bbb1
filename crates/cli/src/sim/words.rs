//! Numbers as people read them.

/// With commas between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of time, in nanoseconds, in the two units that matter.
pub(super) fn span(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0..10 => format!("{:.3} s", nanos as f64 / 1e9),
        10..120 => format!("{:.1} s", nanos as f64 / 1e9),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days {} h", count(seconds / 86_400), seconds / 3_600 % 24),
    }
}

/// The words, at `indent`, in lines of less than a hundred columns.
pub(super) fn wrapped(words: &[String], indent: usize) -> String {
    let mut text = String::new();
    let mut column = indent;
    for (number, word) in words.iter().enumerate() {
        let comma = usize::from(number + 1 < words.len());
        if column + word.len() + comma + 1 > 99 && column > indent {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        text.push_str(&",".repeat(comma));
        column += word.len() + comma;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(span(1_500_000), "0.002 s");
        assert_eq!(span(90_000_000_000), "90.0 s");
        assert_eq!(span(3_725_000_000_000), "62 min 5 s");
        assert_eq!(span(26 * 3_600 * 1_000_000_000), "26 h 0 min");
        assert_eq!(span(50 * 3_600 * 1_000_000_000), "2 days 2 h");
    }

    #[test]
    fn lists_stay_within_the_line() {
        let words: Vec<String> = (0..60).map(|number| format!("word{number}")).collect();
        let text = wrapped(&words, 10);
        assert!(text.lines().count() > 3);
        assert!(text.lines().all(|line| line.len() < 100), "{text}");
        assert_eq!(text.matches("word").count(), 60);
    }
}
