//! What `quorate up` says: lines for eyes, a progress bar on a terminal, or one JSON object per
//! line.

use crate::output;
use crate::up::directory::Directory;
use crate::up::leadership::Change;
use crate::up::plan::Member;
use crate::up::restarts::{CRASH_WINDOW, CRASHES_MAX};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How to say it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    /// For eyes.
    Text,
    /// For programs.
    Json,
}

/// Says what happens.
pub(super) struct Reporter {
    style: Style,
    members: Vec<String>,
    progress: Option<ProgressBar>,
}

impl Reporter {
    /// For the members of one cluster.
    pub(super) fn new(style: Style, members: &[Member]) -> Reporter {
        let members: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
        let bar = style == Style::Text && std::io::stderr().is_terminal();
        let progress = bar.then(|| progress_bar(members.len()));
        Reporter { style, members, progress }
    }

    /// The members are being started.
    pub(super) fn starting(&self, directory: &Directory) {
        let how = if directory.continued { "continuing" } else { "starting" };
        let text =
            format!("{how} {} members, data in {}", self.members.len(), directory.path.display());
        let fields = json!({
            "nodes": self.members.len(),
            "continued": directory.continued,
            "data": directory.path,
        });
        self.say("starting", &text, fields);
    }

    /// A member answers for the first time.
    pub(super) fn serves(&self, member: &str) {
        match &self.progress {
            Some(bar) if !bar.is_finished() => bar.inc(1),
            _ => self.say("serves", &format!("{member} serves"), json!({ "member": member })),
        }
    }

    /// The whole cluster serves.
    pub(super) fn ready(&self, directory: &Directory, members: &[Member], took: Duration) {
        if let Some(bar) = &self.progress {
            bar.finish_and_clear();
        }
        let security = directory.security();
        let scheme = if security.is_some() { "https://" } else { "" };
        let endpoints: Vec<String> =
            members.iter().map(|member| format!("{scheme}{}", member.endpoint())).collect();
        let list = endpoints.join(",");
        let with = security.map_or_else(String::new, |at| format!(" {}", at.client_flags()));
        let first = members.first().map_or("", |member| member.name.as_str());
        let last = members.last().map_or("", |member| member.name.as_str());
        let at = directory.path.display();
        let span = |suffix: &str| match members.len() {
            1 => format!("{at}/{first}{suffix}"),
            _ => format!("{at}/{first}{suffix} .. {last}{suffix}"),
        };
        let lines = [
            format!("{} members serve after {:.1} s", members.len(), took.as_secs_f64()),
            format!("  clients  {list}"),
            format!("  try      etcdctl{with} --endpoints={list} put hello world"),
            format!("           quorate ctl get hello{with} --endpoints={list}"),
            format!("  data     {}", span("")),
            format!("  logs     {}", span(".log")),
            "  stop     Ctrl-C; the data stays, 'quorate up' continues with it".to_owned(),
        ];
        let logs: Vec<_> = members.iter().map(|member| directory.log_path(&member.name)).collect();
        let fields = json!({
            "endpoints": endpoints,
            "data": directory.path,
            "logs": logs,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        self.say("ready", &lines.join("\n"), fields);
    }

    /// Leadership moved.
    pub(super) fn leader(&self, change: Change) {
        match change {
            Change::Leader { member, term } => {
                let name = &self.members[member];
                let fields = json!({ "leader": name, "term": term });
                self.say("leader", &format!("leader is {name} (term {term})"), fields);
            }
            Change::None => self.say("leader", "no leader", json!({ "leader": Value::Null })),
        }
    }

    /// A member stopped by itself.
    pub(super) fn stopped(&self, member: &str, how: &str, again_in: Duration) {
        let text = format!("{member} stopped ({how}); starting it again in {again_in:?}");
        let again_ms = u64::try_from(again_in.as_millis()).unwrap_or(u64::MAX);
        let fields = json!({ "member": member, "how": how, "again_in_ms": again_ms });
        self.say("stopped", &text, fields);
    }

    /// A member stops again and again.
    pub(super) fn crash_loop(&self, member: &str, log: &Path) {
        let seconds = CRASH_WINDOW.as_secs();
        let text = format!(
            "crash loop: member {member}: {CRASHES_MAX} crashes in {seconds} s, see {}",
            log.display()
        );
        self.say("crash_loop", &text, json!({ "member": member, "log": log }));
    }

    /// A member could not be started again.
    pub(super) fn spawn_failed(&self, member: &str, error: &str) {
        let text = format!("cannot start member {member}: {error}");
        self.say("spawn_failed", &text, json!({ "member": member, "error": error }));
    }

    /// The members are asked to stop.
    pub(super) fn stopping(&self, why: &str) {
        if let Some(bar) = &self.progress {
            bar.finish_and_clear();
        }
        self.say("stopping", &format!("{why}: stopping the members"), json!({ "why": why }));
    }

    /// A member did not stop when asked.
    pub(super) fn killed(&self, member: &str, waited: Duration) {
        let text = format!("{member} did not stop within {:.1} s: killed", waited.as_secs_f64());
        self.say("killed", &text, json!({ "member": member }));
    }

    /// Everything has stopped.
    pub(super) fn stopped_all(&self) {
        self.say("down", "stopped; the data is kept", json!({}));
    }

    fn say(&self, event: &str, text: &str, mut fields: Value) {
        if self.style == Style::Json {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            fields["event"] = json!(event);
            fields["ts_ms"] = json!(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            return output::line(fields);
        }
        match &self.progress {
            Some(bar) if !bar.is_finished() => bar.suspend(|| output::line(text)),
            _ => output::line(text),
        }
    }
}

fn progress_bar(members: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} members serve {wide_bar}")
        .expect("a constant");
    let bar = ProgressBar::new(members as u64).with_style(style);
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
