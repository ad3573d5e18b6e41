//! The outcome of all tests, read from the JUnit reports of nextest.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use quick_junit::{Report, TestCaseStatus};

/// The tests that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    times: Vec<(String, Duration)>,
}

impl Tally {
    /// Adds the tests of a report.
    pub(super) fn add(&mut self, junit: &str) -> Result<()> {
        let report = Report::deserialize_from_str(junit).context("failed to read the report of nextest")?;
        for (suite, case) in
            report.test_suites.iter().flat_map(|suite| suite.test_cases.iter().map(move |case| (suite, case)))
        {
            match case.status {
                TestCaseStatus::Success { .. } => self.passed += 1,
                TestCaseStatus::NonSuccess { .. } | TestCaseStatus::Skipped { .. } => self.failed += 1,
            }
            self.times.push((
                format!("{} {}", suite.name.as_str(), case.name.as_str()),
                case.time.unwrap_or_default(),
            ));
        }
        Ok(())
    }

    /// Returns the number of tests that ran.
    pub(super) fn count(&self) -> usize {
        self.passed + self.failed
    }

    /// Returns names and times of the `count` slowest tests, the slowest first.
    pub(super) fn slowest(&mut self, count: usize) -> &[(String, Duration)] {
        self.times.sort_by_key(|(_, time)| Reverse(*time));
        &self.times[..count.min(self.times.len())]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tests passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_counted_and_sorted_by_time() {
        let mut tally = Tally::default();
        tally
            .add(
                r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="1" errors="0" time="3.5">
    <testsuite name="krazy-boot" tests="2" disabled="0" errors="0" failures="1">
        <testcase name="fast" classname="krazy-boot" time="0.5"></testcase>
        <testcase name="slow" classname="krazy-boot" time="3.0">
            <failure message="it failed" type="test failure">told why</failure>
        </testcase>
    </testsuite>
</testsuites>"#,
            )
            .unwrap();
        assert_eq!(tally.to_string(), "1 tests passed, 1 failed");
        assert_eq!(tally.count(), 2);
        assert_eq!(tally.slowest(1), [("krazy-boot slow".to_owned(), Duration::from_secs(3))]);
        assert!(tally.add("<testsuites").is_err());
    }
}
