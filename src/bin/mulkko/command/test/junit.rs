//! Results as JUnit XML, which continuous integration reads.

use anyhow::Result;
use mulkko::cases::Difference;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::suite::Suite;

/// The report of all files.
pub fn report(suites: &[Suite]) -> Result<String> {
    let mut report = Report::new("mulkko");
    for suite in suites {
        let mut out = TestSuite::new(suite.file.as_str());
        if let Some(unusable) = &suite.unusable {
            out.add_test_case(TestCase::new(suite.file.as_str(), failed(&unusable.message)));
        }
        for case in &suite.cases {
            let status = match case.passed() {
                true => TestCaseStatus::success(),
                false => failed(&lines(&case.differences)),
            };
            let mut done = TestCase::new(case.name.as_str(), status);
            done.set_classname(suite.file.as_str()).set_time(case.took);
            out.add_test_case(done);
        }
        if out.tests > 0 {
            report.add_test_suite(out);
        }
    }
    Ok(report.to_string()?)
}

fn failed(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(why);
    status
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}
