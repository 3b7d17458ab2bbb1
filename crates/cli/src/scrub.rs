//! `quorate scrub`: members read everything on their disks again, and repair what has turned.
//!
//! Every member does so by itself from time to time. Here each is asked for a round that begins
//! now, over the plain HTTP side of its client port, and waited for.

use crate::client::{self, Endpoint};
use crate::neighbours::{self, Whom};
use crate::output;
use clap::Args;
use indicatif::HumanBytes;
use quorate_server::scrub::{Round, ScrubReport};
use serde::Serialize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two questions to a member whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  quorate scrub                              the members known to 127.0.0.1:2379
  quorate scrub --endpoints a:2379           this one and no other
  quorate scrub --within 3600                a large store, at the rate of --scrub-rate
  quorate scrub --json | jq '.members[].round.findings'

Members go on serving meanwhile. What is found is named, and repaired from the state in memory.

Exit status: 0 everything is whole now, 1 something is damaged still or a member is missing or not
done, 2 usage or nobody reachable.";

/// Nobody answered.
const EXIT_NOBODY: u8 = 2;

/// The flags of `quorate scrub`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    whom: Whom,
    /// Seconds to wait for the rounds to end; they go on without
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    within: u64,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Answers {
    /// Every member that was asked is whole.
    whole: bool,
    members: Vec<Answer>,
}

/// One member: its round, or why there is none.
#[derive(Debug, Serialize)]
struct Answer {
    endpoint: String,
    member: Option<String>,
    round: Option<Round>,
    why: Option<String>,
}

/// Asks, waits, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Some(mut endpoints) = options.whom.endpoints() else {
        return ExitCode::from(crate::EXIT_USAGE);
    };
    let Ok(login) = options.whom.login() else { return ExitCode::from(crate::EXIT_USAGE) };
    let (scope, timeout) = (options.whom.scope(), options.whom.timeout());
    let until = Instant::now() + Duration::from_secs(options.within);
    let answers = client::block_on(async {
        neighbours::find(&mut endpoints, login.as_ref(), scope, timeout).await;
        let ask = |endpoint: Endpoint| tokio::spawn(ask(endpoint, timeout, until));
        let asked: Vec<_> = endpoints.into_iter().map(ask).collect();
        let mut members = Vec::with_capacity(asked.len());
        for answer in asked {
            members.push(answer.await.expect("asking does not panic"));
        }
        let whole = members.iter().all(Answer::is_whole);
        Answers { whole, members }
    });
    if options.whom.json {
        output::line(serde_json::to_string(&answers).expect("numbers and text"));
    } else {
        answers.members.iter().flat_map(lines).for_each(output::line);
    }
    match answers.whole {
        true => ExitCode::SUCCESS,
        false if answers.members.iter().all(|answer| answer.member.is_none()) => {
            ExitCode::from(EXIT_NOBODY)
        }
        false => ExitCode::from(1),
    }
}

impl Answer {
    fn is_whole(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.unrepaired.is_none())
    }
}

async fn ask(endpoint: Endpoint, timeout: Duration, until: Instant) -> Answer {
    let name = endpoint.authority();
    let (member, outcome) = match round(&endpoint, timeout, until).await {
        Ok((member, outcome)) => (Some(member), outcome),
        Err(why) => (None, Err(why)),
    };
    let (round, why) = match outcome {
        Ok(round) => (Some(round), None),
        Err(why) => (None, Some(why)),
    };
    Answer { endpoint: name, member, round, why }
}

/// Asks one member for a round, and waits for it. Errors: why there is none, for eyes; the outer
/// one if nobody answers.
async fn round(
    endpoint: &Endpoint,
    timeout: Duration,
    until: Instant,
) -> Result<(String, Result<Round, String>), String> {
    let (code, body) = client::http_post(endpoint, "/scrub", timeout).await?;
    if code != 200 {
        return Err("it does not scrub; is it an older member, or etcd?".to_owned());
    }
    let begun: serde_json::Value =
        serde_json::from_str(&body).map_err(|error| format!("not understood: {error}"))?;
    let number = begun["round"].as_u64().ok_or("not understood: no round")?;
    loop {
        let (_, body) = client::http_get(endpoint, "/scrub", timeout).await?;
        let report: ScrubReport =
            serde_json::from_str(&body).map_err(|error| format!("not understood: {error}"))?;
        if let Some(round) = report.last.filter(|_| report.finished >= number) {
            return Ok((report.member, Ok(round)));
        }
        if Instant::now() > until {
            let doing = report.doing.unwrap_or_else(|| "waiting".to_owned());
            return Ok((report.member, Err(format!("it is not done yet: {doing}"))));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Lines for eyes.
fn lines(answer: &Answer) -> Vec<String> {
    let endpoint = &answer.endpoint;
    let Some(round) = &answer.round else {
        return vec![format!("{endpoint}: {}", answer.why.as_deref().unwrap_or("no answer"))];
    };
    let read = HumanBytes(round.bytes);
    let took = Duration::from_millis(round.took_ms).as_secs_f64();
    let verdict = match (round.damaged, &round.unrepaired) {
        (0, None) => "whole".to_owned(),
        (0, Some(why)) => why.clone(),
        (damaged, None) => format!("{damaged} damaged, repaired"),
        (damaged, Some(why)) => format!("{damaged} damaged, not repaired: {why}"),
    };
    let mut lines = vec![format!("{endpoint}: read {read} in {took:.1} s: {verdict}")];
    for finding in &round.findings {
        lines.push(format!("  {}, byte {}: {}", finding.file, finding.byte, finding.what));
    }
    let untold = round.damaged - round.findings.len() as u64;
    lines.extend((untold > 0).then(|| format!("  and {untold} more")));
    lines
}
