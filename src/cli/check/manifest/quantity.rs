//! Amounts as Kubernetes writes them: `64Mi`, `250m`, `1e3`.

use serde_json::Value;

const UNITS: [(&str, f64); 16] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("", 1.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The amount; `None` if the text is not one.
pub(super) fn value(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        // Kubernetes removes spaces around it.
        Value::String(text) => parse(text.trim()),
        _ => None,
    }
}

fn parse(text: &str) -> Option<f64> {
    let number = |one: char| one.is_ascii_digit() || "+-.".contains(one);
    let end = text.find(|one| !number(one)).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let amount: f64 = digits.parse().ok()?;
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) {
        return Some(amount * factor);
    }
    let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(amount * 10f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, amount) in [
            ("64Mi", Some(67_108_864.0)),
            ("64M", Some(64e6)),
            ("64", Some(64.0)),
            ("500m", Some(0.5)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("1e3", Some(1000.0)),
            ("2E", Some(2e18)),
            ("-1", Some(-1.0)),
            ("", None),
            ("Mi", None),
            ("64MB", None),
            ("64 Mi", None),
            ("1.2.3", None),
        ] {
            assert_eq!(parse(text), amount, "{text}");
        }
    }
}
