//! How the demo looks: one line that tells, one line that shows what came of it.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use anyhow::Context as _;

use super::client::Deadline;

/// The most characters of a result in one line.
const WIDTH: usize = 100;

/// The stage; colours are for terminals only, and not for people who set `NO_COLOR`.
#[derive(Debug)]
pub(super) struct Show {
    colour: bool,
    steps: usize,
    began: Instant,
}

impl Show {
    pub(super) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, steps: 0, began: Instant::now() }
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n{}\n", self.paint("1", text));
    }

    /// Tells a step, plays it, and shows its result, or the reason why it went wrong.
    pub(super) fn step(
        &mut self,
        name: &str,
        play: impl FnOnce(Deadline) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        self.steps += 1;
        println!("{:>3}  {name}", self.steps);
        // The step may take a while; the person should see what is waited for.
        let _ = std::io::stdout().flush();
        let began = Instant::now();
        let result = play(Deadline::new());
        let took = self.paint("2", &format!("{} ms", began.elapsed().as_millis()));
        match &result {
            Ok(text) => {
                let mut lines = text.lines();
                let first = lines.next().unwrap_or_default();
                println!("     {} {}  {took}", self.paint("32", "✓"), clip(first));
                for line in lines {
                    println!("       {}", self.paint("2", &clip(line)));
                }
            }
            Err(error) => println!("     {} {error:#}  {took}", self.paint("31", "✗")),
        }
        result.map(drop).with_context(|| format!("step {} of the demo, \"{name}\"", self.steps))
    }

    /// The end of a demo that went well.
    pub(super) fn end(&self) {
        let took = format!("{:.1} s", self.began.elapsed().as_secs_f32());
        println!(
            "\n     {} {took}\n",
            self.paint("1;32", &format!("{} of {} steps", self.steps, self.steps))
        );
    }

    /// What the gateway wrote to its log, as far as it helps.
    pub(super) fn log(&self, log: &str) {
        println!("\n     the last lines of the gateway's log:");
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(20)..] {
            println!("       {}", self.paint("2", line));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn clip(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
