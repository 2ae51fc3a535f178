//! Every page says what it must, and a judge of its own accepts it.

use std::process::Command as Program;

use super::*;

#[test]
fn every_command_has_a_page_that_says_what_it_does_and_how_it_ends() {
    let pages = all("2026-01-02").unwrap();
    let files: Vec<&str> = pages.iter().map(|page| page.file.as_str()).collect();
    for wanted in [
        "quorate.1",
        "quorate-node.1",
        "quorate-rollout-start.1",
        "quorate-dev.1",
        "quorate-agent.8",
        "quorate-helper.8",
        "quorate-agent-may-lead.8",
        "quorate-helper-reset-journal.8",
        "quorate-coordinator.8",
        "quorate-coordinator-join.8",
    ] {
        assert!(files.contains(&wanted), "no {wanted} in {files:?}");
    }
    for page in &pages {
        let text = std::str::from_utf8(&page.text).unwrap();
        let name = page.file.rsplit_once('.').unwrap().0.replace('-', "\\-");
        // `name \- what it does`: without it apropos(1) and lexgrog know nothing of the page.
        assert!(text.contains(&format!("\n{name} \\- ")), "{} has no description", page.file);
        for section in
            [".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS", ".SH \"EXIT STATUS\"\n.TP", ".SH \"SEE ALSO\""]
        {
            assert!(text.contains(section), "{} has no {section}", page.file);
        }
        assert!(text.is_ascii(), "{} holds a character that not every terminal shows", page.file);
    }
    for of_a_program in ["quorate.1", "quorate-agent.8", "quorate-helper.8", "quorate-coordinator.8"] {
        let page = pages.iter().find(|page| page.file == of_a_program).unwrap();
        let text = std::str::from_utf8(&page.text).unwrap();
        for section in ["FILES", "EXAMPLES"] {
            assert!(text.contains(&format!(".SH \"{section}\"\n.")), "{of_a_program} has no {section}");
        }
    }
}

#[test]
fn mandoc_finds_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let pages = all("2026-01-02").unwrap();
    let files = pages.iter().map(|page| {
        let file = dir.path().join(&page.file);
        std::fs::write(&file, &page.text).unwrap();
        file
    });
    // Warnings are left out: clap_mangen sets a blank line before and after the values of a flag in a way that mandoc corrects.
    let judged = Program::new("mandoc").args(["-T", "lint", "-W", "error"]).args(files).output();
    let judged = judged.expect("mandoc, of the package of that name, is installed");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}
