//! The resource outside of the service which a lock protects.

use super::Service;
use super::clients::Asked;
use super::leases::Clocks;
use super::members::Answered;
use quorate_drivers::simulate::{Broken, Hands};

impl Service {
    /// The resource outside refuses tokens that are older than the newest it has seen. Who comes
    /// without a pause and surely holds the lock is not too late.
    pub(super) fn write_to_resource(&mut self, number: u64, hands: &mut Hands<'_, Self>) {
        let Some(operation) = self.operations.get(&number) else { return };
        let Asked::Critical { token, paused } = operation.asked else { return };
        if token >= self.token {
            self.token = token;
        } else if paused && !self.plants.unfenced() {
            hands.mark("a write with an old token was refused");
        } else if self.trust_in_clocks(hands) == Clocks::Trusted {
            let newest = self.token;
            let why = format!("a holder with token {token} writes after one with token {newest}");
            hands.broken(Broken::new("lock", why));
        }
        self.answered(number, Answered::Moved, hands);
    }
}
