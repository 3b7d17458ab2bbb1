//! What an operator asks of a cluster: to forget history, and what is wrong.

use super::call::{CallError, Effect};
use super::print::header_json;
use super::{Caller, CtlError};
use clap::{Args, Subcommand};
use quorate_server::proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_server::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, CompactionRequest, RangeRequest,
};
use serde_json::{Value, json};

const COMPACT_EXAMPLES: &str = "\
Examples:
  quorate ctl compact             forget all history: only the present stays readable
  quorate ctl compact 1000        what was before revision 1000 can no longer be read or watched
  quorate ctl compact 1000 --physical";

const ALARM_EXAMPLES: &str = "\
Examples:
  quorate ctl alarm list
  quorate ctl alarm disarm        once the cause is gone";

#[derive(Args, Debug)]
#[command(after_help = COMPACT_EXAMPLES)]
pub(super) struct Compact {
    /// The oldest revision that stays readable [default: the present one]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    revision: Option<i64>,
    /// Wait until the space is free
    #[arg(long)]
    physical: bool,
}

#[derive(Args, Debug)]
#[command(after_help = ALARM_EXAMPLES)]
pub(super) struct Alarm {
    #[command(subcommand)]
    command: AlarmCommand,
}

#[derive(Debug, Subcommand)]
enum AlarmCommand {
    /// The alarms that are on
    List,
    /// Turn all alarms off
    Disarm,
}

impl Compact {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        let revision = match self.revision {
            Some(revision) => revision,
            None => caller.present().await?,
        };
        let request = CompactionRequest { revision, physical: self.physical };
        let answer = caller
            .call(Effect::Write, async |channel| {
                KvClient::new(channel).compact(caller.conditions.fenced(request)).await
            })
            .await?;
        caller.say(format_args!("compacted revision {revision}"));
        Ok(json!({ "header": header_json(answer.header.as_ref()), "revision": revision }))
    }
}

impl Alarm {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        let list = AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() };
        let mut answer = caller.alarm(list, Effect::Read).await?;
        if matches!(self.command, AlarmCommand::Disarm) {
            let mut disarmed = Vec::new();
            for AlarmMember { member_id, alarm } in answer.alarms {
                let action = AlarmAction::Deactivate.into();
                let request = AlarmRequest { action, member_id, alarm };
                disarmed.extend(caller.alarm(request, Effect::Write).await?.alarms);
            }
            answer.alarms = disarmed;
        }
        for alarm in &answer.alarms {
            let name = alarm.alarm().as_str_name();
            caller.say(format_args!("memberID:{:x} alarm:{name}", alarm.member_id));
        }
        let alarms: Vec<Value> = answer
            .alarms
            .iter()
            .map(|alarm| {
                let (member, name) = (format!("{:x}", alarm.member_id), alarm.alarm());
                json!({ "member_id": member, "alarm": name.as_str_name() })
            })
            .collect();
        Ok(json!({ "header": header_json(answer.header.as_ref()), "alarms": alarms }))
    }
}

impl Caller {
    /// The revision of the store now.
    async fn present(&self) -> Result<i64, CallError> {
        let request =
            RangeRequest { key: "\0".into(), count_only: true, ..RangeRequest::default() };
        let answer = self.range(request).await?;
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    async fn alarm(
        &self,
        request: AlarmRequest,
        effect: Effect,
    ) -> Result<AlarmResponse, CallError> {
        self.call(effect, async |channel| MaintenanceClient::new(channel).alarm(request).await)
            .await
    }
}
