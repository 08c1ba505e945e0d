//! The report of `check`: line by line for humans, as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::super::terminal::{Severity, Terminal, wrap};

/// All steps that were taken.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// In the order in which they were taken.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, or what went wrong.
    pub found: String,
    /// What works but should be improved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What to do about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is correct.
    Ok,
    /// It works, with warnings.
    Warning,
    /// It could not be checked, and need not be.
    Skipped,
    /// It does not work.
    Failed,
}

impl Report {
    /// Whether the sidecar would work.
    pub fn succeeded(&self) -> bool {
        self.steps
            .iter()
            .all(|step| step.outcome != Outcome::Failed)
    }

    /// One JSON document.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            ok: bool,
            steps: &'a [Step],
        }
        let document = Document {
            ok: self.succeeded(),
            steps: &self.steps,
        };
        serde_json::to_string_pretty(&document).expect("strings and numbers are always JSON")
    }
}

impl Step {
    /// The step in the style of `terminal`: on a terminal with a symbol and line breaks.
    pub fn shown(&self, terminal: Terminal) -> String {
        if terminal == Terminal::Plain {
            return self.to_string();
        }
        let severity = match self.outcome {
            Outcome::Ok => Severity::Ok,
            Outcome::Warning => Severity::Warning,
            Outcome::Skipped => Severity::Note,
            Outcome::Failed => Severity::Error,
        };
        let took = format!("{} ms", self.took.as_millis());
        let mut shown = format!(
            "{} {:<28} {}\n{}",
            terminal.colour(severity, severity.symbol()),
            self.name,
            terminal.colour(Severity::Note, &took),
            wrap(&self.found, 4)
        );
        for warning in &self.warnings {
            let warning = wrap(&format!("warning: {warning}"), 4);
            shown = shown + "\n" + &terminal.colour(Severity::Warning, &warning);
        }
        if let Some(fix) = &self.fix {
            shown = shown
                + "\n"
                + &terminal.colour(Severity::Error, &wrap(&format!("to do: {fix}"), 4));
        }
        shown
    }
}

/// A line for the step, and one for each warning and fix.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warn",
            Outcome::Skipped => "skip",
            Outcome::Failed => "FAIL",
        };
        let took = self.took.as_millis();
        write!(
            f,
            "{word:<5}{:<26}{:>5} ms  {}",
            self.name, took, self.found
        )?;
        for warning in &self.warnings {
            write!(f, "\n     warning: {warning}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n     to do: {fix}")?;
        }
        Ok(())
    }
}

fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}
