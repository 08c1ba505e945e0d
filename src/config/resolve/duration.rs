//! Durations as Go writes them: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// Reads what Go's `time.ParseDuration` reads, but for a negative sign.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(number_end)?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(unit_end)?;
        let part = scale(number, nanoseconds_of(unit)?)?;
        // Go's sum overflows in the same way.
        nanoseconds = nanoseconds.wrapping_add(part);
        if nanoseconds > LIMIT {
            return None;
        }
        rest = next;
    }
    (nanoseconds < LIMIT).then(|| Duration::from_nanos(nanoseconds))
}

/// One more than the longest duration that Go has.
const LIMIT: u64 = 1 << 63;

/// A decimal number times a unit, truncated to nanoseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the same arithmetic as Go's, which rounds; the product is at most an hour"
)]
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?
    };
    if whole > LIMIT / unit {
        return None;
    }
    let mut digits = 0_u64;
    let mut denominator = 1_f64;
    for digit in fraction.chars() {
        let digit = u64::from(digit.to_digit(10)?);
        // Digits that are too small to matter are left out.
        if digits <= (LIMIT - 1) / 10 && digits * 10 + digit <= LIMIT {
            digits = digits * 10 + digit;
            denominator *= 10.0;
        } else {
            break;
        }
    }
    let part = (digits as f64 * (unit as f64 / denominator)) as u64;
    let scaled = whole * unit + part;
    (scaled <= LIMIT).then_some(scaled)
}

fn nanoseconds_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A duration in whole seconds, the way it would be written in the file.
pub(super) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (count, unit) in [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ] {
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5m", 300_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("+1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1_000),
            ("1m0.25s", 60_250),
            ("250ms", 250),
            ("3000000000000000us", 3_000_000_000_000),
            ("+0", 0),
            ("0.0000000001s", 0),
            ("0.10000000000000000000000000000001s", 100),
            ("1h0m0.000ms2us998µs", 3_600_001),
            ("9223372036854ms", 9_223_372_036_854),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_no_duration() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "5 m",
            "5m ",
            "5d",
            "1h30",
            ".s",
            "1.2.3s",
            "5M",
            "+",
            "٥m",
            "99999999999999999999s",
            "3000000h",
            "9223372036854775808ns",
            "2562047h47m16.854775808s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-zµ.+ -]{0,20}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_is_written_is_read_again(seconds in 0..10_000_000_u64) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}
