//! Watchers come, are told, ask, cancel, hang up and come again.

use super::clients::KEYS;
use super::members::moment;
use super::watchers::{self, Heard, Wants};
use super::{Errand, RECONNECT, Service};
use quorate_check::guarantees::watch::Filter;
use quorate_drivers::simulate::{About, Hands, Nodes, Site, World as _};
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::watch::desk::Leaderless;
use std::time::Duration;

/// What becomes of a watcher after some messages.
enum Then {
    GoesOn,
    Reconnects,
    /// It is created anew on its stream.
    IsCreated,
    /// The run is over.
    IsBroken,
}

fn site(watcher: usize) -> Site {
    Site::new(About::Detail, 1_000 + watcher)
}

/// What a watcher asks for; everything of all keys is the simplest.
pub(super) fn wants(watcher: usize, hands: &mut Hands<'_, Service>) -> Wants {
    let site = site(watcher);
    let key = format!("k{}", hands.draw(site, KEYS));
    let keys = match hands.draw(site, 8) {
        0..4 => watchers::keys("k", "l"),
        4 => watchers::keys(key, ""),
        5 => watchers::keys(key, "k6"),
        6 => watchers::keys("k/", "k0"),
        _ => watchers::keys("k", "\0"),
    };
    let keys = if keys.range_end == "k6" && keys.key >= keys.range_end {
        watchers::keys(keys.key, "")
    } else {
        keys
    };
    let filter = match hands.draw(site, 6) {
        4 => Filter::NoPut,
        5 => Filter::NoDelete,
        _ => Filter::All,
    };
    let mut one_in = |times: u64| hands.draw(site, times) == times - 1;
    let (prev_kv, fragments, silent) = (one_in(2), one_in(3), one_in(4));
    Wants { keys, filter, prev_kv, fragments, notify: !silent }
}

impl Service {
    pub(super) fn connect(
        &mut self,
        watcher: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let which = hands.draw(site(watcher), self.nodes as u64);
        let up = (0..self.nodes).map(|step| (which as usize + step) % self.nodes);
        let serves = |at: &usize| {
            let open = self.reshaping.serves(self.id(*at));
            self.members[*at].up && nodes.is_correct(*at) && open
        };
        let member = up.into_iter().find(serves);
        let connected = member.and_then(|member| {
            let history = nodes.get(member)?.store().history();
            let now = moment(hands.now());
            let desk = &mut self.members[member].desk;
            let stream = desk.open_stream(Leaderless::Ends, history, now);
            let stream = stream.ok()?;
            desk.request(stream, self.watchers[watcher].create());
            self.watchers[watcher].seat = Some((member, stream));
            Some(member)
        });
        match connected {
            Some(member) => {
                self.serve_watchers(member, hands);
                self.stir_later(watcher, hands);
            }
            None => self.errand(RECONNECT, Errand::Connect { watcher }, hands),
        }
    }

    fn stir_later(&mut self, watcher: usize, hands: &mut Hands<'_, Self>) {
        let after = Duration::from_millis(500 + hands.draw(site(watcher), 8_000));
        self.errand(after, Errand::Stir { watcher }, hands);
    }

    /// A watcher does something: it hangs up, or asks something of its stream. It goes on where it
    /// was, or is another one from then on.
    pub(super) fn stir(&mut self, watcher: usize, hands: &mut Hands<'_, Self>) {
        if self.calm {
            return;
        }
        let Some((member, stream)) = self.watchers[watcher].seat else { return };
        let wish = hands.draw(site(watcher), 6);
        if wish % 2 == 1 {
            let wants = wants(watcher, hands);
            let latest = self.truth.latest();
            let from = match hands.draw(site(watcher), 3) {
                2 => 1 + hands.draw(site(watcher), latest),
                _ => 0,
            };
            // What is still told to the former one is judged until the stream has let go of it.
            self.watchers[watcher].after = Some((wants, from));
        }
        let desk = &mut self.members[member].desk;
        match wish {
            0 | 1 => {
                desk.close(stream);
                self.watchers[watcher].leave();
                self.errand(Duration::ZERO, Errand::Connect { watcher }, hands);
            }
            2 | 3 if self.watchers[watcher].is_there() => {
                desk.request(stream, self.watchers[watcher].cancel());
                self.serve_watchers(member, hands);
            }
            _ => {
                let ask = pb::WatchProgressRequest::default();
                let union = pb::watch_request::RequestUnion::ProgressRequest(ask);
                desk.request(stream, pb::WatchRequest { request_union: Some(union) });
                self.serve_watchers(member, hands);
                self.stir_later(watcher, hands);
            }
        }
    }

    /// Lets every stream of a member say what it has to say.
    pub(super) fn serve_watchers(&mut self, member: usize, hands: &mut Hands<'_, Self>) {
        let now = moment(hands.now());
        self.members[member].desk.walk(now);
        let due = self.members[member].desk.due(now);
        for stream in due {
            let seat = Some((member, stream));
            let Some(watcher) = self.watchers.iter().position(|w| w.seat == seat) else {
                self.members[member].desk.close(stream);
                continue;
            };
            let then = match self.members[member].desk.poll(stream, now) {
                Ok(messages) => self.hear((watcher, member), &messages, hands),
                Err(_) => Then::Reconnects,
            };
            match then {
                Then::GoesOn => {}
                Then::IsBroken => return,
                Then::IsCreated => {
                    // It is due again, and is confirmed when it is looked at the next time.
                    let create = self.watchers[watcher].create();
                    self.members[member].desk.request(stream, create);
                    self.stir_later(watcher, hands);
                }
                Then::Reconnects => {
                    self.members[member].desk.close(stream);
                    self.watchers[watcher].leave();
                    self.errand(RECONNECT, Errand::Connect { watcher }, hands);
                }
            }
        }
    }

    fn hear(
        &mut self,
        (watcher, member): (usize, usize),
        messages: &[pb::WatchResponse],
        hands: &mut Hands<'_, Self>,
    ) -> Then {
        let stand = self.truth.stand(self.members[member].applied.index);
        let mut then = Then::GoesOn;
        for message in messages {
            match self.watchers[watcher].hear(message, &self.truth, stand) {
                Ok(Heard::Fine) => {}
                Ok(Heard::Overtaken) => {
                    hands.mark("a watcher was cancelled by a compaction");
                    then = Then::Reconnects;
                }
                Ok(Heard::Canceled) => then = Then::IsCreated,
                Err(broken) => {
                    hands.broken(broken);
                    return Then::IsBroken;
                }
            }
        }
        then
    }
}
