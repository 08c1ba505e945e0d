//! A run through the steps of `check`: the outcome of each is recorded and reported at once.

use tokio::time::Instant;

use super::next_step::next_step;
use super::report::{Outcome, Report, Step};
use crate::log::error_chain::ErrorChain;
use crate::openstack::{Endpoint, Error};

/// A step has failed, and is in the report.
pub(super) struct Failed;

pub(super) struct Walk<'a> {
    pub(super) report: Report,
    on_step: &'a mut dyn FnMut(&Step),
    begin: Instant,
    /// Barbican's, once it is known.
    pub(super) endpoint: Option<Endpoint>,
}

impl<'a> Walk<'a> {
    /// Nothing has been checked yet.
    pub(super) fn begin(on_step: &'a mut dyn FnMut(&Step)) -> Self {
        Self {
            report: Report::default(),
            on_step,
            begin: Instant::now(),
            endpoint: None,
        }
    }

    /// The result of a request, or what to do after its failure.
    pub(super) fn ask<T>(&mut self, name: &str, outcome: Result<T, Error>) -> Result<T, Failed> {
        let fix = outcome.as_ref().err().map_or_else(String::new, |error| {
            next_step(error, self.endpoint.as_ref())
        });
        self.take(name, outcome, &fix)
    }

    pub(super) fn take<T, E>(
        &mut self,
        name: &str,
        outcome: Result<T, E>,
        fix: &str,
    ) -> Result<T, Failed>
    where
        E: std::error::Error + 'static,
    {
        match outcome {
            Ok(value) => Ok(value),
            Err(error) => {
                let text = ErrorChain(&error).to_string();
                self.fail(name, text, Some(fix.to_owned()), Vec::new())
            }
        }
    }

    pub(super) fn pass(&mut self, name: &str, found: String, warnings: Vec<String>) {
        let outcome = if warnings.is_empty() {
            Outcome::Ok
        } else {
            Outcome::Warning
        };
        self.record(name, outcome, found, warnings, None);
    }

    pub(super) fn skip(&mut self, name: &str, found: String) {
        self.record(name, Outcome::Skipped, found, Vec::new(), None);
    }

    pub(super) fn fail<T>(
        &mut self,
        name: &str,
        cause: String,
        fix: Option<String>,
        warnings: Vec<String>,
    ) -> Result<T, Failed> {
        self.record(name, Outcome::Failed, cause, warnings, fix);
        Err(Failed)
    }

    pub(super) fn record(
        &mut self,
        name: &str,
        outcome: Outcome,
        found: String,
        warnings: Vec<String>,
        fix: Option<String>,
    ) {
        let took = self.begin.elapsed();
        self.begin = Instant::now();
        let step = Step {
            name: name.to_owned(),
            outcome,
            found,
            warnings,
            fix,
            took,
        };
        (self.on_step)(&step);
        self.report.steps.push(step);
    }
}
