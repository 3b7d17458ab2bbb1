//! Watchers come, are told, hang up and come again.

use super::members::moment;
use super::watchers::Heard;
use super::{Errand, RECONNECT, Service};
use quorate_drivers::simulate::{About, Hands, Nodes, Site};
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::watch::desk::Leaderless;
use std::time::Duration;

impl Service {
    pub(super) fn connect(
        &mut self,
        watcher: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let which = hands.draw(Site::new(About::Detail, 1_000 + watcher), self.nodes as u64);
        let up = (0..self.nodes).map(|step| (which as usize + step) % self.nodes);
        let serves = |at: &usize| self.members[*at].up && nodes.is_correct(*at);
        let member = up.into_iter().find(serves);
        let connected = member.and_then(|member| {
            let history = nodes.get(member)?.store().history();
            let now = moment(hands.now());
            let desk = &mut self.members[member].desk;
            let stream = desk.open_stream(Leaderless::Ends, history, now);
            let stream = stream.ok()?;
            desk.request(stream, self.watchers[watcher].request());
            self.watchers[watcher].seat = Some((member, stream));
            Some(member)
        });
        match connected {
            Some(member) => {
                self.serve_watchers(member, hands);
                let site = Site::new(About::Detail, 1_000 + watcher);
                let after = Duration::from_millis(500 + hands.draw(site, 8_000));
                self.errand(after, Errand::HangUp { watcher }, hands);
            }
            None => self.errand(RECONNECT, Errand::Connect { watcher }, hands),
        }
    }

    pub(super) fn hang_up(&mut self, watcher: usize, hands: &mut Hands<'_, Self>) {
        if self.calm {
            return;
        }
        if let Some((member, stream)) = self.watchers[watcher].seat.take() {
            self.members[member].desk.close(stream);
            // It goes on where it was, or is another one that begins now.
            if hands.draw(Site::new(About::Detail, 1_000 + watcher), 3) == 2 {
                self.watchers[watcher].next = 0;
            }
            self.errand(Duration::ZERO, Errand::Connect { watcher }, hands);
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
            let again = match self.members[member].desk.poll(stream, now) {
                Ok(messages) => self.hear(watcher, &messages, hands),
                Err(_) => true,
            };
            if again {
                self.members[member].desk.close(stream);
                self.watchers[watcher].seat = None;
                self.errand(RECONNECT, Errand::Connect { watcher }, hands);
            }
        }
    }

    /// True if the watcher has to connect anew.
    pub(super) fn hear(
        &mut self,
        watcher: usize,
        messages: &[pb::WatchResponse],
        hands: &mut Hands<'_, Self>,
    ) -> bool {
        for message in messages {
            match self.watchers[watcher].hear(message, &self.truth) {
                Ok(Heard::Fine) => {}
                Ok(Heard::Canceled) => {
                    hands.mark("a watcher was cancelled by a compaction");
                    return true;
                }
                Err(broken) => {
                    hands.broken(broken);
                    return false;
                }
            }
        }
        false
    }
}
